"""What becomes of usage that is recorded: which sums grow by how much, and which shrink.

Records are added up before anything is written, so that a call of many costs as many statements as one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Context, Decimal
from typing import Any, NamedTuple

_EXACT = Context(prec=200)
"""Sums must not be rounded to the 28 digits of the usual context."""


class Amounts(NamedTuple):
    """What was used, in the order of the columns. The counts next to costs tell 0 from not known."""

    record_count: int = 0
    model_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    total_tokens: int = 0
    estimated_count: int = 0
    estimated: Decimal = Decimal(0)
    actual_count: int = 0
    actual: Decimal = Decimal(0)

    def plus(self, other: Amounts) -> Amounts:
        return Amounts._make(_plus(a, b) for a, b in zip(self, other, strict=True))

    def negative(self) -> Amounts:
        return Amounts._make(a.copy_negate() if isinstance(a, Decimal) else -a for a in self)


def _plus(a: Any, b: Any) -> int | Decimal:
    return _EXACT.add(a, b) if isinstance(a, Decimal) else int(a + b)


class SumKey(NamedTuple):
    """What sums are kept by."""

    day: date
    model: str
    currency: str


class TurnKey(NamedTuple):
    """What a turn's sums are kept by."""

    turn_index: int
    model: str
    day: date
    currency: str

    @property
    def of_session(self) -> SumKey:
        return SumKey(self.day, self.model, self.currency)


class TurnSum(NamedTuple):
    """A turn's sum, and when it was last recorded."""

    time: datetime
    amounts: Amounts


@dataclass(frozen=True, slots=True)
class Record:
    """Usage to be recorded."""

    amounts: Amounts
    model: str
    currency: str
    turn_index: int | None
    set_turn: bool
    time: datetime | None
    billing: tuple[str, ...]
    """In the order of `usage_billing`'s columns behind the model."""
    request_id: str
    digest: bytes

    @property
    def adds(self) -> bool:
        """Whether it adds to sums whatever was recorded before."""
        return not (self.request_id or self.set_turn)


@dataclass(slots=True)
class Changes:
    """What records change of the ledger."""

    sums: dict[SumKey, Amounts] = field(default_factory=dict)
    turns: dict[TurnKey, TurnSum] = field(default_factory=dict)
    """What is added to the turns that aren't forgotten, and what the others are anew."""
    forgotten_turns: set[int] = field(default_factory=set)

    def _add(self, key: SumKey, amounts: Amounts) -> None:
        self.sums[key] = self.sums.get(key, Amounts()).plus(amounts)

    def record(self, record: Record, now: datetime) -> None:
        """Count a record; a turn that it sets must be forgotten already, see `forget`."""
        time = record.time or now
        key = SumKey(time.date(), record.model, record.currency)
        self._add(key, record.amounts)
        if record.turn_index is None:
            return
        turn_key = TurnKey(record.turn_index, record.model, key.day, record.currency)
        before = self.turns.get(turn_key, TurnSum(time, Amounts()))
        self.turns[turn_key] = TurnSum(max(time, before.time), before.amounts.plus(record.amounts))

    def forget(self, turn_index: int, stored: Mapping[TurnKey, TurnSum]) -> None:
        """Take back what a turn has so far: what is stored of it, and what these changes added."""
        gone = [(key, it.amounts) for key, it in self.turns.items() if key.turn_index == turn_index]
        for key, _ in gone:
            del self.turns[key]
        if turn_index not in self.forgotten_turns:
            self.forgotten_turns.add(turn_index)
            gone += [(k, it.amounts) for k, it in stored.items() if k.turn_index == turn_index]
        for key, amounts in gone:
            self._add(key.of_session, amounts.negative())


def changes(records: Iterable[Record], stored: Mapping[TurnKey, TurnSum], now: datetime) -> Changes:
    """What records change, counted in their order; `stored` has the turns that they set."""
    found = Changes()
    for record in records:
        if record.set_turn and record.turn_index is not None:
            found.forget(record.turn_index, stored)
        found.record(record, now)
    found.sums = {key: sums for key, sums in found.sums.items() if any(sums)}
    return found


def filled(stored: tuple[str, ...] | None, records: Iterable[Record]) -> tuple[str, ...]:
    """The billing of a session (its model first): of the first facts the first that is given stays, of the
    last three the last counts."""
    facts = list(stored or ("",) * BILLING_FACTS)
    for record in records:
        for place, value in enumerate((record.model, *record.billing)):
            if value and (not facts[place] or place >= _FIRST_OF_THE_LATEST):
                facts[place] = value
    return tuple(facts)


BILLING_FACTS = 7
_FIRST_OF_THE_LATEST = 4


def decimal_text(value: Decimal) -> str:
    """A number in its shortest form without an exponent."""
    return format(value.normalize(_EXACT), "f")

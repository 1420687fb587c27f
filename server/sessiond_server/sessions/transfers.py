"""What moves between stores besides the facts of a session: its log, as an order of things that happened."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import NamedTuple

from sessiond_server.sessions.setups import Setup
from sessiond_server.sessions.usage import Amounts


class Message(NamedTuple):
    """A message with its seq and time; `facts` and `tools` as an append stores them."""

    seq: int
    create_time: datetime
    summary: bool
    client_id: str
    facts: int
    tools: str | None
    payload: bytes


class Revision(NamedTuple):
    """What a message was before a change."""

    seq: int
    change_no: int
    effective_seq: int
    facts: int
    type: str | None
    payload: bytes


class Compaction(NamedTuple):
    """A compaction; without a number it gets the next one, and is told of."""

    summary_seq: int
    change_no: int
    from_seq: int
    to_seq: int
    message_count: int
    tokens_before: int
    tokens_after: int
    author: str
    actor: str
    model: str
    turn_index: int
    create_time: datetime


class CompactionRevert(NamedTuple):
    """That a compaction was reverted."""

    summary_seq: int
    effective_seq: int
    time: datetime


class Rewind(NamedTuple):
    """A rewind; without an id it gets the next one, and is told of."""

    rewind_id: int
    after_seq: int
    to_seq: int
    effective_seq: int
    author: str
    actor: str
    create_time: datetime


class RewindRevert(NamedTuple):
    """That a rewind was reverted."""

    rewind_id: int
    effective_seq: int
    time: datetime


class SetupChange(NamedTuple):
    """That other values held of what a session runs with."""

    effective_seq: int
    setup: Setup


class Change(NamedTuple):
    """An entry of the feed other than a message."""

    change_no: int
    after_seq: int
    kind: int
    reference: int
    seqs: list[int] | None
    child_id: str
    child_kind: int
    create_time: datetime

    def same(self, other: Change) -> bool:
        """Whether both tell of the same; the clocks may differ."""
        mine, others = self[:-1], other[:-1]
        return (*mine[:4], list(mine[4] or ()), *mine[5:]) == (
            *others[:4],
            list(others[4] or ()),
            *others[5:],
        )


class UsageSum(NamedTuple):
    """A sum of usage by day, model and currency."""

    inherited: bool
    day: date
    model: str
    currency: str
    amounts: Amounts


class UsageTurn(NamedTuple):
    """The same of a turn."""

    turn_index: int
    model: str
    day: date
    currency: str
    record_time: datetime
    amounts: Amounts


class BillingFacts(NamedTuple):
    """How usage is paid for, the first model first."""

    facts: tuple[str, ...]


class SeenRequest(NamedTuple):
    """A request id that the session has seen."""

    kind: int
    request_id: str
    digest: bytes
    result: int


class JournalRecord(NamedTuple):
    """A record of the session's journal."""

    seq: int
    kind: str
    turn_index: int
    content: bytes
    origin_time: datetime | None
    create_time: datetime


class Mark(NamedTuple):
    """How far a consumer has come."""

    consumer_id: str
    seq: int


class Reminder(NamedTuple):
    """A reminder without its claim."""

    reminder_id: str
    type: str
    state: int
    first_time: datetime
    interval_microseconds: int
    occurrence: int
    due_time: datetime
    ready_time: datetime
    attempt_count: int
    max_attempts: int
    last_error: bytes
    fired_count: int
    missed_count: int
    skipped_count: int
    last_fire_time: datetime | None
    last_message_seq: int
    request_hash: bytes
    details: bytes
    create_time: datetime
    update_time: datetime


Kept = UsageSum | UsageTurn | BillingFacts | SeenRequest | JournalRecord | Mark | Reminder
"""What has no place in the order of things: it is there already, or is added."""

Item = (
    Kept
    | Message
    | Revision
    | Compaction
    | CompactionRevert
    | Rewind
    | RewindRevert
    | SetupChange
    | Change
)
"""One thing of a log."""


class Selected(NamedTuple):
    """A session to move."""

    session_id: str
    parent_id: str | None
    create_time: datetime

    @property
    def age(self) -> tuple[datetime, str]:
        """What the order of age goes by."""
        return self.create_time, self.session_id


class TurnsPlace(NamedTuple):
    """How far turns have come: every session up to this one in the order of age has had its turn, and these
    younger ones, which are parents of such or were made anew under their ids."""

    create_time: datetime
    session_id: str
    ahead: tuple[str, ...] = ()


class Turns:
    """The order in which sessions move: the oldest first, but each behind its parent if that is among them.

    It can be taken up again at any place, with what is there then: a session never changes its age, and the
    parents that came early are remembered.
    """

    def __init__(self, found: Sequence[Selected], after: TurnsPlace | None) -> None:
        self._found = found
        self._place = after
        self._ahead = dict.fromkeys(after.ahead if after else ())
        self._anew: dict[str, None] = {}

    @property
    def place(self) -> TurnsPlace:
        """Where to go on behind the sessions that have come so far."""
        place = self._place or TurnsPlace(datetime.min.replace(tzinfo=UTC), "")
        return place._replace(ahead=(*self._ahead, *self._anew))

    def __iter__(self) -> Iterator[Selected]:
        """Each session at its turn. `place` is behind it once it is asked for the next one, or right away."""
        by_id = {it.session_id: it for it in self._found}
        for it in self._found:
            if it.session_id not in self._ahead:
                for parent in _line(it, by_id, self._had_turn):
                    self._ahead[parent.session_id] = None
                    yield parent
                self._pass(it)
                yield it
            else:
                self._pass(it)

    def anew(self, session_id: str) -> None:
        """The session that came last was made anew since it was selected: it is younger than it says."""
        self._anew[session_id] = None

    def _had_turn(self, it: Selected) -> bool:
        passed = self._place is not None and it.age <= self._place[:2]
        return passed or it.session_id in self._ahead

    def _pass(self, it: Selected) -> None:
        self._ahead.pop(it.session_id, None)
        self._place = TurnsPlace(*it.age)


def _line(
    it: Selected, by_id: Mapping[str, Selected], had_turn: Callable[[Selected], bool]
) -> list[Selected]:
    """The ancestors of a session that haven't had their turn, the first one first."""
    line: list[Selected] = []
    parent = by_id.get(it.parent_id or "")
    while parent is not None and parent is not it and parent not in line and not had_turn(parent):
        line.append(parent)
        parent = by_id.get(parent.parent_id or "")
    return line[::-1]

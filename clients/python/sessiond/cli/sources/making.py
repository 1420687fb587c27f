"""What the readers of other systems' stores have in common: values that fit, and what becomes of the rest."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from sessiond import v1
from sessiond._ids import is_session_id

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SHORT = 256
_EXACT_INTEGER = 2**53
_METADATA_BYTES = 60 * 1024
_MICRO = 1_000
_EARLIEST, _LATEST = -62_135_596_800, 253_402_300_799


class Report:
    """What had no place of its own and went into metadata, and what else is worth knowing; with counts."""

    def __init__(self) -> None:
        self.in_metadata: Counter[str] = Counter()
        self.notes: Counter[str] = Counter()

    def kept(self, column: str) -> None:
        """A value of a column is kept in metadata."""
        self.in_metadata[column] += 1

    def note(self, what: str, count: int = 1) -> None:
        if count:
            self.notes[what] += count


class Extras:
    """The facts of one session or message that have no place, for its metadata."""

    def __init__(self, system: str, table: str, report: Report) -> None:
        self.values: dict[str, Any] = {}
        self._system = system
        self._table = table
        self._report = report

    def keep(self, column: str, value: Any) -> None:
        """Keeps a value, unless it is NULL."""
        if value is None:
            return
        self.values[column] = plain(value)
        self._report.kept(f"{self._table}.{column}")

    def keep_unknown(self, row: Mapping[str, Any], known: Iterable[str]) -> None:
        """Keeps the columns that aren't among the known ones."""
        for column in sorted(set(row) - set(known)):
            self.keep(column, row[column])

    def short(self, column: str, value: Any) -> str:
        """A value for a short text; what doesn't fit is kept and cut."""
        if value is None:
            return ""
        found = clean(value)
        if isinstance(value, str) and found == value:
            return found
        self.keep(column, value)
        return found

    def text(self, column: str, value: Any) -> str:
        """A value for a text of any length; what UTF-8 can't hold is kept and replaced."""
        if isinstance(value, str) and not has_surrogates(value):
            return value
        self.keep(column, value)
        return replaced(str(value))

    def count(self, column: str, value: Any, most: int = 2**31 - 1) -> int:
        """A value for a count, or 0; what isn't one is kept."""
        if isinstance(value, int) and 0 <= value <= most:
            return value
        self.keep(column, value)
        return 0


def has_surrogates(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


def replaced(text: str) -> str:
    """The text as UTF-8 can hold it."""
    return text.encode("utf-8", "replace").decode() if has_surrogates(text) else text


def clean(value: Any) -> str:
    """A value as a short text without control characters."""
    return _CONTROL.sub(" ", replaced(value if isinstance(value, str) else str(value)))[:_SHORT]


def plain(value: Any) -> Any:
    """A value as metadata hold it: what would lose something is text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) <= _EXACT_INTEGER else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, bytes):
        return f"base64:{base64.b64encode(value).decode()}"
    if isinstance(value, str):
        if has_surrogates(value):
            raw = value.encode("utf-8", "surrogateescape")
            return f"base64:{base64.b64encode(raw).decode()}"
        return value
    if isinstance(value, dict):
        return {replaced(str(key)): plain(item) for key, item in value.items()}
    return [plain(item) for item in value]


def struct(values: Mapping[str, Any]) -> Struct:
    found = Struct()
    found.update(dict(values))
    return found


def too_large(values: Mapping[str, Any]) -> bool:
    """Whether values are too much for metadata."""
    return struct(values).ByteSize() > _METADATA_BYTES


def session_id(id: Any, system: str) -> str:
    """An id as sessions here can have it: another one, always the same, for one that doesn't fit."""
    text = str(id)
    if isinstance(id, str) and is_session_id(text):
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
    return f"{system}:{digest[:32]}"


def call_id(id: Any) -> str:
    """The id of a tool call, cut so that different ones stay different."""
    text = replaced(str(id))
    if not _CONTROL.search(text) and len(text.encode()) <= _SHORT:
        return text
    return f"{clean(text)[:64]}#{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def nanoseconds(seconds: Any) -> int | None:
    """A time in seconds, as exactly as the number says it; None if it isn't one."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return None
    if not math.isfinite(seconds) or not _EARLIEST <= seconds <= _LATEST:
        return None
    return int(Decimal(seconds) * 10**9)


def timestamp(nanos: int) -> Timestamp:
    return Timestamp(seconds=nanos // 10**9, nanos=nanos % 10**9)


def micros(nanos: int) -> int:
    """Rounded to what the store keeps of its own times."""
    return (nanos + _MICRO // 2) // _MICRO * _MICRO


def day(nanos: int) -> str:
    """The day (UTC) of a time."""
    return datetime.fromtimestamp(nanos // 10**9, UTC).date().isoformat()


class Clock:
    """Times of messages for the store, which grow: one that doesn't is a microsecond behind the last."""

    def __init__(self, report: Report) -> None:
        self.last: int | None = None
        self._report = report

    def next(self, nanos: int | None) -> int:
        time = micros(nanos) if nanos is not None else (self.last or 0)
        if self.last is not None and time <= self.last:
            if time < self.last - 1000 * _MICRO:
                self._report.note("messages whose time is before that of the one before them")
            time = self.last + _MICRO
        self.last = time
        return time


def money(value: Any) -> str:
    """An amount as decimal text, every digit of it."""
    return format(Decimal(repr(value) if isinstance(value, float) else str(value)), "f")


def parents_first(parents: Mapping[str, str | None]) -> Iterator[str]:
    """Ids, each behind its parent if that is among them."""
    done: set[str] = set()
    for id in parents:
        line: list[str] = []
        place: str | None = id
        while place is not None and place in parents and place not in done and place not in line:
            line.append(place)
            place = parents[place]
        for found in reversed(line):
            done.add(found)
            yield found


def parsed(text: Any) -> Any:
    """A JSON text's value. Raises ValueError."""
    if not isinstance(text, str):
        raise ValueError("not a text")
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def message_record(
    message: v1.Message, seq: int, create_nanos: int, *, summary: bool = False
) -> v1.TransferRecord:
    """A message's record."""
    return v1.TransferRecord(
        message=v1.TransferMessage(
            seq=seq,
            payload=message.SerializeToString(deterministic=True),
            create_time=timestamp(create_nanos),
            summary=summary,
        )
    )


def hidden_entry(client_id: str, role: v1.Role.ValueType = v1.Role.ROLE_SYSTEM) -> v1.Message:
    """An entry of the log that neither the model nor people see."""
    return v1.Message(
        client_id=client_id,
        role=role,
        type="event",
        hidden_from_model=True,
        hidden_from_people=True,
    )

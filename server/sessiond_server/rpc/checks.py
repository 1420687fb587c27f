"""Checks of requests: each names the field and the limit that it breaks (P14)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Literal, Protocol

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import DecodeError, EncodeError, Message
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from sessiond.v1.guard_pb2 import WriteGuard
from sessiond_server.errors import InvalidFields, Violation, invalid
from sessiond_server.rpc import limits
from sessiond_server.sessions.guards import UNGUARDED, Guard


class Guarded(Protocol):
    """A request with a guard."""

    @property
    def guard(self) -> WriteGuard: ...

    def HasField(self, field_name: Literal["guard"], /) -> bool: ...


class Checks:
    """Gathers what is wrong with a request. `with Checks() as checks:` raises `InvalidFields`."""

    def __init__(self) -> None:
        self.violations: list[Violation] = []

    def __enter__(self) -> Checks:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is None:
            self.done()

    def done(self) -> None:
        if self.violations:
            raise InvalidFields(self.violations)

    def wrong(self, field: str, description: str) -> None:
        self.violations.append(Violation(field, description))

    def session_id(self, field: str, value: str) -> None:
        if not is_session_id(value):
            self.wrong(field, limits.SESSION_ID_FORM)

    def request_id(self, field: str, value: str) -> None:
        if not limits.REQUEST_ID.fullmatch(value):
            self.wrong(field, limits.REQUEST_ID_FORM)

    def consumer_id(self, field: str, value: str) -> None:
        if not limits.CLIENT_ID.fullmatch(value):
            self.wrong(field, limits.CLIENT_ID_FORM)

    def reminder_id(self, field: str, value: str) -> None:
        if not limits.REMINDER_ID.fullmatch(value):
            self.wrong(field, limits.REMINDER_ID_FORM)

    def client_id(self, field: str, value: str) -> None:
        if not limits.CLIENT_ID.fullmatch(value):
            self.wrong(field, limits.CLIENT_ID_FORM)

    def policy_id(self, field: str, value: str) -> None:
        if not limits.POLICY_NAME.fullmatch(value):
            self.wrong(field, limits.POLICY_ID_FORM)

    def text(self, field: str, value: str, most: int = limits.SHORT_TEXT) -> None:
        """A short text for people and filters: bounded, without control characters."""
        if len(value) > most:
            self.wrong(field, f"must be at most {most} characters, has {len(value)}")
        if value and limits.CONTROL.search(value):
            self.wrong(field, "must not contain control characters")

    def texts(self, field: str, values: Sequence[str], most: int) -> None:
        """At most so many short texts."""
        self.count(field, len(values), most)
        for place, value in enumerate(values[:most]):
            self.text(f"{field}[{place}]", value)

    def required(self, field: str, value: str) -> None:
        if not value:
            self.wrong(field, "is required")
        else:
            self.text(field, value)

    def line(self, field: str, value: str, most: int) -> None:
        """A text of one line, bounded in bytes, that is required."""
        if not value:
            self.wrong(field, "is required")
        self.size(field, len(value.encode()), most)
        if limits.CONTROL.search(value):
            self.wrong(field, "must not contain control characters")

    def given(self, field: str, request: Message, hint: str) -> None:
        """A field whose zero means something: it must be said."""
        if not request.HasField(field):
            self.wrong(field, f"is required: {hint}")

    def chosen(self, which: str, request: Message, everything: str) -> None:
        """A `oneof` in which a boolean stands for everything: one is chosen, and what is said is true."""
        chosen = request.WhichOneof(which)
        names = [field.name for field in request.DESCRIPTOR.oneofs_by_name[which].fields]
        if chosen is None:
            self.wrong(which, f"is required: {' or '.join(names)}")
        elif chosen == everything and not getattr(request, everything):
            self.wrong(everything, "must be true, or be left out")

    def guard(self, request: Guarded) -> Guard:
        """The guard of a request; left out, it expects nothing."""
        if not request.HasField("guard"):
            return UNGUARDED
        given = request.guard
        self.seq("guard.expected_next_seq", given.expected_next_seq)
        self.seq("guard.expected_revision", given.expected_revision)
        self.text("guard.writer_token", given.writer_token)
        return Guard(given.expected_next_seq, given.expected_revision, given.writer_token)

    def note(self, field: str, value: str) -> None:
        """A longer text for people, of one or several lines."""
        if len(value) > limits.COMMENT:
            self.wrong(field, f"must be at most {limits.COMMENT} characters, has {len(value)}")

    def tool_call_id(self, field: str, value: str) -> None:
        if len(value.encode()) > limits.TOOL_CALL_ID_BYTES:
            self.wrong(field, f"must be at most {limits.TOOL_CALL_ID_BYTES} bytes")
        if limits.CONTROL.search(value):
            self.wrong(field, "must not contain control characters")

    def size(self, field: str, size: int, most: int) -> None:
        if size > most:
            self.wrong(field, f"must be at most {most} bytes, has {size}")

    def sha256(self, field: str, value: bytes) -> None:
        if len(value) not in (0, 32):
            self.wrong(field, f"must be 32 bytes, has {len(value)}")

    def count(self, field: str, count: int, most: int, least: int = 0) -> None:
        if count < least:
            self.wrong(field, f"must have at least {least}")
        if count > most:
            self.wrong(field, f"must have at most {most}, has {count}")

    def not_negative(self, field: str, value: int) -> None:
        if value < 0:
            self.wrong(field, "must not be negative")

    def attempts(self, field: str, value: int) -> None:
        """How often a reminder may be tried."""
        if not 0 <= value <= limits.REMINDER_ATTEMPTS:
            self.wrong(field, f"must be 0 to {limits.REMINDER_ATTEMPTS}")

    def error(self, field: str, value: str) -> None:
        """What a worker says that went wrong."""
        if len(value) > limits.REMINDER_ERROR:
            most = limits.REMINDER_ERROR
            self.wrong(field, f"must be at most {most} characters, has {len(value)}")

    def seq(self, field: str, value: int, least: int = 0) -> None:
        if not least <= value <= limits.MAX_SEQ:
            self.wrong(field, f"must be {least} to {limits.MAX_SEQ}")

    def enum(self, field: str, value: int, known: Collection[int]) -> None:
        """A value of the enum; `known` leaves out what isn't allowed."""
        if value not in known:
            self.wrong(field, f"isn't a known value: {value}")

    def enums(self, field: str, values: Sequence[int], known: Collection[int]) -> None:
        """Values of an enum: as many as it has, at most."""
        self.count(field, len(values), len(known))
        for place, value in enumerate(values[: len(known)]):
            self.enum(f"{field}[{place}]", value, known)

    def struct(self, field: str, value: Struct) -> None:
        size = value.ByteSize()
        self.size(field, size, limits.METADATA_BYTES)
        if _SHALLOW_BYTES < size <= limits.METADATA_BYTES and _too_deep(value):
            levels = limits.METADATA_LEVELS
            self.wrong(field, f"must be nested at most {levels} levels deep")

    def duration(self, field: str, value: Duration) -> None:
        if not (0 <= value.seconds <= 315_576_000_000 and 0 <= value.nanos < 10**9):
            self.wrong(field, "must be a duration of 0 to 10,000 years")

    def span(self, field: str, value: Duration, between: tuple[int, int]) -> timedelta:
        """A duration of so many seconds."""
        shortest, longest = between
        span = timedelta(
            seconds=min(max(value.seconds, -1), 10**10), microseconds=value.nanos // 1000
        )
        whole = 0 <= value.nanos < 10**9
        if not (whole and timedelta(seconds=shortest) <= span <= timedelta(seconds=longest)):
            self.wrong(field, f"must be {shortest} to {longest} seconds")
        return span

    def timestamp(self, field: str, value: Timestamp) -> None:
        known = limits.EARLIEST_SECOND <= value.seconds <= limits.LATEST_SECOND
        if not (known and 0 <= value.nanos < 10**9):
            self.wrong(field, "must be a time of the years 1 to 9999")

    def money(self, field: str, value: str) -> None:
        if value and not limits.MONEY.fullmatch(value):
            self.wrong(field, limits.MONEY_FORM)

    def day(self, field: str, value: str, default: date) -> date:
        """A day; what isn't one is noted."""
        if not value:
            return default
        try:
            if limits.DAY.fullmatch(value):
                return date.fromisoformat(value)
        except ValueError:
            pass
        self.wrong(field, limits.DAY_FORM)
        return default

    def labels(self, field: str, labels: Iterable[tuple[str, str]], count: int, most: int) -> None:
        self.count(field, count, most)
        for key, value in list(labels)[: most + 1]:
            where = f"{field}[{key[:64]!r}]"
            if not key:
                self.wrong(where, "must not be empty")
            self.text(where, key, limits.LABEL_KEY)
            self.text(where, value)

    def mask_into_maps(
        self, field: str, mask: FieldMask, allowed: Collection[str], maps: Collection[str]
    ) -> tuple[frozenset[str], dict[str, set[str]]]:
        """The paths of a mask, and the keys within maps that it names, by the map."""
        self.count(field, len(mask.paths), limits.MASK_PATHS)
        whole, keys = FieldMask(), {name: set[str]() for name in maps}
        for path in mask.paths[: limits.MASK_PATHS]:
            found = _INTO_MAP.fullmatch(path)
            if found is not None and found[1] in maps:
                keys[found[1]].add(found[2] or found[3].replace("``", "`"))
            else:
                whole.paths.append(path)
        if whole.paths or not any(keys.values()):
            return self.mask(field, whole, allowed), keys
        return frozenset(), keys

    def mask(self, field: str, mask: FieldMask, allowed: Collection[str]) -> frozenset[str]:
        """The paths of a mask, each of them allowed and at least one."""
        paths = frozenset(mask.paths)
        if not paths:
            self.wrong(field, f"is required: some of {', '.join(sorted(allowed))}")
        for path in sorted(paths - frozenset(allowed))[:20]:
            self.wrong(
                field, f"{path[:100]!r} can't be changed; one of {', '.join(sorted(allowed))}"
            )
        return paths


_INTO_MAP = re.compile(r"([a-z_]+)\.(?:([A-Za-z0-9_-]+)|`((?:[^`]|``)*)`)", re.DOTALL)
"""A path of a mask into a map: the field, and the key, quoted or not."""


# A level of an object takes three messages of protobuf's encoding, each at least two bytes.
_SHALLOW_BYTES = 6 * limits.METADATA_LEVELS
_WRAPS = (100 - 3 * limits.METADATA_LEVELS) // 2 - 1


def _too_deep(value: Struct) -> bool:
    """Whether it is nested so deeply that answers, which hold it further down than requests, might break
    protobuf's limit of 100. Coding it further down is faster than to look through it."""
    try:
        wrapped = Value(struct_value=value)
        for _ in range(_WRAPS):
            wrapped = Value(list_value=ListValue(values=[wrapped]))
        Value.FromString(wrapped.SerializeToString())
    except (DecodeError, EncodeError):
        return True
    return False


class _Paged(Protocol):
    @property
    def page_size(self) -> int: ...


def page_size(request: _Paged, sizes: tuple[int, int]) -> int:
    """The size of a page: the default for 0, the maximum above it; negative is refused."""
    default, most = sizes
    if request.page_size < 0:
        raise invalid("page_size", "must not be negative")
    return min(request.page_size or default, most)


def is_session_id(text: str) -> bool:
    """Whether a text can be the id of a session."""
    if limits.PLAIN_SESSION_ID.fullmatch(text):
        return True
    fits = len(text) <= limits.SESSION_ID_BYTES and len(text.encode()) <= limits.SESSION_ID_BYTES
    return fits and limits.SESSION_ID.fullmatch(text) is not None


def session_id(value: str, field: str = "session_id") -> str:
    """An id that can be a session's; what can't be one is refused."""
    if not is_session_id(value):
        raise invalid(field, limits.SESSION_ID_FORM)
    return value


def lease_ttl(value: Duration, given: bool, default: int, field: str) -> timedelta:
    """How long a lease lasts."""
    if not given:
        return timedelta(seconds=default)
    shortest, longest = limits.LEASE_SECONDS
    ttl = timedelta(seconds=min(max(value.seconds, -1), 10**6), microseconds=value.nanos // 1000)
    whole = 0 <= value.nanos < 10**9
    if not (whole and timedelta(seconds=shortest) <= ttl <= timedelta(seconds=longest)):
        raise invalid(field, f"must be {shortest} to {longest} seconds")
    return ttl


def moment(value: Timestamp) -> datetime:
    """A checked time."""
    start = datetime(1970, 1, 1, tzinfo=UTC)
    return start + timedelta(seconds=value.seconds, microseconds=value.nanos // 1000)

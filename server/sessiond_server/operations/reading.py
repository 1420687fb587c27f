"""Reading the log in pages, in three views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from sessiond_server.errors import MessageNotFound, SessionNotFound
from sessiond_server.sessions.visibility import Segment, between, segments
from sessiond_server.store import contexts, heads, messages
from sessiond_server.store.database import Connection
from sessiond_server.store.heads import Head
from sessiond_server.store.keys import SessionKey
from sessiond_server.store.messages import Filters, Marks, OpenCall, StoredMessage

TRANSCRIPT, CONTEXT, ALL = 1, 2, 3
"""Views: the values of `sessiond.v1.MessageView`."""

_SPANS = 256  # rewound spans looked at in one go
_LAST_TIME = datetime.max.replace(tzinfo=UTC) - timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Reading:
    """What to read, from a position on (itself included) in a direction, to another one (included too)."""

    session_id: str
    key: SessionKey
    view: int
    filters: Filters
    descending: bool
    position: int
    limit: int
    max_bytes: int
    last: int | None = None


@dataclass(frozen=True, slots=True)
class Read:
    """A page: messages, their marks, and where the next one begins, if there is more."""

    messages: list[StoredMessage]
    marks: Marks
    next_position: int | None


async def head_of(connection: Connection, session_id: str, key: SessionKey) -> Head:
    head = await heads.read(connection, key)
    if head is None:
        raise SessionNotFound(session_id)
    return head


async def page(connection: Connection, reading: Reading) -> Read:
    """One page."""
    head = await head_of(connection, reading.session_id, reading.key)
    low, high = head.first_seq, head.last_seq
    if reading.descending:
        low, high = max(low, reading.last or low), min(high, reading.position)
    else:
        low, high = max(low, reading.position), min(high, reading.last or high)
    if low > high:
        return Read([], Marks(set(), {}, {}), None)
    if reading.view == CONTEXT:
        return await _context_page(connection, reading, low, high)
    return await _log_page(connection, reading, low, high, head.offloaded_before_seq)


def size_of(messages: Sequence[StoredMessage]) -> int:
    return sum(len(message.payload) for message in messages)


async def _log_page(
    connection: Connection, reading: Reading, low: int, high: int, border: int
) -> Read:
    found: list[StoredMessage] = []
    size, more = 0, False
    while low <= high and len(found) < reading.limit and not more:
        ranges, low, high = await _ranges(connection, reading, low, high)
        got = await messages.page(
            connection,
            reading.key,
            ranges,
            reading.filters,
            limit=reading.limit - len(found),
            max_bytes=reading.max_bytes - size,
            descending=reading.descending,
            border=border,
        )
        size += size_of(got.messages)
        if found and size > reading.max_bytes:  # a first message comes whatever its size
            more = True
            break
        found += got.messages
        more = got.more
    step = -1 if reading.descending else 1
    following = found[-1].seq + step if found and (more or low <= high) else None
    return Read(found, await messages.marks(connection, reading.key, found), following)


async def _ranges(
    connection: Connection, reading: Reading, low: int, high: int
) -> tuple[list[tuple[int, int]], int, int]:
    """The next ranges to read in order, and what is left to look at behind them."""
    if reading.view == ALL:
        return [(low, high)], high + 1, high
    if reading.descending:
        spans = await messages.rewound_before(connection, reading.key, low, high, _SPANS)
        start = spans[-1].from_seq if len(spans) == _SPANS else low
        pieces = segments(sorted(spans), start, high)
        return [(p.low, p.high) for p in reversed(pieces)], low, start - 1
    spans = await messages.rewound_from(connection, reading.key, low, high, _SPANS)
    end = min(high, spans[-1].to_seq) if len(spans) == _SPANS else high
    return [(p.low, p.high) for p in segments(spans, low, end)], end + 1, high


async def _context_page(connection: Connection, reading: Reading, low: int, high: int) -> Read:
    pieces, border = await _context_segments(connection, reading, low, high)
    got, places = await messages.context_page(
        connection,
        reading.key,
        pieces[::-1] if reading.descending else pieces,
        reading.filters,
        limit=reading.limit,
        max_bytes=reading.max_bytes,
        descending=reading.descending,
        border=border,
    )
    following = None
    if got.more:
        last, place = got.messages[-1], places[-1]
        position = place.position if place.summary else last.seq
        following = position + (-1 if reading.descending else 1)
    return Read(
        got.messages, await messages.marks(connection, reading.key, got.messages), following
    )


async def _context_segments(
    connection: Connection, reading: Reading, low: int, high: int
) -> tuple[list[Segment], int]:
    """The part of the context, and where the offloaded messages end."""
    context = await contexts.context_map(connection, reading.key)
    if context is None:
        raise SessionNotFound(reading.session_id)
    found = segments(context.spans, context.first_seq, context.next_seq - 1)
    return between(found, low, high), context.border


async def page_around(connection: Connection, reading: Reading) -> tuple[Read, int | None]:
    """A page around the position, ascending, and where the page before it begins, if there is one."""
    half = replace(
        reading,
        descending=True,
        position=reading.position - 1,
        limit=max(reading.limit // 2, 1),
        max_bytes=reading.max_bytes // 2,
    )
    before = await page(connection, half)
    rest = replace(
        reading,
        descending=False,
        limit=max(reading.limit - len(before.messages), 1),
        max_bytes=reading.max_bytes - size_of(before.messages),
    )
    after = await page(connection, rest)
    size = size_of(before.messages) + size_of(after.messages)
    if after.messages and (reading.limit == 1 or size > reading.max_bytes):
        before = Read([], Marks(set(), {}, {}), half.position if before.messages else None)
    marks = Marks(
        before.marks.rewound | after.marks.rewound,
        before.marks.compacted_by | after.marks.compacted_by,
        before.marks.replaces | after.marks.replaces,
    )
    found = [*reversed(before.messages), *after.messages]
    return Read(found, marks, after.next_position), before.next_position


async def position_at(
    connection: Connection, session_id: str, key: SessionKey, time: datetime, *, descending: bool
) -> int:
    """Where a reading from a time on begins."""
    head = await head_of(connection, session_id, key)
    if descending:
        time = min(time, _LAST_TIME) + timedelta(microseconds=1)
    found = await messages.seq_at_time(connection, key, head, time)
    return found - 1 if descending else found


async def message(
    connection: Connection, session_id: str, key: SessionKey, which: int | str
) -> tuple[StoredMessage, Marks]:
    """One message, by its seq or its client id."""
    if isinstance(which, int):
        found = await messages.by_seq(connection, key, which)
    else:
        found = await messages.by_client_id(connection, key, which)
    if found is None:
        head = await head_of(connection, session_id, key)
        raise MessageNotFound(which, head.first_seq, head.next_seq)
    return found, await messages.marks(connection, key, [found])


async def holders(
    connection: Connection, key: SessionKey, calls: Sequence[OpenCall], max_bytes: int
) -> list[StoredMessage]:
    """The first messages that hold these calls, up to a size."""
    seqs = sorted({call.seq for call in calls})
    if not seqs:
        return []
    ranges = [(seq, seq) for seq in seqs]
    found = await messages.page(
        connection,
        key,
        ranges,
        Filters(),
        limit=len(seqs),
        max_bytes=max_bytes,
        descending=False,
    )
    return found.messages

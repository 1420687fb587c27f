"""Message rows: reading pages of the log, and late changes of single messages."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import asyncpg

from sessiond_server.sessions.visibility import Segment, Span
from sessiond_server.store import crossing, heads, offloaded
from sessiond_server.store.crossing import Found, Reading, Row
from sessiond_server.store.database import Connection
from sessiond_server.store.heads import Head
from sessiond_server.store.keys import SessionKey
from sessiond_server.store.segments import FullMessage
from sessiond_server.store.sql import query


class StoredMessage(NamedTuple):
    """A message as it is stored: what its payload doesn't hold, and the payload."""

    seq: int
    create_time: datetime
    summary: bool
    payload: bytes


class Filters(NamedTuple):
    """Which messages of a page; `None` is any."""

    transcript: bool = False
    roles: list[int] | None = None
    kinds: list[int] | None = None
    types: list[str] | None = None

    def take(self, message: FullMessage) -> bool:
        """Whether a message's role, kind and type are wanted."""
        return (
            (self.roles is None or message.role in self.roles)
            and (self.kinds is None or message.kind in self.kinds)
            and (self.types is None or (message.type or "") in self.types)
        )


class Page(NamedTuple):
    """Messages, and whether there are more behind them."""

    messages: list[StoredMessage]
    more: bool


async def page(
    connection: Connection,
    key: SessionKey,
    ranges: Sequence[tuple[int, int]],
    filters: Filters,
    *,
    limit: int,
    max_bytes: int,
    descending: bool,
    border: int | None = None,
) -> Page:
    """A page of the log from ranges of seqs, which come in the order of reading, offloaded or not.

    `border` is the session's `offloaded_before_seq` if it is known. Below it is read from one state alone: in
    a snapshot, under the session's lock, or in `Database.read`, to which this raises `SnapshotNeeded`.
    """

    async def hot(pieces: list[Segment], limit: int, max_bytes: int) -> list[asyncpg.Record]:
        rows = await connection.fetch(
            query("list_messages_descending" if descending else "list_messages_ascending"),
            *key,
            [piece.low for piece in pieces],
            [piece.high for piece in pieces],
            filters.transcript,
            filters.roles,
            filters.kinds,
            filters.types,
            limit,
            max_bytes,
        )
        return _there(connection, rows, pieces)

    pieces = [Segment(low, high, summary=False, position=low) for low, high in ranges]
    reading = Reading(
        connection,
        key,
        pieces,
        lambda message, _: (
            filters.take(message) and (message.in_transcript or not filters.transcript)
        ),
        hot,
        descending,
        filters.roles,
        filters.kinds,
    )
    found, more = await _read(reading, border, limit, max_bytes)
    return Page([_stored(each.row) for each in found], more)


def _there(
    connection: Connection, rows: list[asyncpg.Record], pieces: Sequence[Segment]
) -> list[asyncpg.Record]:
    """The rows of a statement that says where the border is, but for the one that says nothing else."""
    if rows:
        crossing.check(connection, pieces, rows[0]["offloaded_before_seq"])
    return [row for row in rows if row["seq"] is not None]


async def _read(
    reading: Reading, border: int | None, limit: int, max_bytes: int
) -> tuple[list[Found], bool]:
    known = await crossing.border_of(reading.connection, reading.key, border)
    crossing.check(reading.connection, reading.pieces, known)
    return await reading.page(known, limit, max_bytes)


def _stored(row: Row) -> StoredMessage:
    if isinstance(row, FullMessage):
        return StoredMessage(row.seq, row.create_time, row.summary, row.payload)
    return StoredMessage(row["seq"], row["create_time"], row["summary"], row["payload"])


async def context_page(
    connection: Connection,
    key: SessionKey,
    segments: Sequence[Segment],
    filters: Filters,
    *,
    limit: int,
    max_bytes: int,
    descending: bool = False,
    border: int | None = None,
) -> tuple[Page, list[Segment]]:
    """A page of the context from segments in the order of reading, and the segment of each message. As for
    `page`, offloaded messages are read from one state alone."""

    async def hot(pieces: list[Segment], limit: int, max_bytes: int) -> list[asyncpg.Record]:
        rows = await connection.fetch(
            query("context_page_descending" if descending else "context_page_ascending"),
            *key,
            [s.low for s in pieces],
            [s.high for s in pieces],
            [s.summary for s in pieces],
            filters.roles,
            filters.kinds,
            filters.types,
            limit,
            max_bytes,
        )
        return _there(connection, rows, pieces)

    reading = Reading(
        connection,
        key,
        segments,
        lambda message, piece: filters.take(message) and _shown(message, piece),
        hot,
        descending,
        filters.roles,
        filters.kinds,
    )
    found, more = await _read(reading, border, limit, max_bytes)
    return _context(found, more, segments)


def _shown(message: FullMessage, piece: Segment) -> bool:
    return message.in_context and message.summary == piece.summary


def _context(
    found: list[Found], more: bool, segments: Sequence[Segment]
) -> tuple[Page, list[Segment]]:
    return Page([_stored(each.row) for each in found], more), [
        segments[each.piece] for each in found
    ]


async def context_page_as_of(
    connection: Connection,
    key: SessionKey,
    segments: Sequence[Segment],
    as_of_seq: int,
    *,
    limit: int,
    max_bytes: int,
    border: int | None = None,
) -> tuple[Page, list[Segment]]:
    """The same of the context as of a seq, each message in its version of then."""

    async def hot(pieces: list[Segment], limit: int, max_bytes: int) -> list[asyncpg.Record]:
        return await connection.fetch(
            query("context_page_as_of"),
            *key,
            [s.low for s in pieces],
            [s.high for s in pieces],
            [s.summary for s in pieces],
            as_of_seq,
            limit,
            max_bytes,
        )

    reading = Reading(connection, key, segments, _shown, hot, as_of_seq=as_of_seq)
    found, more = await _read(reading, border, limit, max_bytes)
    return _context(found, more, segments)


async def by_seq(connection: Connection, key: SessionKey, seq: int) -> StoredMessage | None:
    row = await connection.fetchrow(query("message_by_seq"), *key, seq)
    if row is not None:
        return StoredMessage(*row)
    message = (await offloaded.by_seqs(connection, key, [seq])).get(seq)
    return None if message is None else _stored(message)


async def by_client_id(
    connection: Connection, key: SessionKey, client_id: str
) -> StoredMessage | None:
    row = await connection.fetchrow(query("message_by_client_id"), *key, client_id)
    if row is not None:
        return StoredMessage(*row)
    offloaded.require_one_state(connection)
    head = await heads.read(connection, key)
    if head is None or not head.has_offloaded:
        return None
    found = await offloaded.by_client_ids(connection, key, head.first_seq, [client_id])
    return _stored(found[client_id]) if found else None


async def seq_at_time(connection: Connection, key: SessionKey, head: Head, time: datetime) -> int:
    """The first seq appended at a time or later; the next seq if none was."""
    if head.has_offloaded:
        seq = await offloaded.seq_at_time(connection, key, time)
        if seq is not None:
            return seq
    found: int | None = await connection.fetchval(
        query("seq_at_time"), *key, head.first_hot_seq, head.next_seq, time
    )
    if found is None:  # what it looked at has gone meanwhile
        offloaded.require_one_state(connection)
        return head.next_seq
    return found


async def rewound_from(
    connection: Connection, key: SessionKey, low: int, high: int, limit: int
) -> list[Span]:
    """The first rewound spans from `low` on, in order, and perhaps the one before."""
    return [Span(*r) for r in await connection.fetch(query("rewound_from"), *key, low, high, limit)]


async def rewound_before(
    connection: Connection, key: SessionKey, low: int, high: int, limit: int
) -> list[Span]:
    """The last rewound spans up to `high`, the last first."""
    rows = await connection.fetch(query("rewound_before"), *key, high, low, limit)
    return [Span(*r) for r in rows]


class Marks(NamedTuple):
    """What hides messages now: those rewound, the summary that stands for one, what a summary replaces."""

    rewound: set[int]
    compacted_by: dict[int, int]
    replaces: dict[int, tuple[int, int]]


async def marks(
    connection: Connection, key: SessionKey, messages: Sequence[StoredMessage]
) -> Marks:
    """The marks of a page's messages."""
    found = Marks(set(), {}, {})
    for row in await connection.fetch(query("spans_over"), *key, [m.seq for m in messages]):
        if row["kind"] == 2:
            found.rewound.add(row["seq"])
        else:
            found.compacted_by[row["seq"]] = row["summary_seq"]
    for seq in found.rewound:  # no summary was ever made of what was rewound by then
        found.compacted_by.pop(seq, None)
    summaries = [m.seq for m in messages if m.summary]
    if summaries:
        for row in await connection.fetch(query("summary_ranges"), *key, summaries):
            found.replaces[row[0]] = (row[1], row[2])
    return found


async def size(connection: Connection, key: SessionKey, seqs: Sequence[int]) -> int:
    """How many bytes messages that aren't offloaded take together."""
    total: int = await connection.fetchval(query("size_of_messages"), *key, list(seqs))
    return total


async def to_update(
    connection: Connection, key: SessionKey, seqs: Sequence[int]
) -> dict[int, asyncpg.Record]:
    """The current versions of messages that aren't offloaded, by their seq."""
    rows = await connection.fetch(query("messages_to_update"), *key, list(seqs))
    return {row["seq"]: row for row in rows}


class Revision(NamedTuple):
    """The new version of a message, in the order of the statement's parameters."""

    seq: int
    token_count: int
    kind: int
    in_context: bool
    in_transcript: bool
    type: str | None
    payload: bytes


async def revise(
    connection: Connection,
    key: SessionKey,
    revisions: Sequence[Revision],
    *,
    change_no: int,
    effective_seq: int,
) -> None:
    """Replace versions of messages that aren't offloaded, and keep the old ones."""
    if not revisions:
        return
    columns = [list(column) for column in zip(*revisions, strict=True)]
    await connection.execute(query("save_revisions"), *key, columns[0], change_no, effective_seq)
    await connection.execute(query("replace_messages"), *key, *columns)


class OpenCall(NamedTuple):
    """Where a tool call without a result stands: its message, and its place there, from 1 on."""

    seq: int
    position: int


async def open_tool_calls(
    connection: Connection, key: SessionKey, after: tuple[int, int], limit: int
) -> list[OpenCall]:
    rows = await connection.fetch(query("open_tool_calls"), *key, *after, limit)
    return [OpenCall(*row) for row in rows]


async def derive_open_tool_calls(connection: Connection, key: SessionKey) -> None:
    """Derive them anew, after what is rewound has changed."""
    await connection.execute(query("forget_open_tool_calls"), *key)
    await connection.execute(query("derive_open_tool_calls"), *key)

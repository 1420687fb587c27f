"""Message rows: reading pages of the log, and late changes of single messages."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import asyncpg

from sessiond_server.sessions.visibility import Segment, Span
from sessiond_server.store.database import Connection
from sessiond_server.store.keys import SessionKey
from sessiond_server.store.sql import query


class StoredMessage(NamedTuple):
    """A message as it is stored: what its payload doesn't hold, and the payload."""

    seq: int
    create_time: datetime
    note: bool
    payload: bytes


class Filters(NamedTuple):
    """Which messages of a page; `None` is any."""

    transcript: bool = False
    roles: list[int] | None = None
    kinds: list[int] | None = None


class Page(NamedTuple):
    """Messages, and whether there are more behind them."""

    messages: list[StoredMessage]
    more: bool


def _page(rows: list[asyncpg.Record], limit: int) -> Page:
    messages = [StoredMessage(r["seq"], r["create_time"], r["note"], r["payload"]) for r in rows]
    more = bool(rows) and (rows[0]["available"] > limit or rows[0]["available"] > len(rows))
    return Page(messages[:limit], more)


async def page(
    connection: Connection,
    key: SessionKey,
    ranges: Sequence[tuple[int, int]],
    filters: Filters,
    *,
    limit: int,
    max_bytes: int,
    descending: bool,
) -> Page:
    """A page of the log from ranges of seqs, which come in the order of reading."""
    rows = await connection.fetch(
        query("list_messages_descending" if descending else "list_messages_ascending"),
        *key,
        [r[0] for r in ranges],
        [r[1] for r in ranges],
        filters.transcript,
        filters.roles,
        filters.kinds,
        limit + 1,
        max_bytes,
    )
    return _page(rows, limit)


async def context_page(
    connection: Connection,
    key: SessionKey,
    segments: Sequence[Segment],
    filters: Filters,
    *,
    limit: int,
    max_bytes: int,
    descending: bool = False,
) -> tuple[Page, list[Segment]]:
    """A page of the context from segments in the order of reading, and the segment of each message."""
    rows = await connection.fetch(
        query("context_page_descending" if descending else "context_page_ascending"),
        *key,
        [s.low for s in segments],
        [s.high for s in segments],
        [s.note for s in segments],
        filters.roles,
        filters.kinds,
        limit + 1,
        max_bytes,
    )
    return _page(rows, limit), [segments[r["segment"] - 1] for r in rows[:limit]]


async def context_page_as_of(
    connection: Connection,
    key: SessionKey,
    segments: Sequence[Segment],
    as_of_seq: int,
    *,
    limit: int,
    max_bytes: int,
) -> tuple[Page, list[Segment]]:
    """The same of the context as of a seq, each message in its version of then."""
    rows = await connection.fetch(
        query("context_page_as_of"),
        *key,
        [s.low for s in segments],
        [s.high for s in segments],
        [s.note for s in segments],
        as_of_seq,
        limit + 1,
        max_bytes,
    )
    return _page(rows, limit), [segments[r["segment"] - 1] for r in rows[:limit]]


async def by_seq(connection: Connection, key: SessionKey, seq: int) -> StoredMessage | None:
    row = await connection.fetchrow(query("message_by_seq"), *key, seq)
    return None if row is None else StoredMessage(*row)


async def by_client_id(
    connection: Connection, key: SessionKey, client_id: str
) -> StoredMessage | None:
    row = await connection.fetchrow(query("message_by_client_id"), *key, client_id)
    return None if row is None else StoredMessage(*row)


async def seq_at_time(
    connection: Connection, key: SessionKey, first_seq: int, next_seq: int, time: datetime
) -> int:
    """The first seq appended at a time or later; `next_seq` if none was."""
    found: int | None = await connection.fetchval(
        query("seq_at_time"), *key, first_seq, next_seq, time
    )
    return next_seq if found is None else found


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
    """What hides messages now: those rewound, the note that stands for one, what a note replaces."""

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
            found.compacted_by[row["seq"]] = row["note_seq"]
    for seq in found.rewound:  # no note was ever made of what was rewound by then
        found.compacted_by.pop(seq, None)
    notes = [m.seq for m in messages if m.note]
    if notes:
        for row in await connection.fetch(query("note_ranges"), *key, notes):
            found.replaces[row[0]] = (row[1], row[2])
    return found


async def size(connection: Connection, key: SessionKey, seqs: Sequence[int]) -> int:
    """How many bytes messages take together."""
    total: int = await connection.fetchval(query("size_of_messages"), *key, list(seqs))
    return total


async def to_update(
    connection: Connection, key: SessionKey, seqs: Sequence[int]
) -> dict[int, asyncpg.Record]:
    """The current versions of messages by their seq."""
    rows = await connection.fetch(query("messages_to_update"), *key, list(seqs))
    return {row["seq"]: row for row in rows}


class Revision(NamedTuple):
    """The new version of a message, in the order of the statement's parameters."""

    seq: int
    token_count: int
    kind: int
    in_context: bool
    in_transcript: bool
    payload: bytes


async def revise(
    connection: Connection,
    key: SessionKey,
    revisions: Sequence[Revision],
    *,
    change_no: int,
    effective_seq: int,
) -> None:
    """Replace versions of messages and keep the old ones."""
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

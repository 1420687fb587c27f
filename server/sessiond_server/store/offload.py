"""Moving messages into segments and out of them, under the session's lock."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID, uuid4

from sessiond_server.sessions.guards import By
from sessiond_server.store import offloaded, segments
from sessiond_server.store.database import Connection, known_columns
from sessiond_server.store.heads import Head
from sessiond_server.store.keys import SessionKey
from sessiond_server.store.messages import Revision
from sessiond_server.store.offloaded import INDEXED_FROM, dictionary_bucket
from sessiond_server.store.segments import FullMessage, client_key
from sessiond_server.store.sql import query

_LEADING_ROLES = (1, 2)
_DICTIONARY_BYTES = (1024, 128 * 2**10)
"""Sizes of what is worth being kept once for many sessions."""


class SegmentTotals(NamedTuple):
    """What is kept beside a segment's content and follows from its messages."""

    context_tokens: int
    kinds: int
    context_messages: int
    message_bytes: int
    version: UUID
    silent_summaries: list[int] | None


def _totals(messages: Sequence[FullMessage]) -> SegmentTotals:
    counted = [m for m in messages if m.in_context and not m.summary]
    silent = [m.seq for m in messages if m.summary and not m.in_context]
    return SegmentTotals(
        sum(m.token_count for m in counted),
        sum(1 << kind for kind in {m.kind for m in messages}),
        len(counted),
        sum(len(m.payload) for m in messages),
        uuid4(),
        silent or None,
    )


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment to be stored."""

    messages: Sequence[FullMessage]
    settled: bool
    content: bytes
    dictionary: bytes | None
    """As it is stored."""
    dictionary_id: UUID | None

    @property
    def first_seq(self) -> int:
        return self.messages[0].seq

    @property
    def end(self) -> int:
        """The seq behind it."""
        return self.messages[-1].seq + 1


def common_opening(tenant: str, first: FullMessage) -> tuple[UUID, bytes] | None:
    """What a conversation begins with and others may begin with too, if it is worth it: the dictionary of its
    first segment, and its id."""
    content = segments.without_client_id(first)
    smallest, largest = _DICTIONARY_BYTES
    if first.role not in _LEADING_ROLES or not smallest <= len(content) <= largest:
        return None
    digest = hashlib.blake2b(tenant.encode() + b"\0" + content, digest_size=16).digest()
    return UUID(bytes=digest), content


async def compressed(
    messages: Sequence[FullMessage],
    opening: tuple[UUID, bytes] | None,
    level: int,
    *,
    settled: bool,
) -> Segment:
    """A segment of messages."""
    if opening is None:
        content = await asyncio.to_thread(segments.compress, messages, level)
        return Segment(messages, settled, content, None, None)
    dictionary_id, dictionary = opening
    content = await asyncio.to_thread(segments.compress, messages, level, dictionary)
    stored = await asyncio.to_thread(segments.pack_dictionary, dictionary)
    return Segment(messages, settled, content, stored, dictionary_id)


async def facts(connection: Connection, key: SessionKey) -> tuple[str, UUID] | None:
    """A session's tenant and incarnation."""
    row = await connection.fetchrow(query("offload_facts"), *key)
    return None if row is None else (row[0], row[1])


async def next_messages(
    connection: Connection, key: SessionKey, from_seq: int, before_seq: int, count: int
) -> list[FullMessage]:
    """As many messages from a seq on as fit a segment, which so many do at most."""
    rows = await connection.fetch(
        query("messages_to_offload"),
        *key,
        from_seq,
        before_seq,
        count,
        segments.BYTES,
    )
    return [FullMessage(*row) for row in rows]


async def insert(connection: Connection, head: Head, segment: Segment) -> None:
    """Store a segment; its messages are still in the table."""
    if segment.dictionary_id is not None:
        await connection.execute(
            query("use_dictionary"),
            dictionary_bucket(segment.dictionary_id),
            segment.dictionary_id,
            segment.dictionary,
        )
    messages = segment.messages
    totals = _totals(messages)
    keys = [client_key(head.session_key, message.client_id) for message in messages]
    indexed = segment.first_seq >= head.first_seq + INDEXED_FROM
    await connection.execute(
        query("insert_segment"),
        *head.key,
        segment.first_seq,
        messages[-1].seq,
        max(message.create_time for message in messages),
        totals.context_tokens,
        totals.kinds,
        sum(1 << role for role in {message.role for message in messages}),
        totals.context_messages,
        totals.message_bytes,
        segment.settled,
        totals.version,
        segment.dictionary_id,
        totals.silent_summaries,
        None if indexed else keys,
        keys if indexed else None,
        segment.content,
    )


async def delete_messages(
    connection: Connection, key: SessionKey, from_seq: int, before_seq: int
) -> int:
    """Take messages that are in segments now from the table; how many these were."""
    row = await connection.fetchrow(query("delete_offloaded_messages"), *key, from_seq, before_seq)
    assert row is not None
    count: int = row[0]
    return count


async def set_border(connection: Connection, key: SessionKey, seq: int) -> None:
    await connection.execute(query("set_border"), *key, seq)


class SegmentPlace(NamedTuple):
    """Where a segment begins, and whether the border may stand behind it."""

    first_seq: int
    settled: bool


async def last_places(connection: Connection, key: SessionKey, count: int) -> list[SegmentPlace]:
    """Those of the last segments, the last one first."""
    rows = await connection.fetch(query("last_segments"), *key, count)
    return [SegmentPlace(*row) for row in rows]


class Restorable(NamedTuple):
    """A segment that is to be restored."""

    first_seq: int
    stored_bytes: int
    messages: list[FullMessage]


async def segments_from(connection: Connection, key: SessionKey, from_seq: int) -> list[Restorable]:
    """The segments from one on that begins at a seq."""
    return [
        Restorable(row["first_seq"], len(row["content"]), await offloaded.expanded(connection, row))
        for row in await connection.fetch(query("segments_to_restore"), *key, from_seq)
    ]


async def delete_segments(connection: Connection, key: SessionKey, from_seq: int) -> None:
    """Delete the segments from a seq on."""
    await release_dictionaries(connection, [key], from_seq)
    await connection.execute(query("delete_segments"), *key, from_seq)


async def release_dictionaries(
    connection: Connection, keys: Sequence[SessionKey], from_seq: int = 0
) -> None:
    """Before sessions' segments from a seq on go: what they are compressed with goes with its last use."""
    rows = await connection.fetch(
        query("dictionary_uses"), [key.bucket for key in keys], [key.key for key in keys], from_seq
    )
    if not rows:
        return
    released = {row["dictionary_id"]: row["uses"] for row in rows}
    locked = await connection.fetch(
        query("lock_dictionaries"), [dictionary_bucket(each) for each in released], list(released)
    )
    for bucket, dictionary_id, uses in locked:
        if uses > released[dictionary_id]:
            text = query("release_dictionary")
            await connection.execute(text, bucket, dictionary_id, released[dictionary_id])
        else:
            await connection.execute(query("delete_dictionary"), bucket, dictionary_id)


async def insert_messages(
    connection: Connection, key: SessionKey, messages: Sequence[FullMessage]
) -> None:
    """Put messages into the table as they are."""
    columns = [list(column) for column in zip(*messages, strict=True)]
    for place in (10, 11):  # asyncpg takes no arrays of arrays of different lengths
        columns[place] = [None if ids is None else "\x1f".join(ids) for ids in columns[place]]
    await connection.execute(query("insert_messages"), *key, *columns)


async def revise(
    connection: Connection,
    key: SessionKey,
    current: dict[int, FullMessage],
    revisions: Sequence[Revision],
    *,
    change_no: int,
    effective_seq: int,
) -> None:
    """Replace versions of offloaded messages and keep the old ones."""
    if not revisions:
        return
    old = [current[revision.seq] for revision in revisions]
    await connection.execute(
        query("save_offloaded_revisions"),
        *key,
        change_no,
        effective_seq,
        [m.seq for m in old],
        [m.token_count for m in old],
        [m.kind for m in old],
        [m.in_context for m in old],
        [m.in_transcript for m in old],
        [m.type for m in old],
        [m.payload for m in old],
    )
    new = {revision.seq: revision for revision in revisions}
    while new:
        await _rewrite(connection, key, new)


async def _rewrite(connection: Connection, key: SessionKey, new: dict[int, Revision]) -> None:
    """Rewrite the segment of the first of these, and take those in it out."""
    seq = min(new)
    row = await connection.fetchrow(query("read_segments_ascending"), *key, seq, seq, -1, -1, 1, [])
    assert row is not None
    messages = [
        m._replace(**new.pop(m.seq)._asdict()) if m.seq in new else m
        for m in await offloaded.expanded(connection, row)
    ]
    using = await offloaded.dictionary(connection, row["dictionary_id"])
    content = await asyncio.to_thread(segments.compress, messages, segments.QUICK, using)
    await connection.execute(
        query("rewrite_segment"), *key, row["first_seq"], *_totals(messages), content
    )


@dataclass(frozen=True, slots=True)
class OffloadRow:
    """A row of `message_offload`."""

    bucket: int
    session_key: UUID
    offload_id: int
    restored: bool
    from_seq: int
    to_seq: int
    message_bytes: int
    stored_bytes: int
    author: str
    actor: str
    create_time: datetime


async def record(
    connection: Connection,
    head: Head,
    *,
    restored: bool,
    seqs: tuple[int, int],
    sizes: tuple[int, int],
    by: By,
) -> None:
    """Record a move of messages (first seq, last seq) and how many bytes they and their segments are."""
    await connection.execute(
        query("insert_offload"), *head.key, head.next_change, restored, *seqs, *sizes, *by
    )


async def read_record(
    connection: Connection, key: SessionKey, offload_id: int
) -> OffloadRow | None:
    row = await connection.fetchrow(query("read_offload"), *key, offload_id)
    return None if row is None else known_columns(OffloadRow, row)


async def list_records(
    connection: Connection, key: SessionKey, before: int, limit: int
) -> list[OffloadRow]:
    """Records with smaller ids, the newest first."""
    rows = await connection.fetch(query("list_offloads"), *key, before, limit)
    return [known_columns(OffloadRow, row) for row in rows]


@dataclass(frozen=True, slots=True)
class Policy:
    """What is offloaded without being asked for: what ended before a time, messages older than a time, all
    but so many. `None` is nothing."""

    ended_before: datetime | None
    older_than: datetime | None
    keep: int | None
    worth: int
    """Fewer messages than this are left until there are more."""


class Due(NamedTuple):
    """A session of which something is to be offloaded: what lies before a seq, or, where that is `None`, what
    is older than the policy says."""

    key: SessionKey
    session_id: str
    before_seq: int | None


async def due(
    connection: Connection, policy: Policy, after: SessionKey, limit: int
) -> tuple[list[Due], SessionKey | None]:
    """Of the next sessions in key order those that are due, and where to look on, if anywhere."""
    rows = await connection.fetch(
        query("sessions_to_offload"),
        *after,
        limit,
        policy.ended_before,
        policy.older_than,
        policy.keep,
        policy.worth,
    )
    last = SessionKey(rows[-1][0], rows[-1][1]) if len(rows) == limit else None
    found = [Due(SessionKey(r[0], r[1]), r[2], r["before_seq"]) for r in rows if r["is_due"]]
    return found, last

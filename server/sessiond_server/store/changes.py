"""What happens to sessions, in one order with their messages: recording it, and reading it for feeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg

from sessiond_server.sessions import facts
from sessiond_server.store import offloaded
from sessiond_server.store.crossing import ROW_BYTES
from sessiond_server.store.database import Connection
from sessiond_server.store.keys import SessionKey
from sessiond_server.store.sql import query
from sessiond_server.store.touched import touch

UPDATED, COMPACTED, REVERTED, REWOUND, REWIND_REVERTED, CLEARED, FACTS, CHILD, REMINDER = range(
    1, 10
)
OFFLOADED, ATTACHMENT, USAGE, WRITER = range(10, 14)
"""Kinds of changes, as they are stored."""
KEPT = (FACTS, CHILD, REMINDER, ATTACHMENT, USAGE, WRITER)
"""Those that aren't about messages, and stay when the messages are cleared."""


async def record_facts(connection: Connection, key: SessionKey, fields: Iterable[str]) -> None:
    """Record that these facts of the session were changed; the caller holds the head's lock."""
    await record(connection, key, FACTS, reference=facts.to_bits(fields))


async def record_facts_of(
    connection: Connection, changed: Mapping[SessionKey, Iterable[str]]
) -> None:
    """The same of several sessions, all of which are locked."""
    touch(*changed)
    keys = list(changed)
    await connection.execute(
        query("record_facts_of"),
        [key.bucket for key in keys],
        [key.key for key in keys],
        [facts.to_bits(fields) for fields in changed.values()],
        FACTS,
    )


async def record_attachment(
    connection: Connection, key: SessionKey, attachment_id: str, change: int
) -> None:
    """Record what happened to an attachment: a value of `sessiond.v1.AttachmentChange`."""
    await record(connection, key, ATTACHMENT, child_id=attachment_id, child_kind=change)


async def record_deleted_attachments(connection: Connection, key: SessionKey, change: int) -> None:
    """Record that all attachments of a session are about to go."""
    touch(key)
    await connection.execute(query("record_deleted_attachments"), *key, ATTACHMENT, change)


async def record_writer(
    connection: Connection, key: SessionKey, holder: str, change: int, expire_time: datetime | None
) -> None:
    """Record what happened to the writer lease: a value of `sessiond.v1.WriterChange`."""
    end = 0 if expire_time is None else round(expire_time.timestamp() * 1_000_000)
    await record(connection, key, WRITER, reference=end, child_id=holder, child_kind=change)


async def record(
    connection: Connection,
    key: SessionKey,
    kind: int,
    *,
    reference: int = 0,
    seqs: Sequence[int] | None = None,
    child_id: str = "",
    child_kind: int = 0,
) -> None:
    """Put a change into the session's order; the caller holds the head's lock."""
    touch(key)
    await connection.execute(
        query("record_change"),
        *key,
        kind,
        reference,
        None if seqs is None else list(seqs),
        child_id,
        child_kind,
    )


class Start(NamedTuple):
    """A session's state, and what stands at a place in its order."""

    incarnation: UUID
    first_seq: int
    next_seq: int
    next_change: int
    seq: int
    change_no: int
    seq_time: datetime | None
    change_time: datetime | None


async def start(
    connection: Connection,
    key: SessionKey,
    *,
    seq: int | None,
    change_no: int | None = None,
    before_seq: int = 2**62,
) -> Start | None:
    """A place: behind a seq (`None` is the last) and a change (`None` is the last made before the message
    `before_seq`). `None` if there is no such session."""
    row = await connection.fetchrow(query("feed_start"), *key, seq, change_no, before_seq)
    if row is None:
        return None
    values = dict(row)
    border, at = values.pop("offloaded_before_seq"), row["seq"]
    if row["first_seq"] <= at < border:
        message = (await offloaded.by_seqs(connection, key, [at])).get(at)
        values["seq_time"] = message and message.create_time
    return Start(**values)


class Happened(NamedTuple):
    """A message (kind 0) or a change in a session's order."""

    seq: int
    change_no: int
    create_time: datetime
    summary: bool
    payload: bytes
    kind: int
    reference: int
    seqs: list[int] | None
    child_id: str
    child_kind: int
    client_id: str


class Page(NamedTuple):
    """What happened behind a place, and how far the session had come then."""

    incarnation: UUID
    next_seq: int
    next_change: int
    items: list[Happened]
    more: bool


async def page(
    connection: Connection, key: SessionKey, seq: int, change_no: int, *, limit: int, max_bytes: int
) -> Page | None:
    """The next page behind a place; `None` if there is no such session."""
    rows: list[asyncpg.Record] = await connection.fetch(
        query("feed_page"), *key, seq, change_no, limit, max_bytes
    )
    if not rows:
        return None
    first = rows[0]
    items = [Happened(*row[4:15]) for row in rows] if first["seq"] is not None else []
    more = bool(items) and (len(items) == limit or first["available"] > len(items))
    if seq + 1 < first["offloaded_before_seq"]:
        before = await _offloaded(
            connection, key, seq + 1, first["offloaded_before_seq"], limit, max_bytes
        )
        items, more = _merged(*before, items, more, limit, max_bytes)
    return Page(first["incarnation"], first["next_seq"], first["next_change"], items, more)


async def _offloaded(
    connection: Connection, key: SessionKey, from_seq: int, border: int, limit: int, max_bytes: int
) -> tuple[list[Happened], bool]:
    """Offloaded messages from a seq on, up to one more than fit a page, and whether these aren't all."""
    found: list[Happened] = []
    size = 0
    async for messages in offloaded.pieces(connection, key, from_seq, border - 1):
        for m in messages:
            if len(found) > limit or size > max_bytes:
                return found, True
            size += len(m.payload) + ROW_BYTES
            found.append(
                Happened(
                    m.seq, 0, m.create_time, m.summary, m.payload, 0, 0, None, "", 0, m.client_id
                )
            )
    return found, False


def _merged(
    before: list[Happened],
    more_before: bool,
    items: list[Happened],
    more: bool,
    limit: int,
    max_bytes: int,
) -> tuple[list[Happened], bool]:
    """A page of offloaded messages and of what the tables have, in order: as far as both are known."""
    ends = [found[-1][:2] for found, cut in ((before, more_before), (items, more)) if cut]
    merged = sorted([*before, *items], key=lambda item: item[:2])
    if ends:
        merged = [item for item in merged if item[:2] <= min(ends)]
    size = 0
    for place, item in enumerate(merged):
        size += len(item.payload or b"") + ROW_BYTES
        if place == limit or (place and size > max_bytes):
            return merged[:place], True
    return merged, bool(ends)


class Version(NamedTuple):
    """How far a session has come."""

    incarnation: UUID
    next_seq: int
    next_change: int


async def versions(connection: Connection, keys: Sequence[SessionKey]) -> dict[SessionKey, Version]:
    """How far sessions have come; those that don't exist are left out."""
    rows = await connection.fetch(
        query("feed_versions"), [key.bucket for key in keys], [key.key for key in keys]
    )
    return {SessionKey(row[0], row[1]): Version(row[2], row[3], row[4]) for row in rows}


async def descendants(
    connection: Connection, tenant: str, session_id: str, limit: int
) -> list[str]:
    """The sessions that come from one, itself left out."""
    rows = await connection.fetch(query("descendants"), tenant, session_id, limit)
    return [row[0] for row in rows]

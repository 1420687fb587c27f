"""How far consumers have come in sessions, and the queue of those that wait for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sessiond_server.store.database import Connection, known_columns
from sessiond_server.store.keys import SessionKey, owner_bucket
from sessiond_server.store.sql import query


@dataclass(frozen=True, slots=True)
class CursorRow:
    """A row of `cursor`, and the database's time."""

    bucket: int
    session_key: UUID
    consumer_id: str
    session_id: str
    owner: str
    seq: int
    queued: bool
    ready_time: datetime
    claim_token: str
    claim_holder: str
    claim_expire_time: datetime
    claim_count: int
    done_token: str
    update_time: datetime | None
    now: datetime


async def read(connection: Connection, key: SessionKey, consumer_id: str) -> CursorRow | None:
    row = await connection.fetchrow(query("read_cursor"), *key, consumer_id)
    return None if row is None else known_columns(CursorRow, row)


async def lock(connection: Connection, key: SessionKey, consumer_id: str) -> CursorRow | None:
    row = await connection.fetchrow(query("lock_cursor"), *key, consumer_id)
    return None if row is None else known_columns(CursorRow, row)


async def page(connection: Connection, key: SessionKey, after: str, limit: int) -> list[CursorRow]:
    """Cursors of a session, by consumer."""
    rows = await connection.fetch(query("list_cursors"), *key, after, limit)
    return [known_columns(CursorRow, row) for row in rows]


async def count(connection: Connection, key: SessionKey) -> int:
    found: int = await connection.fetchval(query("count_cursors"), *key)
    return found


async def insert(
    connection: Connection, key: SessionKey, consumer_id: str, seq: int, *, queued: bool
) -> CursorRow:
    """Set the first cursor of a consumer in a session that is locked."""
    row = await connection.fetchrow(query("insert_cursor"), *key, consumer_id, seq, queued)
    assert row is not None
    return known_columns(CursorRow, row)


async def set_seq(
    connection: Connection, key: SessionKey, consumer_id: str, seq: int, token: str, *, queued: bool
) -> CursorRow:
    """Set a cursor that is locked; with the token of its claim, end that."""
    row = await connection.fetchrow(query("set_cursor"), *key, consumer_id, seq, queued, token)
    assert row is not None
    return known_columns(CursorRow, row)


PAGE = 1000
"""How many sessions one statement looks at: the limit in its text."""


class ConsumerKey(NamedTuple):
    """A consumer that claims, of an owner's sessions or, with an empty owner, of all."""

    bucket: int
    tenant: str
    owner: str
    consumer_id: str

    @classmethod
    def of(cls, tenant: str, owner: str, consumer_id: str) -> ConsumerKey:
        return cls(owner_bucket(tenant, owner), tenant, owner, consumer_id)


class ConsumerRow(NamedTuple):
    """A consumer that claims, and when it last looked for sessions."""

    owner: str
    consumer_id: str
    scan_time: datetime


async def add_consumer(connection: Connection, key: ConsumerKey, most: int) -> bool:
    """Make a consumer known; false if its owner has `most` others."""
    if await connection.fetchval(query("consumer_exists"), *key):
        return True
    if await connection.fetchval(query("count_consumers"), *key[:3]) >= most:
        return False
    await connection.execute(query("insert_consumer"), *key)
    return True


async def delete_consumer(connection: Connection, key: ConsumerKey) -> bool:
    """Forget a consumer; false if there is none."""
    return await connection.fetchval(query("delete_consumer"), *key) is not None


async def consumers(
    connection: Connection, tenant: str, owner: str | None, after: tuple[str, str], limit: int
) -> list[ConsumerRow]:
    """Consumers that claim, all of a tenant (`None`) or those of an owner, by owner and name."""
    if owner is not None:
        key = ConsumerKey.of(tenant, owner, after[1])
        rows = await connection.fetch(query("list_consumers_of_owner"), *key, limit)
    else:
        rows = await connection.fetch(query("list_consumers"), tenant, *after, limit)
    return [ConsumerRow(*row) for row in rows]


async def lock_consumer(connection: Connection, key: ConsumerKey) -> int | None:
    """Up to which position the consumer has looked; `None` while another call looks."""
    position: int | None = await connection.fetchval(query("lock_consumer"), *key)
    return position


async def read_consumer(connection: Connection, key: ConsumerKey) -> tuple[int, datetime] | None:
    """Up to where the consumer has looked, and the time; `None` if there is no such consumer."""
    row = await connection.fetchrow(query("read_consumer"), *key)
    return None if row is None else (row["scanned_position"], row["now"])


async def move_consumer(connection: Connection, key: ConsumerKey, position: int) -> None:
    await connection.execute(query("move_consumer"), *key, position)


class Written(NamedTuple):
    """A session that changed, and whether it is to be queued."""

    bucket: int
    session_key: UUID
    position: int
    wanted: bool


async def written(connection: Connection, key: ConsumerKey, position: int) -> list[Written]:
    """The next `PAGE` of the consumer's sessions that changed behind a position."""
    arguments = (key.tenant, key.consumer_id, position)
    if key.owner:
        rows = await connection.fetch(query("written_sessions_of_owner"), *arguments, key.owner)
    else:
        rows = await connection.fetch(query("written_sessions"), *arguments)
    return [Written(*row) for row in rows]


async def queue(
    connection: Connection, keys: Sequence[SessionKey], consumer_id: str, idle_for: timedelta
) -> None:
    """Have sessions wait for a consumer until nobody has written to them for so long."""
    await connection.execute(
        query("queue_sessions"),
        [key.bucket for key in keys],
        [key.key for key in keys],
        consumer_id,
        idle_for,
    )


@dataclass(frozen=True, slots=True)
class DueSession:
    """A session that waits for a consumer and is due."""

    bucket: int
    session_key: UUID
    session_id: str
    owner: str
    source: str
    agent: str
    title: str
    seq: int
    claim_count: int
    ready_time: datetime
    next_seq: int
    activity_time: datetime
    now: datetime


async def lock_due(
    connection: Connection, tenant: str, consumer_id: str, owner: str, limit: int, *, children: bool
) -> list[DueSession]:
    """Sessions that wait and are due, and that no other call locks."""
    kinds = [False, True] if children else [False]
    name = "due_sessions_of_owner" if owner else "due_sessions"
    found = await connection.fetch(
        query(name), tenant, consumer_id, kinds, limit, *([owner] if owner else [])
    )
    return [known_columns(DueSession, row) for row in found]


async def next_time(connection: Connection, key: ConsumerKey, *, children: bool) -> datetime | None:
    """When the next of the sessions is due that wait for the consumer, which may be past."""
    kinds = [False, True] if children else [False]
    name = "next_session_of_owner" if key.owner else "next_session"
    arguments = (key.tenant, key.consumer_id, kinds)
    found: datetime | None = await connection.fetchval(
        query(name), *arguments, *([key.owner] if key.owner else [])
    )
    return found


async def extend(connection: Connection, row: CursorRow, ttl: timedelta, token: str) -> datetime:
    """Let a claim last so long from now; without a token, give it up: its session is due again then."""
    ready_time: datetime = await connection.fetchval(
        query("extend_session_claim"),
        row.bucket,
        row.session_key,
        row.consumer_id,
        ttl,
        token,
    )
    return ready_time


class Settled(NamedTuple):
    """What became of a session that was due: claimed, with a token; due later; or done."""

    bucket: int
    session_key: UUID
    queued: bool
    ready_time: datetime
    token: str


async def settle(
    connection: Connection, consumer_id: str, holder: str, settled: Sequence[Settled]
) -> None:
    buckets, keys, queued, times, tokens = map(list, zip(*settled, strict=True))
    await connection.execute(
        query("settle_sessions"), buckets, keys, consumer_id, queued, times, tokens, holder
    )

"""Head rows: the lock and the counters of a session, and its leases."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from sessiond_server.sessions.guards import Version
from sessiond_server.store.database import Connection, known_columns
from sessiond_server.store.keys import SessionKey, owner_of
from sessiond_server.store.sql import query

ACTIVE, ENDED = 1, 2
"""States of a session: the values of `sessiond.v1.SessionState`."""


@dataclass(frozen=True, slots=True)
class Head:
    """A row of `session_head`."""

    bucket: int
    session_key: UUID
    state: int
    first_seq: int
    next_seq: int
    next_change: int
    message_count: int
    tool_call_count: int
    context_message_count: int
    context_token_count: int
    context_changes: int
    activity_time: datetime
    writer_epoch: int
    writer_token: str
    writer_holder: str
    writer_expire_time: datetime
    compactor_token: str
    compactor_holder: str
    compactor_expire_time: datetime
    offloaded_before_seq: int

    @property
    def key(self) -> SessionKey:
        return SessionKey(self.bucket, self.session_key)

    @property
    def version(self) -> Version:
        return Version(
            self.next_seq, self.next_seq + self.context_changes, self.context_token_count
        )

    @property
    def last_seq(self) -> int:
        return self.next_seq - 1

    @property
    def first_hot_seq(self) -> int:
        """The first seq that isn't offloaded."""
        return max(self.first_seq, self.offloaded_before_seq)

    def with_border(self, seq: int) -> Head:
        return replace(self, offloaded_before_seq=seq)

    @property
    def has_offloaded(self) -> bool:
        return self.offloaded_before_seq > self.first_seq


async def lock(connection: Connection, key: SessionKey) -> Head | None:
    """Lock a session until the transaction ends; `None` if there is none that the key is for."""
    row = await connection.fetchrow(query("lock_head"), *key)
    if row is None:
        return None
    owner = owner_of(key)
    if owner is not None and owner != await connection.fetchval(query("session_owner"), *key):
        return None
    return known_columns(Head, row)


async def read(connection: Connection, key: SessionKey) -> Head | None:
    """A look without a lock."""
    row = await connection.fetchrow(query("read_head"), *key)
    return None if row is None else known_columns(Head, row)


async def lock_all(connection: Connection, keys: Iterable[SessionKey]) -> set[SessionKey]:
    """Lock several sessions in key order; which of them exist."""
    wanted = list(keys)
    rows = await connection.fetch(
        query("lock_heads"), [key.bucket for key in wanted], [key.key for key in wanted]
    )
    return {SessionKey(row[0], row[1]) for row in rows}


async def now(connection: Connection) -> datetime:
    """The database's clock."""
    moment: datetime = await connection.fetchval(query("database_now"))
    return moment


async def set_state(connection: Connection, key: SessionKey, state: int) -> None:
    await connection.execute(query("set_head_state"), *key, state)


async def context_changed(connection: Connection, key: SessionKey) -> Version:
    """Note that the context was changed, which is an activity; the session's version then."""
    row = await connection.fetchrow(query("context_changed"), *key)
    assert row is not None
    return Version(*row)


async def count_context_changes(connection: Connection, key: SessionKey, count: int) -> None:
    """Count changes of the context that are no activity."""
    await connection.execute(query("count_context_changes"), *key, count)


async def set_writer(
    connection: Connection, key: SessionKey, token: str, holder: str, ttl: timedelta
) -> tuple[int, datetime]:
    """Take the writer lease; its epoch and its end."""
    row = await connection.fetchrow(query("set_writer"), *key, token, holder, ttl)
    assert row is not None
    return row[0], row[1]


async def renew_writer(connection: Connection, key: SessionKey, ttl: timedelta) -> datetime:
    expire_time: datetime = await connection.fetchval(query("renew_writer"), *key, ttl)
    return expire_time


async def release_writer(connection: Connection, key: SessionKey, token: str) -> None:
    await connection.execute(query("release_writer"), *key, token)


async def set_compactor(
    connection: Connection, key: SessionKey, token: str, holder: str, ttl: timedelta
) -> datetime:
    """Take the compaction lease; its end."""
    expire_time: datetime = await connection.fetchval(
        query("set_compactor"), *key, token, holder, ttl
    )
    return expire_time


async def renew_compactor(connection: Connection, key: SessionKey, ttl: timedelta) -> datetime:
    expire_time: datetime = await connection.fetchval(query("renew_compactor"), *key, ttl)
    return expire_time


async def release_compactor(connection: Connection, key: SessionKey, token: str) -> None:
    await connection.execute(query("release_compactor"), *key, token)

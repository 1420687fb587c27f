"""The writer lease: one process at a time may write, and a paused one that wakes up can't (P5)."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from sessiond_server.errors import WriterLeaseLost
from sessiond_server.operations import gate
from sessiond_server.sessions.guards import Version
from sessiond_server.store import changes, heads
from sessiond_server.store.database import Connection, Database
from sessiond_server.store.keys import SessionKey

ACQUIRED, TAKEN_OVER, RELEASED = 1, 2, 3
"""What happens to the lease: the values of `sessiond.v1.WriterChange`."""


@dataclass(frozen=True, slots=True)
class WriterLease:
    """A lease: the token to write with, its fencing number, its end, and how far the session has come."""

    token: str
    epoch: int
    expire_time: datetime
    version: Version


async def acquire(
    database: Database, session_id: str, key: SessionKey, holder: str, ttl: timedelta
) -> WriterLease:
    """Take the lease, unless another holder has it."""

    async def work(connection: Connection) -> WriterLease:
        head = await gate.lock(connection, session_id, key)
        gate.check_open(session_id, head)
        if head.writer_holder != holder:
            gate.check_writer(session_id, head, "", await heads.now(connection))
        token = f"writer-{secrets.token_urlsafe(18)}"
        epoch, expire_time = await heads.set_writer(connection, key, token, holder, ttl)
        change = TAKEN_OVER if head.writer_token else ACQUIRED
        await changes.record_writer(connection, key, holder, change, expire_time)
        return WriterLease(token, epoch, expire_time, head.version)

    return await database.transact(work)


async def renew(
    database: Database, session_id: str, key: SessionKey, token: str, ttl: timedelta
) -> datetime:
    """Make a living lease last longer; its end."""

    async def work(connection: Connection) -> datetime:
        head = await gate.lock(connection, session_id, key)
        if not token:
            raise WriterLeaseLost(session_id)
        gate.check_writer(session_id, head, token, await heads.now(connection))
        return await heads.renew_writer(connection, key, ttl)

    return await database.transact(work)


async def release(database: Database, session_id: str, key: SessionKey, token: str) -> None:
    """Give up the lease."""

    async def work(connection: Connection) -> None:
        head = await gate.lock(connection, session_id, key)
        if token and token == head.writer_token:
            await heads.release_writer(connection, key, token)
            await changes.record_writer(connection, key, head.writer_holder, RELEASED, None)

    await database.transact(work)

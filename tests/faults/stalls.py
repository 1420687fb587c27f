"""A database that makes appends wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from sessiond_server.store.keys import DEFAULT_TENANT, session_key


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection of the test's own."""
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def locked(dsn: str, session: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """Hold the lock of a session, as a writer does whose machine hangs; its transaction."""
    async with connected(dsn) as connection, connection.transaction():
        row = await connection.fetchrow(
            "SELECT FROM session_head WHERE bucket = $1 AND session_key = $2 FOR UPDATE",
            *session_key(DEFAULT_TENANT, session),
        )
        assert row is not None, f"there is no session {session}"
        yield connection


async def until_waiting(dsn: str, count: int = 1) -> None:
    """Wait until that many statements wait for a lock."""
    async with connected(dsn) as connection:
        for _ in range(1000):
            waiting = await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            if waiting >= count:
                return
            await asyncio.sleep(0.01)
    raise AssertionError(f"{waiting} statements wait for a lock, not {count}")

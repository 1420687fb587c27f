"""Time that passes for a database alone: everything in it that waits or ends was that much earlier."""

from __future__ import annotations

import asyncio

import asyncpg

from tests.support.patience import PATIENCE

_TIMES = {
    "session": ("create_time", "listed_time"),
    "session_head": ("activity_time",),
    "reminder": ("first_time", "due_time", "ready_time", "last_fire_time", "create_time"),
    "consumer_cursor": ("ready_time", "claim_expire_time", "update_time"),
    "consumer": ("scan_time",),
}


_SETTLED = """
SELECT NOT EXISTS (SELECT FROM session_head WHERE unsettled)
    AND NOT EXISTS (SELECT FROM session_tombstone WHERE position = 0)
"""


async def until_settled(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Wait until a server has settled all that has changed."""
    end = asyncio.get_running_loop().time() + PATIENCE
    while not await connection.fetchval(_SETTLED):
        assert asyncio.get_running_loop().time() < end, "sessions aren't settled"
        await asyncio.sleep(0.05)


def pass_time(dsn: str, seconds: float) -> None:
    """Let so much time pass for sessions, reminders and cursors, which settles sessions."""

    async def shift() -> None:
        connection = await asyncpg.connect(dsn)
        try:
            await until_settled(connection)
            async with connection.transaction():
                for table, columns in _TIMES.items():
                    moved = ", ".join(f"{it} = {it} - make_interval(secs => $1)" for it in columns)
                    await connection.execute(f"UPDATE {table} SET {moved}", float(seconds))
        finally:
            await connection.close()

    asyncio.run(shift())

"""Time that passes for a database alone: everything in it that waits or ends was that much earlier."""

from __future__ import annotations

import asyncio

import asyncpg

_TIMES = {
    "session": ("create_time", "listed_time"),
    "session_head": ("activity_time", "listed_time"),
    "reminder": ("first_time", "due_time", "ready_time", "last_fire_time", "create_time"),
    "consumer_cursor": ("ready_time", "claim_expire_time", "update_time"),
    "consumer": ("scanned_time",),
}


def pass_time(dsn: str, seconds: float) -> None:
    """Let so much time pass for sessions, reminders and cursors."""

    async def shift() -> None:
        connection = await asyncpg.connect(dsn)
        try:
            async with connection.transaction():
                for table, columns in _TIMES.items():
                    moved = ", ".join(f"{it} = {it} - make_interval(secs => $1)" for it in columns)
                    await connection.execute(f"UPDATE {table} SET {moved}", float(seconds))
        finally:
            await connection.close()

    asyncio.run(shift())

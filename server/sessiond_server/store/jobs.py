"""Leases of jobs: which replica does which one, and when it is due."""

from __future__ import annotations

from sessiond_server.store.database import Connection
from sessiond_server.store.sql import query

_ERROR_LENGTH = 1000


async def claim(connection: Connection, name: str, holder: str, lease: float) -> bool:
    """Take a job that is due, for `lease` seconds; false if it isn't due or is another's."""
    return await connection.fetchval(query("claim_job"), name, holder, lease) is not None


async def wait(connection: Connection, name: str) -> float:
    """Seconds until a job may be claimed, as things are; negative if it may be now."""
    return float(await connection.fetchval(query("job_wait"), name) or 0)


async def renew(connection: Connection, name: str, holder: str, lease: float) -> bool:
    """Keep a job for `lease` seconds from now; false if it was lost."""
    return await connection.fetchval(query("renew_job"), name, holder, lease) is not None


async def finish(connection: Connection, name: str, holder: str, every: float, error: str) -> None:
    """Give a job back: it is due `every` seconds after it was claimed."""
    await connection.execute(query("finish_job"), name, holder, every, error[:_ERROR_LENGTH])

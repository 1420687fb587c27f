"""Counts over all sessions of a tenant or an owner."""

from __future__ import annotations

from typing import NamedTuple

from sessiond_server.store.database import Connection
from sessiond_server.store.sql import query


class Count(NamedTuple):
    """The sessions of a state, or of a source; the other one is `None`."""

    state: int | None
    source: str | None
    sessions: int
    subagents: int
    messages: int
    tool_calls: int


async def count(
    connection: Connection, tenant: str, owner: str | None, *, sessions: int, rows: int
) -> list[Count]:
    """Counts by state, then by source, those of most sessions first; of so many sessions at most."""
    found = await connection.fetch(query("count_sessions"), tenant, owner, sessions, rows)
    return [Count(*row) for row in found]


async def hot_bytes(connection: Connection, tenant: str, owner: str | None) -> int:
    """What the messages take that aren't offloaded."""
    size: int = await connection.fetchval(query("hot_bytes"), tenant, owner)
    return size


class Offloaded(NamedTuple):
    """What is offloaded."""

    messages: int
    bytes: int
    stored_bytes: int


async def offloaded(
    connection: Connection, tenant: str, owner: str | None, *, sessions: int
) -> Offloaded:
    """What is offloaded of so many sessions at most."""
    row = await connection.fetchrow(query("offloaded_totals"), tenant, owner, sessions)
    assert row is not None
    return Offloaded(*row)


async def mean_size(
    connection: Connection, tenant: str, owner: str | None, blocks: int
) -> float | None:
    """The mean size of these messages, by a sample; `None` if the sample has none of them."""
    mean: float | None = await connection.fetchval(
        query("hot_bytes_sampled"), tenant, owner, float(blocks)
    )
    return mean

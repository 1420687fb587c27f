"""Counts over all sessions that fit a filter."""

from __future__ import annotations

from typing import NamedTuple

from sessiond_server.sessions.filters import SessionFilter
from sessiond_server.store.database import Connection
from sessiond_server.store.filters import fitting


class Count(NamedTuple):
    """The sessions of a state, or of a source; the other one is `None`."""

    state: int | None
    source: str | None
    sessions: int
    subagents: int
    messages: int
    tool_calls: int


async def count(
    connection: Connection, wanted: SessionFilter, *, sessions: int, rows: int
) -> list[Count]:
    """Counts by state, then by source, those of most sessions first; of so many sessions at most."""
    text, values = fitting("count_sessions", wanted, wanted.tenant, sessions, rows)
    return [Count(*row) for row in await connection.fetch(text, *values)]


async def hot_bytes(connection: Connection, wanted: SessionFilter) -> int:
    """What the messages take that aren't offloaded."""
    text, values = fitting("hot_bytes", wanted, wanted.tenant)
    size: int = await connection.fetchval(text, *values)
    return size


class Offloaded(NamedTuple):
    """What is offloaded."""

    messages: int
    bytes: int
    stored_bytes: int


async def offloaded(connection: Connection, wanted: SessionFilter, *, sessions: int) -> Offloaded:
    """What is offloaded of so many sessions at most."""
    text, values = fitting("offloaded_totals", wanted, wanted.tenant, sessions)
    row = await connection.fetchrow(text, *values)
    assert row is not None
    return Offloaded(*row)


async def mean_size(connection: Connection, wanted: SessionFilter, blocks: int) -> float | None:
    """The mean size of these messages, by a sample; `None` if the sample has none of them."""
    text, values = fitting("hot_bytes_sampled", wanted, wanted.tenant, float(blocks))
    mean: float | None = await connection.fetchval(text, *values)
    return mean

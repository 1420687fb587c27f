"""What a tenant keeps: counts that cost a bounded amount, however often they are asked for."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime

from sessiond_server.errors import ReadQueueFull
from sessiond_server.sessions.filters import SessionFilter
from sessiond_server.store import search, stats
from sessiond_server.store.database import Connection, Database
from sessiond_server.store.search import Lag
from sessiond_server.store.stats import Count, Offloaded

SOURCES = 100
_SESSIONS = 1_000_000
_STATES = 3
_EXACT = 50_000
"""Messages whose sizes are added up; of more a sample is taken."""
_BLOCKS = 2_000
_WAITING = 100
"""Counts of different filters that may wait for their turn."""


@dataclass(frozen=True, slots=True)
class Stats:
    """The counts; `sources` are at most `SOURCES`, `others` all the rest."""

    states: list[Count]
    sources: list[Count]
    total: Count
    others: Count
    partial: bool
    hot_bytes: int
    offloaded: Offloaded
    estimated: bool
    lag: Lag
    indexed_time: datetime | None


class Counting:
    """Counts one at a time: whoever asks while a count runs shares the next one."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._running = asyncio.Lock()
        self._next: dict[SessionFilter, asyncio.Task[Stats]] = {}
        self._tasks: set[asyncio.Task[Stats]] = set()

    async def stats(self, wanted: SessionFilter) -> Stats:
        """The counts of the sessions that fit, from a moment after this call."""
        task = self._next.get(wanted)
        if task is None:
            if len(self._next) >= _WAITING:
                raise ReadQueueFull(_WAITING)
            task = self._next[wanted] = asyncio.create_task(self._count(wanted))
            self._tasks.add(task)
            task.add_done_callback(self._done)
        return await asyncio.shield(task)

    def _done(self, task: asyncio.Task[Stats]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen here, should nobody wait for it any more

    async def _count(self, wanted: SessionFilter) -> Stats:
        async with self._running:
            del self._next[wanted]
            async with self._database.snapshot() as connection:
                return await _read(connection, wanted)


async def _read(connection: Connection, wanted: SessionFilter) -> Stats:
    rows = await stats.count(connection, wanted, sessions=_SESSIONS + 1, rows=_STATES + SOURCES)
    states = [row for row in rows if row.state is not None]
    sources = [row for row in rows if row.state is None][:SOURCES]
    total = _sum(states)
    offloaded = await stats.offloaded(connection, wanted, sessions=_SESSIONS)
    estimated = total.messages - offloaded.messages > _EXACT
    if estimated:
        mean = await stats.mean_size(connection, wanted, _BLOCKS)
        size = round((mean or 0) * max(0, total.messages - offloaded.messages))
    else:
        size = await stats.hot_bytes(connection, wanted)
    return Stats(
        states,
        sources,
        total,
        _less(total, _sum(sources)),
        total.sessions > _SESSIONS,
        size,
        offloaded,
        estimated,
        await search.lag(connection, wanted, _SESSIONS),
        await search.complete_time(connection),
    )


def _sum(counts: list[Count]) -> Count:
    return Count(
        None,
        None,
        sum(count.sessions for count in counts),
        sum(count.subagents for count in counts),
        sum(count.messages for count in counts),
        sum(count.tool_calls for count in counts),
    )


def _less(one: Count, other: Count) -> Count:
    return Count(
        None,
        None,
        one.sessions - other.sessions,
        one.subagents - other.subagents,
        one.messages - other.messages,
        one.tool_calls - other.tool_calls,
    )

"""The job that indexes messages for search: what hints tell of at once, and all that lags by and by."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import structlog

from sessiond_server import failing
from sessiond_server.operations.indexing import Indexer
from sessiond_server.store import search
from sessiond_server.store.database import Database
from sessiond_server.store.keys import SessionKey

log = structlog.get_logger(__name__)

_REMEMBERED = 100_000
"""Sessions that are known to have something new; the others are found by looking,"""
_REMEMBERED_SECONDS = 60.0
"""and so are those that are known for so long: mostly another replica has indexed them."""
_RETRY = (60.0, 3600.0)
"""Seconds until a session that couldn't be indexed is tried again: at first, and at most."""
_SWEPT = 2000
"""Sessions looked at in one go,"""
_SWEEP_SECONDS = 0.05
"""and how long that goes on in each run."""
_RUN_SECONDS = 10
_START = SessionKey(-1, UUID(int=0))


class _Failed(NamedTuple):
    """A session that couldn't be indexed: when to try it again, and in how many seconds if that fails too."""

    until: float
    delay: float


class IndexJob:
    """Indexes what is new, and looks through all sessions in turn for what it wasn't told of. `runs` says
    whether this replica does jobs at all."""

    name = "search"
    every = 0.5

    def __init__(self, database: Database, indexer: Indexer, *, runs: bool = True) -> None:
        self._database = database
        self._indexer = indexer
        self._runs = runs
        self._changed: dict[SessionKey, float] = {}  # since when, the oldest first
        self._failed: dict[SessionKey, _Failed] = {}
        self._swept = _START
        self._sweep_time: datetime | None = None
        self._whole = True  # whether the sweep could index whatever it found

    def wake(self, keys: Iterable[SessionKey]) -> None:
        """Sessions have changed. Every replica remembers them for a while, since any may do the job next."""
        if self._runs:
            now = time.monotonic()
            for key in keys:
                self._changed.setdefault(key, now)
            self._forget()

    def _forget(self) -> None:
        since = time.monotonic() - _REMEMBERED_SECONDS
        while self._changed:
            oldest, time_known = next(iter(self._changed.items()))
            if time_known >= since and len(self._changed) <= _REMEMBERED:
                return
            del self._changed[oldest]

    async def run(self) -> None:
        """Index what is known to be new, then look further."""
        self._forget()
        until = time.monotonic() + _RUN_SECONDS
        while self._changed and time.monotonic() < until:
            keys = list(self._changed)[:64]
            for key in keys:
                del self._changed[key]
            await self._index(keys)
        swept = time.monotonic() + _SWEEP_SECONDS
        while await self._sweep() and time.monotonic() < swept:
            pass

    async def _sweep(self) -> bool:
        """Look at the next sessions; whether there are more."""
        async with self._database.connection() as connection:
            if self._sweep_time is None:
                self._sweep_time = await search.settled_time(connection)
            lagging, last = await search.sweep(connection, self._swept, _SWEPT)
        self._whole &= await self._index(lagging)
        if last is not None:
            self._swept = last
            return True
        if self._whole:
            async with self._database.connection() as connection:
                await search.set_complete_time(connection, self._sweep_time)
        self._swept, self._sweep_time, self._whole = _START, None, True
        gone = time.monotonic() - _RETRY[1]  # every session that lags was found since
        self._failed = {key: it for key, it in self._failed.items() if it.until > gone}
        return False

    async def _index(self, keys: Sequence[SessionKey]) -> bool:
        """Index sessions; whether all could be. One that can't be mustn't keep the others from it, and is
        tried ever more seldom."""
        now = time.monotonic()
        due = [key for key in keys if key not in self._failed or self._failed[key].until <= now]
        try:
            await self._indexer.index(due)
        except failing.OF_THE_DATABASE:
            raise
        except Exception as error:
            if len(due) > 1:
                return all([await self._index([key]) for key in due]) and len(due) == len(keys)
            self._postpone(due[0], error)
            return False
        for key in due:
            self._failed.pop(key, None)
        return len(due) == len(keys)

    def _postpone(self, key: SessionKey, error: Exception) -> None:
        first, longest = _RETRY
        delay = self._failed[key].delay if key in self._failed else first
        self._failed[key] = _Failed(time.monotonic() + delay, min(2 * delay, longest))
        log.error(
            "session not indexed", session_key=str(key.key), retry_seconds=delay, exc_info=error
        )

"""The job that indexes messages for search: what hints tell of at once, and all that lags by and by."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

import structlog

from sessiond_server.errors import Refused
from sessiond_server.operations.indexing import Indexer
from sessiond_server.store import search
from sessiond_server.store.database import Database
from sessiond_server.store.keys import SessionKey

log = structlog.get_logger(__name__)

_REMEMBERED = 100_000
"""Sessions that are known to have something new; the others are found by looking."""
_SWEPT = 2000
"""Sessions looked at in one go,"""
_SWEEP_SECONDS = 0.05
"""and how long that goes on in each run."""
_RUN_SECONDS = 10
_START = SessionKey(-1, UUID(int=0))


class IndexJob:
    """Indexes what is new, and looks through all sessions in turn for what it wasn't told of."""

    name = "search"
    every = 0.5

    def __init__(self, database: Database, indexer: Indexer) -> None:
        self._database = database
        self._indexer = indexer
        self._changed: dict[SessionKey, None] = {}
        self._swept = _START
        self._sweep_time: datetime | None = None
        self._whole = True  # whether the sweep could index whatever it found

    def wake(self, keys: Iterable[SessionKey]) -> None:
        """Sessions have changed. Every replica remembers them, since any may do the job next."""
        if len(self._changed) < _REMEMBERED:
            self._changed.update(dict.fromkeys(keys))

    async def run(self) -> None:
        """Index what is known to be new, then look further."""
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
        return False

    async def _index(self, keys: Sequence[SessionKey]) -> bool:
        """Index sessions; whether all could be. One that can't be mustn't keep the others from it."""
        try:
            await self._indexer.index(keys)
        except Refused:
            raise
        except Exception as error:
            if len(keys) > 1:
                return all([await self._index([key]) for key in keys])
            log.error("session not indexed", session_key=str(keys[0].key), exc_info=error)
            return False
        return True

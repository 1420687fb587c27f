"""The job that settles sessions after their changes: it gives them positions, and their places in lists."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from sessiond_server.store import settling
from sessiond_server.store.database import Database
from sessiond_server.store.keys import SessionKey

LEASE = 3.0
"""Seconds after which another replica settles if this one died; a part of the bound on the lag."""
_PASS = 0.5
"""Seconds from one look for sessions that changed to the next."""
_RUN = 20.0
"""Seconds for which one run goes on."""
_SWEEP = 60.0
_SLACK = 3600.0
"""Seconds for which deletions are remembered longer than tokens resume."""
_START = SessionKey(-1, UUID(int=0))


@dataclass
class SettleJob:
    """Settles sessions of all tenants. Two of these at once are harmless: the row of the counter puts their
    positions in order, and each session is settled by one of them."""

    database: Database
    rest: float
    """Seconds for which a session isn't settled again."""
    kept: float
    """Seconds for which deletions are remembered."""
    on_settled: Callable[[], None] = lambda: None
    name: str = "settle"
    every: float = 0.0
    settled: int = field(default=0, init=False)
    """How many changes it has settled,"""
    seconds: float = field(default=0.0, init=False)
    """and how long the last look took, for the metrics."""
    _swept: float = field(default=float("-inf"), init=False)

    def figures(self) -> dict[str, float]:
        """What the metrics show."""
        return {"settled_changes": self.settled, "settle_seconds": self.seconds}

    async def run(self) -> None:
        end = time.monotonic() + _RUN
        while (begun := time.monotonic()) < end:
            await self.settle_all()
            self.seconds = time.monotonic() - begun
            if begun > self._swept + _SWEEP:
                await self._sweep()
                self._swept = begun
            await asyncio.sleep(max(0.0, begun + _PASS - time.monotonic()))

    async def settle_all(self) -> None:
        """Settle what has changed, once through all sessions."""
        after, more = _START, True
        while more:
            async with self.database.connection(refuse=False) as connection:
                found = await settling.settle(connection, after, round(self.rest * 1_000_000))
                if found.quiet is not None:
                    await settling.clear(connection, found.quiet)
            if found.deletions or found.sessions:
                self.settled += found.deletions + found.sessions
                self.on_settled()
            after, more = found.last, found.more

    async def _sweep(self) -> None:
        age = round((self.kept + _SLACK) * 1_000_000)
        more = True
        while more:
            async with self.database.connection(refuse=False) as connection:
                more = await settling.sweep(connection, age) > 0

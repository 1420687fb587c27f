"""A store, a hub and watchers for cases that are set up by hand."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from sessiond_server.feed.drafts import DraftHub
from sessiond_server.feed.hub import Hub
from tests.feed import clock
from tests.feed.history import History, Paging
from tests.feed.store import Faults, Hints, MemorySource, Store
from tests.feed.watcher import Habits, Replica, Target, Watcher

NEVER = 1e6
"""Seconds."""


class World:
    """The session `a`, and what the case adds."""

    def __init__(self, paging: Paging, faults: Faults, sweep: float) -> None:
        self.rng = random.Random(0)
        self.store = Store(self.rng)
        self.faults = faults
        self.source = MemorySource(self.store, self.rng, faults, paging)
        self.hub = Hub(self.source, sweep=sweep, reads=2)
        self.watchers: list[Watcher] = []
        self._tasks: dict[int, asyncio.Task[None]] = {}
        Hints(self.store, self.hub, self.rng, faults)
        self.store.create("a")

    @property
    def a(self) -> History:
        return self.store.sessions["a"]

    def watch(
        self, *targets: Target, habits: Habits | None = None, drafts: DraftHub | None = None
    ) -> Watcher:
        """Begin to watch."""
        watcher = Watcher(
            self.store,
            [Replica(self.hub, self.source)],
            targets or (Target("a"),),
            habits or Habits(heartbeat=NEVER),
            self.rng,
            drafts,
        )
        self.watchers.append(watcher)
        self.go_on(watcher)
        return watcher

    def go_on(self, watcher: Watcher) -> None:
        """Resume with what was received."""
        self._tasks[id(watcher)] = asyncio.create_task(watcher.run())

    async def break_off(self, watcher: Watcher) -> None:
        """End a watch, to be resumed or not."""
        task = self._tasks.pop(id(watcher))
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()

    async def settle(self, seconds: float = 5) -> None:
        """Let everything come, and check that it has."""
        await asyncio.sleep(seconds)
        for watcher in self.watchers:
            watcher.finish()

    async def end(self) -> None:
        for watcher in self.watchers:
            if id(watcher) in self._tasks:
                await self.break_off(watcher)
        await self.hub.stop()
        await asyncio.sleep(1)


def case(
    happen: Callable[[World], Awaitable[None]],
    *,
    paging: Paging | None = None,
    faults: Faults | None = None,
    sweep: float = NEVER,
) -> World:
    """Let something happen on a virtual clock. Unless told otherwise there are no faults, and no sweeps."""

    async def main() -> World:
        world = World(paging or Paging(), faults or Faults(), sweep)
        world.hub.start()
        await happen(world)
        await world.end()
        return world

    return clock.run(0, main)

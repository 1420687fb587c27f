"""The hub: one fetch of what is new in a session serves all of its watchers in this process."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import suppress
from typing import Protocol, TypeVar

import structlog

from sessiond_server import failing
from sessiond_server.errors import DatabaseUnavailable, ReadQueueFull
from sessiond_server.feed.source import Batch, Frame, Place, Source, Version, Watched
from sessiond_server.store.keys import SessionKey

log = structlog.get_logger(__name__)

Result = TypeVar("Result")

SWEEP_KEYS = 2000
"""How many sessions one query of the sweep asks for."""
_RETRY = (0.05, 2.0)
"""Seconds to wait after a read that failed: at first, and at most."""


class Watcher(Protocol):
    """Who is told what is new. Neither call may wait."""

    def deliver(self, frame: Frame) -> bool:
        """Take the next frame. Whoever can't says no, is told nothing more, and reads from the store."""

    def deleted(self) -> None:
        """The session is gone."""


class _Feed:
    """A session that is watched: where its watchers stand, all at the same place."""

    def __init__(self, hub: Hub, watched: Watched, place: Place, version: Version) -> None:
        self.watched = watched
        self.place = place
        self.version = version
        self.watchers: dict[Watcher, None] = {}
        """In the order in which they came."""
        self._hub = hub
        self._dirty = False
        self._task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """Fetch what is new, once more if a fetch is under way: it may have looked too early."""
        self._dirty = True
        if self._task is None:
            self._task = asyncio.create_task(self._fetch(), name="feed fetch")

    async def settled(self) -> None:
        """Wait until a fetch that is under way has ended."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _fetch(self) -> None:
        try:
            more = False
            while (self._dirty or more) and self.watchers:
                self._dirty = False
                batch = await self._hub.read(self.watched, self.place, 0)
                if batch is None:
                    self._gone()
                    return
                self._deliver(batch)
                more = batch.more
        finally:
            self._task = None
            if not self.watchers:
                self._hub.forget(self)
            elif self._dirty:
                self.wake()

    def _deliver(self, batch: Batch) -> None:
        self.version = batch.version
        for frame in batch.frames:
            self.place = frame.place
            for watcher in [w for w in self.watchers if not w.deliver(frame)]:
                del self.watchers[watcher]

    def _gone(self) -> None:
        watchers, self.watchers = self.watchers, {}
        self._hub.forget(self)
        for watcher in watchers:
            watcher.deleted()

    def stop(self) -> None:
        self._dirty = False
        if self._task is not None:
            self._task.cancel()


class Hub:
    """The sessions that are watched in this process. `wake` tells it that some may have changed; what no
    hint tells, the sweep finds every `sweep` seconds."""

    def __init__(self, source: Source, *, sweep: float, reads: int) -> None:
        self._source = source
        self._sweep = sweep
        self._reads = asyncio.Semaphore(reads)
        self._feeds: dict[SessionKey, _Feed] = {}
        self._due = asyncio.Event()
        self.fell_behind = 0
        """How often watches fell behind, for the metrics."""
        self._task: asyncio.Task[None] | None = None

    def start(self, each_sweep: Callable[[], None] = lambda: None) -> None:
        """Begin to sweep, and call `each_sweep` as often."""
        self._task = asyncio.create_task(self._sweep_on(each_sweep), name="feed sweep")

    def sweep_now(self) -> None:
        """Look at once how far every watched session has come."""
        self._due.set()

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        for feed in self._feeds.values():
            feed.stop()

    def wake(self, keys: Iterable[SessionKey]) -> None:
        """Some of these sessions may have changed."""
        if self._feeds:
            for key in keys:
                feed = self._feeds.get(key)
                if feed is not None:
                    feed.wake()

    async def read(self, watched: Watched, place: Place, from_seq: int) -> Batch | None:
        """What follows a place; `None` if the session is gone. Tries until the store answers."""
        return await self.patiently(lambda: self._source.read(watched, place, from_seq))

    async def patiently(self, call: Callable[[], Awaitable[Result]]) -> Result:
        """Read until the store answers, among a bounded number of reads of feeds."""
        delay, longest = _RETRY
        while True:
            try:
                async with self._reads:  # watchers that catch up leave the connections to others
                    return await call()
            except (DatabaseUnavailable, ReadQueueFull) as error:
                log.debug("feed read failed", error=repr(error))
            await asyncio.sleep(delay * random.uniform(0.5, 1))
            delay = min(2 * delay, longest)

    async def join(
        self, watcher: Watcher, watched: Watched, place: Place, version: Version
    ) -> bool:
        """Tell a watcher from now on what is new, if it stands where the session's others do. If not, it
        has to read once more."""
        feed = self._feeds.get(watched.key)
        if feed is None:
            feed = self._feeds[watched.key] = _Feed(self, watched, place, version)
            feed.watchers[watcher] = None
            feed.wake()  # a hint may have come since the watcher read, when nobody listened
            return True
        anew = feed.watched.incarnation != watched.incarnation
        if anew or feed.place[:2] < place[:2]:  # the marks say no more of the same place
            feed.wake()
            await feed.settled()
            return False
        if feed.place[:2] != place[:2]:
            return False
        feed.watchers[watcher] = None
        return True

    def leave(self, watcher: Watcher, watched: Watched) -> None:
        feed = self._feeds.get(watched.key)
        if feed is not None:
            feed.watchers.pop(watcher, None)
            if not feed.watchers:
                self.forget(feed)

    def forget(self, feed: _Feed) -> None:
        if self._feeds.get(feed.watched.key) is feed:
            del self._feeds[feed.watched.key]

    async def _sweep_on(self, each_sweep: Callable[[], None]) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._sweep):
                    await self._due.wait()
            self._due.clear()
            try:
                each_sweep()
                await self.sweep()
            except Exception as error:
                failing.tell("feed sweep failed", error)

    async def sweep(self) -> None:
        """Look how far every watched session has come, and wake those that are behind."""
        keys = list(self._feeds)
        for start in range(0, len(keys), SWEEP_KEYS):
            await self._sweep_some(keys[start : start + SWEEP_KEYS])

    async def _sweep_some(self, keys: Collection[SessionKey]) -> None:
        before = {key: feed.version for key in keys if (feed := self._feeds.get(key)) is not None}
        found = await self._source.versions(list(before))
        for key, version in before.items():
            feed = self._feeds.get(key)
            if feed is not None and feed.version == version and found.get(key) != version:
                feed.wake()

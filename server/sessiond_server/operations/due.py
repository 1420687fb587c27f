"""Waiting for what is due: one look at the database at a time, however many wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from sessiond_server import failing
from sessiond_server.errors import ReadQueueFull

LOOK = 1.0
"""Seconds between two looks at most: what another replica made is seen by then."""
_SHORTEST = 0.02

K = TypeVar("K", bound=Hashable)
"""What is waited for: that of a tenant, or of a consumer."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """Those who wait for the same."""

    waiters: set[asyncio.Future[None]] = field(default_factory=set)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)


class DueAlarm(Generic[K]):
    """Wakes those who wait when something is due, `limit` of them at most. It looks only while somebody
    waits: `look` tells whether anything is due, and in how many seconds something else will be."""

    def __init__(
        self, look: Callable[[K], Awaitable[tuple[bool, float | None]]], *, limit: int
    ) -> None:
        self._look = look
        self._limit = limit
        self._waiting: dict[K, _Waiting] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._count = 0
        self.closed = False

    async def wait(self, key: K, seconds: float) -> None:
        """Return when something may be due, or after so long. Raises `ReadQueueFull`."""
        if self.closed:
            return
        if self._count >= self._limit:
            raise ReadQueueFull(self._limit)
        waiting = self._waiting.get(key) or self._begin(key)
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.waiters.add(waiter)
        self._count += 1
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(waiter, seconds)
        finally:
            waiting.waiters.discard(waiter)
            self._count -= 1

    def news(self, concerns: Callable[[K], bool]) -> None:
        """Something may be due sooner than was known: look at once for those whom it concerns."""
        for key, waiting in self._waiting.items():
            if concerns(key):
                waiting.news.set()

    def close(self) -> None:
        """Let nobody wait any more."""
        self.closed = True
        for waiting in self._waiting.values():
            waiting.wake()
            waiting.news.set()

    def _begin(self, key: K) -> _Waiting:
        waiting = self._waiting[key] = _Waiting()
        task = asyncio.create_task(self._watch(key, waiting), name="due alarm")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return waiting

    async def _watch(self, key: K, waiting: _Waiting) -> None:
        try:
            while waiting.waiters and not self.closed:
                waiting.news.clear()
                seconds = await self._seconds(key, waiting)
                with suppress(TimeoutError):
                    await asyncio.wait_for(waiting.news.wait(), seconds)
        finally:
            del self._waiting[key]

    async def _seconds(self, key: K, waiting: _Waiting) -> float:
        """Look, wake everybody if something is due, and say when to look again."""
        try:
            due, seconds = await self._look(key)
        except Exception as error:
            failing.tell("look for what is due failed", error)
            return LOOK
        if due:
            waiting.wake()
        return min(LOOK, max(_SHORTEST, LOOK if seconds is None else seconds))

"""Waiting for what is due: one look at the database at a time, however many wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from sessiond_server import failing
from sessiond_server.errors import ReadQueueFull

LOOK = 1.0
"""Seconds between two looks at most: what another replica made is seen by then."""
_SHORTEST = 0.02

Look = Callable[[str], Awaitable[tuple[bool, float | None]]]
"""Whether anything of a tenant is due, and in how many seconds something else will be."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """Those of a tenant who wait."""

    waiters: set[asyncio.Future[None]] = field(default_factory=set)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)


class DueAlarm:
    """Wakes those who wait when something is due, `limit` of them at most. It looks only while somebody
    waits."""

    def __init__(self, look: Look, *, limit: int) -> None:
        self._look = look
        self._limit = limit
        self._tenants: dict[str, _Waiting] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._count = 0
        self.closed = False

    async def wait(self, tenant: str, seconds: float) -> None:
        """Return when something of a tenant may be due, or after so long. Raises `ReadQueueFull`."""
        if self.closed:
            return
        if self._count >= self._limit:
            raise ReadQueueFull(self._limit)
        waiting = self._tenants.get(tenant) or self._begin(tenant)
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.waiters.add(waiter)
        self._count += 1
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(waiter, seconds)
        finally:
            waiting.waiters.discard(waiter)
            self._count -= 1

    def news(self, tenant: str) -> None:
        """Something may be due sooner than was known: look at once."""
        waiting = self._tenants.get(tenant)
        if waiting is not None:
            waiting.news.set()

    def close(self) -> None:
        """Let nobody wait any more."""
        self.closed = True
        for waiting in self._tenants.values():
            waiting.wake()
            waiting.news.set()

    def _begin(self, tenant: str) -> _Waiting:
        waiting = self._tenants[tenant] = _Waiting()
        task = asyncio.create_task(self._watch(tenant, waiting), name="due alarm")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return waiting

    async def _watch(self, tenant: str, waiting: _Waiting) -> None:
        try:
            while waiting.waiters and not self.closed:
                waiting.news.clear()
                seconds = await self._seconds(tenant, waiting)
                with suppress(TimeoutError):
                    await asyncio.wait_for(waiting.news.wait(), seconds)
        finally:
            del self._tenants[tenant]

    async def _seconds(self, tenant: str, waiting: _Waiting) -> float:
        """Look, wake everybody if something is due, and say when to look again."""
        try:
            due, seconds = await self._look(tenant)
        except Exception as error:
            failing.tell("look for what is due failed", error)
            return LOOK
        if due:
            waiting.wake()
        return min(LOOK, max(_SHORTEST, LOOK if seconds is None else seconds))

"""What changed of sessions lately, read once for all streams of this process that follow a tenant's sessions.

A tail holds the newest changes of a tenant, encoded, in the order of their positions and within a bound. A
stream that stands within it takes from there what fits its filter; one that stands before it reads from the
store. So nothing queues for a stream, and one that reads slowly gets each session once, as it is then.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import NamedTuple, Protocol
from uuid import UUID

from sessiond_server import failing

_ENTRIES = 2000
_BYTES = 4 * 2**20
"""What a tail holds at most, beyond the last page that was read."""


class Facts(Protocol):
    """A session that changed, or was deleted: what never changes of it."""

    @property
    def position(self) -> int: ...
    @property
    def session_id(self) -> str: ...
    @property
    def incarnation(self) -> UUID: ...
    @property
    def owner(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def agent(self) -> str: ...
    @property
    def parent_id(self) -> str | None: ...
    @property
    def parent_kind(self) -> int: ...
    @property
    def delete_time(self) -> datetime | None: ...


class Entry(NamedTuple):
    """A change, and the field of a frame that tells it."""

    facts: Facts
    body: bytes


class Page(NamedTuple):
    """Changes behind a position, up to and with the position `end`, all read from one snapshot."""

    entries: list[Entry]
    end: int
    more: bool


class TailSource(Protocol):
    """Reads for tails. Any call may be refused; it is repeated."""

    async def state(self) -> tuple[int, int]:
        """The last position that was given to any session, and the database's time in microseconds."""

    async def last_position(self, tenant: str, owner: str | None) -> int: ...

    async def advanced(self, positions: Mapping[str, int]) -> list[str]:
        """Which tenants have changes behind a position of each."""

    async def changes(self, tenant: str, position: int) -> Page: ...


@dataclass(eq=False)
class Tail:
    """A tenant's newest changes: all behind `start`, up to `end`, as of `time`."""

    start: int
    end: int
    time: int
    entries: deque[Entry] = field(default_factory=deque)
    followers: dict[object, Callable[[], None]] = field(default_factory=dict)
    _bytes: int = 0

    def covers(self, position: int) -> bool:
        """Whether it holds all that follows a position."""
        return position >= self.start

    def after(self, position: int) -> list[Entry]:
        """What follows a position that it covers."""
        first = bisect_right(self.entries, position, key=lambda entry: entry.facts.position)
        return list(islice(self.entries, first, None))

    def add(self, page: Page) -> None:
        self.entries.extend(page.entries)
        self._bytes += sum(len(entry.body) for entry in page.entries)
        self.end = max(self.end, page.end)
        while len(self.entries) > _ENTRIES or (self._bytes > _BYTES and len(self.entries) > 1):
            oldest = self.entries.popleft()
            self._bytes -= len(oldest.body)
            self.start = oldest.facts.position

    def tell(self) -> None:
        for told in self.followers.values():
            told()


class Tails:
    """The tails of the tenants whose sessions are followed. `wake` says that positions were given here; those
    that other replicas give are looked for every `poll` seconds."""

    def __init__(
        self,
        source: TailSource,
        patiently: Callable[[Callable[[], Awaitable[None]]], Awaitable[None]],
        *,
        poll: float,
    ) -> None:
        self._source = source
        self._patiently = patiently
        self._poll = poll
        self._tails: dict[str, Tail] = {}
        self._opening = asyncio.Lock()
        self._due = asyncio.Event()
        self._seen = -1
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._follow_on(), name="session tails")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def wake(self) -> None:
        if self._tails:
            self._due.set()

    @asynccontextmanager
    async def follow(self, tenant: str, told: Callable[[], None]) -> AsyncIterator[Tail]:
        """A tenant's tail; `told` is called when there is more in it."""
        follower = object()
        async with self._opening:
            tail = self._tails.get(tenant)
            if tail is None:
                _, time = await self._source.state()
                end = await self._source.last_position(tenant, None)
                tail = self._tails[tenant] = Tail(end, end, time)
                self._seen = -1
            tail.followers[follower] = told
        try:
            yield tail
        finally:
            del tail.followers[follower]
            if not tail.followers and self._tails.get(tenant) is tail:
                del self._tails[tenant]

    async def _follow_on(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._poll):
                    await self._due.wait()
            self._due.clear()
            try:
                if self._tails:
                    await self._patiently(self._look)
            except Exception as error:
                failing.tell("changes of sessions not read", error)

    async def _look(self) -> None:
        """Read what is new."""
        position, time = await self._source.state()
        tails = dict(self._tails)
        if position != self._seen:
            ends = {tenant: tail.end for tenant, tail in tails.items()}
            for tenant in await self._source.advanced(ends):
                await self._read(tenant, tails[tenant])
            self._seen = position
        for tail in tails.values():
            tail.time = time

    async def _read(self, tenant: str, tail: Tail) -> None:
        more = True
        while more and tail.followers:
            page = await self._source.changes(tenant, tail.end)
            tail.add(page)
            tail.tell()
            more = page.more

"""Following sessions: all that fit a filter as they are, then each as it changes.

First come the sessions that were settled when the stream began, in the order of lists; what moves in it
meanwhile takes a later position, and comes behind. Each page is read from one snapshot and holds nothing of a
later position than the stream has come to, so what is told of a session is never older than what was told.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Generic, NamedTuple, Protocol, TypeVar
from uuid import UUID

from sessiond_server.feed.session_tails import Entry, Page, Tail, Tails
from sessiond_server.sessions.filters import SessionFilter

FRAME_BYTES = 2 * 2**20 - 4096
FRAME_CHANGES = 1000
Mark = TypeVar("Mark")
Place = TypeVar("Place")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Standing(Generic[Mark]):
    """How far a stream has come: what a token says."""

    position: int
    time: int
    """When all that was deleted before had been told, by the database's clock in microseconds."""
    place: Mark | None = None
    """While the sessions are listed: behind which place of the list."""
    listing: bool = False


class Listed(NamedTuple, Generic[Mark]):
    """A page of the list: what tells each session, with its place."""

    sessions: list[tuple[bytes, Mark]]
    place: Mark | None
    """Behind the last that was looked at; `None` at the end of the list."""


class StreamSource(Protocol[Mark]):
    """Reads for one stream. Any call may be refused; it is repeated."""

    async def list(self, wanted: SessionFilter, position: int, place: Mark | None) -> Listed[Mark]:
        """Sessions behind a place of the list that haven't a later position than this."""

    async def last_position(self, tenant: str, owner: str | None) -> int: ...

    async def changes_of(self, wanted: SessionFilter, position: int) -> Page:
        """What changed behind a position and fits."""

    async def of_subtree(self, wanted: SessionFilter, entries: Sequence[Entry]) -> set[UUID]:
        """The incarnations of those sessions that come from the session in the filter."""


class Frames(Protocol[Mark]):
    """Encodes frames."""

    def frame(self, bodies: list[bytes], standing: Standing[Mark], *, caught_up: bool) -> bytes: ...
    def goodbye(self) -> bytes: ...


class Patience(Protocol):
    """Reads until the store answers."""

    def __call__(self, call: Callable[[], Awaitable[Result]]) -> Awaitable[Result]: ...


class SessionStream(Generic[Mark]):
    """One call. It holds a frame at most, which the caller hasn't taken yet."""

    def __init__(
        self,
        tails: Tails,
        source: StreamSource[Mark],
        frames: Frames[Mark],
        patiently: Patience,
        *,
        heartbeat: float,
    ) -> None:
        self.writing_since: float | None = None
        """When the caller was handed the frame that it hasn't taken yet."""
        self.waiting_bytes = 0
        self._tails = tails
        self._source = source
        self._frames = frames
        self._patiently = patiently
        self._heartbeat = heartbeat
        self._news = asyncio.Event()
        self._closing = False

    def close(self) -> None:
        """Say goodbye as soon as what is under way is sent."""
        self._closing = True
        self._news.set()

    async def frames(
        self, wanted: SessionFilter, start: Standing[Mark]
    ) -> AsyncGenerator[bytes, None]:
        """The frames, until the server stops. Whoever iterates closes the iterator."""
        async with (
            self._tails.follow(wanted.tenant, self._news.set) as tail,
            aclosing(self._told(_Following(wanted, start, start.position), tail)) as told,
        ):
            async for frame in told:
                self.writing_since = asyncio.get_running_loop().time()
                self.waiting_bytes = len(frame)
                yield frame
                self.writing_since, self.waiting_bytes = None, 0
                if self._closing:
                    break
            yield self._frames.goodbye()

    async def _told(self, it: _Following[Mark], tail: Tail) -> AsyncGenerator[bytes, None]:
        until = it.standing.position
        if it.standing.listing:
            async for frame in self._list(it):
                yield frame
        else:
            until = await self._patiently(
                lambda: self._source.last_position(it.wanted.tenant, it.wanted.owner)
            )
        while it.behind and it.scanned < until and not self._closing:
            async for frame in self._catch_up(it, tail):
                yield frame
        yield self._frames.frame([], it.standing, caught_up=True)
        while not self._closing:
            self._news.clear()
            follow = self._follow if tail.covers(it.scanned) else self._catch_up
            async for frame in follow(it, tail):
                yield frame
            if tail.end <= it.scanned and await self._silent():
                it.standing = replace(it.standing, time=tail.time)
                yield self._frames.frame([], it.standing, caught_up=False)

    async def _silent(self) -> bool:
        """Wait for news; whether none came for as long as the caller may be left without a sign of life."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._heartbeat):
                await self._news.wait()
                return False
        return True

    async def _list(self, it: _Following[Mark]) -> AsyncIterator[bytes]:
        """Tell how sessions are, page by page."""
        place, more = it.standing.place, True
        while more and not self._closing:
            page = await self._patiently(partial(self._source.list, it.wanted, it.scanned, place))
            for bodies, mark in _packed(page.sessions):
                it.standing = replace(it.standing, place=mark)
                yield self._frames.frame(bodies, it.standing, caught_up=False)
            place, more = page.place, page.place is not None
        if not more:
            it.standing = replace(it.standing, place=None, listing=False)

    async def _catch_up(self, it: _Following[Mark], tail: Tail) -> AsyncIterator[bytes]:
        """Tell a page of what the store has."""
        covered = tail.end
        page = await self._patiently(partial(self._source.changes_of, it.wanted, it.scanned))
        fitting = await self._of_subtree(it, page.entries)
        for bodies, position in _packed(_placed(fitting)):
            it.standing = replace(it.standing, position=position)
            yield self._frames.frame(bodies, it.standing, caught_up=False)
        it.standing = replace(it.standing, position=max(it.standing.position, page.end))
        it.scanned = max(it.scanned, page.end, 0 if page.more else covered)
        it.behind = page.more

    async def _follow(self, it: _Following[Mark], tail: Tail) -> AsyncIterator[bytes]:
        """Tell what the tail has."""
        found, end, time = tail.after(it.scanned), tail.end, tail.time
        own = [entry for entry in found if it.wanted.owner in (None, entry.facts.owner)]
        fitting = [entry for entry in own if it.wanted.may_fit(entry.facts)]
        for bodies, position in _packed(_placed(_newest(await self._of_subtree(it, fitting)))):
            it.standing = replace(it.standing, position=position)
            yield self._frames.frame(bodies, it.standing, caught_up=False)
        last = own[-1].facts.position if own else it.standing.position
        it.standing = replace(it.standing, position=last, time=time)
        it.scanned = max(it.scanned, end)

    async def _of_subtree(self, it: _Following[Mark], entries: list[Entry]) -> list[Entry]:
        if not it.wanted.subtree_of or not entries:
            return entries
        there = await self._patiently(partial(self._source.of_subtree, it.wanted, entries))
        return [entry for entry in entries if entry.facts.incarnation in there]


@dataclass(slots=True)
class _Following(Generic[Mark]):
    """What a stream follows, how far it has told, and up to which position it has looked: at those of other
    owners as well, of which its tokens don't tell."""

    wanted: SessionFilter
    standing: Standing[Mark]
    scanned: int
    behind: bool = True
    """Whether the store may have more behind that."""


def _newest(entries: list[Entry]) -> list[Entry]:
    """What there is to tell of sessions that changed several times."""
    last = {entry.facts.incarnation: entry.facts.position for entry in entries}
    return [it for it in entries if last[it.facts.incarnation] == it.facts.position]


def _placed(entries: list[Entry]) -> list[tuple[bytes, int]]:
    return [(entry.body, entry.facts.position) for entry in entries]


def _packed(items: Sequence[tuple[bytes, Place]]) -> Iterator[tuple[list[bytes], Place]]:
    """What goes into a frame each, and the place behind it."""
    bodies: list[bytes] = []
    size = 0
    for number, (body, place) in enumerate(items):
        bodies.append(body)
        size += len(body)
        following = len(items[number + 1][0]) if number + 1 < len(items) else FRAME_BYTES
        if len(bodies) == FRAME_CHANGES or size + following > FRAME_BYTES:
            yield bodies, place
            bodies, size = [], 0

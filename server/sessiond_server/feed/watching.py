"""Watching: a call's queue of frames, and for each of its sessions catching up, then live.

A session's watch reads from the store until nothing follows, joins the hub, and is then handed every frame as
it comes. When the queue is full it leaves the hub, and when the queue is empty again reads on from where it
stopped: nothing that is queued is ever dropped, and nothing is queued without a bound.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from sessiond_server.errors import Refused
from sessiond_server.feed.drafts import DraftHub, Follower, News
from sessiond_server.feed.hub import Hub
from sessiond_server.feed.source import Batch, Frame, Kinds, Place, Watched

BOOKMARK_EVENTS = 1000
"""So many events that a watch leaves out are covered by a token at last."""


class Notices(Protocol):
    """Encodes the frames that the machine itself has to say something with."""

    def caught_up(self, watched: Watched, place: Place, from_seq: int, next_seq: int) -> bytes: ...
    def fell_behind(self, watched: Watched, place: Place, from_seq: int) -> bytes: ...
    def heartbeat(self, watched: Watched, place: Place, from_seq: int) -> bytes: ...
    def bookmark(self, watched: Watched, place: Place, from_seq: int) -> bytes: ...
    def deleted(self, watched: Watched) -> bytes: ...
    def drafts(self, watched: Watched, news: list[News]) -> bytes: ...
    def goodbye(self) -> bytes: ...


class Wishes(NamedTuple):
    """What a watch is to be sent."""

    kinds: Kinds = frozenset()
    """The kinds of events; empty for all."""
    drafts: DraftHub | None = None
    """Where its drafts come from, if it is to have them."""
    appended: bool = True
    """Whether messages that are appended are among the kinds, which then tell of the end of their drafts."""


EVERYTHING = Wishes()


class Beginning(NamedTuple):
    """Where a session's watch begins: behind a place, and not before a message that may be in the future."""

    watched: Watched
    place: Place
    from_seq: int = 0


class Family(Protocol):
    """Who watches the children of a watched session as well."""

    def follow(self, session_id: str) -> None:
        """The session with this id was made from a watched one."""

    def deleted(self, session_id: str) -> None:
        """A watched session is gone. It may be made anew."""


class Stream:
    """What a call sends: frames in a queue that is bounded in bytes."""

    def __init__(
        self,
        hub: Hub,
        notices: Notices,
        *,
        buffer_bytes: int,
        heartbeat: float,
        bookmark_events: int = BOOKMARK_EVENTS,
    ) -> None:
        self.hub = hub
        self.notices = notices
        self.bookmark_events = bookmark_events
        self.writing_since: float | None = None
        """When the caller was handed the frame that it hasn't taken yet."""
        self._limit = buffer_bytes
        self._heartbeat = heartbeat
        self._queue: deque[bytes] = deque()
        self._bytes = 0
        self._filled = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()
        self._watches: dict[SessionWatch, None] = {}
        self._beating: list[SessionWatch] = []
        self._drafting: set[SessionWatch] = set()
        self._unmarked: dict[SessionWatch, None] = {}
        self._closing = False
        self._failure: Exception | None = None
        self._starting = 0
        self.turn = asyncio.Lock()
        """Held by the one watch that reads from the store and queues what it read."""

    def watch(
        self,
        beginning: Beginning,
        prefix: bytes,
        family: Family | None = None,
        *,
        beats: bool = True,
        wishes: Wishes = EVERYTHING,
    ) -> None:
        """Watch one more session. `prefix` is put before its frames."""
        watch = SessionWatch(self, beginning, prefix, family, wishes)
        self._watches[watch] = None
        if beats:
            self._beating.append(watch)
        watch.catch_up()

    def fail(self, error: Exception) -> None:
        """End it with an error behind what is queued."""
        self._failure = error
        self._filled.set()

    def close(self) -> None:
        """End it: say goodbye behind what is queued."""
        self._closing = True
        self._filled.set()

    @property
    def waiting_bytes(self) -> int:
        """How many bytes the caller hasn't taken yet."""
        return self._bytes

    def has_room(self, size: int) -> bool:
        return not self._queue or self._bytes + size <= self._limit

    def put(self, frame: bytes) -> None:
        self._queue.append(frame)
        self._bytes += len(frame)
        self._drained.clear()
        self._filled.set()

    async def drained(self) -> None:
        """Wait until everything that is queued was taken."""
        await self._drained.wait()

    def starting(self, count: int) -> None:
        """So many sessions more (or fewer) are about to be watched: the stream doesn't end meanwhile."""
        self._starting += count
        self._filled.set()

    def ended(self, watch: SessionWatch) -> None:
        self._watches.pop(watch, None)
        self._unmarked.pop(watch, None)
        if watch in self._beating:
            self._beating.remove(watch)
        self._filled.set()

    async def frames(self) -> AsyncGenerator[bytes, None]:
        """The frames, until the watch ends. Whoever iterates closes the iterator."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                while self._queue:
                    frame = self._queue.popleft()
                    self.writing_since = loop.time()
                    yield frame
                    self.writing_since = None
                    self._bytes -= len(frame)
                    if not self._queue:
                        self._drained.set()
                if not self._closing and (self._put_drafts() or self._put_bookmarks()):
                    continue
                if self._failure is not None:
                    raise self._failure
                if self._closing:
                    yield self.notices.goodbye()
                    return
                if not self._watches and not self._starting:
                    return
                await self._wait()
        finally:
            for watch in list(self._watches):
                watch.stop()

    def drafting(self, watch: SessionWatch) -> None:
        """A watch has something new of drafts: it is sent when all else is."""
        self._drafting.add(watch)
        self._filled.set()

    def _put_drafts(self) -> bool:
        """Queue what is new of drafts, but nothing within a transaction. Whether anybody was ready."""
        ready = [watch for watch in self._drafting if not watch.begun]
        for watch in ready:
            self._drafting.discard(watch)
            watch.put_drafts()
        return bool(ready)

    def bookmark_later(self, watch: SessionWatch) -> None:
        """There is no room to say how far a watch has come: it is said when all else is sent."""
        self._unmarked[watch] = None

    def _put_bookmarks(self) -> bool:
        """Queue the bookmarks for which there was no room; whether there were any."""
        watches, self._unmarked = self._unmarked, {}
        for watch in watches:
            watch.bookmark(1)
        return bool(self._queue)

    async def _wait(self) -> None:
        """Wait for something to send; beat when nothing comes."""
        self._filled.clear()
        try:
            async with asyncio.timeout(self._heartbeat):
                await self._filled.wait()
        except TimeoutError:
            for watch in self._beating:
                watch.beat()
            for watch in self._watches:
                watch.bookmark(1)


@dataclass(eq=False, slots=True)
class SessionWatch:
    """One session of a stream."""

    stream: Stream
    beginning: Beginning
    prefix: bytes
    family: Family | None
    wishes: Wishes
    place: Place = field(init=False)
    from_seq: int = field(init=False)
    resumable: Place = field(init=False)
    """The end of the last whole transaction that was queued: what a token may say."""
    _task: asyncio.Task[None] | None = field(init=False, default=None)
    _follower: Follower | None = field(init=False, default=None)
    _torn: bool = field(init=False, default=False)
    """Whether a part of a transaction was sent, and its end wasn't."""
    _left_out: int = field(init=False, default=0)
    """How many events were left out since something was sent that has a token."""

    def __post_init__(self) -> None:
        self.place = self.resumable = self.beginning.place
        self.from_seq = self.beginning.from_seq

    @property
    def watched(self) -> Watched:
        return self.beginning.watched

    @property
    def begun(self) -> bool:
        """Whether it stands within a transaction, where nothing else may be said."""
        return self.place != self.resumable

    def catch_up(self, *, behind: bool = False) -> None:
        self._task = asyncio.create_task(self._catch_up(behind), name="feed catch-up")
        self._task.add_done_callback(self._look_why)

    def _look_why(self, task: asyncio.Task[None]) -> None:
        """A bug ends the whole call: nobody would hear of it otherwise."""
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self.stream.fail(error)

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._leave_drafts()
        self.stream.hub.leave(self, self.watched)

    def _leave_drafts(self) -> None:
        if self._follower is not None:
            self._follower.leave()
            self._follower = None

    async def _catch_up(self, behind: bool) -> None:
        if behind:
            await self.stream.drained()
            notice = self.stream.notices.fell_behind(self.watched, self.resumable, self.from_seq)
            self._put(notice)
        while True:
            async with self.stream.turn:
                batch = await self.stream.hub.read(self.watched, self.place, self.from_seq)
                if batch is None:
                    self.deleted()
                    return
                await self._queue(batch)
            if not batch.more and await self.stream.hub.join(
                self, self.watched, self.place, batch.version
            ):
                break
        self._put(
            self.stream.notices.caught_up(
                self.watched, self.resumable, self.from_seq, batch.version.next_seq
            )
        )
        self._task = None
        if self.wishes.drafts is not None and self._follower is None:
            self._follower = self.wishes.drafts.follow(
                self.watched.key, self._drafting, tell_appended=not self.wishes.appended
            )

    async def _queue(self, batch: Batch) -> None:
        for frame in batch.frames:
            while not self.stream.has_room(len(self._body(frame))):
                await self.stream.drained()
            self._take(frame)

    def deliver(self, frame: Frame) -> bool:
        if frame.first_seq < self.from_seq:
            if frame.place.seq >= self.from_seq:  # only a part of it is wanted
                self.catch_up()
                return False
            self._pass(frame)
            return True
        size = len(self._body(frame))
        # a transaction that is begun is sent to its end
        if size and not self.begun and not self.stream.has_room(size):
            self.stream.hub.fell_behind += 1
            self.catch_up(behind=True)
            return False
        self._take(frame)
        return True

    def _take(self, frame: Frame) -> None:
        body = self._body(frame)
        if body:
            self._put(body)
            self._torn = not frame.whole
            self._left_out = 0 if frame.whole else self._left_out
        else:
            self._left_out += frame.count
        self._pass(frame)
        if self._torn and frame.whole:  # the end of a transaction whose beginning was sent
            self._put_bookmark()
        elif not body:
            self.bookmark(self.stream.bookmark_events)

    def _body(self, frame: Frame) -> bytes:
        return frame.body_of(self.wishes.kinds)

    def bookmark(self, events: int) -> None:
        """Say how far it has come if so many events were left out since that was said last."""
        if self._left_out < events or self.begun:
            return
        if self.stream.has_room(0):
            self._put_bookmark()
        else:
            self.stream.bookmark_later(self)

    def _put_bookmark(self) -> None:
        notice = self.stream.notices.bookmark(self.watched, self.resumable, self.from_seq)
        self._put(notice)
        self._torn = False
        self._left_out = 0

    def _pass(self, frame: Frame) -> None:
        self.place = frame.place
        if frame.whole:
            self.resumable = frame.place
        if self._follower is not None:
            self._follower.appended(frame.client_ids)
        if self.family is not None:
            for child in frame.children:
                self.family.follow(child)

    def _put(self, body: bytes) -> None:
        self.stream.put(self.prefix + body)

    def deleted(self) -> None:
        self._put(self.stream.notices.deleted(self.watched))
        self._task = None
        self._leave_drafts()
        if self.family is not None:
            self.family.deleted(self.watched.session_id)
        self.stream.ended(self)

    def _drafting(self) -> None:
        self.stream.drafting(self)

    def put_drafts(self) -> None:
        news = [] if self._follower is None else self._follower.news()
        if news:
            self._put(self.stream.notices.drafts(self.watched, news))

    def beat(self) -> None:
        if self.begun:
            return
        notice = self.stream.notices.heartbeat(self.watched, self.resumable, self.from_seq)
        self._put(notice)
        self._left_out = 0


class Tree:
    """A watched session, and, if there is a `begin` for them, its descendants: each is watched as soon as
    it is known."""

    def __init__(
        self,
        stream: Stream,
        prefix: bytes,
        begin: Callable[[str], Awaitable[Beginning | None]] | None,
        wishes: Wishes = EVERYTHING,
    ) -> None:
        self._wishes = wishes
        self._stream = stream
        self._prefix = prefix
        self._begin = begin
        self._known: set[str] = set()
        self._again: set[str] = set()
        """Those that were made once more while they were known."""
        self._tasks: set[asyncio.Task[None]] = set()

    def watch(self, beginning: Beginning, *, beats: bool) -> None:
        """Watch a session of the tree from a known place."""
        if beginning.watched.session_id not in self._known:
            self._known.add(beginning.watched.session_id)
            family = None if self._begin is None else self
            self._stream.watch(beginning, self._prefix, family, beats=beats, wishes=self._wishes)

    def follow(self, session_id: str) -> None:
        """Watch a session of the tree that was just made."""
        if self._begin is None:
            return
        if session_id in self._known:
            self._again.add(session_id)
            return
        self._known.add(session_id)
        self._stream.starting(1)
        task = asyncio.create_task(self._add(session_id, self._begin), name="feed child")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def deleted(self, session_id: str) -> None:
        """Watch it from its beginning if it was made anew meanwhile, or else as soon as it is."""
        self._known.discard(session_id)
        if session_id in self._again:
            self._again.discard(session_id)
            self.follow(session_id)

    async def _add(
        self, session_id: str, begin: Callable[[str], Awaitable[Beginning | None]]
    ) -> None:
        try:
            beginning = await self._stream.hub.patiently(lambda: begin(session_id))
            if beginning is None:
                self.deleted(session_id)
            else:
                self._stream.watch(beginning, self._prefix, self, beats=False, wishes=self._wishes)
        except Refused as error:
            self._stream.fail(error)
        finally:
            self._stream.starting(-1)

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()

"""A watcher: it watches sessions through one hub or another, breaks off, resumes, and checks what it gets."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from sessiond_server.feed.drafts import DraftHub
from sessiond_server.feed.hub import Hub
from sessiond_server.feed.source import Kinds, Place
from sessiond_server.feed.watching import Beginning, Stream, Tree, Wishes
from tests.feed import wire
from tests.feed.checker import Follower, Violation
from tests.feed.history import KINDS, MESSAGE, History
from tests.feed.store import MemorySource, Store
from tests.feed.wire import Received


@dataclass(frozen=True, slots=True)
class Target:
    """What is watched: a session from a message on, 0 is its beginning, `None` is now."""

    session_id: str
    from_seq: int | None = 0
    tree: bool = False
    kinds: Kinds = frozenset()
    """Which kinds of events; empty for all."""


@dataclass(frozen=True, slots=True)
class Replica:
    """A server's part in feeds."""

    hub: Hub
    source: MemorySource


@dataclass(slots=True)
class Habits:
    """How a watcher reads: how likely it breaks off or rests after a frame, and for how many seconds."""

    buffer_bytes: int = 10_000
    heartbeat: float = 1.0
    breaks: float = 0.0
    rests: float = 0.0
    rest: float = 0.0
    bookmark_events: int = 1000


class MeasuredStream(Stream):
    """Knows how many bytes of events it ever held."""

    def __init__(self, hub: Hub, habits: Habits) -> None:
        super().__init__(
            hub,
            wire.JsonNotices(),
            buffer_bytes=habits.buffer_bytes,
            heartbeat=habits.heartbeat,
            bookmark_events=habits.bookmark_events,
        )
        self.held = 0
        self.most = 0
        self.largest = 0

    def put(self, frame: bytes) -> None:
        super().put(frame)
        if not wire.is_notice(frame):
            self.held += len(frame)
            self.most = max(self.most, self.held)
            self.largest = max(self.largest, len(frame))

    def taken(self, frame: bytes) -> None:
        if not wire.is_notice(frame):
            self.held -= len(frame)


@dataclass
class Watcher:
    """Watches until it is cancelled, or nothing is left to watch."""

    store: Store
    replicas: Sequence[Replica]
    targets: Sequence[Target]
    habits: Habits
    rng: random.Random
    drafts: DraftHub | None = None
    log: list[tuple[float, bytes]] = field(default_factory=list)
    frames: list[Received] = field(default_factory=list)
    followers: dict[tuple[str, str, str], Follower] = field(default_factory=dict)
    """By watch id, session id and incarnation."""
    most: int = 0
    """The most bytes of events that were queued."""
    largest: int = 0
    """The bytes of the largest frame of events."""
    ended: bool = False

    @property
    def events(self) -> list[str]:
        """All events that it ever received."""
        return [name for frame in self.frames for name in frame.events if not frame.notice]

    @property
    def notices(self) -> list[str]:
        """All notices that it ever received."""
        return [frame.notice for frame in self.frames if frame.notice]

    async def run(self) -> None:
        """Watch, and watch again when it broke off."""
        while not self.ended:
            await self._watch(self.rng.choice(self.replicas))
            await asyncio.sleep(self.rng.choice((0, 0.01, 1)))

    async def _watch(self, replica: Replica) -> None:
        stream = MeasuredStream(replica.hub, self.habits)
        trees = await self._begin(stream, replica)
        try:
            async with aclosing(stream.frames()) as frames:
                async for data in frames:
                    self._take(data)
                    await self._rest()
                    stream.taken(data)
                    if self.rng.random() < self.habits.breaks:
                        return
            self.ended = True
        finally:
            for tree in trees:
                tree.stop()
            self.most = max(self.most, stream.most)
            self.largest = max(self.largest, stream.largest)

    async def _rest(self) -> None:
        if self.rng.random() < self.habits.rests:
            await asyncio.sleep(self.rng.choice((0, 0.01, 0.1, 1)) * self.habits.rest)

    async def _begin(self, stream: Stream, replica: Replica) -> list[Tree]:
        """Begin all watches, as the service does."""
        found = [await self._beginnings(target, replica) for target in self.targets]
        trees = []
        for number, (target, beginnings) in enumerate(zip(self.targets, found, strict=True)):
            begin = replica.source.begin if target.tree else None
            appended = not target.kinds or KINDS[MESSAGE] in target.kinds
            wishes = Wishes(target.kinds, self.drafts, appended)
            tree = Tree(stream, f"{number} ".encode(), begin, wishes)
            for place, beginning in enumerate(beginnings):
                tree.watch(beginning, beats=place == 0)
            trees.append(tree)
        return trees

    async def _beginnings(self, target: Target, replica: Replica) -> list[Beginning]:
        """Where to go on in every session of a target, or where to begin; the target's own first."""
        begun = self._resumed(target)
        if target.session_id in begun:
            beginnings = await self._with_descendants(target, replica, begun, 0)
        else:
            self._forget(target)
            beginnings = await self._from_scratch(target, replica)
        for beginning in beginnings:
            self._follow(target, beginning)
        return beginnings

    async def _from_scratch(self, target: Target, replica: Replica) -> list[Beginning]:
        begun: dict[str, Beginning] = {}
        if target.from_seq is None:  # who is made later than this is watched from its beginning
            await self._with_descendants(target, replica, begun, None)
        first = await self._begin_at(replica, target.session_id, target.from_seq)
        if first is None:
            return []
        begun = {target.session_id: first} | begun
        return await self._with_descendants(target, replica, begun, 0)

    async def _with_descendants(
        self,
        target: Target,
        replica: Replica,
        begun: dict[str, Beginning],
        from_seq: int | None,
    ) -> list[Beginning]:
        there = self.store.descendants(target.session_id) if target.tree else []
        for session_id in there:
            known = begun.get(session_id)
            history = self.store.sessions.get(session_id)
            if known is None or (history is not None and known.watched != history.watched):
                beginning = await self._begin_at(replica, session_id, from_seq)
                if beginning is not None:
                    begun[session_id] = beginning
        return list(begun.values())

    async def _begin_at(
        self, replica: Replica, session_id: str, from_seq: int | None
    ) -> Beginning | None:
        return await replica.hub.patiently(lambda: replica.source.begin(session_id, from_seq))

    def _follow(self, target: Target, beginning: Beginning) -> None:
        watched = beginning.watched
        now = (self._watch_id(target), watched.session_id, watched.incarnation.hex)
        for key, follower in list(self.followers.items()):
            if key[:2] == now[:2] and key != now and not follower.deleted:
                del self.followers[key]  # it was made anew, and is watched as such
        if now not in self.followers:
            history = self.store.ever[now[1:]]
            self.followers[now] = self._follower(
                target, history, beginning.place, beginning.from_seq
            )

    def _follower(
        self, target: Target, history: History, place: Place, from_seq: int = 0
    ) -> Follower:
        most = self.habits.bookmark_events
        return Follower(history, place, from_seq, target.kinds, most)

    def _watch_id(self, target: Target) -> str:
        return str(self.targets.index(target))

    def _forget(self, target: Target) -> None:
        """Nothing was received that resumes a target's watch."""
        for key in [it for it in self.followers if it[0] == self._watch_id(target)]:
            del self.followers[key]

    def _resumed(self, target: Target) -> dict[str, Beginning]:
        """Where a target's watches go on: behind the last token, or an earlier one."""
        begun = {}
        for key, follower in list(self.followers.items()):
            if key[0] != self._watch_id(target):
                continue
            watched = follower.history.watched
            own = watched.session_id == target.session_id
            if follower.deleted and not own:
                continue
            there = self.store.sessions.get(watched.session_id, follower.history)
            lost = there is not follower.history or self.rng.random() < 0.1
            if not follower.tokens or (lost and not own):
                del self.followers[key]
                continue
            token = follower.tokens[-1]
            if self.rng.random() < 0.3:
                token = self.rng.choice(follower.tokens)
            follower.resume(token)
            begun[watched.session_id] = Beginning(watched, token.place, token.from_seq)
        own_first = sorted(begun, key=lambda it: it != target.session_id)
        return {session_id: begun[session_id] for session_id in own_first}

    def _take(self, data: bytes) -> None:
        """Check a frame."""
        self.log.append((asyncio.get_running_loop().time(), data))
        frame = wire.decode(data)
        self.frames.append(frame)
        if frame.notice == "goodbye":
            return
        target = self.targets[int(frame.watch_id)]
        key = (frame.watch_id, *frame.key)
        if key not in self.followers:
            if not target.tree or frame.session_id not in self.store.parents:
                raise Violation(f"nobody asked for this: {frame}")
            self.followers[key] = self._follower(target, self.store.ever[frame.key], Place())
        self.followers[key].take(frame)

    def finish(self) -> None:
        """Check that everything has come, now that nothing happens any more."""
        for follower in self.followers.values():
            follower.finish()
        for target in self.targets:
            for session_id in self._expected(target):
                incarnation = self.store.sessions[session_id].watched.incarnation.hex
                if (self._watch_id(target), session_id, incarnation) not in self.followers:
                    raise Violation(f"{session_id} is not watched")

    def _expected(self, target: Target) -> list[str]:
        """The descendants that must be watched: those that their parents tell of, which are followed."""
        if not target.tree:
            return []
        followed = [it for key, it in self.followers.items() if key[0] == self._watch_id(target)]
        told = {
            (it.history.watched.session_id, child) for it in followed for child in it.children()
        }
        there = self.store.descendants(target.session_id)
        return [it for it in there if (self.store.parents[it], it) in told]

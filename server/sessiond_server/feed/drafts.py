"""Drafts: messages while they are being written, shown to watchers and never kept.

A room gathers the drafts of a session in this process: those that are published here as they come, those
that are published at other replicas from the store, when a hint says so. A follower remembers how much of
each draft it has shown, so that a slow one gets all that came meanwhile at once, and nothing queues.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple, Protocol
from uuid import UUID, uuid4

import structlog

from sessiond_server import failing
from sessiond_server.errors import Refused, TooManyDrafts
from sessiond_server.store.drafts import Piece
from sessiond_server.store.keys import SessionKey

log = structlog.get_logger(__name__)

APPENDED, ABORTED = 1, 2
"""How drafts end: the values of `sessiond.v1.DraftEnd`."""

_KEPT = 5.0
"""Seconds for which a draft that has ended stays, so that all hear of it."""
_TICK = 1.0


class DraftStore(Protocol):
    """Carries drafts between replicas. Any call may be refused; drafts may then come late or whole."""

    async def insert(self, key: SessionKey, piece: Piece) -> None: ...
    async def news(self, key: SessionKey, known: Mapping[UUID, int]) -> list[Piece]: ...
    async def recent(self, age: timedelta) -> set[SessionKey]: ...
    async def forget(self, key: SessionKey, draft_id: UUID) -> None: ...
    async def forget_old(self, age: timedelta) -> None: ...
    async def appended(self, key: SessionKey, client_ids: Collection[str]) -> set[str]: ...


class News(NamedTuple):
    """What a follower hasn't shown of a draft."""

    client_id: str
    begins: bool
    pieces: list[bytes]
    ended: int


@dataclass(slots=True)
class _Draft:
    draft_id: UUID
    client_id: str
    heard: float
    """When its publisher last gave a sign of life, by the loop's clock."""
    here: bool
    """Whether it is published in this process."""
    pieces: list[bytes] = field(default_factory=list)
    last_piece: int = -1
    generation: int = 0
    """How often all that was written was sent anew."""
    ended: int = 0

    def take(self, piece: Piece, now: float) -> None:
        if piece.whole:
            self.pieces.clear()
            self.generation += 1
        if piece.content:
            self.pieces.append(piece.content)
        self.last_piece = piece.piece_no
        self.heard = now - piece.age
        self.ended = self.ended or piece.ended


class Follower:
    """One watcher of a session's drafts."""

    def __init__(
        self, room: _Room, changed: Callable[[], None], *, tell_appended: bool = False
    ) -> None:
        self.changed = changed
        self._tell_appended = tell_appended
        self._room = room
        self._shown: dict[UUID, tuple[int, int]] = {}
        self._appended: set[str] = set()
        self._over: set[UUID] = set()

    def appended(self, client_ids: Iterable[str]) -> None:
        """These messages are shown as such now: nothing more of their drafts."""
        open_now = {draft.client_id for draft in self._room.drafts.values()}
        over = open_now.intersection(client_ids)
        self._appended.update(over)
        if over and self._tell_appended:
            self.changed()

    def news(self) -> list[News]:
        """What it hasn't shown; shown then."""
        found = []
        for draft in self._room.drafts.values():
            if draft.draft_id in self._over:
                continue
            generation, count = self._shown.get(draft.draft_id, (-1, 0))
            if draft.client_id in self._appended:
                if generation >= 0 and self._tell_appended:
                    found.append(News(draft.client_id, False, [], APPENDED))
                self._over.add(draft.draft_id)
                continue
            begins = generation != draft.generation
            pieces = draft.pieces[0 if begins else count :]
            if draft.ended:
                told_otherwise = draft.ended == APPENDED and not self._tell_appended
                if generation >= 0 and not told_otherwise:
                    found.append(News(draft.client_id, False, [], draft.ended))
                self._over.add(draft.draft_id)
                continue
            if begins or pieces:
                self._shown[draft.draft_id] = (draft.generation, len(draft.pieces))
                found.append(News(draft.client_id, begins, pieces, 0))
        return found

    def leave(self) -> None:
        self._room.followers.discard(self)


class _Room:
    """The drafts of a session."""

    def __init__(self, key: SessionKey, store: DraftStore) -> None:
        self.key = key
        self.drafts: dict[UUID, _Draft] = {}
        self.followers: set[Follower] = set()
        self._store = store
        self._dirty = False
        self._task: asyncio.Task[None] | None = None

    @property
    def empty(self) -> bool:
        return not self.followers and not any(draft.here for draft in self.drafts.values())

    def changed(self) -> None:
        for follower in self.followers:
            follower.changed()

    def load(self) -> None:
        """Look for what other replicas publish, and which drafts of this one are appended."""
        self._dirty = True
        if self._task is None:
            self._task = asyncio.create_task(self._load(), name="drafts load")

    async def _load(self) -> None:
        try:
            while self._dirty:
                self._dirty = False
                await self._look()
        except Refused as error:
            log.debug("drafts not read", error=repr(error))  # the next tick looks again
        finally:
            self._task = None

    async def _look(self) -> None:
        if self.followers:
            known = {draft.draft_id: draft.last_piece for draft in self.drafts.values()}
            for piece in await self._store.news(self.key, known):
                self._take(piece)
        open_here = [d for d in self.drafts.values() if d.here and not d.ended]
        if open_here:
            found = await self._store.appended(self.key, {d.client_id for d in open_here})
            for draft in open_here:
                if draft.client_id in found:
                    draft.ended = draft.ended or APPENDED
        self.changed()

    def _take(self, piece: Piece) -> None:
        now = asyncio.get_running_loop().time()
        draft = self.drafts.get(piece.draft_id)
        if draft is None:
            draft = _Draft(piece.draft_id, piece.client_id, now, here=False)
            self.drafts[piece.draft_id] = draft
        if not draft.here and piece.piece_no > draft.last_piece:
            draft.take(piece, now)

    def tick(self, expiry: float) -> None:
        """End what is silent, forget what has ended, and look for what no hint told."""
        now = asyncio.get_running_loop().time()
        for draft in list(self.drafts.values()):
            silent = now - draft.heard
            if draft.ended and silent > _KEPT + (0 if draft.here else expiry):
                del self.drafts[draft.draft_id]
            elif not draft.ended and silent > expiry:
                draft.ended = ABORTED
                draft.heard = now
                self.changed()
        if self.drafts:
            self.load()


class Publishing:
    """A draft that is published in this process."""

    def __init__(self, hub: DraftHub, room: _Room, client_id: str) -> None:
        now = asyncio.get_running_loop().time()
        self.draft = _Draft(uuid4(), client_id, now, here=True)
        self._hub = hub
        self._room = room
        self._waiting: list[bytes] = []
        self._behind = False
        """Whether the store misses a piece, and gets everything with the next."""
        self._stored = now
        room.drafts[self.draft.draft_id] = self.draft

    def push(self, content: bytes) -> None:
        """More was written; empty is a sign of life."""
        self.draft.heard = asyncio.get_running_loop().time()
        if content:
            self._waiting.append(content)

    def give_up(self) -> None:
        """End it soon."""
        self.draft.ended = self.draft.ended or ABORTED

    async def run(self) -> int:
        """Relay what is pushed until the draft ends; how it did."""
        hub = self._hub
        while not self.draft.ended:
            await asyncio.sleep(hub.window)
            idle = asyncio.get_running_loop().time() - self._stored
            if self._waiting or idle > hub.expiry / 3:
                await self._relay()
        return self.draft.ended

    async def _relay(self) -> None:
        content = b"".join(self._waiting)
        self._waiting.clear()
        draft = self.draft
        if content:
            draft.pieces.append(content)
            self._room.changed()
        draft.last_piece += 1
        whole = self._behind or draft.last_piece == 0
        if whole:
            content = b"".join(draft.pieces)
        await self._store(Piece(*self._id, whole, content, 0))

    @property
    def _id(self) -> tuple[UUID, int, str]:
        return self.draft.draft_id, self.draft.last_piece, self.draft.client_id

    async def _store(self, piece: Piece) -> None:
        self._stored = asyncio.get_running_loop().time()
        try:
            await self._hub.store.insert(self._room.key, piece)
            self._behind = False
        except Refused as error:
            log.debug("draft not relayed", error=repr(error))
            self._behind = True
        self._hub.publish([self._room.key])

    async def end(self, how: int) -> None:
        """End it, if it hasn't, and tell all."""
        draft = self.draft
        draft.ended = draft.ended or how
        draft.heard = asyncio.get_running_loop().time()
        self._room.changed()
        draft.last_piece += 1
        await self._store(Piece(*self._id, False, b"", draft.ended))
        self._hub.forget_later(self._room.key, draft.draft_id)


class DraftHub:
    """The drafts that are published or watched in this process. `publish` tells the other replicas which
    sessions have something new."""

    def __init__(
        self,
        store: DraftStore,
        publish: Callable[[Collection[SessionKey]], None],
        *,
        window: float,
        expiry: float,
        limit: int,
    ) -> None:
        self.store = store
        self.publish = publish
        self.window = window
        self.expiry = expiry
        self._limit = limit
        self._open = 0
        self._rooms: dict[SessionKey, _Room] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def published(self) -> int:
        """How many drafts are published here."""
        return self._open

    def start(self) -> None:
        self._begin(self._tick_on())

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _begin(self, work: Awaitable[None]) -> None:
        async def run() -> None:
            await work

        task = asyncio.create_task(run(), name="drafts")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _room(self, key: SessionKey) -> _Room:
        room = self._rooms.get(key)
        if room is None:
            room = self._rooms[key] = _Room(key, self.store)
        return room

    def follow(
        self, key: SessionKey, changed: Callable[[], None], *, tell_appended: bool = False
    ) -> Follower:
        """Call `changed` when there is something new. With `tell_appended` it hears of drafts that end with
        their message as well, which others know by the message."""
        room = self._room(key)
        follower = Follower(room, changed, tell_appended=tell_appended)
        room.followers.add(follower)
        room.load()
        return follower

    def begin(self, key: SessionKey, client_id: str) -> Publishing:
        """Publish a draft. Refuses with `TooManyDrafts`."""
        if self._open >= self._limit:
            raise TooManyDrafts(self._limit)
        self._open += 1
        return Publishing(self, self._room(key), client_id)

    def finish(self, publishing: Publishing, how: int) -> None:
        """End a draft that was begun, if it hasn't ended, and tell all."""
        self._open -= 1
        self._begin(publishing.end(how))

    def wake(self, keys: Iterable[SessionKey]) -> None:
        """These sessions may have changed."""
        if self._rooms:
            for key in keys:
                room = self._rooms.get(key)
                if room is not None:
                    room.load()

    def forget_later(self, key: SessionKey, draft_id: UUID) -> None:
        """Take an ended draft out of the store when everybody has seen its end."""

        async def forget() -> None:
            await asyncio.sleep(_KEPT)
            try:
                await self.store.forget(key, draft_id)
            except Refused as error:
                log.debug("draft not forgotten", error=repr(error))

        self._begin(forget())

    async def _tick_on(self) -> None:
        ticks = 0
        while True:
            await asyncio.sleep(_TICK)
            for room in list(self._rooms.values()):
                room.tick(self.expiry)
                if room.empty:
                    del self._rooms[room.key]
            ticks += 1
            try:
                if self._rooms:  # whatever no hint told
                    self.wake(await self.store.recent(timedelta(seconds=3 * _TICK)))
                if ticks % 60 == 1:
                    await self.store.forget_old(timedelta(seconds=2 * self.expiry + 60))
            except Exception as error:
                failing.tell("drafts not looked for", error)

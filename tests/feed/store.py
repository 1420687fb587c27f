"""A store in memory as feeds see it, with seeded faults: of its reads, and of the hints that it gives."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sessiond_server.errors import DatabaseUnavailable, ReadQueueFull
from sessiond_server.feed.hub import Hub
from sessiond_server.feed.source import Batch, Place, Version, Watched
from sessiond_server.feed.watching import Beginning
from sessiond_server.store.keys import DEFAULT_TENANT, SessionKey, session_key
from tests.feed.history import CHILD, History, Paging


class Store:
    """Sessions in memory."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._transactions = 0
        self.sessions: dict[str, History] = {}
        self.ever: dict[tuple[str, str], History] = {}
        """By id and incarnation."""
        self.parents: dict[str, str] = {}
        self.on_change: list[Callable[[SessionKey], None]] = []

    def create(self, session_id: str, parent: str = "") -> History:
        """Make a session, which its parent is told of in a transaction of its own."""
        key = session_key(DEFAULT_TENANT, session_id)
        incarnation = UUID(int=self._rng.getrandbits(128), version=4)
        history = History(Watched(session_id, key, incarnation))
        self.sessions[session_id] = history
        self.ever[session_id, incarnation.hex] = history
        self.parents[session_id] = parent
        if parent:
            self.transact(parent, [CHILD], child=session_id)
        return history

    def transact(self, session_id: str, kinds: Sequence[str], child: str = "") -> None:
        """Append messages and record changes in one transaction."""
        history = self.sessions[session_id]
        self._transactions += 1
        for kind in kinds:
            name = child if kind == CHILD else ""
            history.add(kind, self._transactions, 1000 + self._transactions, name)
        self._changed(history)

    def delete(self, session_id: str) -> None:
        """Delete a session; its children stay."""
        history = self.sessions.pop(session_id)
        history.deleted = True
        self._changed(history)

    def descendants(self, session_id: str) -> list[str]:
        """The sessions that come from one."""
        found = [it for it, parent in self.parents.items() if parent == session_id]
        for child in list(found):
            found += [it for it in self.descendants(child) if it not in found]
        return [it for it in found if it in self.sessions]

    def _changed(self, history: History) -> None:
        for tell in self.on_change:
            tell(history.watched.key)


@dataclass
class Faults:
    """How likely is what, and how many seconds what takes at most."""

    fails: float = 0.0
    slow: float = 0.0
    lost: float = 0.0
    doubled: float = 0.0
    late: float = 0.0


class MemorySource:
    """The store as a replica reads it. A read sees the state of one moment between its start and its end."""

    def __init__(self, store: Store, rng: random.Random, faults: Faults, paging: Paging) -> None:
        self._store = store
        self._rng = rng
        self.faults = faults
        self._paging = paging
        self.reads = 0

    async def _trouble(self) -> None:
        if self.faults.slow:
            await asyncio.sleep(self._rng.choice((0, 0.1, 1)) * self.faults.slow)
        if self._rng.random() < self.faults.fails:
            raise self._rng.choice((DatabaseUnavailable(), ReadQueueFull(1)))

    async def read(self, watched: Watched, place: Place, from_seq: int) -> Batch | None:
        self.reads += 1
        await self._trouble()
        history = self._store.sessions.get(watched.session_id)
        batch = None
        if history is not None and history.watched == watched:
            batch = history.page(place, from_seq, self._paging)
        await self._trouble()
        return batch

    async def versions(self, keys: Collection[SessionKey]) -> Mapping[SessionKey, Version]:
        await self._trouble()
        histories = self._store.sessions.values()
        found = {it.watched.key: it.version() for it in histories if it.watched.key in keys}
        await self._trouble()
        return found

    async def begin(self, session_id: str, from_seq: int | None = 0) -> Beginning | None:
        """A watch from the beginning (0), a message on, or now (`None`); `None` if there is no session."""
        await self._trouble()
        history = self._store.sessions.get(session_id)
        if history is None:
            return None
        beginning = Beginning(history.watched, history.start(from_seq), from_seq or 0)
        await self._trouble()
        return beginning


class Hints:
    """What tells a hub of changes: never certain, never in order."""

    def __init__(self, store: Store, hub: Hub, rng: random.Random, faults: Faults) -> None:
        self._hub = hub
        self._rng = rng
        self._faults = faults
        store.on_change.append(self._tell)

    def _tell(self, key: SessionKey) -> None:
        loop = asyncio.get_running_loop()
        for chance in (1 - self._faults.lost, self._faults.doubled):
            if self._rng.random() >= chance:
                return
            delay = self._rng.choice((0, 0, 0.1, 1)) * self._faults.late
            loop.call_later(delay, self._hub.wake, [key])

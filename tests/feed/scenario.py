"""A run: writers, watchers and faults, all drawn from one seed; then quiet, and everything must be there."""

from __future__ import annotations

import asyncio
import hashlib
import random
from dataclasses import dataclass, field

from sessiond_server.feed.hub import Hub
from sessiond_server.feed.source import Kinds
from tests.feed import clock
from tests.feed.checker import Violation
from tests.feed.history import (
    ATTACHMENT,
    CLEAR,
    FACTS,
    KINDS,
    MESSAGE,
    UPDATE,
    USAGE,
    WRITER,
    Paging,
    largest_transaction,
)
from tests.feed.store import Faults, Hints, MemorySource, Store
from tests.feed.watcher import Habits, Replica, Target, Watcher

SWEEP = 2.0
SETTLE = 12.0
"""Seconds until everything has come: a sweep, the longest rest of a watcher and of a read that failed."""
_TRANSACTIONS = (
    [MESSAGE],
    [MESSAGE],
    [MESSAGE, MESSAGE],
    [MESSAGE] * 3,
    [MESSAGE] * 5,
    [MESSAGE, UPDATE],
    [UPDATE],
    [UPDATE, UPDATE, UPDATE],
    [FACTS],
    [FACTS, FACTS],
    [USAGE],
    [FACTS, USAGE],
    [ATTACHMENT],
    [WRITER],
    [FACTS, MESSAGE],
    [CLEAR],
)


@dataclass(slots=True)
class Size:
    """How much happens."""

    transactions: int = 25
    watchers: int = 3


@dataclass
class Run:
    """What a seed decides."""

    rng: random.Random
    size: Size
    store: Store = field(init=False)
    faults: Faults = field(init=False)
    paging: Paging = field(init=False)
    replicas: list[Replica] = field(init=False)
    watchers: list[Watcher] = field(init=False)

    def __post_init__(self) -> None:
        rng = self.rng
        self.store = Store(rng)
        self.faults = Faults(
            fails=rng.choice((0, 0, 0.1, 0.3)),
            slow=rng.choice((0, 0.01, 0.5)),
            lost=rng.choice((0, 0.3, 1)),
            doubled=rng.choice((0, 0.5)),
            late=rng.choice((0, 0.1, 3)),
        )
        self.paging = Paging(
            items=rng.choice((1, 2, 3, 5, 1000)),
            events=rng.choice((1, 2, 3, 1000)),
            minds_ends=rng.random() < 0.8,
            padding=rng.choice((0, 300)),
        )
        self.replicas = []
        for session_id in ("a", "b"):
            self.store.create(session_id)
        self.watchers = [self._watcher() for _ in range(rng.randint(1, self.size.watchers))]

    def _watcher(self) -> Watcher:
        rng = self.rng
        habits = Habits(
            buffer_bytes=rng.choice((1, 300, 1000, 100_000)),
            heartbeat=rng.choice((0.2, 0.7, 15)),
            breaks=rng.choice((0, 0.05, 0.2)),
            rests=rng.choice((0, 0.1, 0.7)),
            rest=rng.choice((0.1, 3)),
            bookmark_events=rng.choice((1, 3, 10)),
        )
        start = rng.choice((0, 0, None, 1, rng.randint(1, 40)))
        targets = [Target("a", start, tree=rng.random() < 0.5, kinds=self._kinds())]
        if rng.random() < 0.3:
            targets.append(Target("b", rng.choice((0, None, 3)), kinds=self._kinds()))
        return Watcher(self.store, self.replicas, targets, habits, rng)

    def _kinds(self) -> Kinds:
        """All, or some."""
        if self.rng.random() < 0.5:
            return frozenset()
        return frozenset(self.rng.sample(sorted(KINDS.values()), self.rng.randint(1, 4)))

    async def play(self) -> None:
        """Let it happen, then check that everything has come."""
        for _ in range(2):
            source = MemorySource(self.store, self.rng, self.faults, self.paging)
            hub = Hub(source, sweep=SWEEP, reads=2)
            Hints(self.store, hub, self.rng, self.faults)
            hub.start()
            self.replicas.append(Replica(hub, source))
        tasks = [asyncio.create_task(self._join(watcher)) for watcher in self.watchers]
        await self._write()
        self._quiet()
        await asyncio.sleep(SETTLE)
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome
        for replica in self.replicas:
            await replica.hub.stop()
        await asyncio.sleep(SETTLE)
        self._check()

    async def _join(self, watcher: Watcher) -> None:
        await asyncio.sleep(self.rng.choice((0, 0, 0.5, 5)))
        await watcher.run()

    async def _write(self) -> None:
        for _ in range(self.size.transactions):
            await asyncio.sleep(self.rng.choice((0, 0, 0, 0.01, 0.1, 0.5, 2)))
            self._happen()

    def _happen(self) -> None:
        rng, store = self.rng, self.store
        chance = rng.random()
        session_id = rng.choice(["a", *store.sessions]) if rng.random() < 0.5 else "a"
        if chance < 0.04:
            self._make_anew(session_id)
        elif chance < 0.12:
            child = f"c{rng.randint(1, 4)}"
            if child not in store.sessions and session_id in store.sessions:
                store.create(child, parent=session_id)
        elif session_id in store.sessions:
            store.transact(session_id, rng.choice(_TRANSACTIONS))

    def _make_anew(self, session_id: str) -> None:
        """Delete a session, and perhaps make it again."""
        parent = self.store.parents[session_id]
        if session_id in self.store.sessions:
            self.store.delete(session_id)
        if self.rng.random() < 0.7 and (not parent or parent in self.store.sessions):
            self.store.create(session_id, parent)

    def _quiet(self) -> None:
        """No more faults but that of the hints, which the sweep has to make up for."""
        self.faults.fails = self.faults.slow = 0
        for watcher in self.watchers:
            watcher.habits.breaks = watcher.habits.rests = 0

    def _check(self) -> None:
        for watcher in self.watchers:
            watcher.finish()
            if self.paging.minds_ends and watcher.most > self._most(watcher):
                raise Violation(f"{watcher.most} bytes were queued, of {self._most(watcher)}")

    def _most(self, watcher: Watcher) -> int:
        """What a stream may hold: its buffer, the frame that is being written, one that is too large for the
        buffer, and of each session the transaction that was begun."""
        padding = self.paging.padding
        transactions = [largest_transaction(it, padding) for it in self.store.ever.values()]
        return watcher.habits.buffer_bytes + 2 * watcher.largest + sum(transactions)


def play(seed: int, size: Size) -> str:
    """Do a run. The digest of all that was received, and when."""
    run = Run(random.Random(seed), size)
    clock.run(seed, run.play)
    digest = hashlib.sha256()
    for watcher in run.watchers:
        digest.update(repr(watcher.log).encode())
    return digest.hexdigest()

"""Feeds under kills, cuts and freezes: every watcher's history becomes exactly the store's."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from sessiond import v1
from sessiond_server.embedded import EmbeddedPostgres
from tests.faults.load import channel
from tests.faults.scribes import ROOT, Scribes, Stubs, appending, read_truth
from tests.faults.seen import Truth
from tests.faults.stalls import connected
from tests.faults.test_kills import living
from tests.faults.watchers import Library, Raw, Threaded, Watcher, read
from tests.faults.world import World
from tests.support.patience import PATIENCE, until
from tests.support.processes import ServerProcess

SESSIONS = [f"s{number}" for number in range(9)]
CONVERGENCE = 30
"""Seconds within which all watchers have everything, when nothing happens any more."""
Fault = Callable[[], Awaitable[None]]


@asynccontextmanager
async def replicas(place: Path, **settings: str) -> AsyncIterator[World]:
    """Two servers that share a Postgres, and beat quickly."""
    postgres = EmbeddedPostgres(place / "data")
    await postgres.start()
    try:
        usual = {"SESSIOND_FEED_HEARTBEAT": "1", "SESSIOND_SETTLE_REST": "2"}
        environment = {"SESSIOND_DSN": postgres.dsn, **usual, **settings}
        async with living(World(place, place / "data", environment=environment), 2) as world:
            yield world
    finally:
        await postgres.stop()


async def cut_hints(world: World) -> None:
    """End the connections on which the servers listen for hints."""
    world.faults["listener"] += 1
    async with connected(world.dsn) as connection:
        for _ in range(500):
            if await connection.fetch(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
            ):
                return
            await asyncio.sleep(0.02)
    raise AssertionError("nobody listens for hints")


async def freeze(world: World, number: int) -> None:
    """Stop a server for a while, as a machine does that swaps or migrates."""
    world.faults["freeze"] += 1
    world.servers[number].pause()
    try:
        await asyncio.sleep(random.uniform(1, 2))
    finally:
        world.servers[number].resume()


def watchers_of(targets: list[str], count: int, life: float) -> list[Watcher]:
    """All kinds: bare and library, of one session, of several, of a tree; from different starts."""
    chance = random.Random(8)
    made: list[Watcher] = []
    for seed in range(count):
        kind: type[Watcher] = (Raw, Library)[seed % 2]
        sessions = chance.sample(SESSIONS, chance.choice((1, 1, 1, 2, 3)))
        start: str | int = "beginning"
        if seed % 10 == 8:
            start = chance.choice(("now", 1, 40, 120))
        if seed % 10 == 9:
            made.append(kind(targets, [ROOT], seed, descendants=True, life=life))
        elif seed % 33 == 1:
            made.append(Threaded(targets, sessions, seed, life=life))
        else:
            made.append(kind(targets, sessions, seed, start=start, life=life))
    return made


class Feeding:
    """Writers, watchers and what is done to their servers."""

    def __init__(self, world: World, *, writers: int, watchers: int, life: float = 3) -> None:
        self.world = world
        self.scribes = Scribes(world.targets, [*SESSIONS, ROOT])
        self.watchers = watchers_of(world.targets, watchers, life)
        self.converged = 0.0
        self._writers = writers

    async def run(self, faults: Iterable[Fault]) -> None:
        """Cause the faults one after the other, each when all works again; then compare everything."""
        async with asyncio.TaskGroup() as tasks:
            writing = tasks.create_task(self.scribes.run(self._writers))
            wanted = {*SESSIONS, ROOT}
            await until(lambda: wanted <= self.scribes.last.keys(), "not all have begun")
            watching = [tasks.create_task(watcher.run()) for watcher in self.watchers]
            try:
                await self._cause(faults)
                self.scribes.stopping = True
                await writing
                await self._converge()
            finally:
                self.scribes.stopping = True
                for task in watching:
                    task.cancel()
                for watcher in self.watchers:
                    if isinstance(watcher, Threaded):
                        watcher.close()

    async def _cause(self, faults: Iterable[Fault]) -> None:
        for fault in faults:
            await asyncio.sleep(random.uniform(0.3, 1))
            began = time.monotonic()
            await fault()
            await self.scribes.progress()
            self.world.longest = max(self.world.longest, time.monotonic() - began)
            self._check()
        await asyncio.sleep(1)

    def _check(self) -> None:
        problems = [text for watcher in self.watchers for text in watcher.all_problems]
        assert not problems, "\n".join(problems[:20])
        assert self.scribes.surprises == []

    async def _converge(self) -> None:
        """Wait until all watchers have received what the store holds."""
        for watcher in self.watchers:
            watcher.life = math.inf
        truths = await self._truths()
        began = time.monotonic()
        missing = self._missing(truths)
        while missing and time.monotonic() - began < CONVERGENCE:
            await asyncio.sleep(0.2)
            missing = self._missing(truths)
        self.converged = time.monotonic() - began
        self._check()
        assert not missing, "\n".join(missing[:20])

    async def _truths(self) -> dict[str, Truth]:
        truths: dict[str, Truth] = {}
        async with channel(self.world.targets[0]) as one:
            stubs, queue = Stubs(one), [*SESSIONS, ROOT]
            for session in queue:
                truths[session] = await read_truth(stubs, session)
                queue += truths[session].children
        for session, acked in self.scribes.acked.items():
            stored = {message.client_id for message in truths[session].messages.values()}
            assert not acked - stored, f"acknowledged messages of {session} are lost"
        return truths

    def _missing(self, truths: dict[str, Truth]) -> list[str]:
        found = []
        for number, watcher in enumerate(self.watchers):
            wanted = set(watcher.sessions)
            if watcher.descendants:
                wanted |= {session for session in truths if session.startswith(ROOT)}
            who = f"{type(watcher).__name__} {number} ({watcher.start})"
            if wanted != watcher.seen.keys():
                found.append(f"{who}: {sorted(wanted ^ watcher.seen.keys())} aren't watched")
            for session, seen in watcher.seen.items():
                if session in truths:
                    found += [f"{who}: {text}" for text in truths[session].missing(seen)]
        return found

    def summary(self) -> str:
        """What was done, in numbers."""
        breaks = sum(watcher.breaks for watcher in self.watchers)
        events = sum(watcher.events for watcher in self.watchers)
        return (
            f"{self.world.faults.total()} faults {dict(self.world.faults)}; {self.scribes.acks} appends"
            f" and {self.scribes.changes} changes acknowledged; {len(self.watchers)} watchers broke off"
            f" {breaks} times and got {events} events; all had everything after {self.converged:.1f} s;"
            f" at most {self.world.longest:.1f} s from a fault to the next acknowledgements"
        )


async def test_P9_watchers_miss_nothing_when_anything_is_killed_cut_or_frozen(place: Path) -> None:
    async with replicas(place) as world:
        feeding = Feeding(world, writers=50, watchers=100, life=2)
        await feeding.run(
            [
                partial(world.kill_server, 0),
                partial(cut_hints, world),
                partial(freeze, world, 1),
                world.kill_postgres,
                partial(world.kill_server, 1),
            ]
        )
        print(feeding.summary())


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_P9_watchers_miss_nothing_in_sixty_faults(
    place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with replicas(place) as world:
        feeding = Feeding(world, writers=50, watchers=100)
        faults: list[Fault] = [world.kill_backend] * 4
        for number in range(8):
            faults += [
                partial(world.kill_server, number % 2),
                world.kill_postgres,
                partial(cut_hints, world),
                partial(cut_hints, world),
                partial(freeze, world, number % 2),
                partial(freeze, world, number % 2),
                partial(world.kill_both, number % 2),
            ]
        random.Random(6).shuffle(faults)
        await feeding.run(faults)
        with capfd.disabled():
            print(f"\n{feeding.summary()}")
        assert world.faults.total() >= 50


async def test_P9_a_watcher_sees_what_another_server_does_without_any_hint(place: Path) -> None:
    """Then it is the sweep, once a second, that finds it."""
    async with replicas(place, SESSIOND_FEED_HINTS="poll") as world:
        async with channel(world.targets[1]) as one:
            append = Stubs(one).messages.AppendMessages
            await append(appending("polled", 0), timeout=PATIENCE)
            watcher = Raw([world.targets[0]], ["polled"], 1, life=math.inf)
            watching = asyncio.create_task(watcher.run())
            seen = watcher.seen["polled"]
            for number in range(1, 6):
                await until(lambda: seen.next_seq == number + 1, "the sweep found nothing")  # noqa: B023
                await append(appending("polled", number), timeout=PATIENCE)
            await until(lambda: seen.next_seq == 7, "the sweep found nothing")
            watching.cancel()
        assert watcher.all_problems == []


@pytest.mark.parametrize(("count", "size"), [(700, 1), (5, 419_000)])
async def test_P9_a_transaction_in_several_frames_is_whole_after_a_break_at_any_frame(
    server: ServerProcess, count: int, size: int
) -> None:
    session = f"long-{count}"
    async with channel(server.target) as one:
        append = Stubs(one).messages.AppendMessages
        for number in range(6):
            await append(appending(session, number, *["x" * size] * count), timeout=PATIENCE)
        watcher = Raw([server.target], [session], 1)
        fragments, frame = 0, v1.WatchResponse()
        for attempt in range(100):
            watcher.drop()
            call = v1.FeedServiceStub(one).Watch(watcher.request())
            for _ in range(attempt % 4 + 1):
                frame = await read(call)
                fragments += frame.fragment
                watcher.take(frame)
            call.cancel()
            if frame.events[-1].HasField("caught_up"):
                break
    assert watcher.seen[session].next_seq == 6 * count + 1
    assert watcher.all_problems == []
    assert fragments > 2

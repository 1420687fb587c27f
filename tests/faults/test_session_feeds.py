"""Streams of sessions under kills and freezes: every change is followed in time, and nothing goes back."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sessiond import v1
from tests.faults.load import channel
from tests.faults.session_followers import EVERYTHING, Acked, Changes, SessionFollower, version
from tests.faults.test_feeds import replicas
from tests.faults.world import World

SESSIONS = [f"s{number}" for number in range(24)]
BOUND = 5.0
"""Seconds within which a change is followed, where nothing is killed and the machine isn't loaded,"""
GENEROUS = 30.0
"""and in any case."""
NEAR = 6.0
"""Seconds around a fault in which it may show,"""
CALM = 12.0
"""and those in which nothing is done at first."""
Fault = Callable[[], Awaitable[None]]


@dataclass
class Following:
    """Writers, followers and what is done to their servers."""

    world: World
    followers: list[SessionFollower]
    changes: Changes
    faults: list[tuple[float, float]] = field(default_factory=list)
    """When something was killed or frozen, and when all worked again."""

    async def run(self, faults: Sequence[Fault], writers: int = 8) -> None:
        """Cause the faults one after the other, each when all works again; then compare everything."""
        async with asyncio.TaskGroup() as tasks:
            writing = tasks.create_task(self.changes.run(writers))
            following = [tasks.create_task(it.run()) for it in self.followers]
            try:
                await self.changes.progress(100)
                await asyncio.sleep(CALM)
                for fault in faults:
                    await asyncio.sleep(random.uniform(2, 4))
                    began = time.monotonic()
                    await fault()
                    await self.changes.progress()
                    self.faults.append((began, time.monotonic()))
                await self.changes.progress(100)
                self.changes.stopping = True
                await writing
                for it in self.followers:
                    it.life = math.inf
                await self._converge()
            finally:
                self.changes.stopping = True
                for task in following:
                    task.cancel()
        assert self.changes.surprises == []

    async def _converge(self) -> None:
        """Wait until all followers have what the store has."""
        async with channel(self.world.targets[0]) as one:
            truth = await _listed(v1.SessionServiceStub(one))
        end = time.monotonic() + GENEROUS
        while missing := self._missing(truth):
            assert time.monotonic() < end, "\n".join(missing[:20])
            await asyncio.sleep(0.1)
        problems = [text for it in self.followers for text in it.problems]
        assert not problems, "\n".join(problems[:20])

    def _missing(self, truth: dict[str, v1.Session]) -> list[str]:
        found = []
        for number, it in enumerate(self.followers):
            now = {id: _told(session) for id, session in it.now.items()}
            wanted = {id: _told(session) for id, session in truth.items()}
            different = sorted(id for id in wanted.keys() | now if wanted.get(id) != now.get(id))
            found += [f"{number}: {id} is {now.get(id)}, not {wanted.get(id)}" for id in different]
        return found

    def lags(self) -> tuple[list[float], list[float]]:
        """How long changes weren't followed: those far from any fault, and the others."""
        calm: list[float] = []
        rough: list[float] = []
        for acked in self.changes.acked:
            for it in self.followers:
                lag = it.lag(acked)
                assert lag is not None, f"{acked} isn't followed"
                (rough if self._is_rough(acked) else calm).append(lag)
        return sorted(calm), sorted(rough)

    def _is_rough(self, acked: Acked) -> bool:
        return any(began - NEAR <= acked.time <= ended + NEAR for began, ended in self.faults)

    def summary(self) -> str:
        calm, rough = self.lags()
        return (
            f"{dict(self.world.faults)}; {len(self.changes.acked)} changes acknowledged; "
            f"{len(self.followers)} followers broke off {sum(it.breaks for it in self.followers)} times;"
            f" followed after {_figures(calm)} calm, {_figures(rough)} near faults"
        )


def _figures(lags: list[float]) -> str:
    if not lags:
        return "-"
    return f"{lags[len(lags) // 2]:.2f} s (p50), {lags[-1]:.2f} s (max)"


async def _listed(stub: Any) -> dict[str, v1.Session]:
    request = v1.ListSessionsRequest(page_size=200, filter=EVERYTHING)
    found: dict[str, v1.Session] = {}
    while True:
        page = await stub.ListSessions(request)
        found |= {it.session.id: it.session for it in page.sessions}
        request.page_token = page.next_page_token
        if not page.next_page_token:
            return found


def _told(session: v1.Session) -> tuple[object, ...]:
    usage = session.usage.own
    return (
        *version(session),
        session.title,
        session.context_message_count,
        session.open_tool_call_count,
        session.state,
        usage.model_calls,
    )


async def freeze(world: World, number: int) -> None:
    """Stop a server for ten seconds."""
    world.faults["freeze"] += 1
    world.servers[number].pause()
    try:
        await asyncio.sleep(10)
    finally:
        world.servers[number].resume()


def following(world: World, *, life: float = 5.0, seed: int = 1) -> Following:
    """A follower that stays at each server as long as it can, and some that break off and resume."""
    followers = [
        SessionFollower(world.targets, number, life if number > 1 else math.inf, start=number % 2)
        for number in range(6)
    ]
    return Following(world, followers, Changes(world.targets, SESSIONS, seed))


@pytest.mark.timeout(400)
async def test_P9_every_change_is_followed_when_servers_and_postgres_are_killed_or_frozen(
    place: Path,
) -> None:
    """With every hint lost; sessions are changed in all ways, deleted and made anew."""
    async with replicas(place, SESSIOND_FEED_HINTS="poll") as world:
        it = following(world)
        await it.run(
            [
                partial(world.kill_server, 0),
                partial(freeze, world, 1),
                world.kill_postgres,
                partial(world.kill_server, 1),
                partial(freeze, world, 0),
            ]
        )
        print(it.summary())
        calm, rough = it.lags()
        assert calm[-1] < GENEROUS
        assert rough[-1] < GENEROUS

"""kill -9 of servers and of Postgres, under load: what was acknowledged is there, once, in order."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from sessiond_server.embedded import EmbeddedPostgres
from tests.faults.load import Load
from tests.faults.world import World, summary

WRITERS = 16
PAUSE = 0.03


def load_of(world: World, seed: int, pause: float = PAUSE) -> Load:
    """Writers of a few sessions, one of them busy."""
    sessions = ["busy"] * 3 + [f"s{number}" for number in range(5)]
    return Load(world.targets, sessions, seed=seed, pause=pause, impatience=0.1, create=True)


@asynccontextmanager
async def living(world: World, servers: int) -> AsyncIterator[World]:
    """The world with its servers."""
    try:
        await world.start(servers)
        yield world
        await world.end()
    finally:
        world.clear()


@asynccontextmanager
async def embedded(place: Path) -> AsyncIterator[World]:
    """A server with a Postgres that it brings along."""
    data_dir = place / "data"
    async with living(World(place, data_dir, ("--data-dir", str(data_dir))), 1) as world:
        yield world


@asynccontextmanager
async def apart(place: Path) -> AsyncIterator[World]:
    """Two servers that share a Postgres, kept by the test."""
    data_dir = place / "data"
    postgres = EmbeddedPostgres(data_dir)
    await postgres.start()
    try:
        environment = {"SESSIOND_DSN": postgres.dsn}
        async with living(World(place, data_dir, environment=environment), 2) as world:
            yield world
    finally:
        await postgres.stop()


async def test_P1_P2_P3_P4_killed_servers_and_their_own_postgres_lose_nothing(place: Path) -> None:
    async with embedded(place) as world:
        load = load_of(world, 1)
        await world.storm(
            load, WRITERS, [world.kill_server, world.kill_postgres, world.kill_backend]
        )
        print(summary(world, load))


async def test_P1_P2_P3_P4_killed_replicas_and_the_postgres_that_they_share_lose_nothing(
    place: Path,
) -> None:
    async with apart(place) as world:
        load = load_of(world, 2)
        await world.storm(load, WRITERS, [partial(world.kill_server, 1), world.kill_postgres])
        print(summary(world, load))


ROUNDS = 20


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["embedded", "apart"])
async def test_P1_P2_P3_P4_twenty_kills_of_everything_lose_nothing(
    place: Path, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """At least twenty kills of each: a server, Postgres, both at once."""
    make = embedded if kind == "embedded" else apart
    async with make(place) as world:
        load = load_of(world, 3, pause=0.15)
        await world.storm(load, WRITERS, many_faults(world))
        with capfd.disabled():
            print(f"\n{kind}: {summary(world, load)}")
        assert min(world.faults[what] for what in ("server", "postgres", "both")) >= ROUNDS


def many_faults(world: World) -> list[Callable[[], Awaitable[None]]]:
    """Twenty of each kind, and five killed backends, in any order."""
    chance = random.Random(5)
    count = len(world.servers)
    faults: list[Callable[[], Awaitable[None]]] = [world.kill_backend] * 5
    for number in range(ROUNDS):
        faults += [
            partial(world.kill_server, number % count),
            world.kill_postgres,
            partial(world.kill_both, number % count),
        ]
    chance.shuffle(faults)
    return faults

"""Lists come to be in the order of the last activity on every replica, whoever dies or stops meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import grpc.aio
import pytest

from sessiond import v1
from tests.faults.load import channel
from tests.faults.stalls import connected
from tests.faults.test_feeds import replicas
from tests.faults.world import World

GENEROUS = 30.0
"""Seconds in which lists settle on a machine with many other things to do; 5 without."""
Fault = Callable[[World], Awaitable[None]]


async def _append(one: grpc.aio.Channel, id: str, name: str) -> None:
    message = v1.Message(client_id=name, role=v1.Role.ROLE_USER, parts=[v1.Part(text=name)])
    request = v1.AppendMessagesRequest(
        session_id=id, messages=[message], create_session=v1.Session()
    )
    await v1.MessageServiceStub(one).AppendMessages(request, timeout=20)


async def _order(one: grpc.aio.Channel) -> list[str]:
    request = v1.ListSessionsRequest(filter=v1.SessionFilter(whole_tenant=True))
    found = await v1.SessionServiceStub(one).ListSessions(request, timeout=20)
    return [it.session.id for it in found.sessions]


async def _settles(world: World, number: int, wanted: list[str]) -> None:
    async with channel(world.targets[number]) as one:
        end = time.monotonic() + GENEROUS
        while (found := await _order(one)) != wanted:
            assert time.monotonic() < end, (found, wanted)
            await asyncio.sleep(0.05)


async def _nothing(world: World) -> None:
    pass


async def _kill(world: World) -> None:
    world.servers[0].kill()
    world.ended.append(world.servers.pop(0))


async def _freeze(world: World) -> None:
    world.servers[0].pause()


@pytest.mark.parametrize("fault", [_nothing, _kill, _freeze])
@pytest.mark.timeout(200)
async def test_lists_settle_after_a_b_a_then_silence_at_the_replica_that_lives(
    place: Path, fault: Fault
) -> None:
    """The server that took the appends dies, or stops for long, right after its last acknowledgement."""
    async with replicas(place, SESSIOND_FEED_HINTS="poll") as world:
        lags: list[float] = []
        async with channel(world.targets[0]) as one, channel(world.targets[1]) as two:
            await _append(two, "b", "0")
            for number in range(4):
                for id in ("a", "b", "a"):
                    await _append(one, id, f"{number}-{id}-{time.monotonic()}")
                began = time.monotonic()
                last = number == 3
                if last:
                    await fault(world)
                await _settles(world, -1, ["a", "b"])
                lags.append(time.monotonic() - began)
                if fault is _nothing:
                    await _settles(world, 0, ["a", "b"])
                for id in ("b", "a", "b"):
                    await _append(two, id, f"{number}-{id}-{time.monotonic()}")
                await _settles(world, -1, ["b", "a"])
        if fault is _freeze:
            world.servers[0].resume()
        print(f"{fault.__name__}: lists were in order after {max(lags):.2f} s at most")


@pytest.mark.timeout(200)
async def test_lists_settle_after_postgres_was_killed_right_after_the_acknowledgement(
    place: Path,
) -> None:
    async with replicas(place, SESSIOND_FEED_HINTS="poll") as world:
        async with channel(world.targets[0]) as one:
            for id in ("a", "b", "a"):
                await _append(one, id, f"{id}-{time.monotonic()}")
        await world.kill_postgres()
        began = time.monotonic()
        for number in (0, 1):
            await _patiently(partial(_settles, world, number, ["a", "b"]))
        print(f"lists were in order {time.monotonic() - began:.2f} s after Postgres was back")


async def _patiently(check: Callable[[], Awaitable[None]]) -> None:
    end = time.monotonic() + GENEROUS
    while True:
        try:
            return await check()
        except grpc.aio.AioRpcError:
            assert time.monotonic() < end
            await asyncio.sleep(0.1)


@pytest.mark.timeout(200)
async def test_a_change_that_a_slow_transaction_commits_late_is_settled(place: Path) -> None:
    """Its times are those of its beginning, before others that have been settled meanwhile."""
    async with (
        replicas(place, SESSIOND_FEED_HINTS="poll") as world,
        channel(world.targets[0]) as one,
    ):
        for id in ("a", "b"):
            await _append(one, id, id)
        await _settles(world, 1, ["b", "a"])
        async with connected(world.dsn) as connection, connection.transaction():
            await connection.execute(
                "UPDATE session_head SET activity_time = statement_timestamp(),"
                " unsettled = true WHERE session_key ="
                " (SELECT session_key FROM session WHERE session_id = 'a')"
            )
            await _append(one, "c", "c")
            await _settles(world, 1, ["c", "b", "a"])
            await asyncio.sleep(3)
        await _settles(world, 1, ["c", "a", "b"])

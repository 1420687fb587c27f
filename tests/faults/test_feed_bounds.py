"""What watchers may cost: those that don't read, those that are too many, those that a server leaves."""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from sessiond import AsyncClient, v1
from sessiond_server.rpc.feed_frames import MOST_RETRY_DELAY
from tests.faults.load import CHANNEL_OPTIONS, channel, error_info
from tests.faults.scribes import Stubs, appending
from tests.faults.watchers import Call, Raw, read
from tests.support.patience import PATIENCE, until
from tests.support.processes import ServerProcess

Start = Callable[..., ServerProcess]
MIB = 2**20
TEXTS = 8 * ["x" * (MIB // 8)]
"""A MiB in messages of one append."""
UNREAD = 64
"""Mebibytes that a watcher doesn't read."""
GROWTH = 32 * MIB
"""By how much that may let a server grow: its buffer is 1 MiB, a page or a call of 2 MiB is there several
times over in Postgres' driver, in Python and in gRPC, and what is freed isn't all given back."""


_ENDLESS_GRACE = {"SESSIOND_SHUTDOWN_GRACE": "3600"}
"""A stop that waits for it is killed by the test, and so fails."""


@asynccontextmanager
async def narrow(target: str) -> AsyncIterator[grpc.aio.Channel]:
    """A channel that lets the server send little that isn't read."""
    options = (*CHANNEL_OPTIONS, ("grpc.http2.bdp_probe", 0))
    async with grpc.aio.insecure_channel(target, options=options) as one:
        yield one


class Slow(Raw):
    """Reads when it is told to."""

    def __init__(self, one: grpc.aio.Channel, session: str) -> None:
        super().__init__([], [session], 1)
        self._stub = v1.FeedServiceStub(one)
        self.caught_up = 0
        self.open()

    def open(self) -> None:
        """Watch, or go on."""
        self.drop()
        self.call = self._stub.Watch(self.request())

    async def reopen(self) -> None:
        """Go on as soon as there is room for a watch."""
        while True:
            self.open()
            try:
                return await self.read_one()
            except grpc.aio.AioRpcError as error:
                if error_info(error).reason != "TOO_MANY_WATCHES":
                    raise
            await asyncio.sleep(0.1)

    async def read_one(self) -> None:
        """Take the next frame."""
        frame = await read(self.call)
        self.take(frame)
        self.caught_up += sum(event.HasField("caught_up") for event in frame.events)

    async def read_to(self, seq: int) -> None:
        """Read until everything to a seq is here, and it is said that this is all."""
        async with asyncio.timeout(PATIENCE):
            caught_up = self.caught_up
            while self.seen[self.sessions[0]].next_seq <= seq or self.caught_up == caught_up:
                await self.read_one()


def resident(pid: int) -> int:
    """The memory of a process, in bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def fill(one: grpc.aio.Channel, session: str, mebibytes: int, begin: int = 0) -> float:
    """Append that much; how long the slowest call took, in seconds."""
    longest = 0.0
    for number in range(begin, begin + mebibytes):
        began = time.monotonic()
        await Stubs(one).messages.AppendMessages(
            appending(session, number, *TEXTS), timeout=PATIENCE
        )
        longest = max(longest, time.monotonic() - began)
    return longest


async def grown(pid: int, work: asyncio.Task[float]) -> int:
    """By how many bytes a process grows at most while something is done."""
    before = most = resident(pid)
    while not work.done():
        most = max(most, resident(pid))
        await asyncio.wait([work], timeout=0.02)
    return most - before


async def test_P9_P13_a_watcher_that_does_not_read_costs_little_and_gets_all_later(
    dsn: str, start_server: Start
) -> None:
    server = start_server(SESSIOND_DSN=dsn, SESSIOND_FEED_WRITE_TIMEOUT="600")
    async with narrow(server.target) as one, channel(server.target) as other:
        await fill(other, "warm", 24)
        await Slow(other, "warm").read_to(24 * len(TEXTS))
        await fill(other, "slow", 1)
        slow = Slow(one, "slow")
        await slow.read_to(len(TEXTS))
        prompt = Raw([server.target], ["slow"], 2, life=math.inf)
        reading = asyncio.create_task(prompt.run())
        filling = asyncio.create_task(fill(other, "slow", UNREAD, begin=1))
        growth = await grown(server.pid, filling)
        last = (UNREAD + 1) * len(TEXTS)
        await until(lambda: prompt.seen["slow"].next_seq > last, "it held up another watcher")
        reading.cancel()
        assert prompt.all_problems == []
        await filling
        assert growth < GROWTH
        assert slow.seen["slow"].next_seq <= last
        await slow.read_to(last)
        assert slow.all_problems == []
        assert slow.seen["slow"].fell_behind
    assert not server.bugs()


async def test_P9_P13_a_watcher_that_is_stuck_is_cut_off_and_resumes(
    dsn: str, start_server: Start
) -> None:
    settings = {"SESSIOND_FEED_WRITE_TIMEOUT": "1", "SESSIOND_FEED_WATCHES": "1"}
    server = start_server(SESSIOND_DSN=dsn, SESSIOND_METRICS_LISTEN="127.0.0.1:0", **settings)
    async with narrow(server.target) as one, channel(server.target) as other:
        await fill(other, "stuck", 1)
        stuck = Slow(one, "stuck")
        await stuck.read_to(len(TEXTS))
        await fill(other, "stuck", 8, begin=1)
        await until(lambda: server.figures()["sessiond_watches_cut_off"], "it isn't cut off")
        # What wasn't taken is kept, so it has its place.
        error = await refused(other, watch("stuck"))
        assert error_info(error).reason == "TOO_MANY_WATCHES"
        with pytest.raises(grpc.aio.AioRpcError) as cut:
            await stuck.read_to(9 * len(TEXTS))
        assert cut.value.code() is grpc.StatusCode.UNAVAILABLE
        await stuck.reopen()
        await stuck.read_to(9 * len(TEXTS))
        assert stuck.all_problems == []
    assert not server.bugs()


async def test_P9_the_library_goes_on_when_its_caller_was_so_slow_that_it_was_cut_off(
    dsn: str, start_server: Start
) -> None:
    server = start_server(SESSIOND_DSN=dsn, SESSIOND_FEED_WRITE_TIMEOUT="1")
    options = (("grpc.http2.bdp_probe", 0),)
    async with (
        AsyncClient(server.target, options=options) as client,
        channel(server.target) as other,
    ):
        await fill(other, "slow", 8)
        seqs: list[int] = []
        async with asyncio.timeout(PATIENCE):
            async for event in client.watch("slow"):
                if event.kind == "message_appended":
                    seqs.append(event.value.seq)
                if len(seqs) == 1:
                    await asyncio.sleep(4)
                if event.kind == "caught_up":
                    break
    assert seqs == list(range(1, 8 * len(TEXTS) + 1))
    assert not server.bugs()


async def admitted(one: grpc.aio.Channel, session: str) -> None:
    """Wait until there is room for a watch, and take it for a moment."""
    end = time.monotonic() + PATIENCE
    while True:
        call = v1.FeedServiceStub(one).Watch(watch(session))
        try:
            await call.read()
            call.cancel()
            return
        except grpc.aio.AioRpcError as error:
            if error_info(error).reason != "TOO_MANY_WATCHES" or time.monotonic() > end:
                raise
        await asyncio.sleep(0.1)


def watch(*sessions: str) -> v1.WatchRequest:
    """A request to watch these from their beginnings."""
    targets = [v1.WatchTarget(watch_id=id, session_id=id) for id in sessions]
    return v1.WatchRequest(targets=targets)


async def refused(one: grpc.aio.Channel, request: v1.WatchRequest) -> grpc.aio.AioRpcError:
    """The refusal of a watch."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await v1.FeedServiceStub(one).Watch(request).read()
    return caught.value


def retry_delay(error: grpc.aio.AioRpcError) -> float:
    """The seconds after which a refusal says to try again."""
    status = rpc_status.from_call(cast("Any", error))
    assert status is not None
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in status.details)
    return float(retry.retry_delay.ToTimedelta().total_seconds())


@pytest.mark.parametrize(
    "setting", ["SESSIOND_FEED_WATCHES", "SESSIOND_FEED_WATCHES_PER_CONNECTION"]
)
async def test_P13_a_watch_too_many_is_refused_until_another_has_ended(
    dsn: str, start_server: Start, setting: str
) -> None:
    server = start_server(SESSIOND_DSN=dsn, **{setting: "3"})
    async with channel(server.target) as one, channel(server.target) as other:
        await fill(one, "a", 1)
        await fill(one, "b", 1)
        stub = v1.FeedServiceStub(one)
        first, second = stub.Watch(watch("a", "b")), stub.Watch(watch("a"))
        await first.read()
        await second.read()
        error = await refused(one, watch("b"))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert error_info(error).reason == "TOO_MANY_WATCHES"
        assert retry_delay(error) > 0
        if setting.endswith("CONNECTION"):
            await admitted(other, "b")
        else:
            assert error_info(await refused(other, watch("b"))).reason == "TOO_MANY_WATCHES"
        first.cancel()
        await admitted(one, "b")
        await admitted(other, "a")
    assert not server.bugs()


async def test_P13_a_refused_watch_takes_no_place(dsn: str, start_server: Start) -> None:
    server = start_server(SESSIOND_DSN=dsn, SESSIOND_FEED_WATCHES="2")
    async with channel(server.target) as one:
        await fill(one, "a", 1)
        for _ in range(5):
            error = await refused(one, watch("a", "nobody"))
            assert error_info(error).reason == "SESSION_NOT_FOUND"
        await admitted(one, "a")


async def test_P9_a_stop_says_goodbye_and_the_library_goes_on_elsewhere(
    dsn: str, start_server: Start
) -> None:
    stopping, other = (start_server(SESSIOND_DSN=dsn, **_ENDLESS_GRACE) for _ in range(2))
    async with channel(stopping.target) as one, channel(other.target) as another:
        await fill(one, "a", 1)
        calls = [v1.FeedServiceStub(one).Watch(watch("a")) for _ in range(20)]
        reading = [asyncio.create_task(events_of(call)) for call in calls]
        async with AsyncClient(f"{stopping.target},{other.target}") as client:
            events = aiter(client.watch("a"))
            while (await anext(events)).kind != "caught_up":
                pass
            assert await asyncio.to_thread(stopping.stop) == 0
            for call, seen in zip(calls, await asyncio.gather(*reading), strict=True):
                assert seen[-1].WhichOneof("event") == "goodbye"
                assert await call.code() is grpc.StatusCode.OK
            _check_goodbyes([seen[-1].goodbye for seen in await asyncio.gather(*reading)])
            await fill(another, "a", 1, begin=1)
            async with asyncio.timeout(PATIENCE):
                seqs = [await anext(events) for _ in range(len(TEXTS) + 1)]
        found = [e.value.seq for e in seqs if e.kind == "message_appended"]
        assert found == list(range(len(TEXTS) + 1, len(TEXTS) + 1 + len(found)))
        assert len(found) >= len(TEXTS) - 1
    assert not stopping.bugs()


def _check_goodbyes(goodbyes: Sequence[v1.Goodbye]) -> None:
    """They say why, and let the watchers come back one after the other."""
    reasons = {goodbye.reason for goodbye in goodbyes}
    assert reasons == {v1.GoodbyeReason.GOODBYE_REASON_SHUTTING_DOWN}
    assert all(goodbye.HasField("retry_delay") for goodbye in goodbyes)
    delays = {goodbye.retry_delay.ToMilliseconds() for goodbye in goodbyes}
    assert len(delays) > 1
    assert max(delays) < MOST_RETRY_DELAY


async def events_of(call: Call) -> list[v1.FeedEvent]:
    """All events of a watch."""
    return [event async for frame in call for event in frame.events]


async def test_P9_a_watcher_that_does_not_read_does_not_hold_up_a_stop(
    dsn: str, start_server: Start
) -> None:
    server = start_server(SESSIOND_DSN=dsn, **_ENDLESS_GRACE)
    async with narrow(server.target) as one, channel(server.target) as other:
        await fill(other, "held", 8)
        slow = Slow(one, "held")
        await slow.read_one()
        await asyncio.sleep(0.5)
        assert await asyncio.to_thread(server.stop) == 0
    assert not server.bugs()

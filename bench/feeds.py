"""P9: what watching costs the writers, how fast it delivers, and what an idle watcher takes."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

from bench import echo, watchers
from bench.loads import RUN, Service, message
from bench.measure import Ratio, throughput
from bench.processes import sessiond
from sessiond import v1

_WATCH = "/sessiond.v1.FeedService/Watch"
_IDLE = 1000
_FANOUT = 100
_APPENDS = 20
_BATCH = 100
_SLACK = 4096
"""Bytes by which the same events may differ, in their times and headers; less than a frame."""


class Watching:
    """The process with the watchers."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self._child = child

    def until(self, received: int) -> None:
        """Wait until each has received so many bytes."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(f"{received}\n")
        self._child.stdin.flush()
        self._child.stdout.readline()


@contextmanager
def watching(address: str, count: int, method: str, request: bytes) -> Iterator[Watching]:
    arguments = [address, str(count), method, request.hex()]
    with subprocess.Popen(
        [sys.executable, "-m", "bench.watchers", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            assert child.stdout is not None
            if not child.stdout.readline().startswith(watchers.READY):
                raise RuntimeError("the watchers didn't start")
            yield Watching(child)
        finally:
            child.kill()


def _watch(session_id: str, *, now: bool = True) -> bytes:
    target = v1.WatchTarget(session_id=session_id, from_now=now)
    return v1.WatchRequest(targets=[target]).SerializeToString()


async def idle(service: Service, address: str, rounds: int, seconds: float) -> Ratio:
    """Appends while a thousand watchers of another session wait, and without them."""
    ratio = Ratio("idle_watchers", f"appends with {_IDLE:,} idle watchers / without", 0.9)
    await service.client.create_session(f"{RUN}-idle")
    step = service.unary(4)
    for _ in range(rounds):
        alone = await throughput(step, 64, seconds)
        with watching(address, _IDLE, _WATCH, _watch(f"{RUN}-idle")):
            await throughput(step, 64, seconds / 4)
            watched = await throughput(step, 64, seconds)
        ratio.values.append(watched / alone)
        ratio.scale = f"{watched:,.0f} and {alone:,.0f} messages/s"
    return ratio


async def fan_out(service: Service, address: str, echo_address: str, rounds: int) -> Ratio:
    """Appends delivered to a hundred watchers, and a bare stream of the same bytes to a hundred callers."""
    ratio = Ratio(
        "fan_out_vs_stream",
        f"delivery to {_FANOUT} watchers / a bare server stream of the same bytes",
        0.5,
    )
    size = 0
    for number in range(rounds + 1):
        name = f"{RUN}-fan-{number}"
        await service.client.create_session(name)
        with watching(address, _FANOUT, _WATCH, _watch(name)) as watched:
            ours = await _deliver(service, name, watched, size)
        if not number:  # the first round warms up, and tells how many bytes there are
            size = await _size(address, name) - _SLACK
            continue
        theirs = await _stream(echo_address, size)
        ratio.values.append(theirs / ours)
        total = _FANOUT * size / 2**20
        ratio.scale = f"{total / ours:,.0f} and {total / theirs:,.0f} MiB/s"
    return ratio


async def _deliver(service: Service, name: str, watched: Watching, size: int) -> float:
    """Seconds from the first append until all have received so many bytes."""
    requests = [
        v1.AppendMessagesRequest(session_id=name, messages=[message() for _ in range(_BATCH)])
        for _ in range(_APPENDS)
    ]
    start = time.perf_counter()
    await asyncio.gather(*(service.messages.AppendMessages(request) for request in requests))
    await asyncio.to_thread(watched.until, size)
    return time.perf_counter() - start


async def _size(address: str, name: str) -> int:
    """The bytes of a session's events."""
    size = 0
    async with grpc.aio.insecure_channel(address) as channel:
        call = v1.FeedServiceStub(channel).Watch(
            v1.WatchRequest.FromString(_watch(name, now=False))
        )
        async for frame in call:
            if frame.events[0].HasField("caught_up"):
                call.cancel()
                break
            size += frame.ByteSize()
    return size


async def _stream(address: str, size: int) -> float:
    """Seconds of the same bytes, in as many frames, by a bare stream, from its release on."""
    request = f"{_APPENDS} {size // _APPENDS}".encode()
    method = f"/{echo.SERVICE}/{echo.STREAM}"
    with watching(address, _FANOUT, method, request) as watched:
        async with grpc.aio.insecure_channel(address) as channel:
            release: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
            release = channel.unary_unary(f"/{echo.SERVICE}/{echo.RELEASE}")
            start = time.perf_counter()
            await release(b"")
            await asyncio.to_thread(watched.until, _APPENDS * (size // _APPENDS))
            return time.perf_counter() - start


async def other_replica(service: Service, dsn: str, times: int) -> Ratio:
    """From the call of an append to its delivery at a watcher of another server, next to its own time."""
    ratio = Ratio("delivery_vs_append", "append to delivery at another replica / append", None)
    name = f"{RUN}-replica"
    await service.client.create_session(name)
    took: list[float] = []
    delivered: list[float] = []
    with sessiond(dsn) as address:
        async with grpc.aio.insecure_channel(address) as channel:
            request = v1.WatchRequest.FromString(_watch(name))
            call = v1.FeedServiceStub(channel).Watch(request)
            await call.read()
            for _ in range(times):
                start = time.perf_counter()
                append = asyncio.create_task(_timed_append(service, name))
                await call.read()
                delivered.append(time.perf_counter() - start)
                took.append(await append)
            call.cancel()
    ratio.values.append(statistics.median(delivered) / statistics.median(took))
    ratio.scale = f"delivery {_spread(delivered)}; append {_spread(took)}"
    return ratio


async def _timed_append(service: Service, name: str) -> float:
    start = time.perf_counter()
    await service.client.append(name, message())
    return time.perf_counter() - start


def _spread(seconds: list[float]) -> str:
    cuts = statistics.quantiles(seconds, n=100)
    p50, p95, p99 = (1000 * cuts[place] for place in (49, 94, 98))
    return f"p50 {p50:.1f}, p95 {p95:.1f}, p99 {p99:.1f} ms"


async def memory(service: Service, dsn: str) -> Ratio:
    """What the server's memory grows by for each of a thousand idle watchers."""
    ratio = Ratio("idle_watcher_kib", f"KiB of the server's memory for each of {_IDLE:,}", None)
    name = f"{RUN}-memory"
    await service.client.create_session(name)
    with sessiond(dsn) as address, _pid(address) as pid, watching(address, 1, _WATCH, _watch(name)):
        before = _resident(pid)
        with watching(address, _IDLE, _WATCH, _watch(name)):
            await asyncio.sleep(1)
            ratio.values.append((_resident(pid) - before) / _IDLE / 1024)
    ratio.scale = "on 20 connections"
    return ratio


@contextmanager
def _pid(address: str) -> Iterator[int]:
    """The process that listens on a port."""
    port = int(address.rpartition(":")[2])
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = place.read_text()
        except OSError:
            continue
        if "sessiond_server" in text and _listens(int(place.parent.name), port):
            yield int(place.parent.name)
            return
    raise RuntimeError(f"nobody listens on {address}")


def _listens(pid: int, port: int) -> bool:
    sockets = {
        line.split()[9]
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]
        if line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A"
    }
    links = (str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir())
    return any(link == f"socket:[{inode}]" for link in links for inode in sockets)


def _resident(pid: int) -> int:
    """Bytes of a process in memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096

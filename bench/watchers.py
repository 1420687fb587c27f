"""Watchers in a process of their own: `python -m bench.watchers ADDRESS COUNT METHOD REQUEST`.

So many calls of a streaming method with an encoded request (hexadecimal), whose frames are counted as bytes.
It says when all have begun, and then, for each number on its standard input, when each has received that many
bytes.
"""

from __future__ import annotations

import asyncio
import sys

import grpc

READY = "watching "
_PER_CHANNEL = 50


class Watchers:
    """Calls that read, and what each has received."""

    def __init__(self, address: str, count: int, method: str, request: bytes) -> None:
        self._options = [("grpc.use_local_subchannel_pool", 1)]
        self._address = address
        self._method = method
        self._request = request
        self._received = [0] * count
        self._more = asyncio.Event()

    async def start(self) -> None:
        channels = [
            grpc.aio.insecure_channel(self._address, options=self._options)
            for _ in range(0, len(self._received), _PER_CHANNEL)
        ]
        self._tasks = [
            asyncio.create_task(self._read(number, channels[number // _PER_CHANNEL]))
            for number in range(len(self._received))
        ]
        await self.until(1)

    async def _read(self, number: int, channel: grpc.aio.Channel) -> None:
        method: grpc.aio.UnaryStreamMultiCallable[bytes, bytes]
        method = channel.unary_stream(self._method)
        async for frame in method(self._request):
            self._received[number] += len(frame)
            self._more.set()

    async def until(self, received: int) -> None:
        """Wait until each has received so many bytes."""
        while min(self._received) < received:
            self._more.clear()
            await self._more.wait()


async def _run(address: str, count: int, method: str, request: bytes) -> None:
    watchers = Watchers(address, count, method, request)
    await watchers.start()
    print(f"{READY}{count}", flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        await watchers.until(int(line))
        print(f"received {line.strip()}", flush=True)


if __name__ == "__main__":
    asyncio.run(_run(sys.argv[1], int(sys.argv[2]), sys.argv[3], bytes.fromhex(sys.argv[4])))

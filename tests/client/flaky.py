"""A TCP relay in front of a server whose connections break when so many bytes have passed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Self


class Flaky:
    """Relays connections to a target. The n-th one breaks after the n-th of `budgets` bytes in either
    direction; those beyond that hold."""

    def __init__(self, target: str, budgets: Iterable[int]) -> None:
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self._budgets: Iterator[int] = iter(budgets)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.target = ""
        self.connections = 0

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _listen(self) -> None:
        server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self.target = "{}:{}".format(*server.sockets[0].getsockname())
        self._server = server

    async def _end(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        left = [next(self._budgets, 2**62)]
        up_reader, up_writer = await asyncio.open_connection(self._host, self._port)
        pumps = [
            asyncio.create_task(self._pump(reader, up_writer, left)),
            asyncio.create_task(self._pump(up_reader, writer, left)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            for one in (writer, up_writer):
                one.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: list[int]
    ) -> None:
        with suppress(OSError):
            while left[0] > 0 and (data := await reader.read(min(65_536, left[0]))):
                left[0] -= len(data)
                writer.write(data)
                await writer.drain()

"""A server that goes away and comes back: a TCP relay in front of a real one."""

from __future__ import annotations

import asyncio
import threading
from typing import Self


class Relay:
    """Relays connections to a target; `cut` breaks all and refuses new ones until `mend`.

    It cuts by itself when `cut_after` bytes have gone to the target.
    """

    def __init__(self, target: str, cut_after: int | None = None) -> None:
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self._left = cut_after
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._writers: set[asyncio.StreamWriter] = set()
        self._listener: asyncio.Server | None = None
        self._own_port = 0
        self.was_cut = threading.Event()

    @property
    def target(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self._own_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self.mend()
        return self

    def __exit__(self, *args: object) -> None:
        self.cut()
        asyncio.run_coroutine_threadsafe(_settle(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def mend(self) -> None:
        """Takes connections again, on the same port."""
        self._run(self._listen())

    def cut(self) -> None:
        """Breaks all connections and refuses new ones."""
        self._run(self._cut())

    def _run(self, work: object) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)  # type: ignore[arg-type]

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(self._relay, "127.0.0.1", self._own_port)
        self._own_port = self._listener.sockets[0].getsockname()[1]

    async def _cut(self) -> None:
        if self._listener:
            self._listener.close()
            self._listener = None
        for writer in list(self._writers):
            writer.transport.abort()
        self.was_cut.set()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection(self._host, self._port)
        except OSError:
            writer.close()
            return
        self._writers |= {writer, up_writer}
        await asyncio.gather(
            self._pump(reader, up_writer, counted=True), self._pump(up_reader, writer)
        )
        self._writers -= {writer, up_writer}

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, counted: bool = False
    ) -> None:
        try:
            while data := await reader.read(4096):
                if counted and self._left is not None:
                    self._left -= len(data)
                    if self._left < 0:
                        self._left = None
                        await self._cut()
                        return
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


async def _settle() -> None:
    """Lets what was cut end."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.wait(tasks, timeout=5) if tasks else None

"""A way to Postgres that can be stalled: what hangs then is the database, for whoever goes this way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit, urlunsplit


class Proxy:
    """Listens on a Unix socket in `place`, in a thread of its own, and passes everything on."""

    def __init__(self, dsn: str, place: Path) -> None:
        parts = urlsplit(dsn)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        self._host = query.get("host") or parts.hostname or "localhost"
        self._port = int(query.get("port") or parts.port or 5432)
        user = parts.netloc.rpartition("@")[0]
        netloc = f"{user}@" if user else ""
        self.dsn = urlunsplit(parts._replace(netloc=netloc, query=f"host={quote(str(place))}"))
        self._path = place / ".s.PGSQL.5432"
        self._loop = asyncio.new_event_loop()
        self._open = asyncio.Event()
        self._open.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._held: dict[int, bytes] = {}

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(10)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._end)
        self._thread.join(10)

    def stall(self) -> None:
        """Pass nothing on, in either direction, until `resume`."""
        self._loop.call_soon_threadsafe(self._open.clear)

    def resume(self) -> None:
        self._loop.call_soon_threadsafe(self._open.set)

    def holds(self, data: bytes) -> bool:
        """Whether something with this in it waits for the end of the stall."""
        return any(data in piece for piece in list(self._held.values()))

    def _run(self) -> None:
        with suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._serve())
        self._loop.close()

    def _end(self) -> None:
        for task in asyncio.all_tasks(self._loop):
            task.cancel()

    async def _serve(self) -> None:
        server = await asyncio.start_unix_server(self._accept, self._path)
        self._ready.set()
        async with server:
            await server.serve_forever()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._host.startswith("/"):
            path = f"{self._host}/.s.PGSQL.{self._port}"
            to_server = await asyncio.open_unix_connection(path)
        else:
            to_server = await asyncio.open_connection(self._host, self._port)
        with suppress(asyncio.CancelledError):
            await asyncio.gather(self._pass(reader, to_server[1]), self._pass(to_server[0], writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                self._held[id(reader)] = data
                try:
                    await self._open.wait()
                finally:
                    del self._held[id(reader)]
                writer.write(data)
                await writer.drain()
        writer.close()


@contextmanager
def proxied(dsn: str, place: Path) -> Iterator[Proxy]:
    """A proxy in front of that database."""
    proxy = Proxy(dsn, place)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.resume()
        proxy.stop()

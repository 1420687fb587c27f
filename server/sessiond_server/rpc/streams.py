"""The requests of a stream as they come, and what long calls are bounded by: how many there are at once, and
how long nothing comes of one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from typing import Self, TypeVar

from sessiond_server.errors import ShuttingDown, TooManyTransfers

Request = TypeVar("Request")

_DRAINED_BYTES = 16 * 2**20
"""How much a caller may still write to a call that is refused."""


class Incoming:
    """The encoded requests of a call. Whoever waits for the next one can stop waiting and nothing is lost:
    the requests that follow can still be read.

    A call is best refused when its caller has stopped writing. gRPC resets the stream of one that ends
    earlier; what the caller writes then fails, and grpc.aio's clients report that as INTERNAL instead of what
    the server said (grpc/grpc#36066).
    """

    def __init__(self, encoded: AsyncIterator[bytes]) -> None:
        self._encoded = encoded
        self._coming: asyncio.Task[bytes | None] | None = None
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        item = await self._next()
        if item is None:
            raise StopAsyncIteration
        return item

    async def _next(self) -> bytes | None:
        if self._ended:
            return None
        if self._coming is None:
            self._coming = asyncio.create_task(self._read(), name="next request")
        await asyncio.wait((self._coming,))
        coming, self._coming = self._coming, None
        item = coming.result()
        self._ended = item is None
        return item

    async def _read(self) -> bytes | None:
        return await anext(self._encoded, None)

    async def drain(self, seconds: float) -> None:
        """Drop what still comes until the caller stops writing, for so long and so many bytes at most."""
        left = _DRAINED_BYTES
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while left > 0 and (item := await self._next()) is not None:
                    left -= len(item)

    def close(self) -> None:
        """Read no more."""
        self._ended = True
        if self._coming is not None and not self._coming.cancel():
            self._coming.exception()  # how the call ended is nobody's question any more


class Slots:
    """So many transfers at once, and no more."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.taken = 0

    @contextmanager
    def one(self, *, refuse: bool = True) -> Iterator[None]:
        if refuse and self.taken >= self._limit:
            raise TooManyTransfers(self._limit)
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


async def following(
    requests: AsyncIterator[Request], seconds: float, closing: asyncio.Event
) -> Request | None:
    """The next request, `None` behind the last. Raises `TimeoutError` after so many seconds, and
    `ShuttingDown` when the server stops."""
    coming = asyncio.ensure_future(anext(requests, None))
    stopping = asyncio.ensure_future(closing.wait())
    try:
        await asyncio.wait({coming, stopping}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if coming.done():
            return coming.result()
        if stopping.done():
            raise ShuttingDown
        raise TimeoutError
    finally:
        stopping.cancel()
        if not coming.done():
            coming.cancel()
            with suppress(asyncio.CancelledError):
                await coming

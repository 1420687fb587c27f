"""What long calls are bounded by: how many there are at once, and how long nothing comes of one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from sessiond_server.errors import ShuttingDown, TooManyTransfers

Request = TypeVar("Request")


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

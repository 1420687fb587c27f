"""Claims that wait until something is due."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Protocol, TypeVar

from sessiond_server.operations.due import DueAlarm
from sessiond_server.rpc.registry import Context

_BEFORE_DEADLINE = 0.5
"""Seconds before a call's deadline in which it no longer waits, so that what it claims arrives."""
K = TypeVar("K", bound=Hashable)


class Claims(Protocol):
    """What a claim has found."""

    @property
    def any(self) -> bool:
        """Whether it found anything."""

    @property
    def unfinished(self) -> bool:
        """Whether it stopped before it had looked at all that may be due."""


Found = TypeVar("Found", bound=Claims)


async def until_found(
    claim: Callable[[], Awaitable[Found]],
    alarm: DueAlarm[K],
    key: K,
    seconds: float,
    context: Context,
) -> Found:
    """What a claim finds, made again whenever something may be due, until it finds anything, so long at most.
    While it waits it holds no connection. The end of the service ends the wait."""
    left = context.time_remaining()
    if left is not None:
        seconds = min(seconds, left - _BEFORE_DEADLINE)
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while True:
        found = await claim()
        remaining = until - loop.time()
        if found.any or remaining <= 0:
            return found
        if not found.unfinished:
            await alarm.wait(key, remaining)
        if alarm.closed:
            return found

"""How a call of `grpc.aio` ended that streams its requests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

import grpc

T = TypeVar("T")

_HIDDEN = "Internal error from Core"
_PATIENCE = 1.0
"""Seconds that the server's status may come later than the failure of a write."""


@contextlib.asynccontextmanager
async def as_told(call: Any) -> AsyncIterator[None]:
    """Raises the error of a call as the server told it.

    A write that fails because the server has ended the call makes `grpc.aio` say INTERNAL, in place of the
    status that came before or comes right after (grpc/grpc#36066).
    """
    outcome = _Outcome(call)
    try:
        yield
    except grpc.aio.AioRpcError as error:
        told = await outcome.behind(error)
        if told is error:
            raise
        raise told from error


class _Outcome:
    """Notes each status that a call is given, of which the call keeps only the last."""

    def __init__(self, call: Any) -> None:
        self._error: grpc.aio.AioRpcError | None = None
        self._known = asyncio.Event()
        call.add_done_callback(self._note)

    def _note(self, call: Any) -> None:
        error = grpc.aio.AioRpcError(
            _at_once(call.code()),
            _at_once(call.initial_metadata()),
            _at_once(call.trailing_metadata()),
            _at_once(call.details()),
            _at_once(call.debug_error_string()),
        )
        if not _hides(error):
            self._error = error
            self._known.set()

    async def behind(self, error: grpc.aio.AioRpcError) -> grpc.aio.AioRpcError:
        """The error that the server told; this one, if it told none."""
        if not _hides(error):
            return error
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                await self._known.wait()
        if self._error is None or self._error.code() is grpc.StatusCode.OK:
            return error
        return self._error


def _hides(error: grpc.aio.AioRpcError) -> bool:
    return error.code() is grpc.StatusCode.INTERNAL and error.details() == _HIDDEN


def _at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that doesn't wait, as those of a call that is done."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    coroutine.close()
    raise RuntimeError("the call isn't done")

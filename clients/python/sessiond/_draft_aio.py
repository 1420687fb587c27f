"""The draft of `AsyncClient`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeAlias

import grpc

from sessiond import v1
from sessiond._draft import HEARTBEAT, PARTING, REQUEST_DELTAS, DraftParts
from sessiond._outcome import as_told
from sessiond._status import error_from_call

if TYPE_CHECKING:
    Call: TypeAlias = grpc.aio.StreamUnaryCall[v1.PublishDraftRequest, v1.PublishDraftResponse]


class AsyncDraft(DraftParts):
    """Shows watchers a message while it is being written, a context manager.

    Append the message with the draft's `client_id` before the block ends: it takes the draft's place.
    A block that ends without that, or with an exception, aborts the draft. Nothing here waits for the
    service or fails because of it: see `failure`.

    Example:
        async with client.draft("chat-1") as draft:
            async for piece in model(context):
                draft.text(piece)
            message = sessiond.message("assistant", text, client_id=draft.client_id)
            await client.append("chat-1", message)
    """

    def __init__(self, connect: Callable[[], Call], session_id: str, client_id: str | None) -> None:
        super().__init__(session_id, client_id)
        self._connect = connect
        self._deltas: list[v1.DraftDelta] = []
        self._filled = asyncio.Event()
        self._over = False
        self._abort = False
        self._task: asyncio.Task[None] | None = None

    def _push(self, delta: v1.DraftDelta) -> None:
        self._deltas.append(delta)
        self._filled.set()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._publish(), name="sessiond draft")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._task is not None
        self._over, self._abort = True, error is not None
        self._filled.set()
        await asyncio.wait([self._task], timeout=PARTING)
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _publish(self) -> None:
        call = self._connect()
        try:
            async with as_told(call):
                await self._write(call)
                await call.done_writing()
                await call
        except grpc.RpcError as failed:
            self.failure = error_from_call(failed)
        except asyncio.InvalidStateError:  # it ended while something was written
            with contextlib.suppress(asyncio.CancelledError):
                await self._look_why(call)
        finally:
            call.cancel()

    async def _look_why(self, call: Call) -> None:
        try:
            await call
        except grpc.RpcError as failed:
            self.failure = error_from_call(failed)

    async def _write(self, call: Call) -> None:
        await call.write(self._first())
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT):
                    await self._filled.wait()
            self._filled.clear()
            deltas, self._deltas = self._deltas, []
            for start in range(0, max(1, len(deltas)), REQUEST_DELTAS):
                piece = deltas[start : start + REQUEST_DELTAS]
                await call.write(v1.PublishDraftRequest(deltas=piece))
            if self._over and not self._deltas:
                if self._abort:
                    await call.write(v1.PublishDraftRequest(abort=True))
                return

"""The append stream of `AsyncClient`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeAlias

import grpc

from sessiond import v1
from sessiond._errors import Cancelled
from sessiond._outcome import as_told
from sessiond._pipeline import Pipeline
from sessiond._requests.messages import append
from sessiond._requests.values import OnKnown

if TYPE_CHECKING:
    Call: TypeAlias = grpc.aio.StreamStreamCall[v1.AppendStreamRequest, v1.AppendStreamResponse]

_PARTING_SECONDS = 1.0


class AsyncAppendStream:
    """Appends without waiting for each answer: the fast way to write.

    Each append is what `AsyncClient.append` is. Appends to one session are applied in the order of
    the calls; those to different sessions don't wait for each other. A refused one fails its own
    future alone; those behind it are applied all the same: give `expected_next_seq` where they depend
    on each other. Appends that wait while a frame is being
    written travel in one frame. One stream serves any number of tasks and sessions.

    When the stream breaks it is opened again, with growing pauses of at most 2 s, and what has no
    answer is sent again in order, each append until its timeout. That is safe: it carries the same
    client ids, so what was stored is answered as a replay, with `expected_next_seq` too, since a
    replay is recognised first. It leaves two cases open. An append that was stored before its lease
    was lost or its session ended may be answered with that error when it is sent again. One that
    was stored before its session was cleared, or with `create_session` before it was deleted, is
    stored anew. The same holds for the retries of `append`.

    A future fails with the exceptions of `AsyncClient.append`, with `DeadlineExceeded` or the error
    that broke the stream when its time runs out, and with `Cancelled` when the stream is closed
    before. After those three, whether it was stored isn't known. A refusal isn't repeated by
    itself, not even `AppendQueueFull`, since those behind it went on. A failure that nobody looks at
    is reported by asyncio. A future that is cancelled before its append is sent takes it back.

    Example:
        async with client.append_stream() as stream:
            for text in texts:
                stream.append("chat-1", sessiond.message("user", text))
                await stream.drain()
            answer = await stream.append("chat-1", last)
    """

    def __init__(self, connect: Callable[[], Call], timeout: float | None) -> None:
        self._connect = connect
        self._pipeline = Pipeline(timeout)
        self._loop = asyncio.get_running_loop()
        self._work = asyncio.Event()
        self._progress = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._call: Call | None = None
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    def append(
        self,
        session_id: str,
        messages: v1.Message | Iterable[v1.Message],
        *,
        expected_next_seq: int = 0,
        expected_revision: int = 0,
        writer_token: str = "",
        create_session: v1.Session | None = None,
        on_known: OnKnown | None = None,
        usage: v1.UsageRecord | None = None,
    ) -> asyncio.Future[v1.AppendMessagesResponse]:
        """Appends messages; returns the future answer at once.

        The arguments are those of `AsyncClient.append`. At most 1024 appends or 16 MiB are sent
        ahead of their answers; what goes beyond waits in memory: await the futures, or `drain`.

        Raises:
            RuntimeError: The stream is closed.
        """
        if self._closing:
            raise RuntimeError("the stream is closed")
        request = append.build(
            session_id,
            messages,
            expected_next_seq=expected_next_seq,
            expected_revision=expected_revision,
            writer_token=writer_token,
            create_session=create_session,
            on_known=on_known,
            usage=usage,
        )
        future: asyncio.Future[v1.AppendMessagesResponse] = self._loop.create_future()
        self._pipeline.add(request, future, self._loop.time())
        self._work.set()
        if self._timer is None:
            self._set_timer()
        if self._task is None:
            self._task = self._loop.create_task(self._run())
        return future

    async def drain(self) -> None:
        """Waits until fewer than 1024 appends are without an answer."""
        while not self._pipeline.has_room:
            await self._next_progress()

    async def flush(self) -> None:
        """Waits until every append is answered, or has failed."""
        while not self._pipeline.settled:
            await self._next_progress()

    async def close(self) -> None:
        """Waits until every append is answered, or has failed, and closes the stream."""
        self._closing = True
        try:
            await self.flush()
            await self._part()
        finally:
            await self._stop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes the stream. After an exception it doesn't wait: what has no answer fails."""
        if error is None:
            await self.close()
        else:
            await self._stop()

    async def _next_progress(self) -> None:
        self._progress.clear()
        await self._progress.wait()

    async def _stop(self) -> None:
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._pipeline.fail(lambda: Cancelled("the stream was closed"))
        self._progress.set()

    async def _part(self) -> None:
        """Tells the server that nothing follows, and lets it end the call."""
        if self._call is None or self._task is None:
            return
        with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError):
            await self._call.done_writing()
            await asyncio.wait([self._task], timeout=_PARTING_SECONDS)

    async def _run(self) -> None:
        while not self._closing or self._pipeline.unanswered:
            await self._work.wait()
            try:
                pause = self._pipeline.breaks(await self._serve())
            except Exception as error:
                pause = self._pipeline.ends(error)
            if not self._pipeline.sendable:
                self._work.clear()
            self._progress.set()
            await asyncio.sleep(pause)

    async def _serve(self) -> grpc.RpcError | None:
        """Runs one stream until it ends; returns the error that it ended with."""
        self._call = call = self._connect()
        writing = self._loop.create_task(self._write(call))
        try:
            async with as_told(call):
                await self._read(call)
        except grpc.RpcError as error:
            return error
        except asyncio.CancelledError:
            # The call was cancelled, being stuck or as its channel closed, and not this task.
            if _is_cancelled():
                raise
        finally:
            call.cancel()
            writing.cancel()
            self._call = None
            self._work.set()
        return None

    async def _read(self, call: Call) -> None:
        while isinstance(response := await call.read(), v1.AppendStreamResponse):
            self._pipeline.answer(response, self._loop.time())
            self._progress.set()
            if self._pipeline.sendable:
                self._work.set()

    async def _write(self, call: Call) -> None:
        # How the call ended is told to the reader.
        with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError):
            while True:
                await self._work.wait()
                frame = self._pipeline.frame(self._loop.time())
                if frame is None:
                    self._work.clear()
                else:
                    await call.write(frame)

    def _set_timer(self) -> None:
        deadline = self._pipeline.next_deadline
        if deadline is None or deadline == float("inf"):
            self._timer = None
        else:
            self._timer = self._loop.call_at(deadline, self._expire)

    def _expire(self) -> None:
        stuck = self._pipeline.expire(self._loop.time())
        self._progress.set()
        if stuck and self._call is not None:
            self._call.cancel()
        self._set_timer()


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0

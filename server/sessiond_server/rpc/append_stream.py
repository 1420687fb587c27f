"""AppendStream: appends in, answers out in the same order, neither waiting for the other."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress

from sessiond.v1 import message_service_pb2 as rpc
from sessiond_server.errors import Refused, ShuttingDown, invalid
from sessiond_server.rpc import limits
from sessiond_server.rpc.errors import in_stream, refusal
from sessiond_server.store.appends import Ack, Append

METHOD = "sessiond.v1.MessageService/AppendStream"

Begin = Callable[[rpc.AppendMessagesRequest], Append]
Acknowledge = Callable[[Ack], rpc.AppendMessagesResponse]


class _Stream:
    """What has been read and isn't answered yet: futures of acks, and refusals."""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin
        self._waiting: deque[asyncio.Future[Ack] | Refused] = deque()
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._ended: Exception | bool = False
        self.reader: asyncio.Task[None] | None = None

    async def read(self, requests: AsyncIterator[rpc.AppendStreamRequest]) -> None:
        """Queue every append, and stop for a while when too many wait."""
        try:
            async for frame in requests:
                if not 1 <= len(frame.appends) <= limits.FRAME_APPENDS:
                    raise invalid("appends", f"must have 1 to {limits.FRAME_APPENDS}")
                for request in frame.appends:
                    self._waiting.append(self._queue(request))
                self._arrived.set()
                while len(self._waiting) >= limits.STREAM_WINDOW:
                    self._room.clear()
                    await self._room.wait()
            self._ended = True
        except Exception as error:
            self._ended = error
        self._arrived.set()

    def _queue(self, request: rpc.AppendMessagesRequest) -> asyncio.Future[Ack] | Refused:
        try:
            return self._begin(request).answer
        except Refused as error:
            return error

    async def results(self) -> AsyncIterator[list[Ack | Refused]]:
        """The answers in order, as many at a time as are there. Raises what ended the reading."""
        while True:
            while not self._waiting:
                if isinstance(self._ended, Exception):
                    raise self._ended
                if self._ended:
                    return
                self._arrived.clear()
                await self._arrived.wait()
            first = self._waiting[0]
            if not isinstance(first, Refused) and not first.done():
                await asyncio.wait([first])
            yield self._answered()

    def _answered(self) -> list[Ack | Refused]:
        found: list[Ack | Refused] = []
        waiting = self._waiting
        while waiting and len(found) < limits.FRAME_APPENDS:
            item = waiting[0]
            if isinstance(item, Refused):
                found.append(item)
            elif not item.done():
                break
            elif (error := item.exception()) is None:
                found.append(item.result())
            else:
                found.append(refusal(_as_exception(error), METHOD))
            waiting.popleft()
        self._room.set()
        return found

    def close(self) -> None:
        """Read no more; what was read is answered, and then the stream ends with `ShuttingDown`."""
        self._ended = self._ended or ShuttingDown()
        if self.reader is not None:
            self.reader.cancel()
        self._arrived.set()

    async def forget(self) -> None:
        """The caller is gone: what isn't under way yet needn't be done."""
        if self.reader is not None:
            self.reader.cancel()
            with suppress(asyncio.CancelledError):
                await self.reader
        for item in self._waiting:
            if not isinstance(item, Refused):
                item.cancel()


def _as_exception(error: BaseException) -> Exception:
    return error if isinstance(error, Exception) else RuntimeError(repr(error))


class AppendStreams:
    """The streams that are open."""

    def __init__(self, begin: Begin, acknowledge: Acknowledge) -> None:
        self._begin = begin
        self._acknowledge = acknowledge
        self._open: set[_Stream] = set()
        self._closing = False

    def close(self) -> None:
        """End all streams, and those that still come, when what they sent is answered."""
        self._closing = True
        for stream in self._open:
            stream.close()

    async def answers(
        self, requests: AsyncIterator[rpc.AppendStreamRequest]
    ) -> AsyncIterator[rpc.AppendStreamResponse]:
        """The frames of answers to a stream's appends."""
        stream = _Stream(self._begin)
        stream.reader = asyncio.create_task(stream.read(requests), name="append stream reader")
        self._open.add(stream)
        if self._closing:
            stream.close()
        try:
            async for found in stream.results():
                for frame in self._frames(found):
                    yield frame
        finally:
            self._open.discard(stream)
            await stream.forget()

    def _frames(self, found: list[Ack | Refused]) -> Iterator[rpc.AppendStreamResponse]:
        """The answers in a frame, or in several where refusals or lists of seqs are long."""
        answer, size = rpc.AppendStreamResponse(), 0
        for result in found:
            if isinstance(result, Refused):
                size += answer.results.add(error=in_stream(result)).ByteSize()
            else:
                answer.results.add(ack=self._acknowledge(result))
                size += 0 if isinstance(result.seqs, range) else 10 * len(result.seqs)
            if size > limits.PAGE_BYTES:
                yield answer
                answer, size = rpc.AppendStreamResponse(), 0
        if answer.results:
            yield answer

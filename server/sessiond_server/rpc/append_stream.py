"""AppendStream: appends in, and answers out, which keep the order of each session's appends."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import chain

import structlog

from sessiond.v1 import message_service_pb2 as rpc
from sessiond_server.errors import Refused, ShuttingDown, invalid
from sessiond_server.rpc import limits
from sessiond_server.rpc.checks import Checks
from sessiond_server.rpc.errors import in_stream, refusal
from sessiond_server.store.appends import Ack, Append

METHOD = "sessiond.v1.MessageService/AppendStream"
_SHORTEST, _LONGEST = limits.APPEND_TIMEOUT_SECONDS

Begin = Callable[[rpc.AppendMessagesRequest], Append]
Acknowledge = Callable[[Ack, rpc.AppendMessagesResponse], None]
Answered = tuple[int, Ack | Refused]
"""The tag of an append, and what became of it."""


class _Item:
    """An append that was read and isn't answered yet."""

    __slots__ = ("append", "deadline", "refused", "session_id", "tag", "timeout", "traceparent")

    def __init__(self, streamed: rpc.StreamedAppend) -> None:
        self.session_id = streamed.append.session_id
        self.tag = streamed.tag
        self.traceparent = streamed.traceparent
        self.append: Append | None = None
        self.refused: Refused | None = None
        """Why it wasn't even queued."""
        self.timeout = 0.0
        """The seconds that it may wait, if it has a deadline."""
        self.deadline: float | None = None

    def expire(self) -> None:
        """Refuse the append, unless it is being stored."""
        if self.append is not None:
            self.append.expire(self.timeout)

    def settled(self) -> Ack | Refused | None:
        """What became of the append; `None` as long as that isn't known."""
        if self.append is None:
            return self.refused
        answer = self.append.answer
        if not answer.done():
            return None
        if answer.cancelled():
            return ShuttingDown()
        error = answer.exception()
        if error is None:
            return answer.result()
        trace = {"traceparent": self.traceparent} if self.traceparent else {}
        with structlog.contextvars.bound_contextvars(**trace):
            return refusal(_as_exception(error), METHOD)


class _Stream:
    """The appends that were read and aren't answered yet, by session."""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin
        self._sessions: dict[str, deque[_Item]] = {}
        """In the order in which they were read: a session's answers keep it."""
        self._unanswered = 0
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        """One for all, set to the earliest deadline: most appends are answered long before theirs."""
        self._ready: deque[Answered] = deque()
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._ended: Exception | bool = False
        self.reader: asyncio.Task[None] | None = None

    async def read(self, requests: AsyncIterator[rpc.AppendStreamRequest]) -> None:
        """Queue every append, and stop for a while when too many are unanswered."""
        try:
            async for frame in requests:
                if not 1 <= len(frame.appends) <= limits.FRAME_APPENDS:
                    raise invalid("appends", f"must have 1 to {limits.FRAME_APPENDS}")
                for streamed in frame.appends:
                    self._queue(streamed)
                while self._unanswered >= limits.STREAM_WINDOW:
                    self._room.clear()
                    await self._room.wait()
            self._ended = True
        except Exception as error:
            self._ended = error
        self._arrived.set()

    def _queue(self, streamed: rpc.StreamedAppend) -> None:
        item = _Item(streamed)
        self._unanswered += 1
        try:
            seconds = _timeout(streamed)
            item.append = self._begin(streamed.append)
        except Refused as error:
            item.refused = error
        else:
            if seconds is not None:
                item.timeout, item.deadline = seconds, self._loop.time() + seconds
                if self._timer is None or item.deadline < self._timer.when():
                    self._set_timer(item.deadline)
        items = self._sessions.get(item.session_id)
        if items is None:
            self._sessions[item.session_id] = deque((item,))
            self._advance(item.session_id)
        else:
            items.append(item)

    def _set_timer(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(deadline, self._expire)

    def _expire(self) -> None:
        """Refuse the appends whose time is up, and wait for the next deadline."""
        self._timer = None
        now = self._loop.time()
        later = []
        for item in chain.from_iterable(self._sessions.values()):
            if item.deadline is None:
                continue
            if item.deadline <= now:
                item.expire()
            else:
                later.append(item.deadline)
        if later:
            self._set_timer(min(later))

    def _advance(self, session_id: str, _: object = None) -> None:
        """Hand on the answers that nothing earlier of their session holds up. Only the first append that is
        left is listened to: those behind it wait for it in any case."""
        items = self._sessions[session_id]
        while items:
            item = items[0]
            outcome = item.settled()
            if outcome is None:
                assert item.append is not None
                item.append.answer.add_done_callback(partial(self._advance, session_id))
                break
            self._ready.append((items.popleft().tag, outcome))
        if not items:
            del self._sessions[session_id]
        if self._ready:
            self._arrived.set()

    async def results(self) -> AsyncIterator[list[Answered]]:
        """The answers, as many at a time as are there. Raises what ended the reading."""
        while True:
            while not self._ready:
                if self._ended and not self._sessions:
                    if isinstance(self._ended, Exception):
                        raise self._ended
                    return
                self._arrived.clear()
                await self._arrived.wait()
            yield self._answered()

    def _answered(self) -> list[Answered]:
        ready = self._ready
        found = [ready.popleft() for _ in range(min(len(ready), limits.FRAME_APPENDS))]
        self._unanswered -= len(found)
        self._room.set()
        return found

    def close(self) -> None:
        """Read no more; what was read is answered, and then the stream ends with `ShuttingDown`."""
        self._ended = self._ended or ShuttingDown()
        if self.reader is not None:
            self.reader.cancel()
        self._arrived.set()

    async def forget(self) -> None:
        """The caller is gone: what hasn't begun needn't be done."""
        if self._timer is not None:
            self._timer.cancel()
        if self.reader is not None:
            self.reader.cancel()
            with suppress(asyncio.CancelledError):
                await self.reader
        for items in list(self._sessions.values()):
            for item in list(items):
                if item.append is not None:
                    item.append.answer.cancel()


def _timeout(streamed: rpc.StreamedAppend) -> float | None:
    """The seconds that an append may wait for its turn, if it says so. Raises `InvalidFields`."""
    given = streamed.HasField("timeout")
    if not streamed.traceparent:
        if not given:
            return None
        seconds, nanos = streamed.timeout.seconds, streamed.timeout.nanos
        if _SHORTEST <= seconds < _LONGEST and 0 <= nanos < 10**9:
            return seconds + nanos / 10**9
    with Checks() as check:
        if streamed.traceparent and not limits.TRACEPARENT.fullmatch(streamed.traceparent):
            check.wrong("traceparent", limits.TRACEPARENT_FORM)
        if not given:
            return None
        return check.span(
            "timeout", streamed.timeout, limits.APPEND_TIMEOUT_SECONDS
        ).total_seconds()


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

    def _frames(self, found: list[Answered]) -> Iterator[rpc.AppendStreamResponse]:
        """The answers in a frame, or in several where refusals or lists of seqs are long."""
        answer, size = rpc.AppendStreamResponse(), 0
        for tag, outcome in found:
            if isinstance(outcome, Refused):
                size += answer.results.add(error=in_stream(outcome), tag=tag).ByteSize()
            else:
                self._acknowledge(outcome, answer.results.add(tag=tag).ack)
                size += 0 if isinstance(outcome.seqs, range) else 11 * len(outcome.seqs)
            if size > limits.PAGE_BYTES:
                yield answer
                answer, size = rpc.AppendStreamResponse(), 0
        if answer.results:
            yield answer

"""What an append stream has in hand, apart from how it is sent: order, frames, answers.

An append goes from `waiting` to `sent`, under a tag of its own, and leaves `sent` with the answer of
that tag. When a stream breaks, what is in `sent` goes back to the front of `waiting`, in its order.
An append whose future was settled otherwise (its time ran out, or it was cancelled) isn't sent
again, but keeps its place in `sent`, since its answer still comes.
"""

from __future__ import annotations

import itertools
import math
import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import grpc

from sessiond import v1
from sessiond._errors import (
    Cancelled,
    DeadlineExceeded,
    InternalError,
    InvalidRequest,
    Overloaded,
    SessiondError,
    Unavailable,
)
from sessiond._status import error_from_call, error_from_item

MAX_UNANSWERED = 1024
MAX_FRAME_APPENDS = 1000
MAX_FRAME_BYTES = 1 << 20
MAX_UNANSWERED_BYTES = 16 << 20
MAX_TIMEOUT = 86_400.0
"""Seconds; the service takes no longer timeout of an append."""
MAX_APPEND_BYTES = (4 << 20) - 64
"""A larger one would break the stream, and with it all others. The service's own limit is lower."""

_FIRST_BACKOFF = 0.1
_LONGEST_BACKOFF = 2.0


class Future(Protocol):
    """What asyncio's and concurrent's futures have in common."""

    def done(self) -> bool: ...

    def set_result(self, result: v1.AppendMessagesResponse, /) -> None: ...

    def set_exception(self, exception: BaseException, /) -> None: ...


@dataclass(slots=True)
class Pending:
    """An append without an answer."""

    request: v1.AppendMessagesRequest
    size: int
    future: Future
    deadline: float


class Pipeline:
    """The appends of a stream. Not safe for threads by itself."""

    def __init__(self, timeout: float | None) -> None:
        self._timeout = float("inf") if timeout is None else timeout
        self._waiting: deque[Pending] = deque()
        self._sent: dict[int, Pending] = {}
        """By tag, in the order in which they were sent."""
        self._next_tag = 0
        self._sent_bytes = 0
        self._broken: Callable[[], SessiondError] | None = None
        self._breaks = 0
        self._last_answer = 0.0

    def add(self, request: v1.AppendMessagesRequest, future: Future, now: float) -> None:
        """Takes in an append. One that no frame can hold fails at once."""
        size = request.ByteSize()
        if size > MAX_APPEND_BYTES:
            future.set_exception(
                InvalidRequest(f"the append takes {size} bytes; at most 2 MiB are allowed")
            )
            return
        self._waiting.append(Pending(request, size, future, now + self._timeout))

    @property
    def unanswered(self) -> int:
        """How many appends have no answer."""
        return len(self._waiting) + len(self._sent)

    @property
    def settled(self) -> bool:
        """Whether every future is done, by its answer or otherwise."""
        return self._oldest() is None

    @property
    def sendable(self) -> bool:
        """Whether there is something to send, and room for it."""
        return (
            bool(self._waiting)
            and len(self._sent) < MAX_UNANSWERED
            and self._sent_bytes < MAX_UNANSWERED_BYTES
        )

    @property
    def has_room(self) -> bool:
        """Whether another append is within the bounds."""
        return self.unanswered < MAX_UNANSWERED and self._sent_bytes < MAX_UNANSWERED_BYTES

    @property
    def next_deadline(self) -> float | None:
        """When the oldest append runs out of time."""
        oldest = self._oldest()
        return oldest.deadline if oldest else None

    def frame(self, now: float) -> v1.AppendStreamRequest | None:
        """The next frame: what waits and fits; None if that is nothing."""
        frame = v1.AppendStreamRequest()
        appends, count, size = frame.appends, 0, 0
        while count < MAX_FRAME_APPENDS and self.sendable:
            pending = self._waiting[0]
            if size and size + pending.size > MAX_FRAME_BYTES:
                break
            self._waiting.popleft()
            if pending.future.done():
                continue
            count += 1
            size += pending.size
            self._next_tag += 1
            streamed = appends.add(append=pending.request, tag=self._next_tag)
            if (left := pending.deadline - now) < MAX_TIMEOUT:
                # The service needn't begin what nobody waits for any more.
                streamed.timeout.seconds = max(0, math.ceil(left))
            self._sent[self._next_tag] = pending
            self._sent_bytes += pending.size
        return frame if count else None

    def answer(self, response: v1.AppendStreamResponse, now: float) -> None:
        """Settles the appends that the results are tagged with."""
        self._broken, self._breaks, self._last_answer = None, 0, now
        for result in response.results:
            pending = self._sent.pop(result.tag, None)
            if pending is None:
                continue
            self._sent_bytes -= pending.size
            if pending.future.done():
                continue
            if result.HasField("ack"):
                pending.future.set_result(result.ack)
            else:
                pending.future.set_exception(error_from_item(result.error))

    def breaks(self, error: grpc.RpcError | None) -> float:
        """Takes back what was sent over a stream that ended; with None, it ended in good order.

        Returns how many seconds to wait before opening another. If another one won't do any better,
        all appends fail.
        """
        self._waiting.extendleft(
            pending for pending in reversed(self._sent.values()) if not pending.future.done()
        )
        self._sent.clear()
        self._sent_bytes = 0
        if error is not None and not _passes(error_from_call(error)):
            self.fail(lambda: _caused(error))
            return 0.0
        if not self._waiting:
            self._broken, self._breaks = None, 0
            return 0.0
        self._broken = (lambda: _caused(error)) if error is not None else None
        self._breaks += 1
        asked = error_from_call(error).retry_delay if error is not None else None
        return max(asked or 0.0, self._backoff())

    def ends(self, error: Exception) -> float:
        """Fails all appends, as no stream can be opened: the channel was closed."""

        def cancelled() -> SessiondError:
            result = Cancelled(f"the stream can't be opened: {error}")
            result.__cause__ = error
            return result

        self.fail(cancelled)
        return 0.0

    def _backoff(self) -> float:
        if self._breaks == 1:
            return random.uniform(0, _FIRST_BACKOFF)
        longest: float = min(_LONGEST_BACKOFF, _FIRST_BACKOFF * 2 ** min(self._breaks, 10))
        return random.uniform(longest / 2, longest)

    def expire(self, now: float) -> bool:
        """Fails the appends whose time ran out.

        Returns whether the stream is stuck: it was given appends, and nothing came back for as long
        as an append may take.
        """
        stuck = False
        for pending in self._late_ones(self._sent.values(), now):
            stuck = True
            self._expire(pending)
        for pending in self._late_ones(self._waiting, now):
            self._expire(pending)
        while self._waiting and self._waiting[0].future.done():
            self._waiting.popleft()
        return stuck and now - self._last_answer >= self._timeout

    def fail(self, error: Callable[[], SessiondError]) -> None:
        """Fails all appends, each with an exception of its own."""
        unanswered = [*self._sent.values(), *self._waiting]
        self._sent.clear()
        self._waiting.clear()
        self._sent_bytes = 0
        for pending in unanswered:
            if not pending.future.done():
                pending.future.set_exception(error())

    def _late_ones(self, pendings: Iterable[Pending], now: float) -> Iterable[Pending]:
        return itertools.takewhile(lambda pending: pending.deadline <= now, pendings)

    def _expire(self, pending: Pending) -> None:
        if not pending.future.done():
            pending.future.set_exception(self._late())

    def _late(self) -> SessiondError:
        if self._broken:
            return self._broken()
        return DeadlineExceeded("the append wasn't answered in time")

    def _oldest(self) -> Pending | None:
        unanswered = itertools.chain(self._sent.values(), self._waiting)
        return next((pending for pending in unanswered if not pending.future.done()), None)


def _passes(error: SessiondError) -> bool:
    """Whether another stream may do better: the service is away or busy, or the connection broke.

    A proxy or a dying server breaks connections with several codes; then no reason comes along.
    """
    if isinstance(error, (Unavailable, Overloaded)):
        return True
    return isinstance(error, (InternalError, Cancelled)) and not error.reason


def _caused(error: grpc.RpcError) -> SessiondError:
    result = error_from_call(error)
    result.__cause__ = error
    return result

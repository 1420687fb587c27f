"""The append stream of `Client`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

import grpc

from sessiond import v1
from sessiond._errors import Cancelled, DeadlineExceeded
from sessiond._pipeline import Pipeline
from sessiond._requests.messages import append
from sessiond._requests.values import OnKnown

_PARTING_SECONDS = 1.0


class AppendStream:
    """Appends without waiting for each answer: the fast way to write.

    Each append is what `Client.append` is. Appends to one session are applied in the order of the
    calls; those to different sessions don't wait for each other. A refused one fails its own future
    alone; those behind it are applied all the same: give `expected_next_seq` where they depend on each
    other. Appends that wait while a frame is being
    written travel in one frame. One stream serves any number of threads and sessions.

    When the stream breaks it is opened again and what has no answer is sent again:
    `AsyncAppendStream` says how, and why that is safe.

    A future fails with the exceptions of `Client.append`, with `DeadlineExceeded` or the error that
    broke the stream when its time runs out, and with `Cancelled` when the stream is closed before.
    After those three, whether it was stored isn't known. A refusal isn't repeated by itself, not
    even `AppendQueueFull`, since those behind it went on. Futures can't be cancelled, and nobody
    reports a failed one that isn't looked at. Their callbacks run in the stream's own threads and
    mustn't wait.

    Example:
        with client.append_stream() as stream:
            futures = [stream.append("chat-1", message) for message in messages]
        for future in futures:
            print(future.result().last_seq)
    """

    def __init__(self, connect: Callable[..., Any], timeout: float | None) -> None:
        self._connect = connect
        self._timeout = timeout
        self._pipeline = Pipeline(timeout)
        lock = threading.RLock()
        self._work = threading.Condition(lock)
        """Something to send, or nothing more will come."""
        self._progress = threading.Condition(lock)
        """Something was answered or failed."""
        self._clock = threading.Condition(lock)
        """There is a deadline again, or the stream closes."""
        self._clock_stands = False
        self._call: Any = None
        self._threads: list[threading.Thread] = []
        self._closing = False
        self._stopped = False

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
    ) -> Future[v1.AppendMessagesResponse]:
        """Appends messages; returns the future answer at once.

        The arguments are those of `Client.append`. It waits while 1024 appends or 16 MiB have no
        answer.

        Raises:
            RuntimeError: The stream is closed.
            DeadlineExceeded: There was no room for as long as the client's timeout.
        """
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
        future: Future[v1.AppendMessagesResponse] = Future()
        future.set_running_or_notify_cancel()
        with self._work:
            self._wait_for_room()
            self._pipeline.add(request, future, time.monotonic())
            self._work.notify()
            if self._clock_stands:
                self._clock.notify()
            if not self._threads:
                self._start()
        return future

    def flush(self) -> None:
        """Waits until every append is answered, or has failed."""
        with self._progress:
            self._progress.wait_for(lambda: self._pipeline.settled)

    def close(self) -> None:
        """Waits until every append is answered, or has failed, and closes the stream."""
        with self._work:
            self._closing = True
        try:
            self.flush()
        finally:
            self._stop(_PARTING_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes the stream. After an exception it doesn't wait: what has no answer fails."""
        if error is None:
            self.close()
        else:
            self._stop(0.0)

    def _wait_for_room(self) -> None:
        if not self._progress.wait_for(
            lambda: self._closing or self._pipeline.has_room, self._timeout
        ):
            raise DeadlineExceeded("there was no room in the stream")
        if self._closing:
            raise RuntimeError("the stream is closed")

    def _start(self) -> None:
        for target in (self._run, self._watch_clock):
            thread = threading.Thread(target=target, name="sessiond-append-stream", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _stop(self, patience: float) -> None:
        with self._work:
            self._closing = self._stopped = True
            self._wake_all()
        if self._threads and patience:
            self._threads[0].join(patience)
        with self._work:
            if self._call is not None:
                self._call.cancel()
            self._pipeline.fail(lambda: Cancelled("the stream was closed"))
            self._wake_all()
        for thread in self._threads:
            thread.join()

    def _wake_all(self) -> None:
        for condition in (self._work, self._progress, self._clock):
            condition.notify_all()

    def _run(self) -> None:
        while self._has_work():
            try:
                broken = self._serve()
            except Exception as error:
                with self._work:
                    pause = self._pipeline.ends(error)
            else:
                with self._work:
                    pause = self._pipeline.breaks(broken)
            with self._work:
                self._wake_all()
                self._work.wait_for(lambda: self._stopped, pause)

    def _has_work(self) -> bool:
        """Waits for something to send; False if nothing more will come."""
        with self._work:
            self._work.wait_for(lambda: self._stopped or self._pipeline.sendable)
            return not self._stopped

    def _serve(self) -> grpc.RpcError | None:
        """Runs one stream until it ends; returns the error that it ended with."""
        alive = threading.Event()
        alive.set()
        try:
            with self._work:
                if self._stopped:
                    return None
                self._call = call = self._connect(self._frames(alive))
            for response in call:
                with self._work:
                    self._pipeline.answer(response, time.monotonic())
                    self._progress.notify_all()
                    if self._pipeline.sendable:
                        self._work.notify()
        except grpc.RpcError as error:
            return error
        finally:
            self._call = None
            alive.clear()
        return None

    def _frames(self, alive: threading.Event) -> Iterator[v1.AppendStreamRequest]:
        """What a stream sends, in a thread of gRPC's, until it is no longer `alive`."""
        while True:
            with self._work:
                self._work.wait_for(
                    lambda: self._stopped or not alive.is_set() or self._pipeline.sendable
                )
                if self._stopped or not alive.is_set():
                    return
                frame = self._pipeline.frame(time.monotonic())
            if frame is not None:
                yield frame

    def _watch_clock(self) -> None:
        with self._clock:
            while not self._stopped:
                deadline = self._pipeline.next_deadline
                if deadline is None or deadline == float("inf"):
                    self._clock_stands = True
                    self._clock.wait()
                    self._clock_stands = False
                    continue
                self._clock.wait(max(0.0, deadline - time.monotonic()))
                if self._pipeline.expire(time.monotonic()) and self._call is not None:
                    self._call.cancel()
                self._progress.notify_all()

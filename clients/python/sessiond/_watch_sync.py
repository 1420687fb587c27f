"""The watch of `Client`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import grpc

from sessiond._errors import SessiondError
from sessiond._session_watch import SessionUpdate, SessionWatchState
from sessiond._status import error_from_call
from sessiond._watch import Event, Progress, WatchState, worth_another_try

T = TypeVar("T")


class _Guard:
    """Cancels a call that is silent for too long, which blocks its reader otherwise."""

    def __init__(self, call: Any, silence: float) -> None:
        self._call = call
        self._silence = silence
        self._heard = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sessiond-watch", daemon=True)
        self._thread.start()

    def heard(self) -> None:
        self._heard = time.monotonic()

    def end(self) -> None:
        self._over.set()
        self._call.cancel()

    def _run(self) -> None:
        while not self._over.wait(max(0.01, self._heard + self._silence - time.monotonic())):
            if time.monotonic() - self._heard >= self._silence:
                self._call.cancel()
                return


class Following(Generic[T]):
    """A stream that goes on by itself when it breaks."""

    def __init__(
        self, connect: Callable[[Any], Any], state: Progress[Any, Any, T], timeout: float | None
    ) -> None:
        self._connect = connect
        self._state = state
        self._timeout = timeout

    def __iter__(self) -> Iterator[T]:
        alive = time.monotonic()
        while True:
            call = self._connect(self._state.request())
            guard = _Guard(call, self._state.silence)
            try:
                for frame in _frames(call):
                    guard.heard()
                    alive = time.monotonic()
                    for event in self._state.take(frame):
                        yield event
                        guard.heard()
                    self._state.handled(frame)
                if not self._state.said_goodbye:
                    return
            except SessiondError as error:
                tried = time.monotonic() - alive
                out_of_time = self._timeout is not None and tried > self._timeout
                if out_of_time or not worth_another_try(error):
                    raise
            finally:
                guard.end()
            time.sleep(self._state.pause())


class Watch(Following[Event]):
    """What happens in sessions, as it happens: iterate over it.

    A watch that breaks goes on by itself behind the last event that was dealt with, at any replica of
    the target, after the delay that a server which stops asks for, else with growing pauses of at most
    5 s; an event whose transaction was dealt with isn't received again, nor is any left out. It ends when
    nothing is left to watch, since all was deleted.

    Example:
        for event in client.watch("chat-1", start="now"):
            if event.kind == "message_appended":
                print(event.value.text)
    """

    _state: WatchState

    @property
    def tokens(self) -> dict[str, str]:
        """How far the caller has come, by session: give it as `resume` to go on later, elsewhere."""
        return dict(self._state.tokens)


class SessionWatch(Following[SessionUpdate]):
    """Sessions as they are, and each one as it changes: iterate over it. See `watch_sessions`.

    Example:
        for update in client.watch_sessions(session_filter(owner="ann")):
            if update.kind == "changed":
                print(update.session.title)
    """

    _state: SessionWatchState

    @property
    def token(self) -> str:
        """How far the caller has come: give it as `resume` to go on later, elsewhere."""
        return self._state.token


def _frames(call: Any) -> Iterator[Any]:
    try:
        yield from call
    except grpc.RpcError as error:
        raise error_from_call(error) from error

"""Waiting for a server that went away, for work that is safe to repeat."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

import sessiond

_T = TypeVar("_T")

_FIRST_DELAY = 0.1
_LONGEST_DELAY = 2.0
PASSING = (
    sessiond.Unavailable,
    sessiond.Overloaded,
    sessiond.DeadlineExceeded,
    sessiond.Cancelled,
)
"""What may be over when the call is repeated."""


class GaveUp(Exception):
    """The server didn't come back in time. The last error is the cause."""


class Stopped(Exception):
    """The work was interrupted."""


class Patience:
    """Repeats calls while the server is away; shared by the threads of one piece of work.

    It waits for at most `seconds` since any call last succeeded. A first call of all that fails
    isn't repeated: then the server was never there. `on_wait` is told the error once per absence.
    """

    def __init__(self, seconds: float, on_wait: Callable[[Exception], None]) -> None:
        self._seconds = seconds
        self._on_wait = on_wait
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._last_success: float | None = None
        self._absent = False

    def call(self, work: Callable[[], _T]) -> _T:
        """What `work` returns. Raises GaveUp, Stopped, or any error that waiting doesn't help."""
        delay = _FIRST_DELAY
        while not self._stopped.is_set():
            try:
                result = work()
            except PASSING as error:
                self._failed(error)
                self._stopped.wait(max(delay, min(error.retry_delay or 0, _LONGEST_DELAY)))
                delay = min(delay * 2, _LONGEST_DELAY)
            else:
                self._succeeded()
                return result
        raise Stopped

    def stop(self) -> None:
        """Makes all calls end with Stopped, instead of beginning or being repeated."""
        self._stopped.set()

    def _succeeded(self) -> None:
        with self._lock:
            self._last_success = time.monotonic()
            self._absent = False

    def _failed(self, error: sessiond.SessiondError) -> None:
        with self._lock:
            if self._stopped.is_set():
                raise Stopped from error
            if self._last_success is None:
                raise error
            if time.monotonic() - self._last_success >= self._seconds:
                raise GaveUp from error
            first, self._absent = not self._absent, True
        if first:
            self._on_wait(error)

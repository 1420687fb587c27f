"""When a call is made again, and how long to wait before."""

from __future__ import annotations

import time
from collections.abc import Sequence

from google.protobuf.message import Message

from sessiond._errors import SessiondError, Unavailable
from sessiond._policies import is_set

ATTEMPTS = 5
_LONGEST_PAUSE = 2.0


class Attempts:
    """The attempts at a call whose method may be repeated if one of `fields` is set.

    Of every other method gRPC knows what to do, and there is one attempt.
    """

    def __init__(self, fields: Sequence[str], request: Message, timeout: float | None) -> None:
        self._left = ATTEMPTS if fields and is_set(request, fields) else 1
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._timeout = timeout
        self._made = 0

    def timeout(self) -> float | None:
        """Seconds that the next attempt may take."""
        if self._deadline is None or not self._made:
            return self._timeout
        return self._deadline - time.monotonic()

    def pause(self, error: SessiondError) -> float:
        """Seconds to wait before the next attempt. Raises the error if there is none."""
        self._left -= 1
        self._made += 1
        seconds = pause(self._made - 1, error)
        if not self._left or not isinstance(error, Unavailable):
            raise error
        if self._deadline is not None and time.monotonic() + seconds >= self._deadline:
            raise error
        return seconds


def pause(attempt: int, error: SessiondError) -> float:
    """Seconds before the attempt that follows."""
    growing: float = 0.1 * 3**attempt
    return min(max(growing, error.retry_delay or 0), _LONGEST_PAUSE)

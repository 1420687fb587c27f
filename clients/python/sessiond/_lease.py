"""What a writer lease knows of itself, apart from how it is renewed."""

from __future__ import annotations

import time

from sessiond import v1
from sessiond._errors import NotFound, SessiondError, WriterLeaseLost
from sessiond._ids import uuid7


class WriterLease:
    """A writer lease that is renewed in the background while its block runs."""

    session_id: str
    """The session that it is for."""
    holder: str
    """The name under which it was taken."""
    lease_ttl: float
    """How many seconds it lasts if it isn't renewed."""
    token: str
    """What to give as `writer_token`."""
    epoch: int
    """The fencing number: grows with every acquisition in the session."""
    version: v1.SessionVersion
    """How far the session had come when the lease was taken: read up to there before writing."""

    def __init__(self, session_id: str, holder: str | None, lease_ttl: float) -> None:
        self.session_id = session_id
        self.holder = holder or uuid7()
        self.lease_ttl = lease_ttl
        self.token = ""
        self.epoch = 0
        self.version = v1.SessionVersion()
        self._lost = False
        self._good_until = 0.0

    @property
    def lost(self) -> bool:
        """Whether the lease is over, or may be: the server said so, or no renewal came through for
        the length of `lease_ttl`. Once lost it stays lost. What was still written with it is refused."""
        if not self._lost and self.token and time.monotonic() >= self._good_until:
            self._lost = True
        return self._lost

    @property
    def _interval(self) -> float:
        return self.lease_ttl / 3

    def _taken(self, answer: v1.AcquireWriterResponse, asked: float) -> None:
        self.token, self.epoch, self.version = answer.writer_token, answer.epoch, answer.version
        self._renewed(asked)

    def _renewed(self, asked: float) -> None:
        """The server counts from when it got the request, which was after `asked`."""
        self._good_until = asked + self.lease_ttl

    def _failed(self, error: SessiondError) -> None:
        if isinstance(error, (WriterLeaseLost, NotFound)):
            self._lost = True

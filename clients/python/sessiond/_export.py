"""Exports that go on when the connection breaks."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from typing import Self

from sessiond import v1
from sessiond._errors import SessiondError
from sessiond._retries import ATTEMPTS, pause
from sessiond._transfer import passing


class Progress:
    """How far an export has come, over as many calls as it takes."""

    def __init__(self, request: v1.ExportSessionsRequest, timeout: float | None) -> None:
        self._request = request
        self._timeout = timeout
        self._begun = False
        self._heard = time.monotonic()
        self._attempts = 0
        self._open = False

    @property
    def resume_token(self) -> str:
        """Where to go on behind the sessions that have ended."""
        return self._request.resume_token

    def request(self) -> v1.ExportSessionsRequest:
        """For what hasn't come yet."""
        request = v1.ExportSessionsRequest()
        request.CopyFrom(self._request)
        return request

    def records(self, answer: v1.ExportSessionsResponse) -> Iterator[v1.TransferRecord]:
        """What has come; behind the last record the answer is dealt with."""
        self._attempts, self._begun = 0, True
        for record in answer.records:
            if record.HasField("session"):
                self._open = True
            elif record.HasField("end"):
                self._open = False
            yield record
        if answer.resume_token:
            self._request.resume_token = answer.resume_token
        self._heard = time.monotonic()

    def failed(self, error: SessiondError) -> float:
        """Seconds to wait before another call. Raises the error if there is no point in one."""
        self._attempts += 1
        if not passing(error) or (not self._begun and self._attempts >= ATTEMPTS):
            raise error
        if self._timeout is not None and time.monotonic() - self._heard > self._timeout:
            raise error
        return pause(min(self._attempts, ATTEMPTS), error)

    def cut(self) -> Iterator[v1.TransferRecord]:
        """The end of the session that was under way, which comes again."""
        if self._open:
            self._open = False
            yield v1.TransferRecord(end=v1.TransferEnd(gone=True))


class Export:
    """The records of an export, one after the other. `Client.export_sessions` makes it.

    It goes on by itself when the connection breaks, unless nothing has come for as long as a call of the
    client may take. `resume_token` says behind which sessions: an `export_sessions` of the same arguments
    with it gives the rest, in another process too.
    """

    def __init__(
        self,
        answers: Callable[[v1.ExportSessionsRequest], Iterator[v1.ExportSessionsResponse]],
        request: v1.ExportSessionsRequest,
        timeout: float | None,
    ) -> None:
        self._answers = answers
        self._progress = Progress(request, timeout)
        self._records = self._run()

    @property
    def resume_token(self) -> str:
        """Where to go on: behind the sessions that have ended in what was taken whole; empty if none has."""
        return self._progress.resume_token

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> v1.TransferRecord:
        return next(self._records)

    def close(self) -> None:
        """Ends the call."""
        self._records.close()

    def _run(self) -> Generator[v1.TransferRecord]:
        progress = self._progress
        while True:
            try:
                for answer in self._answers(progress.request()):
                    yield from progress.records(answer)
            except SessiondError as error:
                seconds = progress.failed(error)
                yield from progress.cut()
                time.sleep(seconds)
            else:
                return

"""Exports that go on when the connection breaks, for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Self

from sessiond import v1
from sessiond._errors import SessiondError
from sessiond._export import Progress


class AsyncExport:
    """The records of an export, one after the other. `AsyncClient.export_sessions` makes it; see `Export`."""

    def __init__(
        self,
        answers: Callable[[v1.ExportSessionsRequest], AsyncIterator[v1.ExportSessionsResponse]],
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

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> v1.TransferRecord:
        return await anext(self._records)

    async def aclose(self) -> None:
        """Ends the call."""
        await self._records.aclose()

    async def _run(self) -> AsyncGenerator[v1.TransferRecord]:
        progress = self._progress
        while True:
            try:
                async for answer in self._answers(progress.request()):
                    for record in progress.records(answer):
                        yield record
            except SessiondError as error:
                seconds = progress.failed(error)
                for record in progress.cut():
                    yield record
                await asyncio.sleep(seconds)
            else:
                return

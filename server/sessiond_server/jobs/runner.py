"""Runs the jobs: each is done by one replica at a time, which holds a lease on it.

A replica that dies in the middle of a job loses its lease, and another one goes on. Since the old holder may
not know yet that it lost it, whatever a job does must be harmless when it is done twice at once.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import structlog

from sessiond_server.errors import Refused
from sessiond_server.store import jobs
from sessiond_server.store.database import Connection, Database

log = structlog.get_logger(__name__)
Result = TypeVar("Result")

LEASE = 15.0
"""Seconds after which a job of a replica that died is another's."""
_LONGEST_WAIT = 60.0
"""Seconds between two looks at a job that isn't due for long: its interval may be changed by a replica."""


class Job(Protocol):
    """Something to be done again and again."""

    name: str
    """What the lease is kept under; at most 64 characters."""
    every: float
    """Seconds from one beginning to the next."""

    async def run(self) -> None:
        """Do what there is to do, in transactions that are each of bounded size. Cancelled when the lease is
        lost or the server stops."""
        ...


@dataclass
class JobRunner:
    """Keeps the jobs going until it is stopped."""

    database: Database
    jobs: Sequence[Job]
    lease: float = LEASE
    _holder: str = field(default_factory=lambda: uuid.uuid4().hex)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._keep(job), name=f"job {job.name}") for job in self.jobs
        ]

    async def stop(self) -> None:
        """End what is under way; other replicas may go on at once."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _keep(self, job: Job) -> None:
        while True:
            try:
                if await self._in_database(self._claim, job):
                    await self._hold(job)
                wait = await self._in_database(self._wait, job)
            except Refused as error:
                log.debug("job postponed", job=job.name, reason=str(error))
                wait = 1.0
            jitter = 1 + random.random() / 20  # so that replicas don't ask at the same moment
            await asyncio.sleep(min(max(wait, 0.05), _LONGEST_WAIT) * jitter)

    async def _hold(self, job: Job) -> None:
        """Run a job that is claimed, for as long as it is."""
        work = asyncio.create_task(job.run(), name=f"run {job.name}")
        error, every = "", 0.0  # interrupted, it is due at once
        try:
            while not (await asyncio.wait({work}, timeout=self.lease / 3))[0]:
                if not await self._in_database(self._renew, job):
                    log.warning("job lost", job=job.name)
                    return
            error, every = _outcome(job, work), job.every
        finally:
            await _ended(work)
            with suppress(Refused):
                await self._in_database(self._finish, job, every, error)

    async def _in_database(
        self, work: Callable[..., Awaitable[Result]], job: Job, *arguments: object
    ) -> Result:
        async with self.database.connection() as connection:
            return await work(connection, job, *arguments)

    async def _claim(self, connection: Connection, job: Job) -> bool:
        return await jobs.claim(connection, job.name, self._holder, self.lease)

    async def _wait(self, connection: Connection, job: Job) -> float:
        return await jobs.wait(connection, job.name)

    async def _renew(self, connection: Connection, job: Job) -> bool:
        return await jobs.renew(connection, job.name, self._holder, self.lease)

    async def _finish(self, connection: Connection, job: Job, every: float, error: str) -> None:
        await jobs.finish(connection, job.name, self._holder, every, error)


async def _ended(work: asyncio.Task[None]) -> None:
    work.cancel()
    await asyncio.wait({work})


def _outcome(job: Job, work: asyncio.Task[None]) -> str:
    """What went wrong, in words for the table, or nothing. It is tried again when it is due."""
    error = work.exception()
    if error is None:
        return ""
    if isinstance(error, Refused):
        log.info("job interrupted", job=job.name, reason=str(error))
    else:
        log.error("job failed", job=job.name, exc_info=error)
    return repr(error)

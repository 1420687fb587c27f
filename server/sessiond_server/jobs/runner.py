"""Runs the jobs: each is done by one replica at a time, which holds a lease on it.

A replica that dies in the middle of a job loses its lease, and another one goes on. Since the old holder may
not know yet that it lost it, whatever a job does must be harmless when it is done twice at once.
"""

from __future__ import annotations

import asyncio
import random
import time
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
_AGAIN = 1.0
"""Seconds until the database is asked again after it didn't answer,"""
_AFTER_BUG = 10.0
"""and after it answered what it never should."""
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
            wait = await self._turn(job)
            jitter = 1 + random.random() / 20  # so that replicas don't ask at the same moment
            await asyncio.sleep(min(max(wait, 0.05), _LONGEST_WAIT) * jitter)

    async def _turn(self, job: Job) -> float:
        """Do a job if it is due; seconds until the next look. Whatever fails, there is one."""
        try:
            asked = time.monotonic()
            if await self._in_database(self._claim, job):
                await self._hold(job, asked + self.lease)
            return await self._in_database(self._wait, job)
        except Refused as error:
            log.debug("job postponed", job=job.name, reason=str(error))
            return _AGAIN
        except Exception as error:
            log.error("job postponed", job=job.name, exc_info=error)
            return _AFTER_BUG

    async def _hold(self, job: Job, until: float) -> None:
        """Run a job that is claimed, for as long as it is; at first until a time of this process's clock."""
        work = asyncio.create_task(job.run(), name=f"run {job.name}")
        error, every = "", 0.0  # interrupted, it is due at once
        try:
            while not (await asyncio.wait({work}, timeout=self.lease / 3))[0]:
                until = await self._renewed(job, until)
                if not until:
                    log.warning("job lost", job=job.name)
                    return
            error, every = _outcome(job, work), job.every
        finally:
            await _ended(work)
            with suppress(Refused):
                await self._in_database(self._finish, job, every, error)

    async def _renewed(self, job: Job, until: float) -> float:
        """Until when a lease holds now, 0 if it is lost: to another replica, or because the database didn't
        renew it before it ended."""
        while (asked := time.monotonic()) < until:
            try:
                async with asyncio.timeout(until - asked):
                    held = await self._in_database(self._renew, job)
                return asked + self.lease if held else 0.0
            except Exception as error:
                log.warning("lease of a job not renewed", job=job.name, error=repr(error))
            await asyncio.sleep(min(_AGAIN, self.lease / 15))
        return 0.0

    async def _in_database(
        self, work: Callable[..., Awaitable[Result]], job: Job, *arguments: object
    ) -> Result:
        async with self.database.connection(refuse=False) as connection:
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
    error = asyncio.CancelledError() if work.cancelled() else work.exception()
    if error is None:
        return ""
    if isinstance(error, Refused):
        log.warning("job interrupted", job=job.name, reason=str(error))
    else:
        log.error("job failed", job=job.name, exc_info=error)
    return repr(error)

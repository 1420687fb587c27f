"""Jobs: each on one replica at a time, and by another one when that dies."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import asyncpg
import pytest
from structlog.testing import capture_logs

from sessiond_server.errors import ReadQueueFull
from sessiond_server.jobs import runner
from sessiond_server.jobs.runner import JobRunner
from sessiond_server.store.database import Database
from tests.support.processes import ServerProcess


class Counted:
    """A job that notes how often it runs, and how many of it run at once."""

    name = "counted"

    def __init__(self, *, every: float = 0.05, takes: float = 0.02, fails: int = 0) -> None:
        self.every = every
        self.takes = takes
        self.fails = fails
        self.runs = 0
        self.now = 0
        self.most = 0

    async def run(self) -> None:
        self.runs += 1
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(self.takes)
            if self.runs <= self.fails:
                raise ValueError("it doesn't work yet")
        finally:
            self.now -= 1

    async def ran(self, times: int) -> None:
        async def enough() -> bool:
            return self.runs >= times

        await until(enough)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.01)


@asynccontextmanager
async def replica(dsn: str, *jobs: Counted, lease: float = 15) -> AsyncIterator[JobRunner]:
    database = Database(dsn, connections=4, queue=100)
    await database.open()
    runner = JobRunner(database, jobs, lease=lease)
    runner.start()
    try:
        yield runner
    finally:
        await runner.stop()
        await database.close()


async def test_a_job_runs_on_one_replica_at_a_time(dsn: str) -> None:
    job = Counted()
    async with replica(dsn, job), replica(dsn, job), replica(dsn, job):
        await job.ran(20)
    assert job.most == 1


async def test_a_job_that_fails_is_told_and_tried_again(dsn: str) -> None:
    job = Counted(fails=1)
    with capture_logs() as logs:
        async with replica(dsn, job):
            await job.ran(2)
    assert [entry["log_level"] for entry in logs] == ["error"]


async def test_the_table_says_what_went_wrong(dsn: str) -> None:
    job = Counted(every=3600, fails=1)
    connection = await asyncpg.connect(dsn)

    async def ended() -> bool:
        return await connection.fetchval("SELECT end_time FROM job") is not None

    with capture_logs():
        async with replica(dsn, job):
            await until(ended)
    assert "doesn't work yet" in await connection.fetchval("SELECT error FROM job")
    await connection.close()


async def test_a_long_job_keeps_its_lease(dsn: str) -> None:
    job = Counted(takes=1.5, every=0.01)
    async with replica(dsn, job, lease=0.6), replica(dsn, job, lease=0.6):
        await job.ran(3)
    assert job.most == 1


async def test_a_job_is_stopped_when_its_lease_is_lost(dsn: str) -> None:
    job = Counted(takes=3600)
    connection = await asyncpg.connect(dsn)

    async def stopped() -> bool:
        return job.now == 0

    async with replica(dsn, job, lease=0.6):
        await job.ran(1)
        await connection.execute("UPDATE job SET holder = 'another', due_time = now() + '1 hour'")
        await until(stopped)
    assert await connection.fetchval("SELECT holder FROM job") == "another", "and left to it"
    await connection.close()


async def test_a_job_goes_on_after_the_database_failed_in_a_way_that_nobody_expects(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_AFTER_BUG", 0.05)
    job = Counted()
    connection = await asyncpg.connect(dsn)

    async def told() -> bool:
        return any(entry["event"] == "job postponed" for entry in logs)

    with capture_logs() as logs:
        async with replica(dsn, job):
            await job.ran(1)
            await connection.execute("ALTER TABLE job RENAME TO job_elsewhere")
            await until(told)
            await connection.execute("ALTER TABLE job_elsewhere RENAME TO job")
            await job.ran(job.runs + 2)
    await connection.close()


async def test_a_job_that_cancels_itself_is_tried_again(dsn: str) -> None:
    class Cancelled(Counted):
        async def run(self) -> None:
            await super().run()
            if self.runs == 1:
                raise asyncio.CancelledError

    job = Cancelled()
    with capture_logs() as logs:
        async with replica(dsn, job):
            await job.ran(2)
    assert [entry["event"] for entry in logs] == ["job failed"]


async def test_a_job_goes_on_while_its_lease_lasts_though_it_cannot_be_renewed(dsn: str) -> None:
    job = Counted(takes=3600)
    connection = await asyncpg.connect(dsn)

    async def told() -> bool:
        return any(entry["event"] == "lease of a job not renewed" for entry in logs)

    async def renewed() -> bool:
        query = "SELECT expire_time > now() + interval '6 seconds' FROM job"
        return bool(await connection.fetchval(query))

    with capture_logs() as logs:
        async with replica(dsn, job, lease=9):
            await job.ran(1)
            await connection.execute("ALTER TABLE job RENAME TO job_elsewhere")
            await until(told)
            await connection.execute(
                "ALTER TABLE job_elsewhere RENAME TO job;"
                "UPDATE job SET expire_time = now() + interval '3 seconds'"
            )
            await until(renewed)
            assert job.now == 1
    assert not [entry for entry in logs if entry["event"] == "job lost"]
    await connection.close()


async def test_P13_a_lease_is_renewed_though_the_queue_for_connections_is_full(dsn: str) -> None:
    database = Database(dsn, connections=1, queue=0)
    await database.open()
    job = Counted(takes=1.5, every=3600)
    runner = JobRunner(database, [job], lease=0.9)

    async def crowd() -> None:
        while job.runs == 0 or job.now:
            with suppress(ReadQueueFull):
                async with database.connection() as connection:
                    await connection.execute("SELECT pg_sleep(0.01)")
            await asyncio.sleep(0)

    runner.start()
    with capture_logs() as logs:
        async with asyncio.timeout(60):
            await asyncio.gather(*(crowd() for _ in range(4)))
    assert not [entry for entry in logs if entry["event"] == "job lost"]
    await runner.stop()
    await database.close()


async def test_a_stopped_replica_leaves_its_job_to_the_others_at_once(dsn: str) -> None:
    first, second = Counted(takes=3600, every=3600), Counted(every=3600)
    async with replica(dsn, first):
        await first.ran(1)
    async with replica(dsn, second):
        await second.ran(1)


async def test_another_replica_takes_over_after_kill_9(dsn: str) -> None:
    command = [sys.executable, "-m", "tests.support.job_holder", dsn]
    holder = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert await holder.stdout.readline() == b"holding\n"
    finally:
        holder.kill()
        await holder.wait()
    job = Counted()
    job.name = "endless"
    async with replica(dsn, job, lease=2):
        await job.ran(1)


@pytest.mark.parametrize("jobs", ["true", "false"])
def test_a_server_starts_and_stops_with_jobs_or_without(
    jobs: str, dsn: str, start_server: Callable[..., ServerProcess]
) -> None:
    assert start_server(SESSIOND_DSN=dsn, SESSIOND_JOBS=jobs).stop() == 0

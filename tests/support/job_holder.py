"""A replica with one job that never ends, for a test that kills it. Says `holding` when it has the job."""

from __future__ import annotations

import asyncio
import sys

from sessiond_server.jobs.runner import JobRunner
from sessiond_server.store.database import Database


class Endless:
    name = "endless"
    every = 1.0

    async def run(self) -> None:
        print("holding", flush=True)
        await asyncio.sleep(3600)


async def main(dsn: str) -> None:
    database = Database(dsn, connections=2, queue=10)
    await database.open()
    JobRunner(database, [Endless()], lease=2).start()
    await asyncio.sleep(3600)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))

"""One side of `--against`: the loads of one tree, on a server of that tree.

    PYTHONPATH=TREE:... python -P bench/worker.py DSN

For each line "LOAD SECONDS" on its standard input it runs that load and answers with a line of JSON: the
seconds that a message (of an append) or a call (of a read) takes on the clock, and of processor time.

A tree that has no such file is measured with that of another tree. So change names of bench/loads.py and
bench/flat.py that are used here only together with this file.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg

from bench import flat
from bench.loads import Service
from bench.measure import Step, throughput
from bench.processes import sessiond

READY = "worker is ready"
_CALLERS = 64
_BATCHERS = 8

_BACKENDS = """
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""


def _processor_time(pid: int) -> float:
    """Seconds of processor time of a process, 0 if it has ended."""
    try:
        # The clock of clock_getcpuclockid(3): /proc counts in hundredths of a second only.
        return time.clock_gettime(~pid << 3 | 2)
    except OSError:
        return 0


class _Processors:
    """Who spends processor time on this side: the client is this process, the server its only child."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self._connection = connection
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
        (self._server,) = map(int, children.split())

    async def spent(self) -> dict[str, dict[int, float]]:
        """Seconds so far, by part and process."""
        pids = {
            "client": [os.getpid()],
            "server": [self._server],
            "postgres": [row["pid"] for row in await self._connection.fetch(_BACKENDS)],
        }
        return {part: {pid: _processor_time(pid) for pid in pids[part]} for part in pids}


def _reads(call: Callable[[], Awaitable[None]]) -> Step:
    async def step(_: int) -> int:
        await call()
        return 1

    return step


async def _measure(
    processors: _Processors, step: Step, callers: int, seconds: float
) -> dict[str, float]:
    moved = 0
    took = []

    async def counted(caller: int) -> int:
        nonlocal moved
        start = time.perf_counter()
        count = await step(caller)
        took.append(time.perf_counter() - start)
        moved += count
        return count

    before = await processors.spent()
    rate = await throughput(counted, callers, seconds)
    after = await processors.spent()
    # A caller alone has latencies, of which the median is steadier.
    found = {"wall": statistics.median(took) if callers == 1 else 1 / rate}
    for part, pids in after.items():
        spent = sum(now - before[part].get(pid, 0) for pid, now in pids.items())
        found[part] = spent / moved
    return found


async def _run(dsn: str) -> None:
    # How the size of a session matters is measured elsewhere: the large ones needn't be.
    flat.LARGE = 2 * flat.SMALL
    with sessiond(dsn, SESSIOND_SEARCH="false") as address:
        service = Service(address)
        await service.make_sessions(_CALLERS)
        await flat.prepare(service, dsn)
        calls = flat._Calls(service, flat.SMALL)
        connection = await asyncpg.connect(dsn)
        async with service.client.append_stream() as stream:
            loads = {
                "append_unary": (service.unary(1), _CALLERS),
                "append_turns": (service.unary(4), _CALLERS),
                "append_stream": (service.pipelined(stream), _CALLERS),
                "append_batch": (service.unary(100), _BATCHERS),
                "page": (_reads(calls.page), 1),
                "context": (_reads(calls.context), 1),
            }
            processors = _Processors(connection)
            print(READY, flush=True)
            while line := await asyncio.to_thread(sys.stdin.readline):
                name, seconds = line.split()
                found = await _measure(processors, *loads[name], float(seconds))
                print(json.dumps(found), flush=True)
        await connection.close()
        await service.close()


if __name__ == "__main__":
    asyncio.run(_run(sys.argv[1]))

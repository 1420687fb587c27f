"""Servers and a Postgres that are killed with -9 while writers go on."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from tests.faults.history import Outcome
from tests.faults.load import Load, channel
from tests.faults.reading import verify
from tests.support.processes import ServerProcess

RECOVERY = 30
"""How long nothing may be acknowledged after a fault, in seconds; two busy cores are slow."""


class Server(ServerProcess):
    """A server that leaves nothing open when it can't start."""

    def _wait_ready(self) -> list[str]:
        try:
            return super()._wait_ready()
        except RuntimeError:
            self._end()
            raise


@dataclass
class World:
    """What can be killed. A server that is started again has the address that it had."""

    place: Path
    data_dir: Path
    """That of the Postgres."""
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    servers: list[ServerProcess] = field(default_factory=list)
    ended: list[ServerProcess] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    failed_starts: list[str] = field(default_factory=list)
    longest: float = 0.0
    """The longest time from a fault to the next acknowledgements, in seconds."""

    async def start(self, count: int = 1) -> None:
        self.servers = [await self._started(number) for number in range(count)]

    async def _started(self, number: int) -> ServerProcess:
        """Start a server as a supervisor does: again when it can't use its database yet."""

        def start() -> ServerProcess:
            listen = f"unix:{self.place}/{number}"
            return Server(*self.arguments, listen=listen, **self.environment)

        for _ in range(5):
            try:
                return await asyncio.to_thread(start)
            except RuntimeError as error:
                self.failed_starts.append(str(error))
                await asyncio.sleep(0.5)
        raise AssertionError("\n".join(self.failed_starts[-5:]))

    @property
    def targets(self) -> list[str]:
        return [server.target for server in self.servers]

    def _pid_file(self) -> list[str]:
        return (self.data_dir / "postgres" / "postmaster.pid").read_text().splitlines()

    @property
    def dsn(self) -> str:
        """That of the Postgres, which listens on a socket alone."""
        _, _, _, port, socket_dir, *_ = self._pid_file()
        return f"postgresql://sessiond@/sessiond?host={socket_dir}&port={port}"

    async def kill_server(self, number: int = 0) -> None:
        """kill -9 of a server, and a new one in its place."""
        self.faults["server"] += 1
        await self._replace(number)

    async def _replace(self, number: int) -> None:
        await asyncio.to_thread(self.servers[number].kill)
        self.ended.append(self.servers[number])
        self.servers[number] = await self._started(number)

    async def kill_postgres(self) -> None:
        """kill -9 of the postmaster, and wait until whoever keeps it has started a new one. Its
        processes may work on for a moment."""
        self.faults["postgres"] += 1
        pid = self._pid_file()[0]
        os.kill(int(pid), signal.SIGKILL)
        until = time.monotonic() + RECOVERY
        while not self._is_ready_without(pid):
            assert time.monotonic() < until, "Postgres isn't started again"
            await asyncio.sleep(0.02)

    def _is_ready_without(self, pid: str) -> bool:
        try:
            lines = self._pid_file()
        except OSError:
            return False
        return len(lines) > 7 and lines[0] != pid and lines[7].strip() == "ready"

    async def kill_backend(self) -> None:
        """kill -9 of a process that works for a server, at its work if possible; all others go down
        with it."""
        connection = await asyncpg.connect(self.dsn)
        pid = None
        while pid is None:
            pid = await connection.fetchval(
                "SELECT pid FROM pg_stat_activity WHERE application_name = 'sessiond'"
                " ORDER BY state = 'active' DESC, backend_start LIMIT 1"
            )
        self.faults["backend"] += 1
        os.kill(pid, signal.SIGKILL)
        connection.terminate()  # its process goes down as well, so there is none to say goodbye to

    async def kill_both(self, number: int = 0) -> None:
        """kill -9 of the postmaster and a server at the same moment."""
        self.faults["both"] += 1
        os.kill(int(self._pid_file()[0]), signal.SIGKILL)
        await self._replace(number)

    async def storm(
        self, load: Load, writers: int, faults: Iterable[Callable[[], Awaitable[None]]]
    ) -> None:
        """Cause the faults one after the other under load, each when all works again; then check
        everything."""
        loading = asyncio.create_task(load.run(writers))
        try:
            await progress(load, loading)
            for fault in faults:
                await asyncio.sleep(random.uniform(0.05, 0.3))
                began = time.monotonic()
                await fault()
                await progress(load, loading)
                self.longest = max(self.longest, time.monotonic() - began)
        finally:
            load.stop()
            async with asyncio.timeout(60):
                await loading
        assert load.surprises == []
        async with channel(self.targets[-1]) as one:
            await verify(load.history, one, self.dsn)

    async def end(self) -> None:
        """Stop the servers; none may have had a bug, then or before."""
        for server in self.servers:
            assert await asyncio.to_thread(server.stop) == 0
        for server in (*self.servers, *self.ended):
            assert not server.bugs()

    def clear(self) -> None:
        """Leave no process behind, whatever happened."""
        for server in self.servers:
            if server.running:
                server.kill()


async def progress(load: Load, loading: asyncio.Task[None], wanted: int = 30) -> None:
    """Wait until calls that begin now are acknowledged."""
    start = len(load.history.attempts)
    until = time.monotonic() + RECOVERY
    while True:
        fresh = load.history.attempts[start:]
        if sum(attempt.outcome is Outcome.ACKED for attempt in fresh) >= wanted:
            return
        assert not loading.done(), "the writers ended early"
        assert time.monotonic() < until, "nothing is acknowledged any more"
        await asyncio.sleep(0.02)


def summary(world: World, load: Load) -> str:
    """What was done, in numbers."""
    counts = {outcome.value: load.history.count(outcome) for outcome in Outcome}
    stored = sum(len(a.messages) for a in load.history.attempts if a.added)
    return (
        f"{world.faults.total()} faults {dict(world.faults)}, {len(world.failed_starts)} starts that"
        f" failed for want of a database; {len(load.history.attempts)} calls"
        f" {counts}; {stored} messages acknowledged as new; at most {world.longest:.1f} s from a fault"
        " to the next acknowledgements"
    )

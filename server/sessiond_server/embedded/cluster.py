"""One Postgres cluster: making it, starting its postmaster, shutting it down."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import time
from asyncio.subprocess import Process
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import asyncpg

from .directory import DataDirectory
from .errors import EmbeddedPostgresError
from .process import run, spawn
from .socket_dir import PORT
from .strays import cluster_name, end_strays, is_ready, remove_reused_pid_file
from .user import User, give_to

ROLE = DATABASE = "sessiond"
START_TIMEOUT = 600.0
FAST_TIMEOUT = 8.0
IMMEDIATE_TIMEOUT = 5.0
CONNECT_TIMEOUT = 5.0
REMOVALS = 50
POLL = 0.02
LOG_LIMIT = 16 * 1024 * 1024
LOG_TAIL = 2000

MEMORY = "dynamic_shared_memory_type"
DEFAULTS = {
    "max_connections": "100",
    "shared_buffers": "128MB",
    "max_wal_size": "1GB",
    "min_wal_size": "80MB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    "log_checkpoints": "off",
    # In the data directory: containers have little room in /dev/shm, and nobody removes what a
    # killed Postgres leaves there.
    MEMORY: "mmap",
}
DURABILITY = ("fsync", "full_page_writes", "synchronous_commit")
FIXED = (
    "data_directory",
    "config_file",
    "hba_file",
    "ident_file",
    "external_pid_file",
    "listen_addresses",
    "port",
    "unix_socket_directories",
    "unix_socket_permissions",
    "log_destination",
    "logging_collector",
    "cluster_name",
    *DURABILITY,
)


def checked_settings(settings: Mapping[str, str], *, durable: bool) -> dict[str, str]:
    """Return all settings of a cluster but those that name its directories.

    Raises ValueError if `settings` names one that isn't the caller's to choose.
    """
    if fixed := sorted(name for name in settings if name.lower() in FIXED):
        raise ValueError(f"the embedded Postgres sets {', '.join(fixed)} itself")
    durability = dict.fromkeys(DURABILITY, "on" if durable else "off")
    chosen = {name.lower(): value for name, value in settings.items()}
    return {**DEFAULTS, **chosen, **durability}


@dataclass(frozen=True)
class Cluster:
    """Postgres's data in a directory that is ours, with the programs and the user that it runs
    with.
    """

    directory: DataDirectory
    bin_dir: Path
    user: User | None
    socket_dir: Path
    settings: Mapping[str, str]
    durable: bool

    def dsn(self, database: str = DATABASE) -> str:
        """Return a DSN that no PG* variable of the environment changes."""
        return f"postgresql://{ROLE}@/{quote(database)}?host={self.socket_dir}&port={PORT}"

    async def initialise(self) -> None:
        """Make the cluster if there is none. Killed in the middle, it leaves nothing that the next
        call minds.
        """
        if self.directory.is_initialised():
            return
        new = self.directory.new_pgdata
        await _remove(new)
        new.mkdir(mode=0o700)
        give_to(new, self.user)
        await run(self._initdb(new), user=self.user)
        self.directory.adopt_new_pgdata()

    async def start(self) -> Process:
        """Start the postmaster and return when it accepts connections and the database is there.

        Ends whatever Postgres still works in the directory first. Raises EmbeddedPostgresError if
        it ends before that, with the end of its log, or if it takes more than ten minutes.
        """
        await end_strays(self.directory.pgdata)
        remove_reused_pid_file(self.directory.pgdata)
        log = self._open_log()
        try:
            size = os.fstat(log).st_size
            process = await spawn(
                self._postgres(), user=self.user, death_signal=signal.SIGINT, output=log
            )
        finally:
            os.close(log)
        try:
            await self._accepts_connections(process, size)
        except BaseException:
            await self.shut_down(process)
            raise
        return process

    async def shut_down(self, process: Process) -> None:
        """Shut the postmaster down fast, after 8 s immediately, and wait for its end.

        Neither way loses a committed row; after the second the next start has to recover.
        """
        for order, patience in (
            (signal.SIGINT, FAST_TIMEOUT),
            (signal.SIGQUIT, IMMEDIATE_TIMEOUT),
            (signal.SIGKILL, None),
        ):
            if process.returncode is not None:
                break
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(order)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), patience)
        await end_strays(self.directory.pgdata)

    def _initdb(self, pgdata: Path) -> list[str]:
        if self.directory.major >= 17:
            locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        else:
            locale = ["--locale=C"]
        return [
            str(self.bin_dir / "initdb"),
            f"--pgdata={pgdata}",
            f"--username={ROLE}",
            "--encoding=UTF8",
            *locale,
            "--auth-local=trust",
            "--auth-host=reject",
            "--no-instructions",
            *(() if self.durable else ("--no-sync",)),
            *(() if self.directory.major < 16 else (f"--set={MEMORY}={DEFAULTS[MEMORY]}",)),
        ]

    def _postgres(self) -> list[str]:
        settings = {
            **self.settings,
            "listen_addresses": "",
            "port": str(PORT),
            "unix_socket_directories": str(self.socket_dir),
            "unix_socket_permissions": "0700",
            "log_destination": "stderr",
            "logging_collector": "off",
            "cluster_name": cluster_name(self.directory.pgdata),
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self.bin_dir / "postgres"), "-D", str(self.directory.pgdata), *options]

    def _open_log(self) -> int:
        path = self.directory.log
        if path.exists() and path.stat().st_size > LOG_LIMIT:
            path.rename(path.with_name(f"{path.name}.1"))
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        log = os.open(path, flags, 0o600)
        give_to(path, self.user)
        return log

    async def _accepts_connections(self, process: Process, log_size: int) -> None:
        until = time.monotonic() + START_TIMEOUT
        pgdata = self.directory.pgdata
        while not (is_ready(pgdata, process.pid) and await self._has_database()):
            if process.returncode is not None:
                raise EmbeddedPostgresError(f"Postgres didn't start: {self._log_after(log_size)}")
            if time.monotonic() > until:
                raise EmbeddedPostgresError(
                    f"Postgres doesn't accept connections after {START_TIMEOUT:.0f} s; "
                    f"see {self.directory.log}"
                )
            await asyncio.sleep(POLL)

    async def _has_database(self) -> bool:
        """Make the database if it is missing; False while Postgres accepts no connections."""
        try:
            connection = await asyncpg.connect(self.dsn("postgres"), timeout=CONNECT_TIMEOUT)
            try:
                await _make_database(connection)
            finally:
                await connection.close()
        except asyncpg.TooManyConnectionsError:
            # The clients of a postmaster that has just been started again were faster.
            return True
        except (OSError, asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError):
            return False
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise EmbeddedPostgresError(f"Postgres refuses its own server: {error}") from error
        return True

    def _log_after(self, size: int) -> str:
        with open(self.directory.log, "rb") as log:
            log.seek(size)
            text = log.read().decode(errors="replace").strip()
        return text[-LOG_TAIL:] or f"it wrote nothing to {self.directory.log}"


async def _make_database(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    query = "SELECT 1 FROM pg_database WHERE datname = $1"
    if await connection.fetchval(query, DATABASE) is None:
        await connection.execute(f"CREATE DATABASE {DATABASE}")


async def _remove(half_made: Path) -> None:
    """Remove what a killed initdb left; the process that worked for it may live a moment longer."""
    for _ in range(REMOVALS):
        if _removed(half_made):
            return
        await asyncio.sleep(POLL)
    raise EmbeddedPostgresError(f"{half_made}, left by an interrupted start, can't be removed")


def _removed(path: Path) -> bool:
    shutil.rmtree(path, ignore_errors=True)
    return not os.path.lexists(path)

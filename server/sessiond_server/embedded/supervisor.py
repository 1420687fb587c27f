"""The Postgres that the server brings along: started, watched and stopped with it."""

from __future__ import annotations

import asyncio
import time
from asyncio.subprocess import Process
from collections.abc import Mapping
from pathlib import Path

import structlog

from .binaries import find_install, require_major, usable_bin_dir
from .cluster import Cluster, checked_settings
from .directory import DataDirectory
from .errors import EmbeddedPostgresError
from .process import first_closed
from .socket_dir import make_socket_dir, remove_socket_dir
from .user import User, postgres_user

logger = structlog.get_logger()

RESTART_PAUSE = 0.05
RESTART_DELAYS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0, 5.0)


class EmbeddedPostgres:
    """A Postgres in a data directory of its own, reachable through a private Unix socket alone.

    `start` and `stop` belong to one event loop, which has to outlive the Postgres: on Linux it is
    shut down when the thread that runs that loop ends, so that a server killed with -9 leaves none
    behind. A postmaster that dies is started again, with the same DSN, after 0.05 s; one that can't
    be started again is tried ten times more within 27 s.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        major: int = 18,
        settings: Mapping[str, str] | None = None,
        durable: bool = True,
        bin_dir: Path | None = None,
    ) -> None:
        """Name the directory, which may be missing or empty; nothing is touched before `start`.

        `settings` are Postgres's, on top of the defaults. `durable=False` is for throw-away data: a
        crash of the machine destroys it. `bin_dir` holds other programs of that major version than
        the wheel's. Raises ValueError for a setting that isn't the caller's to choose (durability,
        sockets, paths).
        """
        self._directory = DataDirectory(data_dir, major)
        self._settings = checked_settings(settings or {}, durable=durable)
        self._durable = durable
        self._bin_dir = bin_dir
        self._cluster: Cluster | None = None
        self._postmaster: Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._ended: asyncio.Future[int] | None = None

    async def start(self) -> None:
        """Make the cluster if the directory is empty, recover it if need be, and wait until it
        accepts connections.

        Raises EmbeddedPostgresError with the reason if the directory can't be used or Postgres
        doesn't start; nothing is then left running.
        """
        if self._ended is not None and not self._ended.done():
            raise EmbeddedPostgresError("this embedded Postgres is already running")
        began = time.monotonic()
        self._ended = asyncio.get_running_loop().create_future()
        try:
            self._cluster = await self._prepare()
            await self._cluster.initialise()
            self._postmaster = await self._cluster.start()
        except BaseException as error:
            self._let_go()
            self._ended = None
            if isinstance(error, OSError):
                raise EmbeddedPostgresError(f"Postgres can't be started: {error}") from error
            raise
        self._keeper = asyncio.create_task(self._keep(self._cluster, self._postmaster))
        logger.info(
            "embedded Postgres accepts connections",
            data_dir=str(self._directory.path),
            pid=self.pid,
            seconds=round(time.monotonic() - began, 3),
        )

    async def stop(self) -> None:
        """Shut Postgres down fast and wait for its end; after 8 s immediately. Does nothing if it
        isn't running.
        """
        keeper, self._keeper = self._keeper, None
        if keeper is None or self._cluster is None or self._ended is None:
            return
        keeper.cancel()
        await asyncio.wait([keeper])
        try:
            if self._postmaster is not None:
                await self._cluster.shut_down(self._postmaster)
        finally:
            self._let_go()
            if not self._ended.done():
                self._ended.set_result(self._exit_code())

    @property
    def dsn(self) -> str:
        """The DSN of the database `sessiond`, for asyncpg; the same from `start` to `stop`."""
        if self._cluster is None:
            raise EmbeddedPostgresError("this embedded Postgres hasn't been started")
        return self._cluster.dsn()

    @property
    def pid(self) -> int | None:
        """The postmaster's pid, or None while there is none."""
        if self._postmaster is None or self._postmaster.returncode is not None:
            return None
        return self._postmaster.pid

    async def wait_exited(self) -> int:
        """Wait until Postgres is down for good: stopped, or dead and not to be started again.

        Returns the postmaster's last exit code, negative for the signal that killed it.
        """
        if self._ended is None:
            raise EmbeddedPostgresError("this embedded Postgres hasn't been started")
        return await asyncio.shield(self._ended)

    async def _prepare(self) -> Cluster:
        directory = self._directory
        install = find_install(directory.major, self._bin_dir)
        directory.check()
        user = postgres_user(directory.pgdata)
        await _require_reach(directory.path, user)
        directory.claim(0o700 if user is None else 0o711)
        bin_dir = await usable_bin_dir(install, directory.binaries, user)
        await require_major(bin_dir, directory.major, user)
        socket_dir = await make_socket_dir(directory.run, user)
        return Cluster(directory, bin_dir, user, socket_dir, self._settings, self._durable)

    async def _keep(self, cluster: Cluster, postmaster: Process) -> None:
        """Start the postmaster again whenever it ends."""
        while True:
            code = await postmaster.wait()
            logger.warning(
                "embedded Postgres ended; starting it again", pid=postmaster.pid, exit_code=code
            )
            revived = await self._revived(cluster)
            if revived is None:
                break
            self._postmaster = postmaster = revived
        logger.error("embedded Postgres can't be started again", log=str(cluster.directory.log))
        self._let_go()
        if self._ended is not None:
            self._ended.set_result(code)

    async def _revived(self, cluster: Cluster) -> Process | None:
        await asyncio.sleep(RESTART_PAUSE)
        for delay in (*RESTART_DELAYS, None):
            try:
                return await cluster.start()
            except Exception as error:  # whatever it was, the next try may go well
                logger.warning("embedded Postgres didn't start", reason=str(error))
            if delay is not None:
                await asyncio.sleep(delay)
        return None

    def _let_go(self) -> None:
        if self._cluster is not None:
            remove_socket_dir(self._directory.run, self._cluster.user)
            self._cluster = None
        self._directory.release()

    def _exit_code(self) -> int:
        code = None if self._postmaster is None else self._postmaster.returncode
        return 0 if code is None else code


async def _require_reach(path: Path, user: User | None) -> None:
    if user is None:
        return
    closed = await first_closed((path,), user)
    if closed is not None:
        raise EmbeddedPostgresError(
            f"Postgres runs as the user {user.name}, who can't reach the data directory {path}: "
            f"{closed} is closed to that user; choose another directory, "
            "or run the server as an ordinary user"
        )

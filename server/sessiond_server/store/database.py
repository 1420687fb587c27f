"""The connections to Postgres, and what its failures mean to a caller."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg
import structlog

from sessiond_server.errors import DatabaseUnavailable, ReadQueueFull, SessionBusy
from sessiond_server.store.keys import SessionKey
from sessiond_server.store.touched import touched_sessions

log = structlog.get_logger(__name__)

if TYPE_CHECKING:
    Connection = (
        asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
    )
else:  # generic for type checkers alone
    Connection = asyncpg.Connection
Result = TypeVar("Result")

UNAVAILABLE: tuple[type[Exception], ...] = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresSystemError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.LockNotAvailableError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
"""What says that the database, not the request, is the matter."""

CONFLICTS = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.UniqueViolationError,
    asyncpg.InvalidCachedStatementError,  # a newer release has migrated meanwhile
)
"""What another transaction caused: the same work, done again, succeeds."""

ATTEMPTS = 5


class SnapshotNeeded(Exception):
    """What is to be read has been offloaded, at least in part: it has to be read from one snapshot."""


def known_columns(row_type: type[Result], record: asyncpg.Record) -> Result:
    """A row of the columns that this release knows; a newer one may have added others."""
    return row_type(**{name: record[name] for name in row_type.__slots__})  # type: ignore[attr-defined]


@contextmanager
def unavailable_if_down() -> Iterator[None]:
    """Turn a lost or refusing database into `DatabaseUnavailable`."""
    try:
        yield
    except UNAVAILABLE as error:
        if isinstance(error, ValueError):
            raise  # asyncpg refuses a parameter: a bug, not the database's state
        log.warning("database unavailable", error=repr(error))
        raise DatabaseUnavailable from error


_OPTIONS: dict[str, Any] = {
    "timeout": 5,
    "command_timeout": 60,
    "server_settings": {
        "application_name": "sessiond",
        "synchronous_commit": "on",
        "jit": "off",
        "timezone": "UTC",
        "default_transaction_isolation": "read committed",
        "idle_in_transaction_session_timeout": "60s",
    },
}


def _options(**settings: str) -> dict[str, Any]:
    """How to connect, with other settings of the session."""
    return {**_OPTIONS, "server_settings": {**_OPTIONS["server_settings"], **settings}}


async def connect_for_appends(dsn: str) -> asyncpg.Connection[asyncpg.Record]:
    """A connection of one's own for the append statement, whose plan is made once and for tables of any
    size: without statistics the planner would read small tables whole, and go on when they have grown."""
    options = _options(
        plan_cache_mode="force_generic_plan",
        enable_seqscan="off",
        enable_sort="off",  # an index that has the order is taken, see calls_with_known_messages
        lock_timeout="250ms",  # a session that is locked for longer mustn't hold up the others
    )
    return await asyncpg.connect(dsn, **options)


async def connect_for_hints(dsn: str) -> asyncpg.Connection[asyncpg.Record]:
    """A connection of one's own for notifications, which need not reach the disk."""
    return await asyncpg.connect(dsn, **_options(synchronous_commit="off"))


class Database:
    """A pool of connections whose queue is bounded (P13). `on_change` is told, after each commit, which
    sessions it changed."""

    def __init__(self, dsn: str, *, connections: int, queue: int, lock_timeout: float = 10) -> None:
        self._dsn = dsn
        self._lock_timeout = lock_timeout
        self.connections = connections
        self._queue = queue
        self._waiting = 0
        self._waiting_for_snapshots = 0
        self._snapshots = asyncio.Semaphore(max(1, connections // 2))
        self._offloaded_reads = asyncio.Semaphore(max(1, connections // 4))
        self._waiting_for_offloaded = 0
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self.on_change: Callable[[Collection[SessionKey]], None] = lambda keys: None

    async def open(self) -> None:
        self._pool = await asyncpg.create_pool(
            self._dsn,
            min_size=1,
            max_size=self.connections,
            max_inactive_connection_lifetime=300,
            **_options(lock_timeout=f"{round(self._lock_timeout * 1000)}ms"),
        )

    async def close(self) -> None:
        if self._pool is None:
            return
        try:
            await asyncio.wait_for(self._pool.close(), 5)
        except UNAVAILABLE:
            self._pool.terminate()

    @asynccontextmanager
    async def connection(self, *, refuse: bool = True) -> AsyncIterator[Connection]:
        """A connection for reading. Refuses with `ReadQueueFull` rather than queue without end, but not the
        few who say so."""
        if self._pool is None:
            raise DatabaseUnavailable
        if refuse and self._waiting >= self.connections + self._queue:
            raise ReadQueueFull(self._queue)
        self._waiting += 1
        try:
            with unavailable_if_down():
                async with self._pool.acquire() as connection:
                    try:
                        yield connection
                    except asyncpg.LockNotAvailableError as error:
                        raise SessionBusy(self._lock_timeout) from error
        finally:
            self._waiting -= 1

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Connection]:
        """A connection for several reads of one state. At most half of the connections are lent so, since a
        slow reader keeps one until the session's time limit for idle transactions. Refuses with
        `ReadQueueFull` rather than queue without end."""
        if self._waiting_for_snapshots >= self._queue and self._snapshots.locked():
            raise ReadQueueFull(self._queue)
        self._waiting_for_snapshots += 1
        try:
            await self._snapshots.acquire()
        finally:
            self._waiting_for_snapshots -= 1
        try:
            async with (
                self.connection() as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                yield connection
        finally:
            self._snapshots.release()

    async def read(self, work: Callable[[Connection], Awaitable[Result]]) -> Result:
        """Do `work`, which only reads; once more, from a snapshot, if it needs offloaded messages."""
        try:
            async with self.connection() as connection:
                return await work(connection)
        except SnapshotNeeded:
            return await self.read_offloaded(work)

    async def read_offloaded(self, work: Callable[[Connection], Awaitable[Result]]) -> Result:
        """Do `work`, which reads offloaded messages, in a snapshot. At most a quarter of the connections
        serve this, and the queue for them is bounded like the other."""
        if self._waiting_for_offloaded >= self.connections + self._queue:
            raise ReadQueueFull(self._queue)
        self._waiting_for_offloaded += 1
        try:
            async with (
                self._offloaded_reads,
                self.connection() as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                return await work(connection)
        finally:
            self._waiting_for_offloaded -= 1

    async def transact(self, work: Callable[[Connection], Awaitable[Result]]) -> Result:
        """Do `work` in a transaction; again, from its beginning, when another one got in its way."""
        for attempt in range(ATTEMPTS):
            try:
                with touched_sessions() as touched:
                    async with self.connection() as connection, connection.transaction():
                        result = await work(connection)
                self.on_change(touched)
                return result
            except CONFLICTS as error:
                if attempt == ATTEMPTS - 1:
                    log.warning("transaction gave up", error=repr(error))
                    raise DatabaseUnavailable from error
                await asyncio.sleep(0.01 * 2**attempt)
        raise AssertionError("unreachable")

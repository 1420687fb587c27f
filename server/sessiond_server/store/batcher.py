"""The append batcher: while one statement commits, the appends that arrive wait for the next one.

Sessions are spread over a few lanes by their bucket; a lane has a connection of its own and one
statement under way. Appends of a session are applied in the order in which they came. What the
statement leaves out (a replay, a conflict, a session that must be made first) is looked at on its own, by
`resolve`, while later appends of that session are held back and all others go on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import suppress

import asyncpg
import structlog

from sessiond_server.errors import AppendQueueFull, DatabaseUnavailable, ShuttingDown
from sessiond_server.sessions.usage import Record
from sessiond_server.store.appends import (
    REFUSE,
    Ack,
    Append,
    Stored,
    store,
    with_known_messages,
)
from sessiond_server.store.database import (
    ATTEMPTS,
    CONFLICTS,
    UNAVAILABLE,
    Connection,
    connect_for_appends,
)
from sessiond_server.store.keys import SessionKey

log = structlog.get_logger(__name__)

BATCH_MESSAGES = 2000
BATCH_BYTES = 8 * 2**20
QUEUE_BYTES = 64 * 2**20

PACE = 0.007
"""Seconds between the beginnings of two statements of a lane in a crowd. Each statement, and each answer
that comes alone, wakes processes that then find little to do; in a crowd, appends that go together cost
half as much, which is more than the wait."""
CROWD = 16
"""How many sessions that are appended to make a crowd, seen over `CROWD_WINDOW` seconds. Fewer callers, each
waiting for its answer, would only wait longer."""
CROWD_WINDOW = 0.1

REPLAYS = 10.0
"""Seconds after a replay in which batches are searched for more of them before they are stored: one that is
met while storing undoes the work for its whole batch."""
OFFLOADS = 100_000
"""How many sessions with offloaded messages are remembered: batches with these look client ids up there."""
PLAN = 15.0
"""Seconds after which a lane has its statement planned anew."""

Resolve = Callable[[Append], Awaitable[Ack]]
CountUsage = Callable[[Connection, Sequence[tuple[SessionKey, Record, int]]], Awaitable[None]]
"""Gets what rides on appends, with the first seq of each."""


class Batcher:
    """The way of every append into the log. `append.answer` gets the `Ack`, or a `Refused`. `count_usage`
    counts what rides on appends, in their transaction; `on_change` is told, after each commit, which sessions
    grew."""

    def __init__(
        self,
        dsn: str,
        resolve: Resolve,
        count_usage: CountUsage,
        *,
        lanes: int,
        queue_messages: int,
        on_change: Callable[[Collection[SessionKey]], None] = lambda keys: None,
    ) -> None:
        self._lanes = [
            _Lane(dsn, resolve, count_usage, self._release, on_change) for _ in range(lanes)
        ]
        self._limit = queue_messages
        self._messages = 0
        self._bytes = 0
        self._closing = False

    async def start(self) -> None:
        for lane in self._lanes:
            lane.start()

    def submit(self, append: Append) -> asyncio.Future[Ack]:
        """Queue an append. Refuses with `AppendQueueFull` when the queue is."""
        if self._closing:
            raise ShuttingDown
        if self._messages and (
            self._messages + len(append.rows) > self._limit
            or self._bytes + append.bytes > QUEUE_BYTES
        ):
            raise AppendQueueFull(self._limit)
        self._messages += len(append.rows)
        self._bytes += append.bytes
        self._lanes[append.key.bucket % len(self._lanes)].submit(append)
        return append.answer

    def figures(self) -> dict[str, float]:
        """What the metrics show."""
        return {"append_queue_messages": self._messages}

    def _release(self, append: Append) -> None:
        self._messages -= len(append.rows)
        self._bytes -= append.bytes

    async def stop(self) -> None:
        """Take no more appends, and return when all that were taken are answered."""
        self._closing = True
        await asyncio.gather(*(lane.stop() for lane in self._lanes))


class _Batch:
    """Appends that one statement can store."""

    def __init__(self) -> None:
        self.appends: list[Append] = []
        self._messages = self._bytes = 0
        self._seen: dict[SessionKey, set[str] | None] = {}
        """The client ids of each session; `None` when nothing of it can be added."""

    @property
    def full(self) -> bool:
        return self._messages >= BATCH_MESSAGES or self._bytes >= BATCH_BYTES

    def take(self, append: Append) -> bool:
        """Add an append, if it can join; if not, no later one of its session can either."""
        if not self._fits(append):
            self._seen[append.key] = None
            return False
        append.begun = True
        self.appends.append(append)
        self._messages += len(append.rows)
        self._bytes += append.bytes
        return True

    def _fits(self, append: Append) -> bool:
        ids = {row.client_id for row in append.rows}
        earlier = self._seen.setdefault(append.key, set())
        if earlier is None:
            return False
        if earlier and (append.expects or not earlier.isdisjoint(ids)):
            return False
        earlier |= ids
        if append.expects or append.on_known != REFUSE or not _may_store(append):
            self._seen[append.key] = (
                None  # left out, it would be applied behind what comes after it
            )
        return True


def _may_store(append: Append) -> bool:
    """Whether the statement can store it: its usage, if it has any, needs no look at what was recorded
    before, and it doesn't expect both a seq and a revision."""
    expects_both = append.guard.expected_next_seq and append.guard.expected_revision
    return not expects_both and (append.usage is None or append.usage.adds)


class _Crowd:
    """Whether many sessions were appended to in the last window of time."""

    def __init__(self) -> None:
        self._seen: set[SessionKey] = set()
        self._end = 0.0
        self._is_one = False

    def counts(self, batch: Iterable[Append], now: float) -> bool:
        """Count a batch in; whether there is a crowd."""
        if now > self._end:
            self._is_one = len(self._seen) >= CROWD
            self._seen.clear()
            self._end = now + CROWD_WINDOW
        self._seen.update(append.key for append in batch)
        return self._is_one


class _Lane:
    """A queue, a connection, and at most one statement under way."""

    def __init__(
        self,
        dsn: str,
        resolve: Resolve,
        count_usage: CountUsage,
        release: Callable[[Append], None],
        on_change: Callable[[Collection[SessionKey]], None],
    ) -> None:
        self._dsn = dsn
        self._resolve = resolve
        self._count_usage = count_usage
        self._release = release
        self._on_change = on_change
        self._queue: deque[Append] = deque()
        self._held: dict[SessionKey, deque[Append]] = {}
        """What waits for an append of its session that is being resolved."""
        self._parked: dict[SessionKey, deque[Append]] = {}
        """What waits for the next batch."""
        self._resolving: set[asyncio.Task[None]] = set()  # a loop holds its tasks only weakly
        self._arrived = asyncio.Event()
        self._stopping = False
        self._offloaded: set[SessionKey] = set()
        """Sessions with offloaded messages, as far as these were met."""
        self._crowd = _Crowd()
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._plan_until = 0.0
        self._replays_until = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="append lane")

    def submit(self, append: Append) -> None:
        self._queue.append(append)
        self._arrived.set()

    async def stop(self) -> None:
        self._stopping = True
        self._arrived.set()
        if self._task is not None:
            await self._task
        if self._connection is not None:
            with suppress(*UNAVAILABLE):
                await self._connection.close(timeout=2)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while not (self._stopping and not self._queue and not self._held and not self._parked):
            await self._arrived.wait()
            self._arrived.clear()
            while batch := self._take():
                due = loop.time() + PACE
                await self._commit(batch)
                if self._crowd.counts(batch, due) and (wait := due - loop.time()) > 0:
                    await asyncio.sleep(wait)

    def _take(self) -> list[Append]:
        """The next batch. In one batch a session has each client id once, an append that expects something
        alone, and one that skips known messages last: what depends on an earlier append of the batch
        waits for the next."""
        batch = _Batch()
        for key in list(self._parked):
            self._unpark(key, batch)
        while self._queue and not batch.full:
            append = self._queue.popleft()
            if append.answer.done():
                self._release(append)
            elif append.key in self._held:
                self._held[append.key].append(append)
            elif append.key in self._parked or not batch.take(append):
                self._parked.setdefault(append.key, deque()).append(append)
        return batch.appends

    def _unpark(self, key: SessionKey, batch: _Batch) -> None:
        """Take up what waited for the batch before, in its order."""
        waiting = self._parked[key]
        if key in self._held:
            self._held[key].extend(waiting)
            waiting.clear()
        while waiting and not batch.full:
            if waiting[0].answer.done():
                self._release(waiting.popleft())
            elif batch.take(waiting[0]):
                waiting.popleft()
            else:
                break
        if not waiting:
            del self._parked[key]

    async def _commit(self, batch: list[Append]) -> None:
        try:
            stored = await self._store(batch)
        except asyncpg.LockNotAvailableError:
            for append in batch:
                self._begin_resolving(append)
            return
        except UNAVAILABLE as error:
            log.warning("append batch failed", error=repr(error), appends=len(batch))
            await self._disconnect()
            self._fail(batch, DatabaseUnavailable())
            return
        except Exception as error:  # whichever of them is the cause, the others mustn't suffer
            log.warning("append batch refused", error=repr(error), appends=len(batch))
            for append in batch:
                self._begin_resolving(append)
            return
        for place, append in enumerate(batch):
            found = stored.get(place)
            if found is None:
                self._begin_resolving(append)
            else:
                seqs = range(found.first_seq, found.version.next_seq)
                self._answer(append, Ack(seqs, found.version, replayed=False))
        self._on_change([batch[place].key for place in stored])

    async def _store(self, batch: list[Append]) -> dict[int, Stored]:
        """What is stored, by its place in the batch; the rest needs a closer look."""
        for attempt in range(ATTEMPTS):
            try:
                connection = await self._connected()
                left_out = {place for place, append in enumerate(batch) if not _may_store(append)}
                if asyncio.get_running_loop().time() < self._replays_until:
                    left_out |= await with_known_messages(connection, batch)
                places = [place for place in range(len(batch)) if place not in left_out]
                stored = await self._store_all(connection, [batch[place] for place in places])
                return {places[place]: found for place, found in stored.items()}
            except asyncpg.UniqueViolationError:
                self._replays_until = asyncio.get_running_loop().time() + REPLAYS
            except CONFLICTS:
                if attempt == ATTEMPTS - 1:
                    raise
        return {}

    async def _store_all(
        self, connection: asyncpg.Connection[asyncpg.Record], appends: list[Append]
    ) -> dict[int, Stored]:
        """Store appends that may be stored by the statement, with their usage."""
        if not appends:
            return {}
        offloads = any(append.key in self._offloaded for append in appends)
        if all(append.usage is None for append in appends):
            return await store(connection, appends, offloads=offloads)
        async with connection.transaction():
            stored = await store(connection, appends, offloads=offloads)
            used = [
                (append.key, append.usage, stored[place].first_seq)
                for place, append in enumerate(appends)
                if append.usage is not None and place in stored
            ]
            if used:
                await self._count_usage(connection, used)
        return stored

    async def _connected(self) -> asyncpg.Connection[asyncpg.Record]:
        """The lane's connection. It plans its statement anew from time to time: a plan that was made for
        small tables reads them whole, and would go on when they have grown."""
        now = asyncio.get_running_loop().time()
        if self._connection is None or self._connection.is_closed():
            self._connection = await connect_for_appends(self._dsn)
        elif now > self._plan_until:
            await self._connection.execute("DISCARD PLANS")
        else:
            return self._connection
        self._plan_until = now + PLAN
        return self._connection

    async def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
        await asyncio.sleep(0.05)

    def _begin_resolving(self, append: Append) -> None:
        if append.key in self._held:
            append.begun = False
            self._held[append.key].append(append)
            return
        self._held[append.key] = deque()
        task = asyncio.create_task(self._finish(append), name="append resolve")
        self._resolving.add(task)
        task.add_done_callback(self._resolving.discard)

    async def _finish(self, append: Append) -> None:
        try:
            if not append.answer.done():
                append.begun = True
                ack = await self._resolve(append)
                if ack.offloaded:
                    self._learn(append.key)
                self._answer(append, ack)
            else:
                self._release(append)
        except Exception as error:
            self._fail([append], error)
        finally:
            self._queue.extendleft(reversed(self._held.pop(append.key)))
            self._arrived.set()

    def _learn(self, key: SessionKey) -> None:
        if len(self._offloaded) >= OFFLOADS:
            self._offloaded.clear()
        self._offloaded.add(key)

    def _answer(self, append: Append, ack: Ack) -> None:
        self._release(append)
        if not append.answer.done():
            append.answer.set_result(ack if append.places is None else append.of_all(ack))

    def _fail(self, appends: Iterable[Append], error: Exception) -> None:
        for append in appends:
            self._release(append)
            if not append.answer.done():
                append.answer.set_exception(error)

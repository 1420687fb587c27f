"""Writer leases: a paused, late or stale writer never writes behind its successor (P5)."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration

import sessiond
from sessiond import v1
from sessiond_server.errors import WriterLeaseLost
from sessiond_server.operations.appending import Appending
from sessiond_server.operations.recording import Recording
from sessiond_server.rpc.message_service import append_of
from sessiond_server.store.database import Database
from sessiond_server.store.keys import DEFAULT_TENANT, session_key
from tests.faults.history import History
from tests.faults.load import channel, error_info, message
from tests.faults.reading import verify
from tests.faults.stalls import connected, locked, until_waiting
from tests.support.postgres import Databases
from tests.support.processes import ServerProcess

ROOT = Path(__file__).parents[2]
SHORTEST = Duration(seconds=1)


class LeaseWriter:
    """A writer at one server, with what it last got as a lease."""

    def __init__(self, name: str, session: str, one: grpc.aio.Channel, history: History) -> None:
        self.name = name
        self.session = session
        self.history = history
        self.token = ""
        self.epoch = 0
        self._messages = v1.MessageServiceStub(one)
        self._writers = v1.WriterServiceStub(one)
        self._compactions = v1.CompactionServiceStub(one)
        self._count = 0

    async def acquire(self, ttl: Duration | None = None) -> bool:
        """Take the lease of the session, unless somebody has it."""
        request = v1.AcquireWriterRequest(session_id=self.session, holder=self.name, lease_ttl=ttl)
        try:
            lease = await self._writers.AcquireWriter(request, timeout=30)
        except grpc.aio.AioRpcError as error:
            assert error_info(error).reason == "WRITER_LEASE_HELD"  # noqa: PT017
            return False
        self.token, self.epoch = lease.writer_token, lease.epoch
        return True

    async def acquire_in_time(self) -> None:
        """Take it as soon as it can be had."""
        for _ in range(1000):
            if await self.acquire():
                return
            await asyncio.sleep(random.uniform(0, 0.02))
        raise AssertionError("the lease couldn't be had")

    async def release(self) -> None:
        await self._writers.ReleaseWriter(
            v1.ReleaseWriterRequest(session_id=self.session, writer_token=self.token)
        )

    def request(self) -> v1.AppendMessagesRequest:
        """An append of a new message, with the token."""
        self._count += 1
        client_id = f"{self.name}.{self._count}"
        return v1.AppendMessagesRequest(
            session_id=self.session,
            messages=[message(client_id, random.Random(client_id))],
            guard=v1.WriteGuard(writer_token=self.token),
        )

    async def write(self, request: v1.AppendMessagesRequest | None = None) -> str:
        """Append; empty, or why not."""
        sent = request or self.request()
        attempt = self.history.begin(
            self.name, self.session, sent.messages, skips=bool(sent.on_known)
        )
        try:
            attempt.acked(await self._messages.AppendMessages(sent, timeout=30))
        except grpc.aio.AioRpcError as error:
            attempt.refused(error_info(error).reason)
        return attempt.detail

    async def compact(self) -> str:
        """Compact the first message with the token; empty, or why not."""
        summary = sessiond.message("system", "It began.", client_id="summary")
        request = v1.CompactSessionRequest(
            session_id=self.session,
            from_seq=1,
            to_seq=1,
            summary=summary,
            guard=v1.WriteGuard(writer_token=self.token),
        )
        try:
            await self._compactions.CompactSession(request, timeout=30)
        except grpc.aio.AioRpcError as error:
            return str(error_info(error).reason)
        return ""

    async def compactions(self) -> int:
        """How many compactions are recorded."""
        answer = await self._compactions.ListCompactions(
            v1.ListCompactionsRequest(session_id=self.session)
        )
        return len(answer.compactions)


@dataclass
class Shared:
    """The two servers of these tests, which share one Postgres, and all that was sent to them."""

    dsn: str
    servers: list[ServerProcess]
    history: History = field(default_factory=History)


@pytest.fixture(scope="module")
def shared(databases: Databases) -> Iterator[Shared]:
    dsn = databases.migrated()
    servers = [ServerProcess(SESSIOND_DSN=dsn) for _ in range(2)]
    yield Shared(dsn, servers)
    for server in servers:
        assert server.stop() == 0
        assert not server.bugs()


@pytest.fixture
async def writers(shared: Shared) -> AsyncIterator[list[LeaseWriter]]:
    """Two writers of a new session, each at its server; at the end the whole history must hold."""
    one, two = (channel(server.target) for server in shared.servers)
    session = f"s{len(shared.history.attempts)}"
    async with one, two:
        await v1.SessionServiceStub(one).CreateSession(
            v1.CreateSessionRequest(session=v1.Session(id=session))
        )
        yield [
            LeaseWriter("one", session, one, shared.history),
            LeaseWriter("two", session, two, shared.history),
        ]
        await verify(shared.history, two, shared.dsn)


async def stored_ids(dsn: str, session: str) -> list[str]:
    """The client ids of a session, in its order."""
    async with connected(dsn) as connection:
        rows = await connection.fetch(
            "SELECT client_id FROM message WHERE bucket = $1 AND session_key = $2 ORDER BY seq",
            *session_key(DEFAULT_TENANT, session),
        )
    return [row[0] for row in rows]


async def test_P5_writers_that_alternate_by_lease_never_interleave(
    writers: list[LeaseWriter], shared: Shared
) -> None:
    """Each keeps writing with its old token as well; none of that is ever stored."""
    turns: list[tuple[int, str, list[str]]] = []

    async def take_turns(writer: LeaseWriter) -> None:
        for _ in range(15):
            await writer.acquire_in_time()
            ids = []
            for _ in range(3):
                request = writer.request()
                assert await writer.write(request) == ""
                ids.append(request.messages[0].client_id)
            turns.append((writer.epoch, writer.name, ids))
            await writer.release()
            assert await writer.write() == "WRITER_LEASE_LOST"

    await asyncio.gather(*(take_turns(writer) for writer in writers))
    turns.sort()
    assert [epoch for epoch, _, _ in turns] == list(range(1, 31))
    assert {name for _, name, _ in turns} == {"one", "two"}
    assert await stored_ids(shared.dsn, writers[0].session) == [
        client_id for _, _, ids in turns for client_id in ids
    ]


def start_holder(target: str, session: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.faults.holder", target, session],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


async def test_P5_a_paused_holder_that_wakes_up_writes_nothing(
    writers: list[LeaseWriter], shared: Shared
) -> None:
    writer = writers[1]
    with start_holder(shared.servers[0].target, writer.session) as holder:
        assert holder.stdout is not None
        lines = [await asyncio.to_thread(holder.stdout.readline) for _ in range(20)]
        holder.send_signal(signal.SIGSTOP)
        assert not await writer.acquire()
        assert await writer.write() == "WRITER_LEASE_HELD"
        await writer.acquire_in_time()
        for _ in range(5):
            assert await writer.write() == ""
        holder.send_signal(signal.SIGCONT)
        lines += await asyncio.to_thread(holder.stdout.readlines)
    said = [line.strip() for line in lines]
    assert said[-1] == f"The writer token is no longer good for {writer.session!r}."
    note(writer.history, writer.session, said)
    stored = await stored_ids(shared.dsn, writer.session)
    assert stored[-5:] == [f"two.{number}" for number in range(2, 7)]
    assert said[-2] not in stored


def note(history: History, session: str, said: list[str]) -> None:
    """Put what a holder wrote into the history."""
    for client_id, answer in zip(said[::2], said[1::2], strict=True):
        attempt = history.begin("paused", session, [message(client_id, random.Random(client_id))])
        if answer.isdigit():
            seq = int(answer)
            attempt.acked(v1.AppendMessagesResponse(first_seq=seq, last_seq=seq))
            attempt.started = 0.0
        else:
            attempt.refused("WRITER_LEASE_LOST")


async def test_P5_a_write_that_hangs_in_a_paused_server_comes_too_late(
    writers: list[LeaseWriter], shared: Shared
) -> None:
    early, late = writers
    assert await early.acquire(SHORTEST)
    assert await early.write() == ""
    shared.servers[0].pause()
    try:
        hanging = [asyncio.create_task(early.write()) for _ in range(5)]
        await late.acquire_in_time()
        assert await late.write() == ""
    finally:
        shared.servers[0].resume()
    assert set(await asyncio.gather(*hanging)) == {"WRITER_LEASE_LOST"}
    assert await stored_ids(shared.dsn, early.session) == ["one.1", "two.1"]


@pytest.mark.parametrize("skips", [False, True])
async def test_P5_a_write_that_waits_for_the_lock_is_judged_when_it_gets_it(
    writers: list[LeaseWriter], shared: Shared, skips: bool
) -> None:
    """The lease was good when the write came, and is another one's when the lock is free."""
    writer, _ = writers
    assert await writer.acquire()
    first = writer.request()
    assert await writer.write(first) == ""
    sent = writer.request()
    if skips:
        sent.on_known = v1.OnKnown.ON_KNOWN_SKIP
        sent.messages.insert(0, first.messages[0])
    async with locked(shared.dsn, writer.session) as connection:
        waiting = asyncio.create_task(writer.write(sent))
        await until_waiting(shared.dsn)
        await connection.execute(
            "UPDATE session_head SET writer_token = 'of another one', writer_holder = 'another'"
            " WHERE bucket = $1 AND session_key = $2",
            *session_key(DEFAULT_TENANT, writer.session),
        )
    assert await waiting == "WRITER_LEASE_LOST"
    assert await stored_ids(shared.dsn, writer.session) == ["one.1"]


async def test_P5_P14_a_lease_that_ends_between_two_looks_at_it_is_lost(dsn: str) -> None:
    """A careful append looks at the lease, then stores with another look."""
    database = Database(dsn, connections=2, queue=0)
    await database.open()
    try:
        await resolve_while_the_lease_ends(database, dsn)
    finally:
        await database.close()
    assert await stored_ids(dsn, "s") == []


async def resolve_while_the_lease_ends(database: Database, dsn: str) -> None:
    request = v1.AppendMessagesRequest(
        session_id="s",
        messages=[message("m", random.Random(1))],
        guard=v1.WriteGuard(writer_token="token"),
        create_session=v1.Session(),
    )
    recording = Recording(database)
    appending = Appending(database, recording, max_spawn_depth=3)
    async with connected(dsn) as connection:
        creating = v1.AppendMessagesRequest()
        creating.CopyFrom(request)
        creating.ClearField("guard")
        await appending.resolve(append_of(creating))
        await connection.execute("DELETE FROM message")
        await connection.execute(
            "UPDATE session_head SET next_seq = 1, writer_token = 'token',"
            " writer_expire_time = clock_timestamp() + interval '2 s'"
        )
        # Only the statement that stores needs this table: it waits here, after the first look.
        async with connection.transaction():
            await connection.execute("LOCK TABLE open_tool_call IN ACCESS EXCLUSIVE MODE")
            resolving = asyncio.create_task(appending.resolve(append_of(request)))
            await until_waiting(dsn)
            await asyncio.sleep(2.1)
    with pytest.raises(WriterLeaseLost):
        await resolving


async def test_P5_P6_a_compaction_whose_lease_ends_on_the_way_leaves_nothing(
    writers: list[LeaseWriter], shared: Shared
) -> None:
    """It looks at the lease first, and stores its summary with another look."""
    writer, _ = writers
    assert await writer.acquire(Duration(seconds=3))
    safe = writer.request()
    del safe.messages[0].parts[1:]
    assert await writer.write(safe) == ""
    async with connected(shared.dsn) as connection, connection.transaction():
        await connection.execute("LOCK TABLE open_tool_call IN ACCESS EXCLUSIVE MODE")
        compacting = asyncio.create_task(writer.compact())
        await until_waiting(shared.dsn)
        await asyncio.sleep(3.1)
    assert await compacting == "WRITER_LEASE_LOST"
    assert await writer.compactions() == 0

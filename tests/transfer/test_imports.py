"""Imports into a session that something else happens to, or has happened to."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import asyncpg
import grpc
import pytest

from sessiond import v1
from tests.rpc.api import EVERYTHING, Api, new, refused, said
from tests.support.processes import ServerProcess
from tests.support.timeline import pass_time, until_settled

Start = Callable[..., ServerProcess]


@pytest.fixture
def old(source: ServerProcess) -> Iterator[Api]:
    with grpc.insecure_channel(source.target) as channel:
        yield Api(channel)


@pytest.fixture
def own(start_server: Start, dsn: str) -> Iterator[Api]:
    """A server on the test's own database, with small segments."""
    server = start_server(SESSIOND_DSN=dsn, SESSIOND_OFFLOAD_SEGMENT_MESSAGES="2")
    with grpc.insecure_channel(server.target) as channel:
        yield Api(channel)
    assert not server.bugs()


def talk_in_many_appends(api: Api) -> str:
    """A session of more than a piece: what was appended at once is stored at once."""
    id = api.create().id
    for _ in range(10):
        api.append(id, *(said() for _ in range(100)))
    return id


class Pieces:
    """Requests of an import that are sent when the test wants it."""

    def __init__(self, api: Api) -> None:
        self._queue = queue.SimpleQueue[v1.ImportSessionsRequest | None]()
        self.answers = api.transfers.ImportSessions(iter(self._queue.get, None))

    def send(self, *records: v1.TransferRecord) -> None:
        self._queue.put(v1.ImportSessionsRequest(records=records))

    def end(self) -> None:
        self._queue.put(None)


def test_P11_a_piece_never_gets_into_a_session_that_was_made_again(
    old: Api, own: Api, dsn: str
) -> None:
    """The session becomes another one while the piece waits for its lock."""
    id = talk_in_many_appends(old)
    first, *records = old.export(session_ids=[id])
    pieces = Pieces(own)
    pieces.send(first, *records[:600])
    next(pieces.answers)

    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"

    async def exchange() -> None:
        connection = await asyncpg.connect(dsn)
        try:
            async with connection.transaction():
                await connection.execute("SELECT FROM session_head FOR UPDATE")
                pieces.send(*records[600:])
                while not await connection.fetchval(waiting):
                    await connection.execute("SELECT pg_sleep(0.01)")
                await connection.execute("UPDATE session SET incarnation = gen_random_uuid()")
        finally:
            await connection.close()

    asyncio.run(exchange())
    pieces.end()
    (outcome,) = (outcome for answer in pieces.answers for outcome in answer.outcomes)
    assert outcome.error.reason == v1.ErrorReason.ERROR_REASON_IMPORT_CONFLICT
    assert "made again" in outcome.error.message
    assert own.get(id).message_count == 500


def test_C_an_import_restores_what_it_rewinds_and_nothing_else(old: Api, own: Api) -> None:
    """Both stores offload at the same times, so that their changes have the same numbers."""
    id = old.talk(10)

    def offload() -> None:
        for api in (old, own):
            api.storage.OffloadMessages(v1.OffloadMessagesRequest(session_id=id, before_seq=11))

    def move() -> int:
        (outcome,) = own.bring(*old.export(session_ids=[id]))
        assert not outcome.HasField("error"), outcome.error
        assert own.context(id) == old.context(id)
        return own.get(id).offloaded_before_seq

    assert move() == 0
    offload()
    old.compact(id, 2, 3)
    summary = old.compact(id, 5, 6).compaction.id
    old.append(id, said())
    assert move() == 11
    old.compactions.RevertCompaction(
        v1.RevertCompactionRequest(session_id=id, compaction_id=summary)
    )
    old.rewind(id, 12)
    assert move() == 11
    rewind = old.rewind(id, 7)
    assert move() == 7
    offload()
    revert = v1.RevertRewindRequest(session_id=id, rewind_id=rewind.id)
    old.messages.RevertRewind(revert)
    assert move() == 7


def test_A_a_session_of_a_time_to_come_is_active_now(own: Api, dsn: str) -> None:
    """Clocks don't quite agree: the last activity may lie ahead. What is appended is of now all the same, and
    consumers get it."""
    soon = datetime.now(UTC) + timedelta(hours=12)
    session = v1.Session(id=new())
    for field in (session.create_time, session.last_activity_time):
        field.FromDatetime(soon)
    end = v1.TransferEnd(next_seq=1, next_change=1)
    begin = v1.TransferRecord(session=v1.TransferSession(session=session))
    (outcome,) = own.bring(begin, v1.TransferRecord(end=end))
    assert not outcome.HasField("error"), outcome.error
    assert own.get(session.id).create_time == session.create_time
    own.append(session.id, said())
    (message,) = own.log(session.id)
    assert message.create_time.ToDatetime(UTC) < soon - timedelta(hours=11)
    claim = v1.ClaimSessionsRequest(consumer_id="memory", filter=EVERYTHING)
    claim.idle_for.FromSeconds(0)
    pass_time(dsn, 0)  # it is settled
    (claimed,) = own.consumers.ClaimSessions(claim).sessions
    assert claimed.session_id == session.id


def test_P3_what_follows_a_message_of_a_time_to_come_is_not_older(own: Api, dsn: str) -> None:
    """Only its place in lists is that of now."""
    soon = datetime.now(UTC) + timedelta(hours=12)
    session = v1.Session(id=new())
    session.create_time.FromDatetime(soon)
    message = v1.TransferMessage(seq=1, payload=said().SerializeToString())
    message.create_time.FromDatetime(soon)
    end = v1.TransferEnd(message_count=1, next_seq=2, next_change=1)
    begin = v1.TransferRecord(session=v1.TransferSession(session=session))
    records = begin, v1.TransferRecord(message=message), v1.TransferRecord(end=end)
    (outcome,) = own.bring(*records)
    assert not outcome.HasField("error"), outcome.error
    own.append(session.id, said())
    times = [it.create_time.ToDatetime(UTC) for it in own.log(session.id)]
    assert soon <= times[0] < times[1]
    own.update(session.id, "title", title="a title")

    async def listed() -> bool:
        connection = await asyncpg.connect(dsn)
        try:
            await until_settled(connection)
            return bool(await connection.fetchval("SELECT listed_time <= now() FROM session"))
        finally:
            await connection.close()

    assert asyncio.run(listed())


def test_P13_imports_are_bounded_in_number_and_in_silence(start_server: Start, dsn: str) -> None:
    server = start_server(SESSIOND_DSN=dsn, SESSIOND_IMPORTS="1", SESSIOND_IMPORT_TIMEOUT="2")
    with grpc.insecure_channel(server.target) as channel:
        api = Api(channel)
        id = talk_in_many_appends(api)
        records = api.export(session_ids=[id])
        api.delete(id)
        pieces = Pieces(api)
        pieces.send(*records[:600])
        counted = next(pieces.answers).record_count
        refusal = refused(lambda: api.bring(*records[:1]))
        assert (refusal.reason, refusal.metadata) == ("TOO_MANY_TRANSFERS", {"limit": "1"})
        silence = refused(lambda: list(pieces.answers))
        assert (silence.reason, silence.fields) == ("INVALID_FIELD", ["records"])
        assert "2 s" in silence.message
        assert api.get(id).message_count == counted - 1
        pieces.end()
        again = Pieces(api)
        again.send(*records[:600])
        again.send(*records[600:])
        again.end()
        (outcome,) = (outcome for answer in again.answers for outcome in answer.outcomes)
        assert (outcome.messages_known, outcome.messages_added) == (counted - 1, 1001 - counted)
    assert not server.bugs()


def test_P2_an_import_that_waits_for_its_caller_does_not_hold_up_a_stop(
    start_server: Start, dsn: str
) -> None:
    server = start_server(SESSIOND_DSN=dsn, SESSIOND_SHUTDOWN_GRACE="600")
    with grpc.insecure_channel(server.target) as channel:
        api = Api(channel)
        id = talk_in_many_appends(api)
        records = api.export(session_ids=[id])
        api.delete(id)
        pieces = Pieces(api)
        pieces.send(*records[:600])
        next(pieces.answers)
        assert server.stop() == 0
        assert refused(lambda: list(pieces.answers)).reason == "SHUTTING_DOWN"
        pieces.end()

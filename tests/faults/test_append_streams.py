"""P1, P2, P13: appends of a stream whose sessions don't wait for each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from sessiond import v1
from tests.faults.load import channel
from tests.faults.stalls import locked, until_waiting
from tests.rpc.api import new, said
from tests.support.patience import PATIENCE
from tests.support.postgres import Databases
from tests.support.processes import ServerProcess

_TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture(scope="module")
def one_server(databases: Databases) -> Iterator[tuple[ServerProcess, str]]:
    dsn = databases.migrated()
    server = ServerProcess(SESSIOND_DSN=dsn, SESSIOND_LOCK_TIMEOUT=str(PATIENCE))
    yield server, dsn
    assert server.stop() == 0
    assert not server.bugs()


class Stream:
    """An append stream of a raw stub."""

    def __init__(self, one: grpc.aio.Channel) -> None:
        self._call = v1.MessageServiceStub(one).AppendStream(timeout=PATIENCE)
        self._texts: dict[int, str] = {}
        self._answers: list[v1.AppendResult] = []

    async def send(self, session: str, *texts: str, seconds: float | None = None) -> None:
        """Append each text by itself, all in one frame."""
        frame = v1.AppendStreamRequest()
        for text in texts:
            streamed = frame.appends.add(tag=len(self._texts), traceparent=_TRACE)
            streamed.append.session_id = session
            streamed.append.messages.append(said(text))
            if seconds is not None:
                streamed.timeout.FromMilliseconds(round(seconds * 1000))
            self._texts[streamed.tag] = text
        await self._call.write(frame)

    async def answers(self, count: int) -> list[tuple[str, v1.AppendResult]]:
        """The next answers, each with the text that it is for."""
        while len(self._answers) < count:
            frame = await self._call.read()
            assert isinstance(frame, v1.AppendStreamResponse)
            self._answers += frame.results
        found, self._answers = self._answers[:count], self._answers[count:]
        return [(self._texts[result.tag], result) for result in found]

    async def end(self) -> None:
        await self._call.done_writing()
        assert await self._call.read() is grpc.aio.EOF
        assert await self._call.code() is grpc.StatusCode.OK


@asynccontextmanager
async def streaming(target: str, *sessions: str) -> AsyncIterator[Stream]:
    """A stream, and sessions to append to."""
    async with channel(target) as one:
        for session in sessions:
            request = v1.CreateSessionRequest(session=v1.Session(id=session))
            await v1.SessionServiceStub(one).CreateSession(request)
        yield Stream(one)


async def test_P13_a_locked_session_holds_up_no_other_of_its_stream(
    one_server: tuple[ServerProcess, str],
) -> None:
    """The lock is only given up when the others are answered: a stream that waited would time out."""
    server, dsn = one_server
    held, free, other = new("held"), new("free"), new("other")
    async with streaming(server.target, held, free, other) as stream:
        async with locked(dsn, held):
            await stream.send(held, "h1", "h2")
            await stream.send(free, "f1", "f2")
            await stream.send(other, "o1")
            answers = await stream.answers(3)
            assert {text for text, _ in answers} == {"f1", "f2", "o1"}
            assert [text for text, _ in answers if text[0] == "f"] == ["f1", "f2"]
            await stream.send(free, "f3")
            assert [text for text, _ in await stream.answers(1)] == ["f3"]
        later = await stream.answers(2)
        assert [(text, result.ack.first_seq) for text, result in later] == [("h1", 1), ("h2", 2)]
        await stream.end()


async def test_P2_an_append_whose_turn_comes_too_late_is_refused_and_not_stored(
    one_server: tuple[ServerProcess, str],
) -> None:
    server, dsn = one_server
    held, free = new("held"), new("free")
    async with streaming(server.target, held, free) as stream:
        async with locked(dsn, held):
            await stream.send(held, "begun", seconds=3600)
            await until_waiting(dsn)
            await stream.send(held, "late", seconds=0.1)
            await stream.send(held, "behind")
            await stream.send(free, "read")
            assert [text for text, _ in await stream.answers(1)] == ["read"]
            await asyncio.sleep(0.2)  # all was read before, so the time of what is late is up
        answers = dict(await stream.answers(3))
        assert list(answers) == ["begun", "late", "behind"]
        assert answers["late"].error.reason == v1.ErrorReason.ERROR_REASON_APPEND_TIMEOUT
        assert answers["late"].error.code == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
        assert answers["late"].error.metadata["seconds"] == "0.1"
        assert (answers["begun"].ack.first_seq, answers["behind"].ack.first_seq) == (1, 2)
        await stream.end()


@pytest.mark.parametrize(
    ("field", "streamed"),
    [
        ("traceparent", v1.StreamedAppend(traceparent="00-x-y-01")),
        ("timeout", v1.StreamedAppend(timeout=Duration(seconds=-1))),
        ("timeout", v1.StreamedAppend(timeout=Duration(seconds=86_401))),
    ],
)
async def test_P14_what_a_streamed_append_says_of_itself_is_checked(
    one_server: tuple[ServerProcess, str], field: str, streamed: v1.StreamedAppend
) -> None:
    session = new()
    wrong = v1.StreamedAppend(tag=-7)
    wrong.MergeFrom(streamed)
    wrong.append.session_id = session
    wrong.append.messages.append(said())
    async with streaming(one_server[0].target, session), channel(one_server[0].target) as one:
        call = v1.MessageServiceStub(one).AppendStream(timeout=PATIENCE)
        await call.write(v1.AppendStreamRequest(appends=[wrong]))
        answer = await call.read()
        assert isinstance(answer, v1.AppendStreamResponse)
        assert answer.results[0].tag == -7
        assert [v.field for v in answer.results[0].error.field_violations] == [field]
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF

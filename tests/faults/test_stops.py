"""SIGTERM under load: the server says so, answers what it took, and ends in time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, cast

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import sessiond
from sessiond import v1
from tests.faults.history import History, Outcome
from tests.faults.load import Load, channel
from tests.faults.reading import verify
from tests.faults.world import progress
from tests.support import streamed
from tests.support.processes import ServerProcess

Start = Callable[..., ServerProcess]
GRACE = 6
NO_ANSWER = {"UNAVAILABLE", "SHUTTING_DOWN", "CANCELLED", "INTERNAL"}
"""What a call without an answer ends with. gRPC itself cancels calls that arrive while its server shuts
down, and its client calls it internal when it was writing to a stream."""
STATUS = health_pb2.HealthCheckResponse.ServingStatus


async def health_until_the_end(target: str) -> list[str]:
    """What a load balancer that watches the server sees, until it goes elsewhere."""
    seen: list[str] = []
    async with channel(target) as one:
        stub = cast("Any", health_pb2_grpc.HealthStub(one))
        call = stub.Watch(health_pb2.HealthCheckRequest())
        try:
            async for answer in call:
                seen.append(STATUS.Name(answer.status))
                if answer.status == health_pb2.HealthCheckResponse.NOT_SERVING:
                    break
        except grpc.aio.AioRpcError as error:
            seen.append(error.code().name)
    return seen


async def stopped(server: ServerProcess) -> float:
    """Stop it with SIGTERM; how long it took, in seconds."""
    began = time.monotonic()
    assert await asyncio.to_thread(server.stop) == 0
    assert not server.bugs()
    return time.monotonic() - began


async def test_P2_P3_a_stop_under_load_answers_every_call_and_keeps_what_it_acknowledged(
    dsn: str, start_server: Start
) -> None:
    stopping, other = (
        start_server(SESSIOND_DSN=dsn, SESSIOND_SHUTDOWN_GRACE=str(GRACE)) for _ in range(2)
    )
    load = Load([stopping.target], ["a", "b", "c"], pause=0.005, impatience=0, create=True, seed=4)
    watching = asyncio.create_task(health_until_the_end(stopping.target))
    loading = asyncio.create_task(load.run(24))
    await progress(load, loading, 200)
    assert await stopped(stopping) < GRACE / 2
    load.stop()
    await loading
    assert await watching == ["SERVING", "NOT_SERVING"]
    assert load.surprises == []
    unknown = [a for a in load.history.attempts if a.outcome is Outcome.UNKNOWN]
    assert all(a.ended - a.started < GRACE / 2 for a in unknown)
    assert {a.detail for a in unknown} <= NO_ANSWER
    async with channel(other.target) as one:
        await verify(load.history, one, dsn)


class OpenStream:
    """A stream that its client keeps open, and writes to when told."""

    def __init__(self, one: grpc.aio.Channel, session: str) -> None:
        self.history = History()
        self._session = session
        self._call = v1.MessageServiceStub(one).AppendStream()

    async def append(self, client_id: str) -> str:
        """Send a message and wait for its answer: empty, or why it is unknown."""
        said = sessiond.message("user", client_id, client_id=client_id)
        request = v1.AppendMessagesRequest(
            session_id=self._session, messages=[said], create_session=v1.Session()
        )
        attempt = self.history.begin("open", self._session, [filled(said)], stream=1)
        try:
            await self._call.write(streamed.frame([request]))
            answer = await self._call.read()
        except grpc.aio.AioRpcError as error:
            attempt.unknown(error.code().name)
        except asyncio.InvalidStateError:
            attempt.unknown((await self._call.code()).name)
        else:
            assert isinstance(answer, v1.AppendStreamResponse)
            attempt.acked(answer.results[0].ack)
        return attempt.detail


def filled(said: v1.Message) -> v1.Message:
    """The message with what the server fills in."""
    whole = v1.Message(kind=v1.MessageKind.MESSAGE_KIND_NORMAL)
    whole.MergeFrom(said)
    return whole


@pytest.fixture
def server(dsn: str, start_server: Start) -> ServerProcess:
    return start_server(SESSIOND_DSN=dsn, SESSIOND_SHUTDOWN_GRACE=str(GRACE))


async def test_P2_an_open_stream_that_is_idle_does_not_hold_up_a_stop(
    server: ServerProcess,
) -> None:
    async with channel(server.target) as one:
        stream = OpenStream(one, "s")
        assert await stream.append("m1") == ""
        assert await stopped(server) < GRACE / 2
        assert await stream.append("m2") == "UNAVAILABLE"

"""P14: a caller that writes a stream hears why the call is refused, whatever it is at, and soon."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from sessiond import v1
from tests.rpc.refusals import refusal
from tests.support import streamed
from tests.support.processes import ServerProcess

CALLS, CALLERS = 200, 4
REQUESTS = 8


@dataclass(frozen=True)
class Case:
    """A stream, a first request for which it is refused, and one that may follow."""

    service: str
    method: str
    refused: Message
    following: Message
    reason: str

    def call(self, channel: Any) -> Any:
        """The stub's method."""
        return getattr(getattr(v1, f"{self.service}Stub")(channel), self.method)

    @property
    def path(self) -> str:
        """That of the method."""
        return f"/sessiond.v1.{self.service}/{self.method}"


CASES = [
    Case(
        "MessageService",
        "AppendStream",
        v1.AppendStreamRequest(),
        streamed.frame([v1.AppendMessagesRequest(session_id="s")]),
        "INVALID_FIELD",
    ),
    Case(
        "AttachmentService",
        "UploadAttachment",
        v1.UploadAttachmentRequest(session_id="none", attachment=v1.Attachment(id="a", name="a")),
        v1.UploadAttachmentRequest(chunk=bytes(100_000)),
        "SESSION_NOT_FOUND",
    ),
    Case(
        "TransferService",
        "ImportSessions",
        v1.ImportSessionsRequest(),
        v1.ImportSessionsRequest(records=[v1.TransferRecord()]),
        "INVALID_FIELD",
    ),
    Case(
        "FeedService",
        "PublishDraft",
        v1.PublishDraftRequest(session_id="none", client_id="c"),
        v1.PublishDraftRequest(deltas=[v1.DraftDelta(text="more")]),
        "SESSION_NOT_FOUND",
    ),
]
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.method)


async def outcome(call: Any) -> str:
    """The reason for which a call is refused, or the code with which it ended."""
    try:
        if isinstance(call, grpc.aio.StreamUnaryCall):
            await call
        else:
            async for _ in call:
                pass
    except grpc.aio.AioRpcError as error:
        return refusal(error).reason or f"{error.code().name}: {error.details()}"
    return "OK"


@each_case
async def test_P14_a_caller_that_still_writes_hears_why_it_is_refused(
    server: ServerProcess, case: Case
) -> None:
    outcomes: set[str] = set()

    async def requests() -> AsyncIterator[Message]:
        yield case.refused
        for _ in range(REQUESTS):
            await asyncio.sleep(0)
            yield case.following

    async with grpc.aio.insecure_channel(server.target) as channel:

        async def caller() -> None:
            for _ in range(CALLS // CALLERS):
                outcomes.add(await outcome(case.call(channel)(requests(), timeout=60)))

        await asyncio.gather(*(caller() for _ in range(CALLERS)))
    assert outcomes == {case.reason}


@each_case
async def test_P14_a_caller_that_waits_in_the_middle_of_a_stream_hears_why_it_is_refused(
    server: ServerProcess, case: Case
) -> None:
    async with grpc.aio.insecure_channel(server.target) as channel:
        call = case.call(channel)(timeout=60)
        await call.write(case.refused)
        assert await outcome(call) == case.reason


@each_case
def test_P14_a_caller_that_never_stops_writing_hears_why_it_is_refused(
    server: ServerProcess, case: Case
) -> None:
    def requests() -> Iterator[Message]:
        yield case.refused
        while True:
            yield case.following

    with grpc.insecure_channel(server.target) as channel:
        call: Any = channel.stream_stream(case.path, type(case.refused).SerializeToString)
        answers = call(requests(), timeout=60)
        with pytest.raises(grpc.RpcError) as caught:
            list(answers)
    assert refusal(caught.value).reason == case.reason

"""A caller that writes hears how the server ended the call, which grpc.aio may hide."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc

from sessiond import v1
from sessiond._outcome import as_told
from tests.client.scripted import Break, ScriptedServer
from tests.support import streamed

CALLS, FRAMES = 100, 20


async def frames() -> AsyncIterator[v1.AppendStreamRequest]:
    for _ in range(FRAMES):
        await asyncio.sleep(0)
        yield streamed.frame([v1.AppendMessagesRequest(session_id="s")])


async def end(channel: grpc.aio.Channel) -> tuple[grpc.StatusCode, str | None]:
    """How a stream ends that the server ends early."""
    call = v1.MessageServiceStub(channel).AppendStream(frames(), timeout=60)
    try:
        async with as_told(call):
            await anext(aiter(call))
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details()
    return grpc.StatusCode.OK, None


async def test_P14_a_caller_that_writes_hears_how_its_call_was_ended(
    scripted: ScriptedServer,
) -> None:
    scripted.script.breaks.extend(Break(code=grpc.StatusCode.ABORTED) for _ in range(CALLS))
    async with grpc.aio.insecure_channel(scripted.target) as channel:
        found = {await end(channel) for _ in range(CALLS)}
    assert found == {(grpc.StatusCode.ABORTED, "as told")}

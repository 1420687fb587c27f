"""A message service over a real socket that stores in memory and fails as it is told to.

It serves to test what a client does when a stream breaks at a given point, which no test can make a
real server do reliably.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

import sessiond
from sessiond import v1


@dataclass
class Break:
    """A stream ends with `code` when its n-th frame arrives."""

    frame: int = 1
    code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE
    stores: bool = False
    """Whether what the frame holds is stored before, without an answer."""
    hangs: bool = False
    """Whether the stream goes silent instead of ending."""


@dataclass
class Script:
    """What is to go wrong, and what happened."""

    breaks: deque[Break] = field(default_factory=deque)
    """One for each stream, in their order; streams beyond that work."""
    errors: dict[str, v1.CallError] = field(default_factory=dict)
    """Sessions whose appends are refused."""
    pause: float = 0.0
    """Seconds before each answer."""
    frames: list[list[int]] = field(default_factory=list)
    """How many appends each frame of each stream held."""
    stored: dict[tuple[str, str], int] = field(default_factory=dict)
    """Seq by session and client id."""
    order: list[str] = field(default_factory=list)
    """The texts in the order in which they were stored."""
    appends: list[v1.AppendMessagesRequest] = field(default_factory=list)
    """All appends that arrived, repeated ones too."""
    failures: deque[grpc.StatusCode] = field(default_factory=deque)
    """How the next unary calls fail; those beyond that work."""
    calls: list[Message] = field(default_factory=list)
    """The requests of all unary calls, failed ones too."""


async def fail_as_told(script: Script, request: Message, context: Any) -> None:
    """Records a unary call, and fails it if that is next."""
    script.calls.append(request)
    if script.failures:
        await context.abort(script.failures.popleft(), "as told")


class ScriptedSessions(v1.SessionServiceServicer):
    """Answers with what it was given."""

    def __init__(self, script: Script) -> None:
        self._script = script

    async def GetSession(self, request: v1.GetSessionRequest, context: Any) -> Any:
        await fail_as_told(self._script, request, context)
        return v1.GetSessionResponse(session=v1.Session(id=request.session_id))

    async def CreateSession(self, request: v1.CreateSessionRequest, context: Any) -> Any:
        await fail_as_told(self._script, request, context)
        return v1.CreateSessionResponse(session=request.session, created=True)

    async def UpdateSession(self, request: v1.UpdateSessionRequest, context: Any) -> Any:
        await fail_as_told(self._script, request, context)
        return v1.UpdateSessionResponse(session=request.session)


class ScriptedMessages(v1.MessageServiceServicer):
    """The service."""

    def __init__(self, script: Script) -> None:
        self._script = script

    async def AppendMessages(self, request: v1.AppendMessagesRequest, context: Any) -> Any:
        await fail_as_told(self._script, request, context)
        return self._append(request).ack

    async def RevertRewind(self, request: v1.RevertRewindRequest, context: Any) -> Any:
        await fail_as_told(self._script, request, context)
        return v1.RevertRewindResponse()

    async def AppendStream(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:
        script = self._script
        broken = script.breaks.popleft() if script.breaks else Break(frame=0)
        frames: list[int] = []
        script.frames.append(frames)
        async for frame in request_iterator:
            frames.append(len(frame.appends))
            script.appends.extend(streamed.append for streamed in frame.appends)
            if len(frames) == broken.frame:
                if broken.stores:
                    self._answer(frame)
                if broken.hangs:
                    await asyncio.Event().wait()
                await context.abort(broken.code, "as told")
            await asyncio.sleep(script.pause)
            yield self._answer(frame)

    def _answer(self, frame: v1.AppendStreamRequest) -> v1.AppendStreamResponse:
        results = []
        for streamed in frame.appends:
            result = self._append(streamed.append)
            result.tag = streamed.tag
            results.append(result)
        return v1.AppendStreamResponse(results=results)

    def _append(self, append: v1.AppendMessagesRequest) -> v1.AppendResult:
        script = self._script
        if append.session_id in script.errors:
            return v1.AppendResult(error=script.errors[append.session_id])
        keys = [(append.session_id, message.client_id) for message in append.messages]
        replayed = keys[0] in script.stored
        if not replayed:
            for key, message in zip(keys, append.messages, strict=True):
                script.stored[key] = len(script.stored) + 1
                script.order.append(sessiond.text_of(message))
        seqs = [script.stored[key] for key in keys]
        return v1.AppendResult(
            ack=v1.AppendMessagesResponse(
                first_seq=seqs[0],
                last_seq=seqs[-1],
                version=v1.SessionVersion(next_seq=len(script.stored) + 1),
                replayed=replayed,
            )
        )


class ScriptedServer:
    """The service on a loopback port, in a thread of its own."""

    def __init__(self) -> None:
        self.script = Script()
        self.target = ""
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self._started.wait()

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._over = asyncio.Event()
        server = grpc.aio.server()
        messages = ScriptedMessages(self.script)  # type: ignore[abstract]
        sessions = ScriptedSessions(self.script)  # type: ignore[abstract]
        v1.add_MessageServiceServicer_to_server(messages, server)
        v1.add_SessionServiceServicer_to_server(sessions, server)
        self.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        self._started.set()
        await self._over.wait()
        await server.stop(0)

    def stop(self) -> None:
        """Ends it, and the calls under way."""
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()


def refusal(reason: v1.ErrorReason.ValueType, code: grpc.StatusCode) -> v1.CallError:
    """A refusal of an append."""
    return v1.CallError(
        code=code.value[0],
        reason=reason,
        message="no",
        metadata={"next_seq": "7"},
        retry_delay=Duration(seconds=1, nanos=500_000_000),
    )

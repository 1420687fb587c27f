"""Writers that do what clients do, badly: pipelining, giving up early, retrying anywhere, or never.

Every call is noted in a `History`. The writers know nothing of faults but what a client sees.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import grpc
import grpc.aio
from google.rpc import error_details_pb2
from grpc_status import rpc_status

import sessiond
from sessiond import v1
from tests.faults.history import Attempt, History, Outcome
from tests.support import streamed

CHANNEL_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.use_local_subchannel_pool", 1),
)
UNKNOWN = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
}
CLIENT_LOST = "Internal error from Core"
"""What grpc.aio says, as INTERNAL, when the connection went while it wrote to a stream."""
ROLES = (v1.Role.ROLE_USER, v1.Role.ROLE_ASSISTANT)


def channel(target: str) -> grpc.aio.Channel:
    """A channel of its own that reconnects at once."""
    return grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS)


def is_unknown(error: grpc.aio.AioRpcError) -> bool:
    """Whether it leaves open what became of the call."""
    return error.code() in UNKNOWN or error.details() == CLIENT_LOST


def is_ending() -> bool:
    """Whether it is this task that is cancelled, and not just its call."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def error_info(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    """The reason of a refusal; empty if the server didn't give one."""
    info = error_details_pb2.ErrorInfo()
    found = rpc_status.from_call(cast("Any", error))
    for detail in found.details if found else ():
        if detail.Unpack(info):
            break
    return info


def message(client_id: str, chance: random.Random) -> v1.Message:
    """A message like no other, with all that the server would fill in."""
    size = 2000 if chance.random() < 0.05 else 20
    role = chance.choice(ROLES)
    calls = [v1.ToolCall(id=f"call-{client_id}", name="f", arguments="{ }")]
    return sessiond.message(
        role,
        f"{client_id} {chance.randbytes(size).hex()}",
        *(
            v1.Part(tool_call=it)
            for it in (calls if role == v1.Role.ROLE_ASSISTANT and chance.random() < 0.2 else [])
        ),
        client_id=client_id,
        kind=v1.MessageKind.MESSAGE_KIND_NORMAL,
        token_count=chance.randrange(100),
        hidden_from_model=not (chance.random() < 0.9),
    )


@dataclass
class Load:
    """What is written to, how, and how it goes. `stop` ends it early."""

    targets: Sequence[str]
    sessions: Sequence[str]
    seed: int = 1
    calls: int = 1_000_000
    """How many calls a writer makes at most, retries not counted."""
    pause: float = 0.0
    """How long a writer sleeps between calls, in seconds, on the average."""
    impatience: float = 0.2
    """How many of the calls are cancelled, or have hardly any time."""
    create: bool = False
    """Whether calls make their session if it is missing."""
    history: History = field(default_factory=History)
    stopping: bool = False
    surprises: list[str] = field(default_factory=list)
    """Answers that no client should get."""
    _streams: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    async def run(self, writers: int) -> None:
        """Run the writers until all have made their calls, or until `stop`."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(writers):
                kind = KINDS[number % len(KINDS)]
                tasks.create_task(kind(self, number).run())

    def stop(self) -> None:
        """Let every writer finish what it is at, and end."""
        self.stopping = True

    def new_stream(self) -> int:
        return next(self._streams)


class Writer:
    """One client: a channel to each server, ids of its own."""

    def __init__(self, load: Load, number: int) -> None:
        self.load = load
        self.name = f"{type(self).__name__.lower()}-{number}"
        self.chance = random.Random(f"{load.seed} {number}")
        self._ids = itertools.count(1)
        self._server = number

    async def run(self) -> None:
        channels = [channel(target) for target in self.load.targets]
        self._stubs = [v1.MessageServiceStub(one) for one in channels]
        try:
            for _ in range(self.load.calls):
                if self.load.stopping:
                    break
                await self.work()
                await asyncio.sleep(self.load.pause * self.chance.uniform(0.5, 1.5))
        finally:
            for one in channels:
                await one.close()

    async def work(self) -> None:
        """Make one call, or one stream."""
        await self.settle(self.request(), impatient=True)

    def stub(self, *, other: bool = False) -> v1.MessageServiceAsyncStub:
        """The server that it talks to; or another one, from now on."""
        if other:
            self._server += 1
        return self._stubs[self._server % len(self._stubs)]

    def request(self, session: str = "") -> v1.AppendMessagesRequest:
        """A call with 1 to 8 new messages."""
        ids = [f"{self.name}.{next(self._ids)}" for _ in range(self.chance.randint(1, 8))]
        return v1.AppendMessagesRequest(
            session_id=session or self.chance.choice(self.load.sessions),
            messages=[message(client_id, self.chance) for client_id in ids],
            create_session=v1.Session(source="load") if self.load.create else None,
        )

    def begin(self, request: v1.AppendMessagesRequest, stream: int = 0) -> Attempt:
        return self.load.history.begin(
            self.name,
            request.session_id,
            request.messages,
            skips=bool(request.on_known),
            stream=stream,
        )

    async def attempt(
        self,
        request: v1.AppendMessagesRequest,
        *,
        impatient: bool = False,
        other: bool = False,
    ) -> tuple[Attempt, grpc.aio.AioRpcError | None]:
        """Make one call; what came of it, and the error if it is one."""
        impatient = impatient and self.chance.random() < self.load.impatience
        short = impatient and self.chance.random() < 0.5
        attempt = self.begin(request)
        call = self.stub(other=other).AppendMessages(
            request, timeout=self.chance.uniform(0.001, 0.03) if short else 10
        )
        if impatient and not short:
            asyncio.get_running_loop().call_later(self.chance.uniform(0, 0.02), call.cancel)
        try:
            attempt.acked(await call)
        except grpc.aio.AioRpcError as error:
            self.failed(attempt, error)
            return attempt, error
        except asyncio.CancelledError:
            attempt.unknown("CANCELLED")
            if is_ending():
                raise
        return attempt, None

    def failed(self, attempt: Attempt, error: grpc.aio.AioRpcError) -> None:
        """Note an error: a refusal only if the server says so and means it."""
        reason = error_info(error).reason
        if is_unknown(error):
            attempt.unknown(error.code().name)
        elif reason and reason != "INTERNAL":
            attempt.refused(reason)
        else:
            attempt.unknown(error.code().name)
            self.load.surprises.append(f"{error.code().name}: {error.details()}")

    async def settle(
        self, request: v1.AppendMessagesRequest, *, impatient: bool = False
    ) -> tuple[Attempt, grpc.aio.AioRpcError | None]:
        """Send until the outcome is known, or give up: at once, after some tries, at the end."""
        attempt, error = await self.attempt(request, impatient=impatient)
        while attempt.outcome is Outcome.UNKNOWN:
            if self.chance.random() < (0.5 if self.load.stopping else 0.1):
                break
            await asyncio.sleep(self.chance.uniform(0, 0.05))
            attempt, error = await self.attempt(
                request, impatient=impatient, other=self.chance.random() < 0.5
            )
        return attempt, error


class Plain(Writer):
    """Plain ordered appends."""


class Expecting(Writer):
    """Appends with `expected_next_seq`, and again with what the refusal says."""

    def __init__(self, load: Load, number: int) -> None:
        super().__init__(load, number)
        self._next: dict[str, int] = {}

    async def work(self) -> None:
        request = self.request()
        for _ in range(8):
            request.guard.expected_next_seq = self._next.get(request.session_id, 1)
            attempt, error = await self.settle(request, impatient=True)
            if attempt.outcome is Outcome.ACKED:
                self._note(request, attempt)
                return
            if error is None or attempt.outcome is Outcome.UNKNOWN:
                return
            if attempt.detail == "NEXT_SEQ_MISMATCH":
                self._next[request.session_id] = int(error_info(error).metadata["next_seq"])

    def _note(self, request: v1.AppendMessagesRequest, attempt: Attempt) -> None:
        if not attempt.replayed and attempt.seqs[0] != request.guard.expected_next_seq:
            self.load.surprises.append(
                f"expected {request.guard.expected_next_seq}, got {attempt.seqs[0]}"
            )
        self._next[request.session_id] = attempt.seqs[-1] + 1


class Skipping(Writer):
    """Sends what it isn't sure of again, together with what is new."""

    async def work(self) -> None:
        request = self.request()
        attempt, _ = await self.attempt(request, impatient=True)
        if attempt.outcome is Outcome.ACKED and self.chance.random() < 0.8:
            return
        request.messages.extend(self.request().messages)
        request.on_known = v1.OnKnown.ON_KNOWN_SKIP
        await self.settle(request, impatient=True)


class Streaming(Writer):
    """Pipelines on a stream, breaks it off now and then, and sends what wasn't answered again."""

    async def work(self) -> None:
        session = self.chance.choice(self.load.sessions)
        requests = [self.request(session) for _ in range(self.chance.randint(1, 12))]
        unsure = await self.stream(requests, cut=self.chance.random() < self.load.impatience)
        while unsure and self.chance.random() < (0.5 if self.load.stopping else 0.8):
            await asyncio.sleep(self.chance.uniform(0, 0.05))
            again = self._merged(unsure) if self.chance.random() < 0.5 else unsure
            more = [self.request(session) for _ in range(2)]
            unsure = await self.stream([*again, *more], cut=False)

    def _merged(self, unsure: list[v1.AppendMessagesRequest]) -> list[v1.AppendMessagesRequest]:
        """All of it in one call, which may be known in part."""
        merged = v1.AppendMessagesRequest()
        merged.CopyFrom(unsure[0])
        merged.on_known = v1.OnKnown.ON_KNOWN_SKIP
        for request in unsure[1:]:
            merged.messages.extend(request.messages)
        return [merged]

    async def stream(
        self, requests: Sequence[v1.AppendMessagesRequest], *, cut: bool
    ) -> list[v1.AppendMessagesRequest]:
        """Send it all on one stream; what wasn't answered."""
        pipeline = _Pipeline(self, requests)
        call = self.stub(other=self.chance.random() < 0.2).AppendStream(
            pipeline.frames(), timeout=20
        )
        if cut:
            asyncio.get_running_loop().call_later(self.chance.uniform(0, 0.03), call.cancel)
        try:
            async for answer in call:
                pipeline.answered(answer)
            if pipeline.waiting:
                self.load.surprises.append(f"{len(pipeline.waiting)} appends got no answer")
        except grpc.aio.AioRpcError as error:
            pipeline.broken(error)
        except asyncio.CancelledError:
            pipeline.broken(None)
            if is_ending():
                raise
        return pipeline.unsure()


class _Pipeline:
    """A stream's appends: waiting for their answers, refused for the time being, unanswered."""

    def __init__(self, writer: Writer, requests: Sequence[v1.AppendMessagesRequest]) -> None:
        self._writer = writer
        self._requests = deque(requests)
        self._number = writer.load.new_stream()
        self._unsure: list[v1.AppendMessagesRequest] = []
        self.waiting: dict[int, tuple[v1.AppendMessagesRequest, Attempt]] = {}
        """By tag."""
        self._tags = 0

    async def frames(self) -> AsyncIterator[v1.AppendStreamRequest]:
        while self._requests:
            count = min(self._writer.chance.randint(1, 3), len(self._requests))
            frame = [self._requests.popleft() for _ in range(count)]
            first = self._tags
            self._tags += len(frame)
            for tag, request in enumerate(frame, first):
                self.waiting[tag] = (request, self._writer.begin(request, self._number))
            yield streamed.frame(frame, first)
            if self._writer.chance.random() < 0.3:
                await asyncio.sleep(self._writer.chance.uniform(0, 0.005))

    def answered(self, answer: v1.AppendStreamResponse) -> None:
        for result in answer.results:
            request, attempt = self.waiting.pop(result.tag)
            if result.HasField("ack"):
                attempt.acked(result.ack)
                continue
            reason = v1.ErrorReason.Name(result.error.reason).removeprefix("ERROR_REASON_")
            if result.error.code == grpc.StatusCode.UNAVAILABLE.value[0]:
                attempt.unknown(reason)
                self._unsure.append(request)
            elif reason == "INTERNAL":
                attempt.unknown(reason)
                self._writer.load.surprises.append(f"INTERNAL: {result.error.message}")
            else:
                attempt.refused(reason)

    def broken(self, error: grpc.aio.AioRpcError | None) -> None:
        """The stream ended early: whatever waits is unknown."""
        code = grpc.StatusCode.CANCELLED if error is None else error.code()
        if error is not None and not is_unknown(error):
            self._writer.load.surprises.append(f"{code.name}: {error.details()}")
        self._requests.clear()
        while self.waiting:
            _, (request, attempt) = self.waiting.popitem()
            attempt.unknown(code.name)
            self._unsure.append(request)

    def unsure(self) -> list[v1.AppendMessagesRequest]:
        return self._unsure


KINDS: tuple[type[Writer], ...] = (Plain, Streaming, Expecting, Skipping, Plain, Streaming)

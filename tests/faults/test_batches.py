"""Appends that wait together: none harms another, none is lost, and their number is bounded."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from sessiond import v1
from tests.faults.history import History, Outcome
from tests.faults.load import channel, error_info, message
from tests.faults.proxy import Proxy, proxied
from tests.faults.reading import verify
from tests.faults.stalls import locked
from tests.support import streamed
from tests.support.patience import until
from tests.support.postgres import Databases
from tests.support.processes import ServerProcess

BLOCKER = "blocker"
Call = asyncio.Task[v1.AppendMessagesResponse]


class Caller:
    """Calls one server and notes what came of it. Its sessions are its own."""

    def __init__(self, one: grpc.aio.Channel, history: History) -> None:
        self.history = history
        self._prefix = f"{len(history.attempts)}-"
        self.messages = v1.MessageServiceStub(one)
        self.sessions = v1.SessionServiceStub(one)
        self.writers = v1.WriterServiceStub(one)
        self.usage = v1.UsageServiceStub(one)

    def id(self, session: str) -> str:
        return self._prefix + session

    async def create(self, *sessions: str) -> None:
        for session in sessions:
            await self.sessions.CreateSession(
                v1.CreateSessionRequest(session=v1.Session(id=self.id(session)))
            )

    def request(self, session: str, *ids: str, **fields: Any) -> v1.AppendMessagesRequest:
        """An append of messages that are the same for the same ids."""
        return v1.AppendMessagesRequest(
            session_id=self.id(session),
            messages=[message(client_id, random.Random(client_id)) for client_id in ids],
            **fields,
        )

    async def append(
        self, request: v1.AppendMessagesRequest, seconds: float = 30
    ) -> v1.AppendMessagesResponse:
        attempt = self.history.begin(
            "caller", request.session_id, request.messages, skips=bool(request.on_known)
        )
        try:
            answer = await self.messages.AppendMessages(request, timeout=seconds)
        except grpc.aio.AioRpcError as error:
            if reason := error_info(error).reason:
                attempt.refused(reason)
            else:
                attempt.unknown(error.code().name)
            raise
        attempt.acked(answer)
        return answer

    async def input_tokens(self, *sessions: str) -> int:
        """How many tokens sessions used."""
        found = 0
        for session in sessions:
            request = v1.GetUsageRequest(session_id=self.id(session))
            found += (await self.usage.GetUsage(request)).total.input_tokens
        return found

    async def stream(self, requests: Iterable[v1.AppendMessagesRequest]) -> list[v1.AppendResult]:
        """Send it all in one frame; the answers."""
        frame = streamed.frame(requests)
        attempts = [
            self.history.begin(
                "streamer", r.session_id, r.messages, skips=bool(r.on_known), stream=1
            )
            for r in (each.append for each in frame.appends)
        ]

        async def frames() -> AsyncIterator[v1.AppendStreamRequest]:
            yield frame

        results: list[v1.AppendResult] = []
        async for answer in self.messages.AppendStream(frames(), timeout=30):
            results += answer.results
        results.sort(key=lambda result: result.tag)
        for attempt, result in zip(attempts, results, strict=True):
            if result.HasField("ack"):
                attempt.acked(result.ack)
            else:
                attempt.refused(reason_of(result))
        return results


def reason_of(result: v1.AppendResult) -> str:
    if result.HasField("ack"):
        return ""
    return v1.ErrorReason.Name(result.error.reason).removeprefix("ERROR_REASON_")


@dataclass
class Shared:
    """The server of these tests, and all that was ever sent to it."""

    dsn: str
    target: str
    proxy: Proxy
    history: History = field(default_factory=History)


@pytest.fixture(scope="module")
def shared(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    """A server whose queue is as short as it can be, with a database that can be stalled."""
    dsn = databases.migrated()
    with proxied(dsn, tmp_path_factory.mktemp("p")) as proxy:
        server = ServerProcess(SESSIOND_DSN=proxy.dsn, SESSIOND_APPEND_QUEUE_MESSAGES="1000")
        yield Shared(dsn, server.target, proxy)
        assert server.stop() == 0
    assert not server.bugs()


@pytest.fixture
async def caller(shared: Shared) -> AsyncIterator[Caller]:
    """A caller, at whose end the whole history must hold."""
    async with channel(shared.target) as one:
        found = Caller(one, shared.history)
        await found.create(BLOCKER)
        yield found
        await verify(shared.history, one, shared.dsn)


@pytest.fixture
def proxy(shared: Shared) -> Proxy:
    return shared.proxy


@asynccontextmanager
async def one_batch(caller: Caller, proxy: Proxy) -> AsyncIterator[None]:
    """What is sent inside waits for a database that hangs, and goes into one batch at the end."""
    proxy.stall()
    try:
        client_id = str(time.monotonic_ns())
        first = asyncio.create_task(caller.append(caller.request(BLOCKER, client_id)))
        await until(lambda: proxy.holds(client_id.encode()), "nothing goes to the database")
        yield
        await asyncio.sleep(0.2)
    finally:
        proxy.resume()
    await first


async def bad_requests(caller: Caller) -> dict[str, v1.AppendMessagesRequest]:
    """A request for every reason to refuse one, by the reason; and what they need."""
    await caller.create("good", "ended", "held", "lost")
    await caller.append(caller.request("good", "known", "known2"))
    await caller.append(caller.request("ended", "before the end".replace(" ", "-")))
    await caller.sessions.EndSession(v1.EndSessionRequest(session_id=caller.id("ended")))
    for session in ("held", "lost"):
        await caller.writers.AcquireWriter(
            v1.AcquireWriterRequest(session_id=caller.id(session), holder="somebody")
        )
    reused = caller.request("good", "known")
    reused.messages[0].parts[0].text = "other"
    long = caller.request("good", "long")
    long.messages[0].parts[0].text = "x" * (2 * 2**20 + 1)
    return {
        "SESSION_NOT_FOUND": caller.request("nowhere", "n1", "n2"),
        "SESSION_ENDED": caller.request("ended", "e1"),
        "CLIENT_ID_REUSED": reused,
        "PARTIAL_REPLAY": caller.request("good", "known", "known2", "p1"),
        "NEXT_SEQ_MISMATCH": caller.request(
            "good", "m1", "m2", guard=v1.WriteGuard(expected_next_seq=1000)
        ),
        "WRITER_LEASE_HELD": caller.request("held", "h1"),
        "WRITER_LEASE_LOST": caller.request(
            "lost", "l1", guard=v1.WriteGuard(writer_token="long gone")
        ),
        "INVALID_FIELD": long,
        "PARENT_NOT_FOUND": caller.request(
            "orphan",
            "o1",
            create_session=v1.Session(
                parent=v1.SessionParent(id="nobody", kind=v1.ParentKind.PARENT_KIND_SUBAGENT)
            ),
        ),
    }


async def refusal_of(call: Call) -> str:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return str(error_info(error).reason) or error.code().name
    return ""


async def test_P3_P14_bad_requests_harm_nobody_in_their_batch(caller: Caller, proxy: Proxy) -> None:
    bad = await bad_requests(caller)
    good: list[Call] = []
    refused: dict[str, Call] = {}
    async with one_batch(caller, proxy):
        for number, (reason, wrong) in enumerate(bad.items()):
            own = caller.request(f"own{number}", f"a{number}", create_session=v1.Session())
            good.append(asyncio.create_task(caller.append(own)))
            refused[reason] = asyncio.create_task(caller.append(wrong))
            same = caller.request("good", f"b{number}", f"c{number}")
            good.append(asyncio.create_task(caller.append(same)))
    for call in good:
        assert not (await call).replayed
    assert {reason: await refusal_of(call) for reason, call in refused.items()} == {
        reason: reason for reason in bad
    }


def used(tokens: int, **fields: Any) -> v1.UsageRecord:
    return v1.UsageRecord(
        usage=v1.Usage(input_tokens=tokens), model="m", turn_index=tokens % 3, **fields
    )


async def test_P3_P4_usage_in_a_batch_counts_with_its_messages_and_once(
    caller: Caller, proxy: Proxy
) -> None:
    bad = await bad_requests(caller)
    await caller.create("spender", "other")
    good = [
        caller.request("spender", "u1", usage=used(1)),
        caller.request("spender", "u2", "u3", usage=used(20)),
        caller.request("spender", "u4"),
        caller.request("spender", "u5", usage=used(300, request_id="r")),
        caller.request("spender", "u6", usage=used(4000)),
        caller.request("other", "o1", usage=used(50000)),
        caller.request("other", "o2", usage=used(600000, set_turn=True)),
        caller.request("other", "o3", usage=used(7000000)),
    ]
    for request in bad.values():
        request.usage.CopyFrom(used(10**9))
    for again in range(2):
        async with one_batch(caller, proxy):
            wanted = [asyncio.create_task(caller.append(request)) for request in good]
            refused = [asyncio.create_task(caller.append(request)) for request in bad.values()]
        assert [(await call).replayed for call in wanted] == [bool(again)] * len(good)
        assert [await refusal_of(call) for call in refused] == list(bad)
        assert await caller.input_tokens("spender") == 4321
        # Round 0 is set to 600000 behind o1, which isn't of it, and o3 is of round 1.
        assert await caller.input_tokens("other") == 7650000
        assert await caller.input_tokens("good", "ended", "held") == 0


async def test_P3_P14_bad_requests_harm_nobody_in_their_stream(
    caller: Caller, proxy: Proxy
) -> None:
    bad = await bad_requests(caller)
    requests = [
        pair
        for number, wrong in enumerate(bad.values())
        for pair in (wrong, caller.request("good", f"b{number}", f"c{number}"))
    ]
    async with one_batch(caller, proxy):
        streaming = asyncio.create_task(caller.stream(requests))
    results = await streaming
    assert [reason_of(result) for result in results] == [
        reason for wanted in bad for reason in (wanted, "")
    ]


async def test_P1_P3_neighbours_of_cancelled_calls_are_all_acknowledged(
    caller: Caller, proxy: Proxy
) -> None:
    await caller.create("shared")
    calls: list[Call] = []
    async with one_batch(caller, proxy):
        for number in range(90):
            sent = caller.request("shared", f"a{number}", f"b{number}")
            calls.append(asyncio.create_task(caller.append(sent)))
        await asyncio.sleep(0.2)
        for call in calls[::3]:
            call.cancel()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    acked = [a for a in answers if isinstance(a, v1.AppendMessagesResponse)]
    assert len(acked) == 60
    assert sorted(a.first_seq for a in acked) == list(range(1, 121, 2))


async def test_P13_calls_out_of_time_while_they_wait_are_not_started(
    caller: Caller, proxy: Proxy
) -> None:
    await caller.create("shared")
    async with one_batch(caller, proxy):
        late = asyncio.create_task(caller.append(caller.request("shared", "late"), seconds=0.05))
        assert await refusal_of(late) == "DEADLINE_EXCEEDED"
    assert (await caller.append(caller.request("shared", "next"))).first_seq == 1


@pytest.mark.parametrize(
    ("ids", "fields", "seqs"),
    [
        (("known", "new"), {"on_known": v1.OnKnown.ON_KNOWN_SKIP}, (1, 2)),
        (("new",), {"guard": v1.WriteGuard(expected_next_seq=2)}, (2,)),
        (("new",), {"guard": v1.WriteGuard(expected_revision=2)}, (2,)),
        (("new",), {"guard": v1.WriteGuard(expected_next_seq=2, expected_revision=2)}, (2,)),
        (("new", "newer"), {}, (2, 3)),
    ],
)
async def test_P5_a_stream_is_applied_in_the_order_sent(
    caller: Caller,
    proxy: Proxy,
    ids: tuple[str, ...],
    fields: dict[str, Any],
    seqs: tuple[int, ...],
) -> None:
    await caller.create("ordered")
    await caller.append(caller.request("ordered", "known"))
    requests = [caller.request("ordered", *ids, **fields), caller.request("ordered", "behind")]
    async with one_batch(caller, proxy):
        streaming = asyncio.create_task(caller.stream(requests))
    one, behind = await streaming
    found = tuple(one.ack.seqs) or tuple(range(one.ack.first_seq, one.ack.last_seq + 1))
    assert (found, behind.ack.first_seq) == (seqs, seqs[-1] + 1)


async def test_P5_what_was_refused_for_its_place_is_not_applied_behind_later_appends(
    caller: Caller, proxy: Proxy
) -> None:
    """The expected seq comes true only through the append behind it."""
    await caller.create("ordered")
    await caller.append(caller.request("ordered", "known"))
    early = caller.request("ordered", "early", guard=v1.WriteGuard(expected_next_seq=3))
    async with one_batch(caller, proxy):
        streaming = asyncio.create_task(caller.stream([early, caller.request("ordered", "behind")]))
    one, behind = await streaming
    assert reason_of(one) == "NEXT_SEQ_MISMATCH"
    assert one.error.metadata["next_seq"] == "2"
    assert behind.ack.first_seq == 2


def retry_delay(error: grpc.aio.AioRpcError) -> float:
    delay = error_details_pb2.RetryInfo()
    found = rpc_status.from_call(cast("Any", error))
    assert found is not None
    assert any(detail.Unpack(delay) for detail in found.details)
    return float(delay.retry_delay.seconds + delay.retry_delay.nanos / 1e9)


async def refused_of(calls: list[Call], count: int) -> tuple[set[Call], set[Call]]:
    """Wait until so many have ended, and see that no more do; those that have and those that haven't."""
    for _ in range(100):
        done, _ = await asyncio.wait(calls, timeout=0.1)
        if len(done) >= count:
            break
    done, waiting = await asyncio.wait(calls, timeout=0.2)
    assert len(done) == count
    return done, waiting


async def test_P13_a_full_queue_refuses_at_once_and_loses_nothing(
    caller: Caller, proxy: Proxy
) -> None:
    """1 message holds the database up; 124 calls of 8 fit behind it into a queue of 1000."""
    before = len(caller.history.attempts)
    sessions = [f"s{number}" for number in range(10)]
    requests = [
        caller.request(
            sessions[n % 10], *(f"m{n}.{i}" for i in range(8)), create_session=v1.Session()
        )
        for n in range(160)
    ]
    async with one_batch(caller, proxy):
        calls = [asyncio.create_task(caller.append(r)) for r in requests]
        done, waiting = await refused_of(calls, 36)
        for call in done:
            error = call.exception()
            assert isinstance(error, grpc.aio.AioRpcError)
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert error_info(error).reason == "APPEND_QUEUE_FULL"
            assert 0 < retry_delay(error) < 5
        (result,) = await caller.stream([caller.request("s0", "one", *map(str, range(8)))])
        assert reason_of(result) == "APPEND_QUEUE_FULL"
        assert result.error.HasField("retry_delay")
    await asyncio.gather(*waiting)
    refused = [r for r, call in zip(requests, calls, strict=True) if call in done]
    answers = await asyncio.gather(*(caller.append(r) for r in refused))
    assert not any(answer.replayed for answer in answers)
    acked = caller.history.attempts[before:]
    assert sum(attempt.outcome is Outcome.ACKED for attempt in acked) == 161


async def test_P13_a_call_larger_than_the_queue_is_taken_when_nothing_waits(
    caller: Caller, proxy: Proxy
) -> None:
    await caller.create("large")
    large = caller.request("large", *map(str, range(1000)))
    async with one_batch(caller, proxy):
        with pytest.raises(grpc.aio.AioRpcError, match="wait to be appended"):
            await caller.append(large)
    assert (await caller.append(large)).last_seq == 1000


async def test_P13_a_locked_session_holds_up_no_other(caller: Caller, shared: Shared) -> None:
    await caller.create("locked", "free")
    async with locked(shared.dsn, caller.id("locked")):
        waiting = asyncio.create_task(caller.append(caller.request("locked", "w1")))
        await asyncio.sleep(0.1)
        answers = [
            await caller.append(caller.request("free", f"f{n}"), seconds=5) for n in range(5)
        ]
        assert not waiting.done()
    assert [answer.first_seq for answer in answers] == [1, 2, 3, 4, 5]
    assert (await waiting).first_seq == 1

"""P14: whatever a client sends, it gets an answer or a documented refusal, and nothing is half done."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import asyncpg
import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from sessiond import v1
from sessiond_server.rpc.policies import policy_of
from sessiond_server.rpc.server import SERVICES
from tests.rpc.api import Api, answering, calling, said
from tests.rpc.refusals import Refusal, breaches, refusal, refusal_in_stream
from tests.rpc.requests import Requests
from tests.rpc.world import make_world
from tests.support.attachments import BAD
from tests.support.processes import ServerProcess

METHODS = sorted(
    (method for service in SERVICES for method in service.methods), key=lambda m: m.full_name
)
WORLDS = 8
RANDOM_PER_WORLD = 500
CALLERS = 48

Start = Callable[..., ServerProcess]


class Fuzzer:
    """Sends encoded requests, and gathers what was wrong with the answers."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.breaches: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self._calls = {m.full_name: _multicallable(channel, m) for m in METHODS}

    async def send(self, method: MethodDescriptor, request: bytes) -> None:
        """One call."""
        answers = GetMessageClass(method.output_type)
        try:
            call = self._calls[method.full_name]
            if method.client_streaming and not method.server_streaming:
                found = [await call(iter([request]), timeout=60)]
            elif method.client_streaming:
                found = [item async for item in call(iter([request]), timeout=60)]
            elif method.server_streaming:
                found = await _read(
                    call(request, timeout=60), endless=method.name.startswith("Watch")
                )
            else:
                found = [await call(request, timeout=60)]
        except grpc.aio.AioRpcError as error:
            self._refused(method, refusal(error), in_stream=False)
            return
        for item in map(answers.FromString, found):
            for result in item.results if isinstance(item, v1.AppendStreamResponse) else ():
                if result.HasField("error"):
                    self._refused(method, refusal_in_stream(result.error), in_stream=True)
            for outcome in item.outcomes if isinstance(item, v1.ImportSessionsResponse) else ():
                if outcome.HasField("error"):
                    self._refused(method, refusal_in_stream(outcome.error), in_stream=True)
        self._note(method, "OK", [])

    def _refused(self, method: MethodDescriptor, found: Refusal, *, in_stream: bool) -> None:
        wrong = breaches(found)
        if found.reason and found.reason not in policy_of(method).reasons:
            wrong.append(f"for a reason that its options don't name: {found.reason}")
        self._note(method, "in stream" if in_stream else found.reason or found.code.name, wrong)

    def _note(self, method: MethodDescriptor, outcome: str, wrong: list[str]) -> None:
        self.counts[outcome] += 1
        alike = (re.sub("[0-9a-f]{16,}", "…", text[:1000]) for text in wrong)
        self.breaches.update(f"{method.name}: {text}" for text in alike)

    async def run(self, requests: Iterator[tuple[MethodDescriptor, bytes]]) -> None:
        """All of them, some at a time."""

        async def caller() -> None:
            for method, request in requests:
                await self.send(method, request)

        await asyncio.gather(*(caller() for _ in range(CALLERS)))


async def _read(call: Any, *, endless: bool) -> list[bytes]:
    """What a call streams; of an endless one what comes first."""
    found = []
    async for item in call:
        found.append(item)
        if endless:
            call.cancel()
            break
    return found


def _multicallable(channel: grpc.aio.Channel, method: MethodDescriptor) -> Any:
    path = f"/{method.containing_service.full_name}/{method.name}"
    if method.client_streaming and method.server_streaming:
        return channel.stream_stream(path)
    if method.client_streaming:
        return channel.stream_unary(path)
    return channel.unary_stream(path) if method.server_streaming else channel.unary_unary(path)


def _requests(requests: Requests, world: int) -> Iterator[tuple[MethodDescriptor, bytes]]:
    """A world's share of the systematic requests, and random ones; those are made before they are sent."""
    systematic = [
        (method, request)
        for place, method in enumerate(METHODS)
        if place % WORLDS == world
        for request in requests.every_oddity(method)
    ]
    chosen = [
        (method, requests.random_oddity(method))
        for method in requests.random.choices(METHODS, k=RANDOM_PER_WORLD)
    ]
    mixed = systematic + chosen
    requests.random.shuffle(mixed)
    return iter(mixed)


def _canary(api: Api) -> str:
    id = api.talk(3, calling("a", "b"), answering("a"), answering("b"), said("\0 kept"))
    api.compact(id, 1, 2)
    api.append(id, said(), said())
    api.rewind(id, 9)
    api.lease(id, seconds=3600)  # whatever is pruned, this one stays
    return id


def _history(api: Api, id: str) -> list[bytes]:
    """All that can be read of a session."""
    log = v1.ListMessagesRequest(session_id=id, view=v1.MessageView.MESSAGE_VIEW_ALL)
    named = v1.ListCompactionsRequest(session_id=id), v1.ListRewindsRequest(session_id=id)
    answers = [
        api.sessions.GetSession(v1.GetSessionRequest(session_id=id)),
        api.messages.ListMessages(log),
        *api.contexts.GetContext(v1.GetContextRequest(session_id=id)),
        api.compactions.ListCompactions(named[0]),
        api.messages.ListRewinds(named[1]),
    ]
    return [answer.SerializeToString(deterministic=True) for answer in answers]


HALF_DONE = """
SELECT 'a session without a head, or a head without one' AS what, count(*) AS number
FROM session FULL JOIN session_head USING (bucket, session_key)
WHERE session.session_id IS NULL OR session_head.next_seq IS NULL
UNION ALL
SELECT 'a gap, or counters that are wrong', count(*)
FROM session_head AS h
JOIN LATERAL (
    SELECT count(*) AS messages, coalesce(min(seq), h.first_seq) AS first, max(seq) AS last,
        coalesce(sum(cardinality(tool_call_ids)), 0) AS calls
    FROM message AS m
    WHERE m.bucket = h.bucket AND m.session_key = h.session_key
) AS m ON true
JOIN LATERAL (
    SELECT coalesce(sum(last_seq - first_seq + 1), 0) AS messages,
        coalesce(min(first_seq), h.first_seq) AS first, coalesce(max(last_seq) + 1, h.first_seq) AS behind
    FROM message_segment AS s
    WHERE s.bucket = h.bucket AND s.session_key = h.session_key
) AS s ON true
WHERE (s.first, s.behind, m.first, coalesce(m.last, h.next_seq - 1), m.messages + s.messages)
    IS DISTINCT FROM (
        h.first_seq, greatest(h.first_seq, h.offloaded_before_seq),
        CASE WHEN m.messages = 0 THEN h.first_seq ELSE s.behind END,
        h.next_seq - 1, h.message_count
    )
    OR h.next_seq - h.first_seq <> h.message_count
    OR (s.messages = 0 AND m.calls <> h.tool_call_count)
UNION ALL
SELECT 'a reminder without its session, or one that rests while it shouldn''t', count(*)
FROM reminder AS r LEFT JOIN session AS s USING (bucket, session_key)
WHERE s.session_id IS DISTINCT FROM r.session_id OR (r.state = 1 AND r.held <> (s.state <> 1))
UNION ALL
SELECT 'a session that is settled, but not where it belongs in lists', count(*)
FROM session AS s JOIN session_head AS h USING (bucket, session_key)
WHERE NOT h.unsettled
    AND (s.position = 0
        OR (s.listed_time < h.activity_time AND h.activity_time <= to_timestamp(s.position / 1000000.0)))
UNION ALL
SELECT 'a title without its session, or a session without its title', count(*)
FROM session_title AS t
FULL JOIN (SELECT * FROM session WHERE title <> '') AS s USING (tenant, owner, session_id)
WHERE s.title IS DISTINCT FROM t.series || CASE WHEN t.number > 1 THEN ' #' || t.number ELSE '' END
"""


async def _half_done(dsn: str) -> dict[str, int]:
    connection = await asyncpg.connect(dsn)
    try:
        found = [*await connection.fetch(HALF_DONE), *await connection.fetch(BAD)]
        return {r["what"]: r["number"] for r in found if r["number"]}
    finally:
        await connection.close()


@pytest.mark.timeout(600)
def test_P14_no_request_breaks_the_contract(start_server: Start, dsn: str) -> None:
    seed = int(os.environ.get("SESSIOND_TEST_SEED", secrets.randbits(32)))
    print(f"SESSIOND_TEST_SEED={seed}")
    server = start_server(SESSIOND_DSN=dsn, SESSIOND_DRAFT_EXPIRY="1")
    with grpc.insecure_channel(server.target) as channel:
        api = Api(channel)
        canary = _canary(api)
        before = _history(api, canary)

        async def run() -> Fuzzer:
            async with grpc.aio.insecure_channel(server.target) as asynchronous:
                fuzzer = Fuzzer(asynchronous)
                for world in range(WORLDS):
                    made = await asyncio.to_thread(make_world, channel)
                    await fuzzer.run(_requests(Requests(made, seed + world), world))
                return fuzzer

        fuzzer = asyncio.run(run())
        print(sum(fuzzer.counts.values()), "requests:", dict(fuzzer.counts.most_common()))
        assert not fuzzer.breaches, "\n".join([*fuzzer.breaches, *server.bugs()][:30])
        assert sum(fuzzer.counts.values()) >= 20_000
        assert _history(api, canary) == before
        assert api.get(api.talk(2)).message_count == 2
    assert not server.bugs()
    assert not any("Traceback" in line for line in server.log)
    assert asyncio.run(_half_done(dsn)) == {}

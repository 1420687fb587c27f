"""Counts of a tenant: by state, by source, in messages, calls and bytes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator

import asyncpg
import grpc
import pytest

import sessiond
from sessiond import from_openai, v1, with_client_ids
from tests.rpc.api import Api, calling, new, said
from tests.support.data import airline
from tests.support.processes import ServerProcess

ACTIVE, ENDED = 1, 2


@pytest.fixture
def own(start_server: Callable[..., ServerProcess], dsn: str) -> Iterator[Api]:
    """A server on the test's own database."""
    with grpc.insecure_channel(start_server(SESSIOND_DSN=dsn).target) as channel:
        yield Api(channel)


def stats(api: Api, owner: str | None = None) -> v1.GetTenantStatsResponse:
    wanted = v1.SessionFilter(owner=owner, whole_tenant=owner is None, include_subagents=True)
    return api.tenants.GetTenantStats(v1.GetTenantStatsRequest(filter=wanted))


def _counts(api: Api, owner: str) -> v1.GetTenantStatsResponse:
    """Without the time up to which everybody's messages are indexed."""
    found = stats(api, owner)
    found.ClearField("indexed_through_time")
    return found


def _real(api: Api, number: int, **facts: str) -> tuple[str, int, int]:
    """A real conversation; its id, its tool calls and its size as it is stored."""
    id, dicts = airline(number)
    messages = with_client_ids(from_openai(dicts))
    api.create(id, **facts)
    api.append(id, *messages)
    log = api.log(id)
    for message in log:
        for field in ("seq", "create_time"):
            message.ClearField(field)
    size = sum(message.ByteSize() for message in log)
    return id, sum(len(sessiond.tool_calls_of(message)) for message in messages), size


def test_B_counts_sessions_by_source_and_messages_by_session(own: Api) -> None:
    made = [
        _real(own, number, source=source, owner=owner)
        for number, source, owner in ((0, "cli", "a"), (1, "telegram", "a"), (2, "cli", "b"))
    ]
    own.end(made[0][0])
    own.archive(made[1][0])
    child = own.child(made[2][0], owner="b").id
    own.append(child, said(), calling("x", "y"))
    lengths = [own.get(id).message_count for id, _, _ in made]
    found = stats(own)
    assert {it.source: (it.session_count, it.message_count) for it in found.sources} == {
        "cli": (2, lengths[0] + lengths[2]),
        "telegram": (1, lengths[1]),
        "": (1, 2),
    }
    assert {it.state: (it.session_count, it.message_count) for it in found.states} == {
        ENDED: (1, lengths[0]),
        ACTIVE: (3, lengths[1] + lengths[2] + 2),
    }
    assert (found.session_count, found.subagent_session_count) == (4, 1)
    assert found.message_count == sum(lengths) + 2
    assert found.tool_call_count == sum(calls for _, calls, _ in made) + 2
    assert (found.hot_bytes_estimated, found.partial) == (False, False)
    theirs = stats(own, "a")
    assert (theirs.session_count, theirs.hot_bytes) == (2, made[0][2] + made[1][2])
    assert _counts(own, "nobody") == v1.GetTenantStatsResponse()
    for id, _, _ in made[:2]:
        own.delete(id)
    assert _counts(own, "a") == v1.GetTenantStatsResponse()


def test_the_sources_with_most_sessions_are_told_apart(own: Api) -> None:
    wanted = Counter({f"source {n:03}": 1 for n in range(105)})
    wanted.update({"source 104": 2, "source 007": 1})
    for source, count in wanted.items():
        for _ in range(count):
            own.create(source=source)
    found = stats(own)
    names = [it.source for it in found.sources]
    assert (len(names), names[:3]) == (100, ["source 104", "source 007", "source 000"])
    assert found.other_sources.session_count == 5
    assert found.session_count == wanted.total()


_MANY = """
WITH made AS (
    INSERT INTO message (
        bucket, session_key, seq, create_time, token_count, role, kind, in_context, in_transcript,
        summary, client_id, payload
    )
    SELECT
        bucket, session_key, seq, create_time, 0, 3, 1, true, true, false, 'm' || seq,
        convert_to(repeat('x', (seq % 200)::integer), 'UTF8')
    FROM session, generate_series(1, 60000) AS seq
)
UPDATE session_head SET message_count = 60000, next_seq = 60001
"""


def test_the_size_of_many_messages_is_estimated(own: Api, dsn: str) -> None:
    own.create(new())

    async def fill() -> None:
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute(_MANY)
        finally:
            await connection.close()

    asyncio.run(fill())
    found = stats(own)
    assert (found.message_count, found.hot_bytes_estimated) == (60_000, True)
    exact = sum(n % 200 for n in range(1, 60_001))
    assert 0.8 * exact < found.hot_bytes < 1.2 * exact

"""Searches among a million messages made of real conversations, and what indexing takes from appends."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import asyncpg

from bench import postgres, report
from bench.loads import RUN, Service
from bench.measure import Ratio, median_latency, throughput
from bench.processes import process, sessiond
from sessiond import from_openai, v1
from sessiond_server.rpc import messages_in, passages_in
from sessiond_server.rpc.checks import Checks
from sessiond_server.sessions import passages
from sessiond_server.store import search
from sessiond_server.store.keys import DEFAULT_TENANT, session_key
from tests.support.data import airline_sessions

MESSAGES = 1_000_000
QUERIES = ("gold certificate", "baggage insurance", "flight cancelled", "reservation passengers")
"""Of two words each that are in thousands of messages."""

_WORKERS = 64
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)

_POOL = """
CREATE TABLE bench_pool (
    conversation integer, seq bigint, role smallint, payload bytea, document text
);
CREATE TABLE bench_session (
    bucket smallint, session_key uuid, session_id text, owner text, conversation integer, scope text,
    create_time timestamptz
);
"""
_FILL = """
INSERT INTO session
SELECT (jsonb_populate_record(t, jsonb_build_object(
    'bucket', n.bucket, 'session_key', n.session_key, 'session_id', n.session_id, 'root_id', n.session_id,
    'owner', n.owner, 'create_time', n.create_time, 'listed_time', n.create_time
))).*
FROM bench_session AS n, session AS t
WHERE t.session_id = $1;

INSERT INTO session_head
SELECT (jsonb_populate_record(h, jsonb_build_object(
    'bucket', n.bucket, 'session_key', n.session_key, 'next_seq', p.messages + 1,
    'message_count', p.messages, 'activity_time', n.create_time
))).*
FROM bench_session AS n
JOIN (SELECT conversation, count(*) AS messages FROM bench_pool GROUP BY 1) AS p USING (conversation),
    session AS t JOIN session_head AS h USING (bucket, session_key)
WHERE t.session_id = $1;

INSERT INTO message (
    bucket, session_key, seq, create_time, token_count, role, kind, in_context, in_transcript, summary,
    client_id, payload
)
SELECT
    n.bucket, n.session_key, p.seq, n.create_time + p.seq * interval '1 second', 0, p.role, 1, true, true,
    false, 'fill-' || p.seq, p.payload
FROM bench_session AS n
JOIN bench_pool AS p USING (conversation)
ORDER BY n.create_time, p.seq;

INSERT INTO search_progress
SELECT n.bucket, n.session_key, max(p.seq), $2::smallint, 0, ''
FROM bench_session AS n
JOIN bench_pool AS p USING (conversation)
GROUP BY 1, 2;

INSERT INTO search_entry
SELECT
    n.bucket, n.session_key, p.seq, 0, 'default', n.owner, '', p.role,
    n.create_time + p.seq * interval '1 second',
    p.document::tsvector || (n.scope || ' ''=r' || p.role || '''')::tsvector
FROM bench_session AS n
JOIN bench_pool AS p USING (conversation)
ORDER BY n.create_time, p.seq;
"""


def conversations() -> list[list[v1.Message]]:
    """The airline sessions."""
    return [from_openai(session["messages"]) for session in airline_sessions()]


def _pool() -> list[tuple[Any, ...]]:
    rows = []
    for number, conversation in enumerate(conversations()):
        for seq, message in enumerate(conversation, 1):
            message.client_id = f"fill-{seq}"
            stored = messages_in.row(message, "message", Checks()).payload
            searched = passages_in.searched(stored)
            document = next(passages.documents(searched.passages), "")
            rows.append((number, seq, searched.role, stored, document))
    return rows


def _sessions(conversations: int, copies: int) -> list[tuple[Any, ...]]:
    rows = []
    for copy, number in itertools.product(range(copies), range(conversations)):
        name, owner = f"{RUN}-find-{copy}-{number}", _owner(copy)
        key = session_key(DEFAULT_TENANT, name)
        scope = " ".join(
            (
                search.scope_of_tenant(DEFAULT_TENANT),
                search.scope_of_owner(DEFAULT_TENANT, owner),
                search.scope_of_source(DEFAULT_TENANT, ""),
                search.scope_of_session(key.key),
            )
        )
        time = _EPOCH.timestamp() + (copy * conversations + number) * 60
        rows.append((*key, name, owner, number, scope, datetime.fromtimestamp(time, UTC)))
    return rows


def _owner(copy: int) -> str:
    return f"{RUN}-owner-{copy}"


async def prepare(service: Service, dsn: str, count: int = MESSAGES) -> int:
    """Fill the tables as appending and indexing so many messages would have done; how many owners."""
    pool = _pool()
    copies = max(count // len(pool), 1)
    template = f"{RUN}-template"
    await service.client.create_session(template)
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(_POOL)
        await connection.copy_records_to_table("bench_pool", records=pool)
        sessions = _sessions(pool[-1][0] + 1, copies)
        await connection.copy_records_to_table("bench_session", records=sessions)
        await connection.execute("SET synchronous_commit = off; SET maintenance_work_mem = '512MB'")
        values = {"$1": template, "$2": passages.ENTRY_VERSION}
        index = await connection.fetchval(
            "SELECT pg_get_indexdef('search_entry_document_idx'::regclass)"
        )
        await connection.execute("DROP INDEX search_entry_document_idx")
        async with connection.transaction():  # or the indexer would begin with what it finds
            for statement in _FILL.split(";\n")[:-1]:
                given = [value for name, value in values.items() if name in statement]
                await connection.execute(statement.replace("$2", "$1"), *given, timeout=1800)
        await connection.execute(index, timeout=1800)
        await connection.execute("VACUUM ANALYZE", timeout=1800)
        await connection.execute("CHECKPOINT", timeout=600)
    finally:
        await connection.close()
    return copies


async def ratios(rounds: int, seconds: float, times: int) -> list[Ratio]:
    """All of it, on a Postgres of its own."""
    with process(postgres.READY, "bench.postgres") as dsn:
        with sessiond(dsn) as address:
            service = Service(address)
            await service.make_sessions(_WORKERS)
            owners = await prepare(service, dsn)
            found = await latencies(service, owners, rounds, times)
            await service.close()
        found += await appends(dsn, rounds, seconds)
    for ratio in found:
        report.line(ratio)
    return found


async def latencies(service: Service, owners: int, rounds: int, times: int) -> list[Ratio]:
    """The p50 of queries within one owner's sessions, and over all, in milliseconds."""
    wheres = {
        "search_owner_ms": "a search of two words in one owner's sessions, p50 in ms",
        "search_all_ms": "a search of two words in all of 1,000,000 messages, p50 in ms",
        "search_newest_ms": "the same, the newest first, p50 in ms",
    }
    found = []
    for name, what in wheres.items():
        ratio = Ratio(name, what, None, at_most=True)
        for _ in range(rounds):
            seconds = await median_latency(_query(service, name, owners), times)
            ratio.values.append(seconds * 1000)
        ratio.scale = "; ".join(QUERIES)
        found.append(ratio)
    return found


def _query(service: Service, where: str, owners: int) -> Callable[[], Awaitable[object]]:
    queries, numbers = itertools.cycle(QUERIES), itertools.cycle(range(owners))

    async def search_once() -> None:
        request = v1.SearchMessagesRequest(query=next(queries))
        request.filter.include_subagents = True
        if where == "search_owner_ms":
            request.filter.owner = _owner(next(numbers))
        else:
            request.filter.whole_tenant = True
        if where == "search_newest_ms":
            request.order_by = v1.SearchOrder.SEARCH_ORDER_NEWEST
        answer = await v1.SearchServiceStub(service.channel).SearchMessages(request)
        assert answer.hits

    return search_once


async def appends(dsn: str, rounds: int, seconds: float) -> list[Ratio]:
    """Appends while messages are indexed, over appends without search. Each is measured on a server of its
    own, and one that indexes is behind all the time."""
    found = [
        Ratio("indexing_vs_none", "AppendStream, 64 sessions: with indexing / without", 0.8),
        Ratio("indexing_vs_none_unary", "append of 1 message, 64 callers: likewise", 0.8),
    ]
    for _ in range(rounds):
        rates = {}
        for indexing in ("false", "true"):
            with sessiond(dsn, SESSIOND_SEARCH=indexing) as address:
                service = Service(address)
                async with service.client.append_stream() as stream:
                    pipelined = service.pipelined(stream)
                    await throughput(pipelined, _WORKERS, seconds / 4)
                    streamed = await throughput(pipelined, _WORKERS, seconds)
                unary = await throughput(service.unary(1), _WORKERS, seconds)
                rates[indexing] = streamed, unary
                await service.close()
        for place, ratio in enumerate(found):
            ours, theirs = rates["true"][place], rates["false"][place]
            ratio.values.append(ours / theirs)
            ratio.scale = f"{ours:,.0f} and {theirs:,.0f} messages/s"
    return found

"""Lists of 100,000 sessions: what the thousandth page costs next to the first, by every filter and order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

import sessiond
from bench.loads import RUN, Service
from bench.measure import Ratio, compare_latency
from sessiond import session_filter

SESSIONS = 100_000
_PAGE = 15
_PAGES = 1000
_WALK = 200
_ROOT = f"{RUN}-root"

# All come from one session, so that its children and its tree are as many as all others are; of other filters
# at least a quarter fit. Each holds a message, for its preview.
_FILL = """
WITH made AS (
    INSERT INTO session (
        bucket, session_key, tenant, session_id, incarnation, owner, source, agent, title,
        title_source, pinned, archived, state, end_reason, labels, metadata, parent_id, parent_kind,
        spawn_tool_call_id, fork_seq, root_id, spawn_depth, lifecycle, turn_index, fact_changes,
        create_request_id, create_time, update_time, listed_time, end_time
    )
    SELECT
        n % 1024, gen_random_uuid(), 'default', $1 || '-list-' || n, gen_random_uuid(),
        $1 || '-owner-' || n % 2, (ARRAY['cli', 'web', 'mail'])[1 + n % 3],
        'agent-' || n % 3, '', 0, n % 1000 = 0, n % 10 >= 7, 1 + n % 2, '',
        jsonb_build_object('k', (n % 2)::text), '', $2, CASE WHEN n % 5 = 0 THEN 1 ELSE 2 END, '', 0,
        $2, 0, 2, 0, 1, '', now() - n * interval '1 min', now(),
        now() - (n - n % 7) * interval '1 min', NULL
    FROM generate_series(1, $3::integer) AS n
    RETURNING bucket, session_key, state, create_time, listed_time
),
heads AS (
    INSERT INTO session_head (
        bucket, session_key, state, first_seq, next_seq, next_change, message_count,
        tool_call_count, context_message_count, context_token_count, activity_time,
        writer_epoch, writer_token, writer_holder, writer_expire_time, compactor_token,
        compactor_holder, compactor_expire_time
    )
    SELECT
        bucket, session_key, state, 1, 2, 1, 1, 0, 1, 0, listed_time, 0, '', '',
        'epoch', '', '', 'epoch'
    FROM made
)
INSERT INTO message (
    bucket, session_key, seq, create_time, token_count, role, kind, in_context, in_transcript, summary,
    client_id, payload
)
SELECT bucket, session_key, 1, create_time, 0, 3, 1, true, true, false, 'm', $4::bytea
FROM made
"""


def _filters() -> dict[str, dict[str, Any]]:
    now = datetime.now(UTC)
    weeks = {"from": now - timedelta(days=56), "before": now - timedelta(days=14)}
    return {
        "plain": {},
        "owner": {"owner": f"{RUN}-owner-1"},
        "source": {"sources": ["cli"]},
        "sources": {"sources": ["cli", "web"]},
        "exclude_sources": {"exclude_sources": ["cli"]},
        "agent": {"agents": ["agent-1"]},
        "agents": {"agents": ["agent-1", "agent-2"]},
        "parent": {"parent_id": _ROOT},
        "subtree": {"subtree_of": _ROOT},
        "states": {"states": ["ended"]},
        "archived": {"archived": True},
        "labels": {"labels": {"k": "1"}},
        "created": {f"created_{end}": time for end, time in weeks.items()},
        "active": {f"active_{end}": time for end, time in weeks.items()},
        "subagents": {"include_subagents": True},
    }


async def prepare(service: Service, dsn: str) -> None:
    """Make the sessions by SQL, as creating and appending would have."""
    await service.client.create_session(_ROOT)
    payload = sessiond.message("user", "Where to?", client_id="m")
    connection = await asyncpg.connect(dsn)
    try:
        encoded = payload.SerializeToString()
        await connection.execute(_FILL, RUN, _ROOT, SESSIONS, encoded, timeout=600)
        await connection.execute("VACUUM ANALYZE", timeout=600)
        await connection.execute("CHECKPOINT", timeout=600)
    finally:
        await connection.close()


async def _deep_token(service: Service, given: dict[str, Any]) -> str:
    """The token of the thousandth page; those of small pages and large ones are alike."""
    token = ""
    for _ in range(_PAGE * _PAGES // _WALK):
        page = await service.client.list_sessions_page(**given, page_size=_WALK, page_token=token)
        token = page.next_page_token
        assert token, "too few sessions fit"
    return token


def _call(service: Service, given: dict[str, Any], token: str) -> Callable[[], Awaitable[object]]:
    async def call() -> object:
        page = await service.client.list_sessions_page(**given, page_size=_PAGE, page_token=token)
        assert len(page.sessions) == _PAGE
        return page

    return call


async def ratios(service: Service, rounds: int, times: int) -> AsyncIterator[Ratio]:
    """The ratios, each of p50s."""
    for order in ("last_activity", "create_time"):
        wanted = {name: session_filter(whole_tenant=True, **it) for name, it in _filters().items()}
        calls: dict[str, dict[str, Any]] = {
            name: {"filter": it, "order_by": order} for name, it in wanted.items()
        }
        calls["total"] = {**calls["plain"], "with_total": True}
        for name, given in calls.items():
            ratio = Ratio(
                f"list_{name}_by_{order}",
                f"list by {order.replace('_', ' ')}, {name}, p50: thousandth page of 15 / first",
                1.3,
                at_most=True,
            )
            deep = await _deep_token(service, given)
            far, near = _call(service, given, deep), _call(service, given, "")
            yield await compare_latency(ratio, far, near, rounds=rounds, times=times)

"""Lists against a model: every filter, alone and together, in both orders, page by page, with totals."""

from __future__ import annotations

import asyncio
import random
import re
from datetime import datetime
from typing import Any

import asyncpg
import pytest

from sessiond import v1
from sessiond_server.sessions.filters import SessionFilter, TimeRange
from sessiond_server.store import lists
from sessiond_server.store.keys import DEFAULT_TENANT
from sessiond_server.store.lists import Order
from tests.filters import varied
from tests.filters.conftest import World
from tests.filters.varied import NOW, Made
from tests.rpc.api import Api, new, said
from tests.support.postgres import Databases

CREATED = v1.SessionOrder.SESSION_ORDER_CREATE_TIME


def _listed(api: Api, wanted: v1.ListSessionsRequest, size: int) -> list[v1.SessionSummary]:
    """All pages of a list, each of which tells the total."""
    found: list[v1.SessionSummary] = []
    wanted.with_total = True
    while True:
        page = api.sessions.ListSessions(wanted)
        assert (page.total_size, page.total_size_partial) == (size, False)
        found += page.sessions
        wanted.page_token = page.next_page_token
        if not wanted.page_token:
            return found


def _model(
    there: list[Made], wanted: v1.SessionFilter, order: v1.SessionOrder.ValueType
) -> list[str]:
    def place(made: Made) -> tuple[bool, datetime]:
        return made.pinned, made.created if order == CREATED else made.listed

    fitting = (it for it in there if it.fits(wanted, archived=False))
    return [it.id for it in sorted(fitting, key=place, reverse=True)]


@pytest.mark.parametrize("order", v1.SessionOrder.values()[1:])
def test_A_and_B_lists_hold_what_fits_in_order_with_totals_and_children(
    world: World, order: v1.SessionOrder.ValueType
) -> None:
    chance = random.Random(order)
    there = world.there
    children = {it.id: sum(other.parent is it for other in there) for it in there}
    filters = [it for _, it in varied.each_field(there, order)]
    for wanted in [*filters, *varied.mixed(there, order, 120)]:
        expected = _model(there, wanted, order)
        request = v1.ListSessionsRequest(
            filter=wanted, order_by=order, page_size=chance.choice([1, 3, 20, 200])
        )
        found = _listed(world.api, request, len(expected))
        ids = [it.session.id for it in found]
        assert ids == expected, str(wanted)
        assert {it.session.id: it.child_count for it in found} == {id: children[id] for id in ids}


def test_children_are_counted_as_they_come_and_go(world: World) -> None:
    api = world.api
    root = api.create(owner=new("owner"))
    wanted = v1.ListSessionsRequest(filter=v1.SessionFilter(owner=root.owner))
    made = [api.child(root.id).id for _ in range(3)]
    made.append(api.fork(root.id).id)
    assert api.sessions.ListSessions(wanted).sessions[-1].child_count == 4
    api.append(made[0], said())
    api.delete(made[0])
    assert api.sessions.ListSessions(wanted).sessions[-1].child_count == 3
    for id in (*made[1:], root.id):
        api.delete(id, allow_missing=True)


_FILL = """
WITH made AS (
    INSERT INTO session (
        bucket, session_key, tenant, session_id, incarnation, owner, source, agent, title,
        title_source, pinned, archived, state, end_reason, labels, metadata, parent_id, parent_kind,
        spawn_tool_call_id, fork_seq, root_id, spawn_depth, lifecycle, turn_index, fact_changes,
        create_request_id, create_time, update_time, listed_time, end_time
    )
    SELECT
        n % 1024, gen_random_uuid(), 'default', 's' || n, gen_random_uuid(), 'owner-' || n % 40,
        'source-' || n % 40, 'agent-' || n % 40, '', 0, n % 1000 = 0, n % 5 = 0, 1 + n % 2, '', '{}', '',
        CASE WHEN n % 3 > 0 THEN 's' || n / 50 * 50 + 1 END, n % 3, '', 0,
        CASE WHEN n % 3 > 0 THEN 's' || n / 50 * 50 + 1 ELSE 's' || n END, 0, 2, 0, 1, '',
        $1::timestamptz - n * interval '1 min', now(), $1::timestamptz - (n - n % 7) * interval '1 min',
        NULL
    FROM generate_series(1, 20000) AS n
    RETURNING bucket, session_key, state, listed_time
)
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
"""
_RANGE = TimeRange(NOW.replace(month=10, day=25), NOW.replace(month=10, day=27))
_INDEXED: dict[str, tuple[SessionFilter, tuple[Order, ...]]] = {
    "plain": (SessionFilter(DEFAULT_TENANT), ("listed_time", "create_time")),
    "owner": (SessionFilter(DEFAULT_TENANT, owner="owner-7"), ("listed_time", "create_time")),
    "parent": (SessionFilter(DEFAULT_TENANT, parent_id="s51"), ("listed_time", "create_time")),
    "agent": (SessionFilter(DEFAULT_TENANT, agents=("agent-7",)), ("listed_time",)),
    "agents": (SessionFilter(DEFAULT_TENANT, agents=("agent-7", "agent-8")), ("listed_time",)),
    "source": (SessionFilter(DEFAULT_TENANT, sources=("source-7",)), ("listed_time",)),
    "sources": (SessionFilter(DEFAULT_TENANT, sources=("source-7", "x")), ("listed_time",)),
    "states": (SessionFilter(DEFAULT_TENANT, states=(2,), subagents=False), ("listed_time",)),
    "archived": (
        SessionFilter(DEFAULT_TENANT, archived=True, subagents=False),
        ("listed_time",),
    ),
    "not archived": (
        SessionFilter(DEFAULT_TENANT, archived=False, subagents=False),
        ("listed_time",),
    ),
    "created": (SessionFilter(DEFAULT_TENANT, create_time=_RANGE), ("create_time",)),
    "active": (SessionFilter(DEFAULT_TENANT, last_activity_time=_RANGE), ("listed_time",)),
}
"""Filters that an index serves, and in which orders."""


@pytest.fixture(scope="module")
def full(databases: Databases) -> str:
    """A database with many sessions."""
    dsn = databases.migrated()

    async def fill() -> None:
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute(_FILL, NOW)
            await connection.execute("VACUUM ANALYZE")
        finally:
            await connection.close()

    asyncio.run(fill())
    return dsn


@pytest.mark.parametrize("name", _INDEXED)
async def test_P15_a_page_is_read_from_an_index_in_its_order(full: str, name: str) -> None:
    """Whatever the planner knows of the values: only the first rows of several lists are sorted, and few rows
    are passed over."""
    wanted, orders = _INDEXED[name]
    connection = await asyncpg.connect(full)
    try:
        for order in orders:
            for plan in await lists.plans(connection, wanted, order, None):
                text, values = plan.page(order, 20, pinned=False, after=(NOW, lists.TOP[1]))
                for told in await _explained(connection, text, values):
                    _check(told)
    finally:
        await connection.close()


def _check(plan: str) -> None:
    assert not re.search(r"Seq Scan on (session|session_head)\b", plan), plan
    passed = re.findall(r"Rows Removed by Filter: (\d+)", plan)
    assert sum(map(int, passed)) < 200, plan
    read = re.findall(r"session_\w+idx on .*?actual rows=(\d+)", plan)
    assert read, plan
    assert max(map(int, read)) < 200, plan


async def _explained(connection: Any, text: str, values: list[Any]) -> list[str]:
    """How a statement is executed with a plan for its values, and with one for any."""
    types = [it.name for it in (await connection.prepare(text)).get_parameters()]
    literals = [
        await connection.fetchval(f"SELECT quote_nullable($1::{type}::text)", value)
        for type, value in zip(types, values, strict=True)
    ]
    found = []
    await connection.execute(f"PREPARE explained AS {text}")
    for mode in ("force_custom_plan", "force_generic_plan"):
        await connection.execute(f"SET plan_cache_mode = {mode}")
        explain = "EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF, COSTS OFF)"
        rows = await connection.fetch(f"{explain} EXECUTE explained({', '.join(literals)})")
        found.append("\n".join(row[0] for row in rows))
    await connection.execute("DEALLOCATE explained")
    return found

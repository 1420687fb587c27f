"""Prompts and configs in the database: equal ones once, for as long as a session has them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from sessiond_server.operations import creating, ending, facts, forking
from sessiond_server.operations.creating import NewSession
from sessiond_server.sessions.guards import UNGUARDED
from sessiond_server.sessions.setups import Setup
from sessiond_server.store import setups
from sessiond_server.store.database import Database
from sessiond_server.store.keys import DEFAULT_TENANT, session_key
from sessiond_server.store.sessions import FORK, SessionRow

PROMPTS = [b"", b"be kind" * 1000, b"be brief", b"\0", b"say nothing"]
ORPHANS = """
SELECT count(*)
FROM setup_text AS t
WHERE NOT EXISTS (SELECT FROM session_setup WHERE t.text_id IN (prompt_id, config_id))
"""
MISSING = """
SELECT count(*)
FROM session_setup AS f
CROSS JOIN unnest(ARRAY[f.prompt_id, f.config_id]) AS r (text_id)
WHERE r.text_id IS NOT NULL AND NOT EXISTS (SELECT FROM setup_text WHERE text_id = r.text_id)
"""


@pytest.fixture
async def database(dsn: str) -> AsyncIterator[Database]:
    opened = Database(dsn, connections=12, queue=1000)
    await opened.open()
    yield opened
    await opened.close()


async def value(database: Database, text: str) -> int:
    async with database.connection() as connection:
        found: int = await connection.fetchval(text)
        return found


def described(session_id: str, setup: Setup, tenant: str = DEFAULT_TENANT) -> NewSession:
    return NewSession(
        tenant, session_id, "", "", "", "", 0, False, False, "{}", b"", setup, None, 0, "", 2, 0
    )


async def create(
    database: Database, session_id: str, setup: Setup, tenant: str = DEFAULT_TENANT
) -> None:
    new = described(session_id, setup, tenant)
    await creating.create(database, new, return_existing=True, max_spawn_depth=3)


async def change(database: Database, session_id: str, setup: Setup) -> None:
    wanted = facts.Update(
        session_id=session_id,
        key=session_key(DEFAULT_TENANT, session_id),
        etag="",
        title=None,
        pinned=None,
        archived=None,
        turn_index=None,
        change_labels=lambda labels: labels,
        change_metadata=lambda metadata: metadata,
        change_setup=lambda before: setup,
    )
    await facts.update(database, wanted)


async def delete(database: Database, session_id: str, tenant: str = DEFAULT_TENANT) -> None:
    key = session_key(tenant, session_id)
    await ending.delete(database, session_id, key, UNGUARDED, etag="", allow_missing=True)


async def test_equal_prompts_of_a_tenant_are_stored_once(database: Database) -> None:
    prompt = Setup(PROMPTS[1], "m", PROMPTS[1])
    for tenant in ("one", "one", "other"):
        for session_id in ("a", "b"):
            await create(database, session_id, prompt, tenant)
    assert await value(database, "SELECT count(*) FROM setup_text") == 2
    await delete(database, "a", "one")
    assert await value(database, "SELECT count(*) FROM setup_text") == 2
    async with database.connection() as connection:
        assert await setups.as_of(connection, session_key("one", "b"), None) == prompt
    for session_id, tenant in (("b", "one"), ("a", "other"), ("b", "other")):
        await delete(database, session_id, tenant)
    assert await value(database, "SELECT count(*) FROM setup_text") == 0


async def fork(database: Database, session_id: str, fork_id: str) -> None:
    def describe(source: SessionRow, setup: Setup, seq: int) -> NewSession:
        new = described(fork_id, setup)
        return replace(new, parent_id=session_id, parent_kind=FORK, fork_seq=seq)

    key = session_key(DEFAULT_TENANT, session_id)
    wanted = forking.Fork(session_id, key, 0, 0, describe)
    await forking.fork(database, wanted, max_spawn_depth=3)


async def test_P11_prompts_are_there_exactly_as_long_as_sessions_have_them(
    database: Database,
) -> None:
    """Many sessions that share a few prompts are made, changed, forked and deleted at the same time."""

    async def live(number: int) -> None:
        chance = random.Random(number)
        for turn in range(12):
            id, other = f"s{number}", f"s{number}-fork"
            await create(database, id, Setup(chance.choice(PROMPTS), "", chance.choice(PROMPTS)))
            if chance.random() < 0.6:
                setup = Setup(chance.choice(PROMPTS), "m", chance.choice(PROMPTS))
                await change(database, id, setup)
            if chance.random() < 0.3:
                await fork(database, id, other)
                await delete(database, other)
            if turn < 11 or number % 2:
                await delete(database, id)

    await asyncio.gather(*(live(number) for number in range(10)))
    assert await value(database, MISSING) == 0
    assert await value(database, ORPHANS) == 0
    assert await value(database, "SELECT count(*) FROM session") == 5
    for number in range(0, 10, 2):
        await delete(database, f"s{number}")
    assert await value(database, "SELECT count(*) FROM setup_text") == 0

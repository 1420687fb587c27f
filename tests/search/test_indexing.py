"""The index under kills, and under everything that happens to sessions at once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import grpc
import pytest
from structlog.testing import capture_logs

import sessiond
from sessiond import AsyncClient, v1
from sessiond_server.jobs import indexing
from sessiond_server.jobs.indexing import IndexJob
from sessiond_server.operations import searching
from sessiond_server.operations.indexing import Indexer
from sessiond_server.rpc import passages_in, search_io
from sessiond_server.sessions.passages import Searched
from sessiond_server.store import search
from sessiond_server.store.database import Connection, Database
from sessiond_server.store.keys import session_key
from tests.access.keyed import make_key
from tests.rpc.api import Api, refused
from tests.search import entries
from tests.support.processes import ServerProcess

Start = Callable[..., ServerProcess]

_SUBAGENT = v1.ParentKind.PARENT_KIND_SUBAGENT
_EVERYTHING = v1.SessionFilter(whole_tenant=True, include_subagents=True)
_REFUSED = (
    sessiond.InvalidRequest,
    sessiond.NotFound,
    sessiond.AlreadyExists,
    sessiond.PreconditionFailed,
)


@pytest.fixture
async def connection(dsn: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()


def said(text: str) -> v1.Message:
    return sessiond.message("user", text)


async def test_P2_a_kill_while_messages_are_indexed_loses_no_entry(
    start_server: Start, dsn: str, connection: Connection
) -> None:
    """What was indexed is, what wasn't will be, though nobody tells the next server of it."""
    count = "SELECT count(*) FROM search_entry"
    for attempt in range(2):
        server = start_server(SESSIOND_DSN=dsn, SESSIOND_SEARCH_SHARE="0.01")
        before = await connection.fetchval(count)
        async with AsyncClient(server.target) as client:
            for number in range(20):
                texts = (said(f"message {n} of attempt {attempt}") for n in range(50))
                await client.append(
                    f"s{number}", texts, create_session=v1.Session(title=f"t{number}")
                )
        while await connection.fetchval(count) == before:
            await connection.execute("SELECT pg_sleep(0.01)")
        server.kill()
        await connection.execute("UPDATE job SET expire_time = now()")  # as 15 s would have done
        assert await entries.lagging(connection)
    server = start_server(SESSIOND_DSN=dsn)
    await entries.settled(connection)
    await entries.check(connection)
    async with AsyncClient(server.target) as client:
        found = [hit async for hit in client.search_messages('"attempt 1"', session_id="s7")]
        assert len(found) == 50


async def test_entries_stay_right_whatever_happens_at_once(
    start_server: Start, dsn: str, connection: Connection
) -> None:
    """Several indexers and everything that changes sessions, on a few sessions."""
    server = start_server(SESSIOND_DSN=dsn)
    names = [f"s{number}" for number in range(4)]
    working = True

    async def index(seed: int) -> None:
        database = Database(dsn, connections=2, queue=10)
        await database.open()
        indexer = Indexer(database, passages_in.searched)
        chance = random.Random(seed)
        while working:
            some = chance.sample(names, chance.randint(1, len(names)))
            await indexer.index([session_key("default", name) for name in some])
        await database.close()

    async def write(client: AsyncClient, seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(60):
            try:
                await _something(client, chance.choice(names), chance)
            except _REFUSED:
                continue

    async with AsyncClient(server.target) as client:
        indexers = [asyncio.create_task(index(seed)) for seed in range(3)]
        await asyncio.gather(*(write(client, seed) for seed in range(6)))
        working = False
        await asyncio.gather(*indexers)
    await entries.settled(connection)
    await entries.check(connection)


async def _something(client: AsyncClient, name: str, chance: random.Random) -> None:
    kind = chance.choice(
        ("append", "append", "append", "update", "clear", "delete", "fork", "title")
    )
    if kind == "append":
        texts = [said(f"word{chance.randrange(99)}") for _ in range(chance.randint(1, 5))]
        await client.append(name, texts, create_session=v1.Session())
    elif kind == "update":
        seq = chance.randrange(1, (await client.get_session(name)).next_seq + 1)
        update = sessiond.message_update(seq, type=f"type{chance.randrange(99)}")
        await client.update_messages(name, [update])
    elif kind == "clear":
        await client.clear_messages(name)
    elif kind == "delete":
        await client.delete_session(name, allow_missing=True)
    elif kind == "fork":
        await client.fork_session(name, fork_id=f"s{chance.randrange(4)}")
    else:
        await client.update_session(name, title=f"title {name} {chance.randrange(9)}")


async def test_more_than_is_ranked_is_found_in_the_order_of_time(
    start_server: Start, dsn: str, connection: Connection
) -> None:
    server = start_server(SESSIOND_DSN=dsn, SESSIOND_SEARCH_SHARE="1")
    async with AsyncClient(server.target) as client:
        parent = v1.SessionParent(id="s1", kind=_SUBAGENT)
        made = {"s0": v1.Session(), "s1": v1.Session(), "s2": v1.Session(parent=parent)}
        for session in made.values():
            session.owner = "ann"
        for id in [*made, *["s1"] * 24, *made]:
            messages = [said("a teapot") for _ in range(100)]
            await client.append(id, messages, create_session=made[id])
        await entries.settled(connection)
        rows = await connection.fetch(
            "SELECT session_id, seq FROM message JOIN session USING (bucket, session_key)"
            " ORDER BY message.create_time DESC, session_key DESC, seq DESC"
        )
        expected = [(row[0], row[1]) for row in rows]
        wheres: list[tuple[dict[str, Any], set[str]]] = [
            ({"filter": _EVERYTHING}, {"s0", "s1", "s2"}),
            ({"filter": v1.SessionFilter(owner="ann", include_subagents=True)}, {"s0", "s1", "s2"}),
            ({"filter": v1.SessionFilter(subtree_of="s1")}, {"s1", "s2"}),
            ({"session_id": "s1"}, {"s1"}),
        ]
        for where, there in wheres:
            best = await client.search_messages_page("teapot", **where)
            assert best.only_newest
            newest = client.search_messages("teapot", order_by="newest", page_size=100, **where)
            found = [(hit.session_id, hit.seq) async for hit in newest]
            assert found == [spot for spot in expected if spot[0] in there]


async def every(dsn: str, request: v1.SearchMessagesRequest) -> list[int]:
    """The seqs on all pages of a search in this process, whose bounds a test may lower."""
    database = Database(dsn, connections=2, queue=10)
    await database.open()
    found: list[int] = []
    while True:
        wanted = search_io.search_in(request, 10)
        hits = await searching.search_messages(database, wanted, passages_in.searched)
        assert hits.only_newest or request.page_token
        page = search_io.answer(hits, request)
        found += [hit.seq for hit in page.hits]
        request.page_token = page.next_page_token
        if not request.page_token:
            await database.close()
            return found


async def test_what_is_old_is_found_though_there_is_much_of_it(
    start_server: Start, dsn: str, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With small bounds: thirty messages that are older than what is looked at for the newest."""
    monkeypatch.setattr(searching, "RANKED", 10)
    monkeypatch.setattr(searching, "_WALKED", 20)
    server = start_server(SESSIOND_DSN=dsn)
    async with AsyncClient(server.target) as client:
        for text, count in (("a teapot", 30), ("a cup", 45)):
            await client.append(
                "s", [said(text) for _ in range(count)], create_session=v1.Session()
            )
    await entries.settled(connection)
    best = await every(
        dsn, v1.SearchMessagesRequest(query="teapot", filter=_EVERYTHING, page_size=4)
    )
    assert len(best) == len(set(best)) == 10
    newest = v1.SearchOrder.SEARCH_ORDER_NEWEST
    for session_id in ("", "s"):
        request = v1.SearchMessagesRequest(
            query="teapot", filter=_EVERYTHING, page_size=4, order_by=newest
        )
        request.session_id = session_id
        assert await every(dsn, request) == list(range(30, 0, -1))


async def test_B_the_newest_of_a_subtree_are_found_behind_a_session_that_was_busy_since(
    start_server: Start, dsn: str, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With small bounds: what is looked at of the busy session holds nothing, and all hits are older."""
    monkeypatch.setattr(searching, "RANKED", 10)
    monkeypatch.setattr(searching, "_WALKED", 20)
    monkeypatch.setattr(search, "_LEAST_OF_SESSION", 5)
    server = start_server(SESSIOND_DSN=dsn)
    async with AsyncClient(server.target) as client:
        await client.create_session("root")
        parent = v1.SessionParent(id="root", kind=_SUBAGENT)
        for name, text, count in (("quiet", "a teapot", 30), ("busy", "a cup", 45)):
            messages = [said(text) for _ in range(count)]
            await client.append(name, messages, create_session=v1.Session(parent=parent))
    await entries.settled(connection)
    newest = v1.SearchOrder.SEARCH_ORDER_NEWEST
    request = v1.SearchMessagesRequest(
        query="teapot",
        page_size=4,
        order_by=newest,
        filter=v1.SessionFilter(subtree_of="root"),
    )
    assert await every(dsn, request) == list(range(30, 0, -1))


async def test_a_session_that_cannot_be_indexed_keeps_no_other_from_it(
    start_server: Start, dsn: str, connection: Connection
) -> None:
    server = start_server(SESSIOND_DSN=dsn, SESSIOND_SEARCH="false")
    async with AsyncClient(server.target) as client:
        for number in range(5):
            text = "poison" if number == 2 else "a teapot"
            await client.append(f"s{number}", said(text), create_session=v1.Session())

    def read(payload: bytes) -> Searched:
        if b"poison" in payload:
            raise ValueError("poison")
        return passages_in.searched(payload)

    database = Database(dsn, connections=2, queue=10)
    await database.open()
    job = IndexJob(database, Indexer(database, read))
    with capture_logs() as logs:
        await job.run()
        await job.run()
    assert [entry["event"] for entry in logs] == ["session not indexed"], "not tried again so soon"
    assert await entries.lagging(connection) == 1
    assert await search.complete_time(connection) is None
    await IndexJob(database, Indexer(database, passages_in.searched)).run()
    assert await entries.lagging(connection) == 0
    assert await search.complete_time(connection) is not None
    await database.close()


async def test_a_session_that_cannot_be_indexed_is_tried_again(
    start_server: Start, dsn: str, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start_server(SESSIOND_DSN=dsn, SESSIOND_SEARCH="false")
    async with AsyncClient(server.target) as client:
        await client.append("s", said("a teapot"), create_session=v1.Session())
    well = False

    def read(payload: bytes) -> Searched:
        if not well:
            raise ValueError("not yet")
        return passages_in.searched(payload)

    monkeypatch.setattr(indexing, "_RETRY", (0.0, 0.0))
    database = Database(dsn, connections=2, queue=10)
    await database.open()
    job = IndexJob(database, Indexer(database, read))
    with capture_logs():
        await job.run()
    assert await entries.lagging(connection) == 1
    well = True
    while await search.complete_time(connection) is None:
        await job.run()
    assert await entries.lagging(connection) == 0
    await database.close()


def test_P13_what_a_replica_was_told_to_index_is_not_kept_for_ever(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(dsn, connections=1, queue=0)
    indexer = Indexer(database, passages_in.searched)
    keys = [session_key("default", f"s{number}") for number in range(9)]
    monkeypatch.setattr(indexing, "_REMEMBERED", 3)
    standing_by, without_jobs = IndexJob(database, indexer), IndexJob(database, indexer, runs=False)
    for job in (standing_by, without_jobs):
        job.wake(keys)
    assert list(standing_by._changed) == keys[-3:]
    assert not without_jobs._changed
    monkeypatch.setattr(indexing, "_REMEMBERED_SECONDS", -1.0)
    standing_by.wake(keys[:1])
    assert not standing_by._changed


async def test_P13_a_search_that_takes_too_long_is_refused(
    start_server: Start, dsn: str, connection: Connection
) -> None:
    server = start_server(SESSIOND_DSN=dsn, SESSIOND_SEARCH_TIMEOUT="0.2")
    with grpc.insecure_channel(server.target) as channel:
        api = Api(channel)
        async with connection.transaction():
            await connection.execute("LOCK TABLE search_entry IN ACCESS EXCLUSIVE MODE")
            found = await asyncio.to_thread(refused, lambda: api.search("teapot"))
            assert (found.reason, found.metadata) == ("SEARCH_TOO_COSTLY", {"seconds": "0.2"})
            text = v1.ListSessionsRequest(filter=_EVERYTHING, text="teapot")
            listed = await asyncio.to_thread(refused, lambda: api.sessions.ListSessions(text))
            assert listed.reason == "SEARCH_TOO_COSTLY"
        assert not api.search("teapot").hits
    assert not server.bugs()


async def test_P12_nobody_finds_what_is_anothers(
    start_server: Start, dsn: str, connection: Connection
) -> None:
    """Neither another tenant's messages nor another owner's, by words, titles, subtrees or names."""
    everything = ("--permissions", "read,write,admin")
    keys = {
        "service": make_key(dsn, *everything),
        "ada": make_key(dsn, "--owner", "ada"),
        "elsewhere": make_key(dsn, "--tenant", "elsewhere", *everything),
    }
    server = start_server(SESSIOND_DSN=dsn, SESSIOND_AUTH="keys")
    clients = {name: AsyncClient(server.target, api_key=key) for name, key in keys.items()}
    made = {"ada": ("ada", "root"), "bob": ("service", "bobs"), "else": ("elsewhere", "root")}
    for owner, (caller, id) in made.items():
        session = v1.Session(owner=owner, title=f"teapot of {owner}")
        await clients[caller].append(id, said(f"a teapot of {owner}"), create_session=session)
    child = v1.Session(owner="bob", parent=v1.SessionParent(id="root", kind=_SUBAGENT))
    await clients["service"].append("child", said("a teapot below"), create_session=child)
    await entries.settled(connection)
    sees = {
        "service": {"a teapot of ada", "a teapot of bob", "a teapot below"},
        "ada": {"a teapot of ada"},
        "elsewhere": {"a teapot of else"},
    }
    for caller, client in clients.items():
        wanted = v1.SessionFilter(include_subagents=True) if caller == "ada" else _EVERYTHING
        for query in ("teapot", "teap*", "-bottle teapot", "teapot OR ada"):
            hits = [hit async for hit in client.search_messages(query, wanted)]
            assert {"".join(run.text for run in hit.snippet.runs) for hit in hits} == sees[caller]
        below = [
            "".join(run.text for run in hit.snippet.runs)
            async for hit in client.search_messages(
                "teapot", sessiond.session_filter(subtree_of="root")
            )
        ]
        assert set(below) == sees[caller] - {"a teapot of bob"}
        listed = [it.session.title async for it in client.list_sessions(wanted, text="teapot")]
        titles = {text.removeprefix("a ") for text in sees[caller]} - {"teapot below"}
        assert set(listed) - {""} == titles
    with pytest.raises(sessiond.SessionNotFound):
        await clients["ada"].search_messages_page("teapot", session_id="bobs")
    for client in clients.values():
        await client.close()

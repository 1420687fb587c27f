"""What their users asked for next, as far as no other test is named after it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import asyncpg
import pytest

import sessiond
from sessiond import Client, from_openai, v1
from tests.support.processes import ServerProcess


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Client]:
    with Client(server.target) as opened:
        yield opened


def said(text: str, **facts: int) -> v1.Message:
    message = from_openai([{"role": "user", "content": text}])[0]
    message.MergeFrom(v1.Message(**facts))  # type: ignore[arg-type]
    return message


def test_D_a_lock_so_that_two_compactors_do_not_collide(client: Client) -> None:
    """Of many that plan at once one gets the lease, and only he can compact while it lasts."""
    session_id = client.create_session().id
    client.append(session_id, [said(f"{n}", token_count=10) for n in range(20)])

    def plan(number: int) -> str:
        try:
            answer = client.plan_compaction(
                session_id,
                max_context_tokens=50,
                acquire_lease=True,
                holder=f"compactor {number}",
            )
        except sessiond.CompactionLeaseHeld:
            return ""
        return str(answer.lease.token)

    with ThreadPoolExecutor(8) as compactors:
        tokens = [token for token in compactors.map(plan, range(8)) if token]
    assert len(tokens) == 1
    with pytest.raises(sessiond.CompactionLeaseHeld):
        client.compact(session_id, 1, 10, "mine")
    client.compact(session_id, 1, 10, "theirs", lease_token=tokens[0])
    assert len(list(client.list_compactions(session_id))) == 1


def test_D_rewind_to_a_message_and_revert_it(client: Client) -> None:
    session_id = client.create_session().id
    client.append(session_id, [said(f"{n}") for n in range(1, 6)])
    client.rewind(session_id, 2)
    assert [sessiond.text_of(m) for m in client.get_context(session_id).messages] == ["1", "2"]
    client.append(session_id, said("instead of 3"))
    assert [sessiond.text_of(m) for m in client.list_messages(session_id)] == [
        "1",
        "2",
        "instead of 3",
    ]
    client.rewind(session_id, 2)
    client.revert_rewind(session_id, newest=True)
    client.revert_rewind(session_id, newest=True)
    everything = ["1", "2", "3", "4", "5", "instead of 3"]
    assert [sessiond.text_of(m) for m in client.list_messages(session_id)] == everything


def test_D_dedupe_by_the_platform_s_message_id(client: Client) -> None:
    """A platform that delivers twice, later and in another batch, makes one message (P4)."""
    session_id = client.create_session().id
    delivered = said("hi")
    delivered.client_id = "telegram:4711"
    first = client.append(session_id, delivered)
    client.append(session_id, [said("else")] * 1)
    client.offload_messages(session_id, all_messages=True)
    again = client.append(session_id, delivered)
    assert (again.replayed, again.first_seq) == (True, first.first_seq)
    both = client.append(session_id, [delivered, said("new")], on_known="skip")
    assert list(both.seqs) == [1, 3]
    assert [sessiond.text_of(m) for m in client.list_messages(session_id)] == ["hi", "else", "new"]


def test_D_hand_off_of_a_session_between_processes(client: Client) -> None:
    """The next one takes the lease over, and the one before, paused, can't write when it wakes up (P5)."""
    session_id = client.create_session().id
    before = client.acquire_writer(session_id, "laptop", lease_ttl=60)
    client.append(session_id, said("1"), writer_token=before.writer_token)
    with pytest.raises(sessiond.WriterLeaseHeld):
        client.acquire_writer(session_id, "server", lease_ttl=60)
    client.release_writer(session_id, before.writer_token)
    after = client.acquire_writer(session_id, "server", lease_ttl=60)
    assert after.version.next_seq == 2, "where to go on"
    with pytest.raises(sessiond.WriterLeaseLost):
        client.append(session_id, said("2"), writer_token=before.writer_token)
    assert client.append(session_id, said("2"), writer_token=after.writer_token).first_seq == 2


def test_D_no_orphaned_tool_results_after_trimming(client: Client) -> None:
    """However few tokens a context may have, no result is without its call and no call without its
    results (P8)."""
    session_id = client.create_session().id
    for turn in range(6):
        ids = [f"{turn}-{n}" for n in range(3)]
        calls = [v1.ToolCall(id=call_id, name="f", arguments="{}") for call_id in ids]
        results = [
            sessiond.message("tool", sessiond.tool_result(call_id, "r"), token_count=5)
            for call_id in ids
        ]
        call = sessiond.message(
            "assistant",
            *(v1.Part(tool_call=it) for it in (calls)),
            token_count=5,
        )
        client.append(session_id, [said("q", token_count=5), call, *results])
    for most in range(5, 160, 5):
        messages = client.get_context(session_id, max_context_tokens=most).messages
        assert sum(message.token_count for message in messages) <= most
        asked = [call.id for message in messages for call in sessiond.tool_calls_of(message)]
        answered = [
            it.tool_call_id for message in messages for it in sessiond.tool_results_of(message)
        ]
        assert asked == answered


async def rows_read(dsn: str) -> int:
    """How many rows of messages were read since the beginning; by sessions that have ended."""
    connection = await asyncpg.connect(dsn)
    try:
        count: int = await connection.fetchval(
            "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'message'"
        )
        return count
    finally:
        await connection.close()


def test_D_constant_time_loads_of_long_sessions(
    start_server: Callable[..., ServerProcess], dsn: str
) -> None:
    """The context behind a compaction is loaded from as many rows in a session that is ten times as long
    (P15). What it takes in time is measured by `make bench`."""

    def served(work: Callable[[Client], object]) -> int:
        """How many rows of messages a server reads that does only this."""
        before = asyncio.run(rows_read(dsn))
        server = start_server(SESSIOND_DSN=dsn, SESSIOND_JOBS="false")
        with Client(server.target) as client:
            work(client)
        assert server.stop() == 0
        return asyncio.run(rows_read(dsn)) - before

    def fill(client: Client) -> None:
        for name, length in (("short", 300), ("long", 3000)):
            client.create_session(name)
            for start in range(0, length, 300):
                client.append(name, [said(f"{n}") for n in range(start, start + 300)])
            client.compact(name, 1, length - 20, "in short")

    served(fill)
    short = served(lambda client: client.get_context("short"))
    long = served(lambda client: client.get_context("long"))
    assert short >= 20
    assert long <= short * 1.5

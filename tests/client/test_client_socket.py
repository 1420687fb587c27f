"""Both clients against the service, over a socket."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import sessiond
from sessiond import v1
from sessiond._ids import uuid7
from tests.support.processes import ServerProcess

USER = v1.Role.ROLE_USER


Start = Callable[..., ServerProcess]


def said(text: object) -> v1.Message:
    return sessiond.message(USER, str(text))


def call(id: str) -> v1.Message:
    tool_call = v1.ToolCall(id=id, name="f", arguments="{")
    return sessiond.message("assistant", v1.Part(tool_call=tool_call))


def result(id: str) -> v1.Message:
    return sessiond.message("tool", sessiond.tool_result(id, "done"))


def test_a_session_s_life(server: ServerProcess) -> None:
    owner = uuid7()
    with sessiond.Client(server.target) as client:
        session = client.create_session(
            title="Flights", owner=owner, config='{"t": 1.0}', labels={"k": "v"}, metadata={"a": 1}
        )
        full = client.get_session(session.id, view="full")
        assert (full.config, full.title, dict(full.metadata)) == ('{"t": 1.0}', "Flights", {"a": 1})
        assert client.get_session(session.id) == session
        assert client.resolve_session("Flights", owner).id == session.id
        assert client.next_title("Flights", owner) == "Flights #2"
        changed = client.update_session(session.id, pinned=True, labels={}, etag=session.etag)
        assert changed.pinned
        assert not changed.labels
        with pytest.raises(sessiond.EtagMismatch) as raised:
            client.update_session(session.id, pinned=False, etag=session.etag)
        assert raised.value.etag == changed.etag
        fork = client.fork_session(session.id, title="Hotels")
        assert fork.parent.id == session.id
        listed = [
            found.session.id
            for found in client.list_sessions(sessiond.session_filter(owner=owner), page_size=1)
        ]
        assert sorted(listed) == sorted([session.id, fork.id])
        ended = client.end_session(fork.id, "over")
        assert ended.session.state == v1.SessionState.SESSION_STATE_ENDED
        with pytest.raises(sessiond.SessionEnded):
            client.append(fork.id, said("x"))
        assert client.reopen_session(fork.id).session.state == v1.SessionState.SESSION_STATE_ACTIVE
        assert client.delete_session(fork.id).session_count == 1
        with pytest.raises(sessiond.SessionNotFound) as missing:
            client.get_session(fork.id)
        assert missing.value.metadata["session_id"] == fork.id


async def test_P1_appends_are_numbered_and_listed(server: ServerProcess) -> None:
    async with sessiond.AsyncClient(server.target) as client:
        id = uuid7()
        ack = await client.append(id, [said(1), said(2)], create_session=v1.Session(owner="ann"))
        assert (ack.first_seq, ack.last_seq, ack.version.next_seq) == (1, 2, 3)
        for n in (3, 4, 5):
            await client.append(id, said(n), expected_next_seq=n)
        with pytest.raises(sessiond.NextSeqMismatch) as raised:
            await client.append(id, said("late"), expected_next_seq=4)
        assert raised.value.next_seq == 6
        texts = [
            sessiond.text_of(m)
            async for m in client.list_messages(id, order="descending", page_size=2)
        ]
        assert texts == ["5", "4", "3", "2", "1"]
        page = await client.list_messages_page(id, around_seq=3, page_size=2)
        assert [m.seq for m in page.messages] == [2, 3]
        assert page.previous_page_token
        assert sessiond.text_of(await client.get_message(id, 2)) == "2"


def test_P4_appending_again_adds_nothing(server: ServerProcess) -> None:
    with sessiond.Client(server.target) as client:
        id = client.create_session().id
        messages = sessiond.with_client_ids([said("a"), said("b")])
        first, again = client.append(id, messages), client.append(id, messages)
        assert (first.replayed, again.replayed) == (False, True)
        assert (again.first_seq, again.version.next_seq) == (1, 3)
        assert client.get_message(id, client_id=messages[1].client_id).seq == 2
        with pytest.raises(sessiond.PartialReplay):
            client.append(id, [messages[0], said("c")])
        other = sessiond.message(USER, "x", client_id=messages[0].client_id)
        for on_known in (None, "skip"):
            with pytest.raises(sessiond.ClientIdReused):
                client.append(id, other, on_known=on_known)
        mixed = client.append(id, [other, said("c")], on_known="skip_any_content")
        assert (list(mixed.seqs), list(mixed.known)) == ([1, 3], [True, False])
        with pytest.raises(sessiond.InvalidField) as raised:
            client.append(id, [said("x"), v1.Message(parts=[v1.Part(text="nobody")])])
        assert raised.value.field_violations[0].field == "messages[1].role"


def test_P7_context_updates_rewinds_and_compactions(server: ServerProcess) -> None:
    with sessiond.Client(server.target) as client:
        id = client.create_session(system_prompt="be kind").id
        client.append(id, [said(1), call("c"), result("c"), said(4), said(5), said(6)])
        (hidden,) = client.update_messages(
            id, sessiond.message_update(4, hidden_from_model=True)
        ).messages
        assert hidden.hidden_from_model
        with pytest.raises(sessiond.CompactionSplitsToolCall) as raised:
            client.compact(id, 1, 2, "summary")
        assert raised.value.nearest_range is not None
        plan = client.plan_compaction(id, keep_recent_messages=1, acquire_lease=True)
        with pytest.raises(sessiond.CompactionLeaseHeld):
            client.compact(id, 1, 3, "summary")
        done = client.compact(
            id, plan.plan.from_seq, plan.plan.to_seq, "summary", lease_token=plan.lease.token
        )
        summary_seq = done.compaction.id
        context = client.get_context(id)
        assert [m.seq for m in context.messages] == [summary_seq, 6]
        assert context.totals.system_prompt == "be kind"
        assert [m.seq for m in client.get_context(id, as_of_seq=3).messages] == [1, 2, 3]
        pieces = list(client.stream_context(id))
        assert pieces[0].totals == context.totals
        assert [c.id for c in client.list_compactions(id)] == [summary_seq]
        assert client.revert_compaction(id, summary_seq).compaction.HasField("revert_time")
        assert client.get_compaction(id, summary_seq).HasField("revert_time")
        client.release_compaction_lease(id, plan.lease.token)
        rewind = client.rewind(id, 1, author="ann").rewind
        assert client.get_rewind(id, rewind.id) == rewind
        assert [m.seq for m in client.list_messages(id)] == [1]
        assert client.revert_rewind(id, newest=True).rewind.id == rewind.id
        assert [r.id for r in client.list_rewinds(id)] == [rewind.id]
        assert client.clear_messages(id).message_count == 7


async def test_P8_open_tool_calls_are_listed_until_they_are_answered(server: ServerProcess) -> None:
    async with sessiond.AsyncClient(server.target) as client:
        id = (await client.create_session()).id
        await client.append(id, [call("a"), call("b"), result("a")])
        opened = [c async for c in client.list_open_tool_calls(id, page_size=1)]
        assert [(c.seq, c.tool_call.id, c.tool_call.arguments) for c in opened] == [(2, "b", "{")]
        await client.append(id, result("b"))
        assert not [c async for c in client.list_open_tool_calls(id)]


async def test_P5_a_writer_keeps_its_lease_and_gives_it_up(server: ServerProcess) -> None:
    async with sessiond.AsyncClient(server.target) as client:
        id = (await client.create_session()).id
        async with client.writer(id, "me", lease_ttl=1.0) as lease:
            await asyncio.sleep(1.5)
            assert not lease.lost
            await client.append(id, said("x"), writer_token=lease.token)
            with pytest.raises(sessiond.WriterLeaseHeld) as held:
                await client.append(id, said("y"))
            assert held.value.holder == "me"
            with pytest.raises(sessiond.WriterLeaseHeld):
                async with client.writer(id):
                    pass
        async with client.writer(id) as second:
            assert second.epoch > lease.epoch
            assert second.version.next_seq == 2
        with pytest.raises(sessiond.WriterLeaseLost):
            await client.append(id, said("z"), writer_token=lease.token)


def test_P5_a_writer_learns_that_its_lease_is_lost(server: ServerProcess) -> None:
    with sessiond.Client(server.target) as client:
        id = client.create_session().id
        with client.writer(id, "me", lease_ttl=1.0) as lease:
            client.acquire_writer(id, "me", lease_ttl=5.0)
            until = time.monotonic() + 5
            while not lease.lost and time.monotonic() < until:
                time.sleep(0.05)
            assert lease.lost


async def test_P1_streams_of_many_tasks_on_one_session(server: ServerProcess) -> None:
    async with sessiond.AsyncClient(server.target) as client, client.append_stream() as stream:
        id = (await client.create_session()).id

        async def write(writer: int) -> list[int]:
            acks = [await stream.append(id, said(writer)) for _ in range(10)]
            return [ack.first_seq for ack in acks]

        seqs = await asyncio.gather(*[write(n) for n in range(32)])
        assert all(one == sorted(one) for one in seqs)
        assert sorted(seq for one in seqs for seq in one) == list(range(1, 321))
        assert (await client.get_session(id)).next_seq == 321


def test_a_synchronous_stream_takes_refusals_one_by_one(server: ServerProcess) -> None:
    with sessiond.Client(server.target) as client, client.append_stream() as stream:
        id = client.create_session().id
        futures = [stream.append(id, said(n)) for n in range(300)]
        missing = stream.append("no-such-session", said("x"))
        wrong = stream.append(id, said("x"), expected_next_seq=7)
        last = stream.append(id, said("y"), expected_next_seq=301)
        assert [future.result().first_seq for future in futures] == list(range(1, 301))
        with pytest.raises(sessiond.SessionNotFound):
            missing.result()
        with pytest.raises(sessiond.NextSeqMismatch) as raised:
            wrong.result()
        assert raised.value.next_seq == 301
        assert last.result().last_seq == 301


def test_P10_messages_of_openai_s_form_come_back(server: ServerProcess) -> None:
    conversation: list[dict[str, Any]] = [
        {"role": "system", "content": "Be kind.\u0000"},
        {"content": [{"type": "text", "text": "hi", "x": [1.0, 1]}], "role": "user"},
        {
            "role": "assistant",
            "tool_calls": [
                {"function": {"arguments": '{"a": 1.0,', "name": "f"}, "id": "c", "index": 0}
            ],
            "reasoning_details": [{"data": "\ud800"}],
        },
        {"role": "tool", "tool_call_id": "c", "name": "f", "content": "é"},
    ]
    with sessiond.Client(server.target) as client:
        id = client.create_session().id
        client.append(id, sessiond.from_openai(conversation))
        again = sessiond.to_openai(client.get_context(id).messages)
        assert again == conversation
        assert json.dumps(again) == json.dumps(conversation)


async def test_P2_P4_a_stream_rides_out_kill_9(dsn: str, start_server: Start) -> None:
    server = start_server(SESSIOND_DSN=dsn)
    async with sessiond.AsyncClient(server.target) as client, client.append_stream() as stream:
        id = (await client.create_session()).id
        futures = [stream.append(id, said(n)) for n in range(300)]
        await futures[20]
        server.kill()
        futures += [stream.append(id, said(n)) for n in range(300, 400)]
        await asyncio.sleep(0.3)
        start_server(SESSIOND_DSN=dsn, listen=server.target)
        acks = await asyncio.gather(*futures)
        texts = [sessiond.text_of(message) async for message in client.list_messages(id)]
    assert [ack.first_seq for ack in acks] == list(range(1, 401))
    assert texts == [str(n) for n in range(400)]


def test_P2_P4_a_synchronous_stream_rides_out_a_restart(dsn: str, start_server: Start) -> None:
    server = start_server(SESSIOND_DSN=dsn, SESSIOND_SHUTDOWN_GRACE="1")
    with sessiond.Client(server.target) as client, client.append_stream() as stream:
        id = client.create_session().id
        futures = [stream.append(id, said(n)) for n in range(300)]
        futures[20].result()
        server.stop()
        futures += [stream.append(id, said(n)) for n in range(300, 400)]
        start_server(SESSIOND_DSN=dsn, listen=server.target)
        assert [future.result().first_seq for future in futures] == list(range(1, 401))
        texts = [sessiond.text_of(message) for message in client.list_messages(id)]
    assert texts == [str(n) for n in range(400)]


async def test_usage_goes_with_appends_and_streams_and_is_read_by_group(
    server: ServerProcess,
) -> None:
    id = uuid7()
    turn = sessiond.usage_record(
        model="m", input_tokens=10, output_tokens=2, estimated_cost=Decimal("0.10"), turn_index=1
    )
    async with sessiond.AsyncClient(server.target) as client:
        await client.create_session(id)
        await client.append(id, said("a"), usage=turn)
        async with client.append_stream() as stream:
            acks = [stream.append(id, said(n), usage=turn) for n in range(3)]
            assert [(await ack).first_seq for ack in acks] == [2, 3, 4]
        answer = await client.record_usage(id, [turn, sessiond.usage_record(total_tokens=5)])
        assert answer.usage.own.total_tokens == 65
        found = await client.get_usage(id)
        assert [cost.estimated for cost in found.total.costs] == ["0.5"]
        groups = [group async for group in client.list_usage(id, "turn", page_size=1)]
        assert [(it.turn_index, it.model, it.usage.total_tokens) for it in groups] == [(1, "m", 60)]
    with sessiond.Client(server.target) as other:
        session = other.get_session(id)
        assert (session.model, session.usage.own) == ("m", found.total)


def test_A_planning_logs_over_both_clients(server: ServerProcess) -> None:
    id = uuid7()
    with sessiond.Client(server.target) as client:
        client.create_session(id)
        for n in range(5):
            record = v1.JournalRecord(content=b'{"n":  %d}' % n, kind="plan")
            client.append_journal(id, record, request_id=f"r{n}")
        assert client.append_journal(id, record, request_id="r4").replayed
        found = list(client.list_journal(id, order="descending", page_size=2))
        assert [it.seq for it in found] == [5, 4, 3, 2, 1]
        assert found[-1].content == b'{"n":  0}'
        page = client.list_journal_page(id, kinds=["plan"], page_size=2)
        assert len(page.records) == 2
        with pytest.raises(sessiond.RequestIdReused):
            client.append_journal(id, found[0], request_id="r1")


async def test_a_unix_socket_is_a_target(
    dsn: str, start_server: Start, tmp_path_factory: pytest.TempPathFactory
) -> None:
    target = f"unix:{tmp_path_factory.mktemp('s')}/socket"
    start_server(SESSIOND_DSN=dsn, listen=target)
    async with sessiond.AsyncClient(target) as client:
        assert (await client.create_session("a")).id == "a"
    with sessiond.Client(target) as other:
        assert other.get_session("a").id == "a"


async def test_a_call_that_takes_too_long_is_a_timeout(server: ServerProcess) -> None:
    async with sessiond.AsyncClient(server.target) as client:
        with pytest.raises(sessiond.SessionNotFound):
            await client.get_session("nobody")
        server.pause()
        try:
            with pytest.raises(sessiond.DeadlineExceeded):
                await client.with_timeout(0.2).get_session("nobody")
        finally:
            server.resume()


async def test_a_cancelled_task_stays_cancelled(server: ServerProcess) -> None:
    async with sessiond.AsyncClient(server.target) as client:
        task = asyncio.create_task(client.get_session("a"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def test_P9_a_stream_of_sessions_rides_out_restarts_and_resumes(
    start_server: Start, dsn: str, tmp_path: Path
) -> None:
    """Every change is told, over both clients, though the server was killed in between."""
    listen = f"unix:{tmp_path}/s"
    server = start_server(SESSIOND_DSN=dsn, listen=listen)

    async def work(server: ServerProcess) -> str:
        async with sessiond.AsyncClient(listen) as client:
            await client.create_session("one", owner="ann")
            watch = client.watch_sessions(sessiond.session_filter(owner="ann"))
            seen: list[str] = []
            async for update in watch:
                seen.append(update.kind)
                if update.kind == "caught_up" and seen.count("caught_up") == 1:
                    server.kill()
                    server = start_server(SESSIOND_DSN=dsn, listen=listen)
                    await client.append("one", said("hello"))
                if update.session is not None and update.session.next_seq == 2:
                    break
            assert seen[:2] == ["changed", "caught_up"]
            await client.delete_session("one")
            return watch.token

    token = asyncio.run(work(server))
    with sessiond.Client(listen) as client:
        later = client.watch_sessions(sessiond.session_filter(owner="ann"), resume=token)
        for update in later:
            if update.kind == "deleted":
                assert update.session_id == "one"
                assert update.delete_time is not None
                break

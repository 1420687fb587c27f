"""Append streams, of both clients, over streams that break at given points."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import grpc
import pytest

import sessiond
from sessiond import v1
from tests.client.scripted import Break, ScriptedServer, refusal

PERMISSION_DENIED = grpc.StatusCode.PERMISSION_DENIED


def said(text: object) -> v1.Message:
    return sessiond.message("user", str(text))


async def test_appends_keep_their_order_and_share_frames(scripted: ScriptedServer) -> None:
    async with sessiond.AsyncClient(scripted.target) as client, client.append_stream() as stream:
        futures = [stream.append("a", said(n)) for n in range(500)]
        assert all(isinstance(future, asyncio.Future) for future in futures)
        answers = await asyncio.gather(*futures)
    assert [answer.first_seq for answer in answers] == list(range(1, 501))
    assert scripted.script.order == [str(n) for n in range(500)]
    (frames,) = scripted.script.frames
    assert sum(frames) == 500
    assert len(frames) < 50


def test_the_synchronous_stream_does_likewise(scripted: ScriptedServer) -> None:
    with sessiond.Client(scripted.target) as client:
        with client.append_stream() as stream:
            futures = [stream.append("a", said(n)) for n in range(3000)]
        assert all(future.done() for future in futures)
    assert [future.result().first_seq for future in futures] == list(range(1, 3001))
    assert scripted.script.order == [str(n) for n in range(3000)]


async def test_many_tasks_share_a_stream(scripted: ScriptedServer) -> None:
    async with sessiond.AsyncClient(scripted.target) as client, client.append_stream() as stream:

        async def write(writer: int) -> list[int]:
            return [(await stream.append("a", said(writer))).last_seq for _ in range(20)]

        seqs = await asyncio.gather(*[write(n) for n in range(32)])
    assert sorted(seq for one in seqs for seq in one) == list(range(1, 641))
    assert all(one == sorted(one) for one in seqs)


def test_many_threads_share_a_stream(scripted: ScriptedServer) -> None:
    with ExitStack() as stack:
        client = stack.enter_context(sessiond.Client(scripted.target))
        stream = stack.enter_context(client.append_stream())
        pool = stack.enter_context(ThreadPoolExecutor(16))
        answers = pool.map(lambda n: stream.append("a", said(n)).result().last_seq, range(320))
        assert sorted(answers) == list(range(1, 321))


async def test_a_refused_append_fails_alone(scripted: ScriptedServer) -> None:
    reason = v1.ErrorReason.ERROR_REASON_NEXT_SEQ_MISMATCH
    scripted.script.errors["bad"] = refusal(reason, grpc.StatusCode.ABORTED)
    async with sessiond.AsyncClient(scripted.target) as client, client.append_stream() as stream:
        before, bad, after = (stream.append(id, said(id)) for id in ("good", "bad", "good"))
        with pytest.raises(sessiond.NextSeqMismatch) as raised:
            await bad
        assert raised.value.next_seq == 7
        assert [(await future).last_seq for future in (before, after)] == [1, 2]


@pytest.mark.parametrize("stores", [False, True])
async def test_P4_a_broken_stream_is_opened_again_and_nothing_is_stored_twice(
    scripted: ScriptedServer, stores: bool
) -> None:
    scripted.script.breaks.extend([Break(2, stores=stores), Break(1), Break(3, stores=stores)])
    async with sessiond.AsyncClient(scripted.target) as client, client.append_stream() as stream:
        answers = []
        for start in range(0, 60, 10):
            futures = [stream.append("a", said(n)) for n in range(start, start + 10)]
            answers += await asyncio.gather(*futures)
    assert [answer.first_seq for answer in answers] == list(range(1, 61))
    assert scripted.script.order == [str(n) for n in range(60)]
    assert any(answer.replayed for answer in answers) == stores
    assert len(scripted.script.frames) == 4


@pytest.mark.parametrize("stores", [False, True])
def test_P4_the_synchronous_stream_opens_again_likewise(
    scripted: ScriptedServer, stores: bool
) -> None:
    scripted.script.breaks.extend([Break(2, stores=stores), Break(1), Break(1, stores=stores)])
    with sessiond.Client(scripted.target) as client, client.append_stream() as stream:
        for start in range(0, 60, 10):
            futures = [stream.append("a", said(n)) for n in range(start, start + 10)]
            assert [future.result().first_seq for future in futures] == [
                *range(start + 1, start + 11)
            ]
    assert scripted.script.order == [str(n) for n in range(60)]


async def test_P4_what_is_sent_again_is_the_same(scripted: ScriptedServer) -> None:
    scripted.script.breaks.append(Break(1))
    mine = sessiond.message("user", "b", client_id="mine")
    async with sessiond.AsyncClient(scripted.target) as client, client.append_stream() as stream:
        one = stream.append("a", said("a"), expected_next_seq=1)
        two = stream.append("a", mine, expected_next_seq=2, writer_token="w")
        mine.parts[0].text = "changed later"
        await asyncio.gather(one, two)
    sent = scripted.script.appends
    assert len(sent) == 4
    assert sent[:2] == sent[2:]
    assert (sessiond.text_of(sent[1].messages[0]), sent[1].messages[0].client_id) == ("b", "mine")


async def test_a_silent_stream_is_given_up_after_the_timeout(scripted: ScriptedServer) -> None:
    scripted.script.breaks.append(Break(1, hangs=True))
    client = sessiond.AsyncClient(scripted.target, timeout=0.5)
    async with client, client.append_stream() as stream:
        lost = stream.append("a", said("lost"))
        with pytest.raises(sessiond.DeadlineExceeded):
            await lost
        assert (await stream.append("a", said("next"))).first_seq == 1
    assert scripted.script.order == ["next"]


def test_the_synchronous_stream_gives_up_a_silent_one_too(scripted: ScriptedServer) -> None:
    scripted.script.breaks.append(Break(1, hangs=True))
    with sessiond.Client(scripted.target, timeout=0.5) as client, client.append_stream() as stream:
        with pytest.raises(sessiond.DeadlineExceeded):
            stream.append("a", said("lost")).result()
        assert stream.append("a", said("next")).result().first_seq == 1


def test_a_synchronous_stream_watches_the_time_after_silence(scripted: ScriptedServer) -> None:
    scripted.script.breaks.append(Break(2, hangs=True))
    client = sessiond.Client(scripted.target, timeout=1.0)
    with client, client.append_stream() as stream:
        assert stream.append("a", said("one")).result().first_seq == 1
        time.sleep(0.6)
        second = stream.append("a", said("two"))
        with pytest.raises(sessiond.DeadlineExceeded):
            second.result()
        third = stream.append("a", said("three"))
        assert third.result().first_seq == 2
    assert scripted.script.order == ["one", "three"]


async def test_without_a_service_appends_fail_when_their_time_is_out() -> None:
    client = sessiond.AsyncClient("127.0.0.1:1", timeout=0.5)
    async with client, client.append_stream() as stream:
        with pytest.raises(sessiond.Unavailable):
            await stream.append("a", said("x"))


def test_without_a_service_synchronous_appends_fail_too() -> None:
    client = sessiond.Client("127.0.0.1:1", timeout=0.5)
    with client, client.append_stream() as stream, pytest.raises(sessiond.Unavailable):
        stream.append("a", said("x")).result()


async def test_a_refused_stream_fails_its_appends_and_works_again(
    scripted: ScriptedServer,
) -> None:
    scripted.script.breaks.append(Break(1, PERMISSION_DENIED))
    async with sessiond.AsyncClient(scripted.target) as client, client.append_stream() as stream:
        futures = [stream.append("a", said(n)) for n in range(2)]
        for future in futures:
            with pytest.raises(sessiond.PermissionDenied) as raised:
                await future
            assert isinstance(raised.value.__cause__, grpc.RpcError)
        assert (await stream.append("a", said("next"))).first_seq == 1


async def test_P13_drain_waits_for_room(scripted: ScriptedServer) -> None:
    scripted.script.pause = 0.1
    async with sessiond.AsyncClient(scripted.target) as client, client.append_stream() as stream:
        futures = [stream.append("a", said(n)) for n in range(1500)]
        await stream.drain()
        done = sum(future.done() for future in futures)
        assert 477 <= done < 1500
        await stream.flush()
        assert all(future.done() for future in futures)
        await stream.drain()


def test_P13_a_synchronous_append_waits_for_room(scripted: ScriptedServer) -> None:
    scripted.script.breaks.append(Break(1, hangs=True))
    with sessiond.Client(scripted.target, timeout=0.5) as client:
        stream = client.append_stream()
        futures = [stream.append("a", said(n)) for n in range(1025)]
        assert sum(future.done() for future in futures) > 0
        assert isinstance(futures[0].exception(), sessiond.DeadlineExceeded)
        stream.close()


async def test_an_append_that_is_cancelled_before_it_is_sent_is_taken_back(
    scripted: ScriptedServer,
) -> None:
    async with sessiond.AsyncClient(scripted.target) as client, client.append_stream() as stream:
        one, two = stream.append("a", said("one")), stream.append("a", said("two"))
        one.cancel()
        assert (await two).first_seq == 1
    assert scripted.script.order == ["two"]


async def test_waiting_with_a_timeout_of_ones_own_does_no_harm(scripted: ScriptedServer) -> None:
    scripted.script.pause = 0.3
    async with sessiond.AsyncClient(scripted.target) as client, client.append_stream() as stream:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await stream.append("a", said("one"))
        assert (await stream.append("a", said("two"))).first_seq == 2


async def test_closing_waits_for_the_answers(scripted: ScriptedServer) -> None:
    scripted.script.pause = 0.1
    async with sessiond.AsyncClient(scripted.target) as client:
        async with client.append_stream() as stream:
            futures = [stream.append("a", said(n)) for n in range(5)]
        assert [future.result().first_seq for future in futures] == [1, 2, 3, 4, 5]
        with pytest.raises(RuntimeError, match="closed"):
            stream.append("a", said("x"))
        async with client.append_stream():
            pass


async def test_an_exception_closes_at_once(scripted: ScriptedServer) -> None:
    scripted.script.breaks.append(Break(1, hangs=True))
    futures: list[asyncio.Future[v1.AppendMessagesResponse]] = []
    async with sessiond.AsyncClient(scripted.target) as client:
        with contextlib.suppress(LookupError):
            async with client.append_stream() as stream:
                futures.append(stream.append("a", said("x")))
                await asyncio.sleep(0.2)
                raise LookupError
        with pytest.raises(sessiond.Cancelled):
            await futures[0]


def test_an_exception_closes_a_synchronous_stream_at_once(scripted: ScriptedServer) -> None:
    scripted.script.breaks.append(Break(1, hangs=True))
    with sessiond.Client(scripted.target) as client:
        with contextlib.suppress(LookupError), client.append_stream() as stream:
            future = stream.append("a", said("x"))
            raise LookupError
        with pytest.raises(sessiond.Cancelled):
            future.result()
        with pytest.raises(RuntimeError, match="closed"):
            stream.append("a", said("x"))


def test_no_thread_is_left_behind(scripted: ScriptedServer) -> None:
    with sessiond.Client(scripted.target) as client, client.append_stream() as stream:
        stream.append("a", said("x")).result()
    names = Counter(thread.name for thread in threading.enumerate())
    assert not names["sessiond-append-stream"]


async def test_a_server_that_ends_the_stream_in_good_order_is_called_again(
    scripted: ScriptedServer,
) -> None:
    scripted.script.breaks.extend([Break(2, grpc.StatusCode.UNAVAILABLE)] * 2)
    async with sessiond.AsyncClient(scripted.target) as client, client.append_stream() as stream:
        for n in range(6):
            assert (await stream.append("a", said(n))).first_seq == n + 1


async def test_closing_the_client_fails_what_is_under_way(scripted: ScriptedServer) -> None:
    scripted.script.breaks.append(Break(1, hangs=True))
    client = sessiond.AsyncClient(scripted.target, timeout=None)
    async with client.append_stream() as stream:
        future = stream.append("a", said("x"))
        await asyncio.sleep(0.2)
        await client.close()
        with pytest.raises(sessiond.Cancelled):
            await future
        with pytest.raises(sessiond.Cancelled):
            await stream.append("a", said("x"))


def test_closing_a_synchronous_client_fails_what_is_under_way(scripted: ScriptedServer) -> None:
    scripted.script.breaks.append(Break(1, hangs=True))
    client = sessiond.Client(scripted.target, timeout=None)
    with client.append_stream() as stream:
        future = stream.append("a", said("x"))
        time.sleep(0.2)
        client.close()
        with pytest.raises(sessiond.Cancelled):
            future.result()
        with pytest.raises(sessiond.Cancelled):
            stream.append("a", said("x")).result()

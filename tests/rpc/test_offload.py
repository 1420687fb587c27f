"""What is offloaded reads, watches, exports and is found as before, retries are safe for ever, and a policy
offloads by itself."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any

import asyncpg
import grpc
import pytest
from structlog.testing import capture_logs

import sessiond
from sessiond import v1
from sessiond_server.jobs.offloading import OffloadJob
from sessiond_server.operations import offloading
from sessiond_server.sessions.guards import By
from sessiond_server.store.database import Database
from sessiond_server.store.keys import session_key
from tests.rpc.api import Api, answering, calling, new, refused, said
from tests.support.processes import ServerProcess

ALL = v1.MessageView.MESSAGE_VIEW_ALL


@pytest.fixture
def own(start_server: Callable[..., ServerProcess], dsn: str) -> Iterator[Api]:
    """A server on the test's own database."""
    with grpc.insecure_channel(start_server(SESSIOND_DSN=dsn).target) as channel:
        yield Api(channel)


def _offload(api: Api, id: str, **fields: Any) -> int:
    if "before_seq" not in fields:
        fields["all"] = True
    request = v1.OffloadMessagesRequest(session_id=id, **fields)
    return api.storage.OffloadMessages(request).offloaded_before_seq


def _restore(api: Api, id: str) -> None:
    api.storage.RestoreMessages(v1.RestoreMessagesRequest(session_id=id, all=True))


def _fetch(dsn: str, sql: str) -> list[asyncpg.Record]:
    async def fetch() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(dsn)
        try:
            return await connection.fetch(sql)
        finally:
            await connection.close()

    return asyncio.run(fetch())


def _listed(api: Api, id: str) -> list[bytes]:
    found: list[bytes] = []
    request = v1.ListMessagesRequest(session_id=id, view=ALL, page_size=1000)
    while True:
        page = api.messages.ListMessages(request)
        found += [message.SerializeToString(deterministic=True) for message in page.messages]
        request.page_token = page.next_page_token
        if not request.page_token:
            return found


def test_P4_the_client_ids_of_offloaded_messages_are_known_for_ever(own: Api) -> None:
    """Those of a session's first 4,096 messages and those of later ones are looked for in different ways."""
    id, other = own.create().id, own.create().id
    messages = [said(f"message {n}", client_id=f"m{n}") for n in range(5000)]
    for start in range(0, 5000, 1000):
        own.append(id, *messages[start : start + 1000])
    assert _offload(own, id) == 5001
    for place in (0, 255, 256, 4095, 4096, 4999):
        ack = own.append(id, messages[place])
        assert (ack.replayed, ack.first_seq, ack.version.next_seq) == (True, place + 1, 5001)
        request = v1.GetMessageRequest(session_id=id, client_id=f"m{place}")
        assert sessiond.text_of(own.messages.GetMessage(request).message) == f"message {place}"
        changed = said("other", client_id=f"m{place}")
        assert refused(partial(own.append, id, changed)).reason == "CLIENT_ID_REUSED"
        fresh = said("new")
        both = partial(own.append, id, messages[place], fresh)
        assert refused(both).reason == "PARTIAL_REPLAY"
    mixed = own.append(
        id,
        messages[4998],
        said("new", client_id="n1"),
        messages[3],
        on_known=v1.OnKnown.ON_KNOWN_SKIP,
    )
    assert list(mixed.seqs) == [4999, 5001, 4]
    assert own.append(id, said("new", client_id="n2")).first_seq == 5002
    assert own.append(other, messages[0]).first_seq == 1, (
        "the same id in another session is another"
    )
    assert own.get(id).message_count == 5002


def test_P1_P4_replays_race_with_offloading_and_nothing_is_there_twice(own: Api) -> None:
    id = own.talk(1)
    sent: list[v1.Message] = []
    until = time.monotonic() + 6

    def write(worker: int) -> None:
        turns = random.Random(worker)
        while time.monotonic() < until:
            message = said(f"worker {worker}")
            own.append(id, message)
            sent.append(message)
            again = turns.choice(sent)
            assert own.append(id, again).replayed

    def move() -> None:
        while time.monotonic() < until:
            _offload(own, id, keep_recent_messages=3)
            _offload(own, id)
            _restore(own, id)

    with ThreadPoolExecutor(8) as executor:
        for work in [*(executor.submit(write, n) for n in range(6)), executor.submit(move)]:
            work.result()
    _offload(own, id)
    listed = [v1.Message.FromString(it) for it in _listed(own, id)]
    assert [m.seq for m in listed] == list(range(1, len(sent) + 2))
    assert sorted(m.client_id for m in listed[1:]) == sorted(m.client_id for m in sent)
    assert own.append(id, sent[0]).replayed


def test_P8_the_border_stays_before_a_call_that_waits(own: Api) -> None:
    id = own.talk(3, calling("a", "b"), answering("a"), said())
    assert _offload(own, id) == 4
    assert [call.seq for call in own.messages.ListOpenToolCalls(_calls(id)).open_tool_calls] == [4]
    own.append(id, answering("b"))
    assert _offload(own, id, before_seq=7) == 4, "not between a call and its result"
    assert _offload(own, id) == 8
    assert not own.messages.ListOpenToolCalls(_calls(id)).open_tool_calls
    own.rewind(id, 5)
    assert own.get(id).offloaded_before_seq == 4, "what a rewind reaches is restored"
    assert [call.seq for call in own.messages.ListOpenToolCalls(_calls(id)).open_tool_calls] == [4]


def _calls(id: str) -> v1.ListOpenToolCallsRequest:
    return v1.ListOpenToolCallsRequest(session_id=id)


def test_P6_offloading_is_listed_and_no_activity(own: Api) -> None:
    id = own.talk(300)
    before = own.get(id)
    _offload(own, id, before_seq=101, author="ann")
    _offload(own, id, before_seq=100)
    _restore(own, id)
    request = v1.ListOffloadsRequest(session_id=id, page_size=1)
    moves: list[v1.Offload] = []
    while True:
        page = own.storage.ListOffloads(request)
        moves += page.offloads
        request.page_token = page.next_page_token
        if not request.page_token:
            break
    assert [(m.restored, m.from_seq, m.to_seq, m.author) for m in moves] == [
        (True, 1, 100, ""),
        (False, 1, 100, "ann"),
    ]
    assert 0 < moves[1].stored_bytes < moves[1].message_bytes
    assert own.get(id) == before


def test_P9_a_watch_at_an_offloaded_place_goes_on_there(own: Api) -> None:
    id = own.talk(5)
    token = own.watch(id).resume_token
    update = v1.UpdateMessagesRequest(session_id=id)
    update.updates.add(message=v1.Message(seq=2, model="m")).update_mask.paths.append("model")
    own.messages.UpdateMessages(update)
    own.append(id, *(said() for _ in range(5)))
    plain = _told(own.watch(id)), _told(own.watch(id, from_seq=3))
    resumed = _told(own.watch(id, resume=v1.WatchResume(tokens=[token])))
    assert resumed == ["message_updated 2", *(f"message_appended {n}" for n in range(6, 11))]
    _offload(own, id, keep_recent_messages=1)
    offloaded = ["messages_offloaded"]
    assert _told(own.watch(id, resume=v1.WatchResume(tokens=[token]))) == resumed + offloaded
    assert _told(own.watch(id)) == plain[0] + offloaded
    assert _told(own.watch(id, from_seq=3)) == plain[1] + offloaded
    _offload(own, id)
    assert _told(own.watch(id)) == plain[0] + offloaded * 2
    end = own.watch(id).resume_token
    own.append(id, said())
    assert _told(own.watch(id, resume=v1.WatchResume(tokens=[end]))) == ["message_appended 11"]


def _told(frame: v1.WatchResponse) -> list[str]:
    told = []
    for event in frame.events:
        kind = str(event.WhichOneof("event"))
        seq = f" {getattr(event, kind).seq}" if kind.startswith("message_") else ""
        told.append(kind + seq)
    return told


def test_lists_searches_and_exports_show_offloaded_sessions_as_before(own: Api) -> None:
    id = own.talk(40, calling("a"), answering("a"), said("a quick brown fox"), said("the end"))
    compaction = own.compact(id, 2, 30).compaction
    own.indexed(id)

    def seen() -> list[Any]:
        summary = own.sessions.ListSessions(
            v1.ListSessionsRequest(filter=v1.SessionFilter(whole_tenant=True))
        ).sessions[0]
        summary.session.offloaded_before_seq = 0
        hits = own.search("fox", session_id=id, context_before=2, context_after=2).hits
        assert [hit.offloaded for hit in hits] == [own.get(id).offloaded_before_seq > hits[0].seq]
        hits[0].offloaded = False
        listed = own.compactions.ListCompactions(v1.ListCompactionsRequest(session_id=id))
        exported = own.transfers.ExportSessions(v1.ExportSessionsRequest(session_ids=[id]))
        records = [record for frame in exported for record in frame.records]
        return [summary, list(hits), list(listed.compactions), _lasting(records), _listed(own, id)]

    before = seen()
    assert compaction.in_context
    assert _offload(own, id, keep_recent_messages=3) == 43
    assert seen() == before
    assert _offload(own, id) == 46
    assert seen() == before


def _lasting(records: list[v1.TransferRecord]) -> list[bytes]:
    """Of an export what doesn't depend on when it was made, or where messages are."""
    kept = [r for r in records if r.WhichOneof("record") in ("message", "compaction")]
    return [record.SerializeToString(deterministic=True) for record in kept]


PROMPT = " ".join(f"Rule {n}: never promise what you can't keep." for n in range(60))


def test_stats_tell_what_is_offloaded_apart(own: Api) -> None:
    id = own.talk(300)
    before = own.tenants.GetTenantStats(
        v1.GetTenantStatsRequest(filter=v1.SessionFilter(whole_tenant=True))
    )
    _offload(own, id, before_seq=201)
    after = own.tenants.GetTenantStats(
        v1.GetTenantStatsRequest(filter=v1.SessionFilter(whole_tenant=True))
    )
    assert (before.offloaded_message_count, after.offloaded_message_count) == (0, 200)
    assert after.hot_bytes + after.offloaded_bytes == before.hot_bytes
    assert 0 < after.offloaded_stored_bytes < after.offloaded_bytes
    assert after.message_count == before.message_count


@pytest.mark.parametrize("size", [7, 1000])
def test_B_to_seq_reads_offloaded_messages_as_hot_ones(own: Api, size: int) -> None:
    """A range on either side of the border, across it and across segments."""
    id = own.talk(620)
    own.compact(id, 100, 299)
    own.rewind(id, 615)
    ranges = ((1, 3), (50, 320), (250, 260), (399, 402), (390, 620), (610, 615))

    def read(view: v1.MessageView.ValueType) -> list[list[int]]:
        found = []
        for low, high in ranges:
            up = v1.ListMessagesRequest(
                session_id=id, view=view, page_size=size, from_seq=low, to_seq=high
            )
            down = v1.ListMessagesRequest(
                session_id=id, view=view, page_size=size, from_seq=high, to_seq=low
            )
            down.order = v1.SortOrder.SORT_ORDER_DESCENDING
            found += [_all_seqs(own, up), _all_seqs(own, down)]
        return found

    before = [read(view) for view in v1.MessageView.values()[1:]]
    assert before[-1][:2] == [[1, 2, 3], [3, 2, 1]]
    assert len(before[-1][2]) == 271
    _offload(own, id, before_seq=401)
    assert [read(view) for view in v1.MessageView.values()[1:]] == before


def _all_seqs(own: Api, request: v1.ListMessagesRequest) -> list[int]:
    found: list[int] = []
    while True:
        page = own.messages.ListMessages(request)
        found += [message.seq for message in page.messages]
        request.page_token = page.next_page_token
        if not request.page_token:
            return found


def test_continuations_read_on_through_offloads(own: Api) -> None:
    first = own.talk(12)
    second = own.child(first, kind=v1.ParentKind.PARENT_KIND_CONTINUATION).id
    own.append(second, *(said() for _ in range(9)))

    def texts(around: int = 0) -> list[str]:
        request = v1.ListMessagesRequest(session_id=second, continuations=True, page_size=5)
        if around:
            request.around_seq = around
        found: list[str] = []
        while True:
            page = own.messages.ListMessages(request)
            found += [m.client_id for m in page.messages]
            request.page_token = page.next_page_token
            if not request.page_token:
                return found

    before = texts(), texts(3)
    assert len(before[0]) == 21
    _offload(own, first)
    _offload(own, second, keep_recent_messages=2)
    assert (texts(), texts(3)) == before


def test_P11_a_prompt_that_sessions_share_goes_with_the_last_of_them(own: Api, dsn: str) -> None:
    prompt = sessiond.message("system", PROMPT)
    ids = []
    for _ in range(4):
        prompt.client_id = new("p")
        ids.append(own.talk(0, prompt, *(said() for _ in range(10))))
    before = [_listed(own, id) for id in ids]
    for id in ids:
        _offload(own, id)
    uses = "SELECT uses, octet_length(content) AS size FROM segment_dictionary"
    assert [(r["uses"], r["size"] < len(PROMPT)) for r in _fetch(dsn, uses)] == [(4, True)]
    assert [_listed(own, id) for id in ids] == before
    own.delete(ids[0])
    own.messages.ClearMessages(v1.ClearMessagesRequest(session_id=ids[1]))
    _restore(own, ids[2])
    assert [r["uses"] for r in _fetch(dsn, uses)] == [1]
    assert _listed(own, ids[3]) == before[3]
    fork = own.fork(ids[3]).id
    assert len(_listed(own, fork)) == 11
    own.delete(ids[3])
    assert not _fetch(dsn, uses)
    assert not _fetch(dsn, "SELECT FROM message_segment")


def test_P7_updates_of_offloaded_messages_count_from_now_on(own: Api) -> None:
    id = own.talk(300)
    _offload(own, id)
    update = v1.UpdateMessagesRequest(session_id=id)
    for seq in (2, 299):
        changed = v1.Message(seq=seq, hidden_from_model=True)
        update.updates.add(message=changed).update_mask.paths.append("hidden_from_model")
    own.messages.UpdateMessages(update)
    assert own.get(id).context_message_count == 298
    own.append(id, said())
    for as_of, count in ((298, 298), (300, 300), (301, 299)):
        request = v1.GetContextRequest(session_id=id, as_of_seq=as_of)
        first = next(iter(own.contexts.GetContext(request)))
        assert first.totals.message_count == count
    fork = own.fork(id, 300)
    assert (fork.message_count, fork.context_message_count) == (300, 300)
    far = v1.UpdateMessagesRequest(session_id=own.talk(1))
    assert refused(lambda: own.messages.UpdateMessages(far)).reason == "INVALID_FIELD"


@pytest.fixture
def small_segments(start_server: Callable[..., ServerProcess], dsn: str) -> Iterator[Api]:
    """A server whose segments hold two messages."""
    server = start_server(SESSIOND_DSN=dsn, SESSIOND_OFFLOAD_SEGMENT_MESSAGES="2")
    with grpc.insecure_channel(server.target) as channel:
        yield Api(channel)


def test_P13_an_update_rewrites_so_many_segments_at_most(small_segments: Api) -> None:
    api = small_segments
    id = api.talk(100)
    assert _offload(api, id) == 101

    def update(seqs: range) -> None:
        request = v1.UpdateMessagesRequest(session_id=id)
        for seq in seqs:
            message = v1.Message(seq=seq, hidden_from_model=True)
            request.updates.add(message=message).update_mask.paths.append("hidden_from_model")
        api.messages.UpdateMessages(request)

    found = refused(partial(update, range(1, 67)))
    assert (found.reason, found.fields) == ("INVALID_FIELD", ["updates"])
    assert "33 segments, more than 32" in found.message
    assert api.get(id).context_message_count == 100
    update(range(1, 65))
    assert api.get(id).context_message_count == 36


def test_P4_a_replay_out_of_many_segments_is_known(small_segments: Api) -> None:
    api, messages = small_segments, [said(f"message {n}") for n in range(100)]
    id = api.talk(0)
    api.append(id, *messages)
    assert _offload(api, id) == 101
    ack = api.append(id, *messages)
    assert (ack.replayed, ack.first_seq, ack.version.next_seq) == (True, 1, 101)
    some = [*messages[10:12], *messages[40:50]]
    changed = [*some[:-1], said("other", client_id=some[-1].client_id)]
    assert refused(partial(api.append, id, *changed)).reason == "CLIENT_ID_REUSED"


def _until(check: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not check():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_C_a_policy_offloads_by_count_and_what_has_ended(
    start_server: Callable[..., ServerProcess], dsn: str
) -> None:
    server = start_server(
        SESSIOND_DSN=dsn,
        SESSIOND_OFFLOAD_KEEP_MESSAGES="4",
        SESSIOND_OFFLOAD_ENDED_DAYS="0.00001",
        SESSIOND_OFFLOAD_SEGMENT_MESSAGES="4",
        SESSIOND_OFFLOAD_INTERVAL="1",
    )
    with grpc.insecure_channel(server.target) as channel:
        api = Api(channel)
        long, short, ended = api.talk(20), api.talk(7), api.talk(6)
        stuck = api.talk(2, calling("a"), *(said() for _ in range(20)))
        api.end(ended)
        _until(lambda: api.get(ended).offloaded_before_seq == 7)
        _until(lambda: api.get(long).offloaded_before_seq == 17)
        _until(lambda: api.get(stuck).offloaded_before_seq == 3)
        assert api.get(short).offloaded_before_seq == 0
        moves = api.storage.ListOffloads(v1.ListOffloadsRequest(session_id=long)).offloads
        assert {move.author for move in moves} == {"policy"}
        assert not server.bugs()


def test_C_a_policy_offloads_by_age(start_server: Callable[..., ServerProcess], dsn: str) -> None:
    server = start_server(
        SESSIOND_DSN=dsn,
        SESSIOND_OFFLOAD_AGE_DAYS="0.00003",
        SESSIOND_OFFLOAD_SEGMENT_MESSAGES="4",
        SESSIOND_OFFLOAD_INTERVAL="1",
    )
    with grpc.insecure_channel(server.target) as channel:
        api = Api(channel)
        busy, idle = api.talk(10), api.talk(10)

        def offloaded() -> bool:
            api.append(busy, said())
            found = api.get(busy)
            return 10 < found.offloaded_before_seq < found.next_seq

        _until(offloaded)
        _until(lambda: api.get(idle).offloaded_before_seq == 11)
        assert not server.bugs()


def test_C_a_session_that_cannot_be_offloaded_keeps_no_other_from_it(own: Api, dsn: str) -> None:
    """One that another call holds, and one whose messages aren't what they should be."""
    ids = [own.talk(4) for _ in range(8)]
    keys = _fetch(dsn, "SELECT session_key, session_id FROM session_head JOIN session"
        " USING (bucket, session_key) ORDER BY session_head.bucket, session_key")  # fmt: skip
    held, broken = keys[0], keys[1]

    async def run() -> list[str]:
        database = Database(dsn, connections=2, queue=10, lock_timeout=0.1)
        await database.open()
        never = timedelta()
        job = OffloadJob(database, 1, never, never, keep=1, segment_messages=2)
        async with database.connection() as connection, connection.transaction():
            lock = "SELECT FROM session_head WHERE session_key = $1 FOR UPDATE"
            await connection.execute(lock, held["session_key"])
            with capture_logs() as logs:
                await job.run()
        await database.close()
        return [entry["session_id"] for entry in logs if entry["event"] == "session not offloaded"]

    gap = f"DELETE FROM message WHERE session_key = '{broken['session_key']}' AND seq = 2"
    _fetch(dsn, gap)
    assert asyncio.run(run()) == [held["session_id"], broken["session_id"]]
    borders = {id: own.get(id).offloaded_before_seq for id in ids}
    assert {id for id, border in borders.items() if not border} == {
        held["session_id"],
        broken["session_id"],
    }


def _move(dsn: str, id: str, lock_timeout: float = 10) -> offloading.Moved:
    """Offload all but one message, in this process."""

    async def run() -> offloading.Moved:
        database = Database(dsn, connections=2, queue=10, lock_timeout=lock_timeout)
        await database.open()
        key = session_key("default", id)
        moved = await offloading.offload_messages(
            database, id, key, before_seq=None, keep_recent=1, by=By(), segment_messages=4
        )
        await database.close()
        return moved

    return asyncio.run(run())


def test_P6_what_is_offloaded_while_the_session_is_held_reads_the_same(
    own: Api, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a session changes too often for segments to be made beside its lock."""
    monkeypatch.setattr(offloading, "_TRIES", 0)
    rows: list[v1.Message] = []
    for number in range(4):
        ids = [f"{number}-{call}" for call in range(1 + number * 3)]
        rows += [said(), calling(*ids), *map(answering, ids), said()]
    id = own.talk(3, *rows)
    before = _listed(own, id)
    moved = _move(dsn, id)
    assert (moved.border, moved.more) == (len(before), False)
    assert _listed(own, id) == before
    moves = own.storage.ListOffloads(v1.ListOffloadsRequest(session_id=id)).offloads
    assert len(moves) > 2, "one group of segments each time"
    _restore(own, id)
    assert _listed(own, id) == before


def test_looking_for_what_is_to_be_offloaded_waits_for_nobody(own: Api, dsn: str) -> None:
    id = own.talk(1)

    async def run() -> offloading.Moved:
        connection = await asyncpg.connect(dsn)
        async with connection.transaction():
            await connection.execute("SELECT FROM session_head FOR UPDATE")
            moved = await asyncio.to_thread(_move, dsn, id, 0.1)
        await connection.close()
        return moved

    assert asyncio.run(run()) == offloading.Moved(0, 0, more=False)

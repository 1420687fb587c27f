"""Journals: an agent's own records, byte for byte, beside the conversation."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from sessiond import v1
from tests.rpc.api import Api, refused, said

DESCENDING = v1.SortOrder.SORT_ORDER_DESCENDING
ODD = [
    b'{"b": 1, "a": 1.0}',
    b"",
    b"\0",
    b"\xff\xfe",
    b'{"a": "\\ud800"}',
    b"{not json",
    b"x" * 2**20,
]


def test_A_planning_logs_are_kept_byte_for_byte_and_beside_the_conversation(api: Api) -> None:
    id = api.talk(2)
    before = api.get(id)
    first = api.journal_records(id, *ODD[:3], kind="plan", turn_index=7)
    assert (first.first_seq, first.last_seq, first.replayed) == (1, 3, False)
    timed = v1.JournalRecord(content=ODD[3], kind="trace")
    timed.origin_time.FromJsonString("2026-01-31T12:00:00Z")
    api.journal.AppendJournal(v1.AppendJournalRequest(session_id=id, records=[timed]))
    api.journal_records(id, *ODD[4:])
    found = api.logged(id).records
    assert [r.content for r in found] == ODD
    assert [r.seq for r in found] == [*range(1, 8)]
    assert [r.kind for r in found] == ["plan"] * 3 + ["trace"] + [""] * 3
    assert (found[0].turn_index, found[3].origin_time) == (7, timed.origin_time)
    assert found[0].create_time == found[2].create_time != found[3].create_time
    assert api.get(id) == before
    assert [r.seq for r in api.logged(id, kinds=["plan"], order=DESCENDING).records] == [
        3,
        2,
        1,
    ]


@pytest.mark.parametrize("order", [0, DESCENDING])
@pytest.mark.parametrize("kinds", [[], ["a"], ["a", "b"]])
def test_A_planning_logs_come_in_pages(
    api: Api, order: v1.SortOrder.ValueType, kinds: list[str]
) -> None:
    id = api.create().id
    for n in range(11):
        api.journal_records(id, str(n).encode(), kind="abc"[n % 3])
    found, token, pages = list[v1.JournalRecord](), "", 0
    while pages == 0 or token:
        page = api.logged(id, order=order, kinds=kinds, page_size=2, page_token=token)
        assert 1 <= len(page.records) <= 2
        found += page.records
        token, pages = page.next_page_token, pages + 1
    wanted = [n for n in range(11) if not kinds or "abc"[n % 3] in kinds]
    assert [int(r.content) for r in found] == (wanted[::-1] if order else wanted)
    assert pages == -(-len(wanted) // 2)


def test_pages_of_logs_are_bounded_by_bytes(api: Api) -> None:
    id = api.create().id
    for n in range(5):
        api.journal_records(id, bytes([n]) * 2**20)
    page = api.logged(id)
    assert page.ByteSize() <= 2 * 2**20
    found = list(page.records)
    while page.next_page_token:
        page = api.logged(id, page_token=page.next_page_token)
        found += page.records
    assert [r.content[0] for r in found] == [*range(5)]


def test_P4_a_log_append_counts_once_by_its_request_id(api: Api) -> None:
    id = api.create().id
    for n in range(3):
        answer = api.journal_records(id, b"1", b"2", request_id="r")
        assert (answer.first_seq, answer.last_seq) == (1, 2)
        assert answer.replayed == (n > 0)
    api.journal_records(id, b"3")
    assert api.journal_records(id, b"1", b"2", request_id="r").replayed
    assert len(api.logged(id).records) == 3
    reused = refused(partial(api.journal_records, id, b"12", request_id="r"))
    assert reused.reason == "REQUEST_ID_REUSED"
    usage = v1.UsageRecord(usage=v1.Usage(input_tokens=1), request_id="r")
    assert api.spend(id, usage).replayed_count == 0, "ids of usage are others"


def test_P6_clearing_empties_the_log_and_a_fork_has_none(api: Api) -> None:
    id = api.talk(1)
    api.journal_records(id, b"1", b"2", request_id="r")
    assert not api.logged(api.fork(id).id).records
    api.messages.ClearMessages(v1.ClearMessagesRequest(session_id=id))
    assert not api.logged(id).records
    answer = api.journal_records(id, b"1", b"2", request_id="r")
    assert (answer.first_seq, answer.replayed) == (3, False)


def test_logs_of_ended_and_leased_sessions_and_of_none(api: Api) -> None:
    ended, leased = api.create().id, api.create().id
    api.end(ended)
    api.lease(leased)
    assert api.journal_records(ended, b"1").first_seq == 1
    assert api.journal_records(leased, b"1").first_seq == 1
    assert refused(partial(api.journal_records, "nobody", b"1")).reason == "SESSION_NOT_FOUND"
    assert refused(partial(api.logged, "nobody")).reason == "SESSION_NOT_FOUND"


def test_concurrent_log_appends_are_numbered_without_a_gap(api: Api) -> None:
    id = api.create().id
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda n: api.journal_records(id, b"a", b"b"), range(40)))
    assert sorted(a.first_seq for a in answers) == [*range(1, 81, 2)]
    assert [r.seq for r in api.logged(id, page_size=1000).records] == [*range(1, 81)]


def test_P14_a_log_has_limits(api: Api) -> None:
    id = api.talk(1, said())
    assert refused(partial(api.journal_records, id)).fields == ["records"]
    assert refused(partial(api.journal_records, id, b"x" * (2**20 + 1))).fields == [
        "records[0].content"
    ]
    assert refused(partial(api.journal_records, id, b"", kind="\n")).fields == ["records[0].kind"]
    most = [b"x" * (2**20 - 100)] * 2
    assert refused(partial(api.journal_records, id, *most, b"x" * 1000)).fields == ["records"]
    for _ in range(100):
        api.journal_records(id, *[b""] * 1000)
    full = refused(partial(api.journal_records, id, b""))
    assert full.reason == "JOURNAL_FULL"
    assert full.metadata == {"session_id": id, "limit": "100000 records"}
    last = api.logged(id, order=DESCENDING, page_size=1).records
    assert last[0].seq == 100_000

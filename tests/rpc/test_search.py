"""Searching: what is found, where, and what is shown of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import grpc
import pytest

import sessiond
from sessiond import v1
from tests.rpc.api import ASSISTANT, TOOL, USER, Api, answering, new, refused, said
from tests.support.processes import ServerProcess

NEWEST = v1.SearchOrder.SEARCH_ORDER_NEWEST


def seqs(answer: v1.SearchMessagesResponse) -> list[int]:
    return sorted(hit.seq for hit in answer.hits)


def marked(hit: v1.SearchHit) -> list[str]:
    return [run.text for run in hit.snippet.runs if run.match]


def shown(hit: v1.SearchHit) -> str:
    """The snippet, whose runs alternate and are never empty."""
    runs = hit.snippet.runs
    assert all(run.text for run in runs)
    assert all(one.match != other.match for one, other in pairwise(runs))
    return "".join(run.text for run in runs)


def told(api: Api, *texts: str, **facts: str) -> str:
    """A session in which a user said these texts, indexed."""
    id = api.create(**facts).id
    api.append(id, *(said(text) for text in texts))
    api.indexed(id)
    return id


def test_A_search_sessions(api: Api) -> None:
    """The indices of matching messages, and a preview of 30 characters around the first hit."""
    text = "Once upon a time there was a very small teapot who lived in a cupboard full of cups."
    id = told(api, "nothing here", text, "A teapot again")
    answer = api.search("Teapot", session_id=id, snippet_characters=30)
    assert seqs(answer) == [2, 3]
    hit = next(hit for hit in answer.hits if hit.seq == 2)
    start = text.index("teapot")
    assert shown(hit) == text[start - 30 : start + len("teapot") + 30]
    assert marked(hit) == ["teapot"]
    assert (hit.snippet.cut_before, hit.snippet.cut_after) == (True, True)
    listed = api.messages.ListMessages(
        v1.ListMessagesRequest(session_id=id, around_seq=hit.seq, page_size=2)
    )
    assert [m.seq for m in listed.messages] == [1, 2]


def listed(api: Api, text: str, **fields: Any) -> list[str]:
    everybody = "owner" not in fields
    wanted = v1.SessionFilter(whole_tenant=everybody, **fields)
    request = v1.ListSessionsRequest(filter=wanted, text=text, page_size=3)
    found: list[str] = []
    while True:
        page = api.sessions.ListSessions(request)
        found += [summary.session.id for summary in page.sessions]
        request.page_token = page.next_page_token
        if not request.page_token:
            return found


def test_A_search_sessions_by_title_and_content(api: Api) -> None:
    word = new("w").replace("-", "")
    by_content = [told(api, f"{word} and a teapot {n}", owner="ann") for n in range(4)]
    titled = told(api, "nothing", title=f"The {word} Trip", owner="ann", source="web")
    other = told(api, f"{word} teapot", owner="bob")
    child = api.child(by_content[0]).id
    api.append(child, said(word))
    hidden = told(api, "shown", f"{word} hidden")
    api.rewind(hidden, 1)
    api.indexed(child, hidden)
    assert listed(api, word) == [other, titled, *reversed(by_content)]
    assert listed(api, word, owner="ann") == [titled, *reversed(by_content)]
    assert listed(api, f"{word} teapot", owner="ann") == by_content[::-1]
    assert listed(api, f"trip {word}", sources=["web"]) == [titled]
    assert listed(api, word, parent_id=by_content[0]) == [child]
    api.update(titled, "title", title="Otherwise")
    until = time.monotonic() + 30
    while titled in listed(api, word):
        assert time.monotonic() < until
    assert titled in listed(api, "otherwise nothing OR otherwise")


def test_B_full_text_search(api: Api) -> None:
    """Words, phrases, OR, NOT, beginnings; hyphenated words as phrases; snippets with marks."""
    id = told(
        api,
        "The refund for flight HAT-123 goes to Paris",
        "No refund by policy of the refund desk",
        "The refund policy is well-known",
        "Vouchers, not refunds",
    )
    for query, found in {
        "refund": [1, 2, 3],
        "REFUND paris": [1],
        '"refund policy"': [3],
        "paris OR vouchers": [1, 4],
        "refund policy OR vouchers": [2, 3, 4],
        "refund -paris": [2, 3],
        "refund NOT paris NOT desk": [3],
        'refund -"refund policy"': [1, 2],
        "refun*": [1, 2, 3, 4],
        "vouch* AND -refund": [4],
        "hat-123": [1],
        "HAT-12*": [1],
        "123-hat": [],
        "well-known": [3],
        "known well": [3],
        '"known well"': [],
        "goes (to) [paris]": [1],
    }.items():
        assert seqs(api.search(query, session_id=id)) == found, query
    (hit,) = api.search('refund "for flight" hat-123', session_id=id).hits
    assert marked(hit) == ["refund", "for flight", "HAT-123"]
    assert hit.field == v1.SearchField.SEARCH_FIELD_TEXT
    assert (hit.session_id, hit.role, hit.rank > 0) == (id, USER, True)


def test_B_full_text_search_by_source_and_role_with_the_messages_around(api: Api) -> None:
    word = new("w").replace("-", "")
    chat = told(api, "before", f"{word} one", "after", source="telegram", owner="ann")
    told(api, f"{word} two", source="cli", owner="bob")
    api.append(chat, sessiond.message(ASSISTANT, f"{word} indeed", client_id=new("m")))
    api.indexed(chat)
    assert len(api.search(word).hits) == 3
    assert {hit.session_id for hit in api.search(word, sources=["telegram"]).hits} == {chat}
    assert len(api.search(word, exclude_sources=["telegram"]).hits) == 1
    assert len(api.search(word, roles=[ASSISTANT]).hits) == 1
    assert seqs(api.search(word, owner="ann", roles=[USER])) == [2]
    (hit,) = api.search(f"{word} one", context_before=1, context_after=1).hits
    assert [(m.seq, m.text) for m in hit.before] == [(1, "before")]
    assert [(m.seq, m.text, m.role) for m in hit.after] == [(3, "after", USER)]


def test_D_messages_around_a_hit(api: Api) -> None:
    """Only what people see, in its order, and no more of each than shows what it is about."""
    id = api.talk(3, said("x" * 400), said("here: teapot"), said("hidden", hidden_from_people=True))
    api.append(id, said("last"))
    api.indexed(id)
    (hit,) = api.search("teapot", session_id=id, context_before=2, context_after=5).hits
    assert [m.seq for m in hit.before] == [3, 4]
    assert (hit.before[1].text, hit.before[1].cut) == ("x" * 300, True)
    assert [(m.seq, m.text, m.cut) for m in hit.after] == [(7, "last", False)]


def test_D_search_that_works_for_chinese_japanese_and_korean(api: Api) -> None:
    id = told(
        api,
        "我想退票，去北京的航班",
        "東京都の天気はどうですか",
        "서울에서 부산까지 가고 싶어요",
        "ﾃﾞｰﾀﾍﾞｰｽとfull-width ＡＢＣ",
        "北 京",
    )
    for query, found in {
        "退票": [1],
        "北京": [1],
        "北京的航班": [1],
        "航班北京": [],
        "票": [1],
        "京": [1, 2, 5],
        "天気": [2],
        "東京 天気": [2],
        "부산까지": [3],
        "부산": [3],
        "데이터": [],
        "データベース": [4],
        "ﾃﾞｰﾀ abc": [4],
        "北京 OR 부산 -서울": [1],
    }.items():
        assert seqs(api.search(query, session_id=id)) == found, query
    (hit,) = api.search("航班", session_id=id).hits
    assert marked(hit) == ["航班"]
    (hit,) = api.search("데이터 OR ベース", session_id=id).hits
    assert marked(hit) == ["ﾍﾞｰｽ"]


def test_all_that_a_message_holds_is_found_and_named(api: Api) -> None:
    call = v1.ToolCall(
        id="c", name="get_reservation", arguments='{"city": "\\u6771\\u4eac\\nzork"}'
    )
    answer = sessiond.tool_result("c", v1.Part(json='{"fare": "caf\\u00e9 plugh"}'), "xyzzy")
    result = sessiond.message(TOOL, answer, client_id=new("m"))
    id = api.talk(
        0,
        sessiond.message(
            ASSISTANT,
            sessiond.reasoning("frobnicate"),
            v1.Part(tool_call=call),
            client_id=new("m"),
        ),
        result,
    )
    api.indexed(id)
    field = v1.SearchField
    for query, seq, of, mark in [
        ("frobnicate", 1, field.SEARCH_FIELD_REASONING, "frobnicate"),
        ("get_reservation", 1, field.SEARCH_FIELD_TOOL_CALL, "get_reservation"),
        ("東京", 1, field.SEARCH_FIELD_TOOL_CALL, "東京"),
        ("zork", 1, field.SEARCH_FIELD_TOOL_CALL, "zork"),
        ("café", 2, field.SEARCH_FIELD_TOOL_RESULT, "café"),
        ("xyzzy", 2, field.SEARCH_FIELD_TOOL_RESULT, "xyzzy"),
    ]:
        (hit,) = api.search(query, session_id=id).hits
        assert (hit.seq, hit.field, marked(hit)) == (seq, of, [mark])
    assert not api.search('"zork frobnicate"', session_id=id).hits, "no phrase from field to field"


def test_P10_snippets_are_runs_that_need_no_counting_of_characters(api: Api) -> None:
    """Emoji, combining marks and letters beyond the first plane, which languages count differently."""
    text = "🛫👩‍👩‍👧 été 𝔘𝔫𝔦 café 🛬 航班 délayed 👍🏽"
    id = told(api, text)
    for query, marks in [
        ("café", ["café"]),
        ("航班", ["航班"]),
        ("été délayed", ["été", "délayed"]),
        ("café OR 航班", ["café", "航班"]),
    ]:
        (hit,) = api.search(query, session_id=id, snippet_characters=200).hits
        assert (marked(hit), shown(hit)) == (marks, text)
    (hit,) = api.search("été", session_id=id, snippet_characters=1).hits
    assert (shown(hit), marked(hit)) == (" été ", ["été"])
    assert (hit.snippet.cut_before, hit.snippet.cut_after) == (True, True)


def test_compacted_messages_are_found_and_rewound_ones_when_asked_for(api: Api) -> None:
    id = told(api, "teapot one", "teapot two", "teapot three")
    summary = api.compact(id, 1, 2).compaction.id
    api.append(id, said("teapot four"), said("teapot five"))
    api.rewind(id, summary + 1)
    api.indexed(id)
    assert seqs(api.search("teapot", session_id=id)) == [1, 2, 3, summary + 1]
    found = {h.seq: h for h in api.search("teapot", session_id=id, include_rewound=True).hits}
    assert [seq for seq, hit in found.items() if hit.rewound] == [summary + 2]
    by = {seq: hit.compacted_by_seq for seq, hit in found.items()}
    assert by == {1: summary, 2: summary, 3: 0, summary + 1: 0, summary + 2: 0}
    (hit,) = api.search("what was said", session_id=id).hits
    assert hit.seq == summary


def test_offloaded_messages_are_found_shown_and_indexed_anew(api: Api) -> None:
    id = told(api, *(f"teapot {n}" for n in range(1, 7)))
    request = v1.OffloadMessagesRequest(session_id=id, all=True, keep_recent_messages=2)
    assert api.storage.OffloadMessages(request).offloaded_before_seq == 5
    for _ in range(2):
        answer = api.search("teapot", session_id=id, context_before=1, context_after=1)
        found = {hit.seq: hit for hit in answer.hits}
        assert {seq: hit.offloaded for seq, hit in found.items()} == {
            **dict.fromkeys((1, 2, 3, 4), True),
            **dict.fromkeys((5, 6), False),
        }
        for seq, hit in found.items():
            assert shown(hit) == f"teapot {seq}"
            assert marked(hit) == ["teapot"]
            assert [m.seq for m in hit.before] == ([seq - 1] if seq > 1 else [])
            assert [m.text for m in hit.after] == ([f"teapot {seq + 1}"] if seq < 6 else [])
        api.storage.ReindexSessions(v1.ReindexSessionsRequest(session_ids=[id]))
        api.indexed(id)
    fork = api.fork(id).id
    api.indexed(fork)
    assert seqs(api.search("teapot", session_id=fork)) == [1, 2, 3, 4, 5, 6]
    api.messages.ClearMessages(v1.ClearMessagesRequest(session_id=id))
    assert not api.search("teapot", session_id=id).hits


def test_a_subtree_and_a_time(api: Api) -> None:
    word = new("w").replace("-", "")
    root = told(api, word)
    child = api.child(root).id
    grandchild = api.child(child).id
    other = told(api, word)
    for id in (child, grandchild):
        api.append(id, said(word))
    api.indexed(child, grandchild)
    assert {h.session_id for h in api.search(word, subtree_of=root).hits} == {
        root,
        child,
        grandchild,
    }
    assert {h.session_id for h in api.search(word, subtree_of=child).hits} == {child, grandchild}
    assert len(api.search(word).hits) == 4
    newest = api.search(word, order_by=NEWEST).hits
    assert [h.session_id for h in newest] == [grandchild, child, other, root]
    since = {h.session_id for h in api.search(word, start_time=newest[1].create_time).hits}
    assert since == {grandchild, child}
    until = {h.session_id for h in api.search(word, end_time=newest[1].create_time).hits}
    assert until == {other, root}
    assert not api.search(word, subtree_of="nobody").hits


@pytest.mark.parametrize("order", [v1.SearchOrder.SEARCH_ORDER_RELEVANCE, NEWEST])
def test_pages_hold_every_hit_once(api: Api, order: v1.SearchOrder.ValueType) -> None:
    id = api.talk(0, *(said("teapot " * (n % 5 + 1) + str(n)) for n in range(57)))
    api.indexed(id)
    token = ""
    found: list[v1.SearchHit] = []
    for _ in range(20):
        page = api.search("teapot", session_id=id, page_size=10, page_token=token, order_by=order)
        found += page.hits
        token = page.next_page_token
        if not token:
            break
    assert sorted(hit.seq for hit in found) == list(range(1, 58))
    key = [hit.seq if order == NEWEST else hit.rank for hit in found]
    assert key == sorted(key, reverse=True)


def test_a_fork_is_found_by_itself_and_cleared_messages_never(api: Api) -> None:
    word = new("w").replace("-", "")
    id = told(api, f"{word} one", f"{word} two")
    fork = api.fork(id, 1).id
    api.indexed(fork)
    assert seqs(api.search(word, session_id=fork)) == [1]
    api.messages.ClearMessages(v1.ClearMessagesRequest(session_id=id))
    assert {hit.session_id for hit in api.search(word).hits} == {fork}
    api.append(id, said(f"{word} three"))
    api.indexed(id)
    assert seqs(api.search(word, session_id=id)) == [3]
    api.delete(fork)
    api.delete(id)
    assert not api.search(word).hits


def test_a_long_message_is_found_by_all_of_its_words(api: Api) -> None:
    text = " ".join(f"w{n}" for n in range(50_000)) + " " + "z" * 100 + " the end"
    id = told(api, text)
    for query in ("w1", "w49999", '"w16000 w16001" OR "w15999 w16000"', "z" * 90, "end"):
        assert seqs(api.search(query, session_id=id)) == [1], query
    (hit,) = api.search("w30000", session_id=id).hits
    assert marked(hit) == ["w30000"]


def test_everything_before_a_time_is_indexed(api: Api) -> None:
    id = api.talk(1)
    appended = api.log(id)[0].create_time.ToDatetime(UTC)
    until = time.monotonic() + 60
    while api.search("a").indexed_through_time.ToDatetime(UTC) <= appended:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert api.search("message", session_id=id).hits
    assert api.search("a").indexed_through_time.ToDatetime(UTC) < datetime.now(UTC) + timedelta(1)


@pytest.fixture
def own(start_server: Callable[..., ServerProcess], dsn: str) -> Iterator[Callable[..., Api]]:
    """Starts servers on the test's own database."""
    channels = []

    def start(**settings: str) -> Api:
        channels.append(grpc.insecure_channel(start_server(SESSIOND_DSN=dsn, **settings).target))
        return Api(channels[-1])

    yield start
    for channel in channels:
        channel.close()


def test_indexing_anew_keeps_everything_found(own: Callable[..., Api]) -> None:
    api = own()
    id = told(api, "teapot one", "teapot two")
    request = v1.ReindexSessionsRequest(session_ids=[id, "nobody"])
    assert api.storage.ReindexSessions(request).session_count == 1
    assert seqs(api.search("teapot", session_id=id)) == [1, 2]
    api.indexed(id)
    assert seqs(api.search("teapot", session_id=id)) == [1, 2]
    every = api.storage.ReindexSessions(v1.ReindexSessionsRequest(all=True))
    assert every.session_count >= 1
    api.indexed(id)
    assert seqs(api.search("teapot", session_id=id)) == [1, 2]


def test_without_search_a_search_is_refused_and_later_all_is_found(own: Callable[..., Api]) -> None:
    api = own(SESSIOND_SEARCH="false")
    id = api.talk(3, answering("x"))
    found = refused(lambda: api.search("message"))
    assert (found.reason, found.code) == (
        "SEARCH_DISABLED",
        grpc.StatusCode.FAILED_PRECONDITION,
    )
    again = own()
    again.indexed(id)
    assert seqs(again.search("message", session_id=id)) == [1, 2, 3]


def _stats(api: Api, **wanted: Any) -> v1.GetTenantStatsResponse:
    return api.tenants.GetTenantStats(v1.GetTenantStatsRequest(filter=v1.SessionFilter(**wanted)))


def test_stats_say_what_is_not_indexed(own: Callable[..., Api]) -> None:
    api = own(SESSIOND_SEARCH="false")
    id = api.create(owner="ann").id
    api.append(id, said("one"), said("two"))
    api.create()
    lag = _stats(api, whole_tenant=True)
    assert (lag.unindexed_session_count, lag.unindexed_message_count) == (1, 2)
    assert not lag.HasField("indexed_through_time")
    of_nobody = _stats(api, owner="bob")
    assert of_nobody.unindexed_message_count == 0
    again = own()
    again.indexed(id)
    lag = _stats(again, owner="ann")
    assert (lag.unindexed_session_count, lag.unindexed_message_count) == (0, 0)

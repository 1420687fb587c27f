"""Paging (AIP-158): all pages together hold every row once, in order, and no page is too large."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import sessiond
from sessiond import v1
from tests.rpc.api import USER, Api, answering, calling, new, refused, said

VIEWS = [
    v1.MessageView.MESSAGE_VIEW_TRANSCRIPT,
    v1.MessageView.MESSAGE_VIEW_CONTEXT,
    v1.MessageView.MESSAGE_VIEW_ALL,
]
ALL = v1.MessageView.MESSAGE_VIEW_ALL
ASCENDING, DESCENDING = (
    v1.SortOrder.SORT_ORDER_ASCENDING,
    v1.SortOrder.SORT_ORDER_DESCENDING,
)
PAGE_BYTES = 2 * 2**20
ANSWER_BYTES = 4 * 2**20


def pages(call: Callable[[Any], Any], request: Any) -> Iterator[Any]:
    """Page after page, until the token is empty; each must be within an answer's size."""
    while True:
        page = call(request)
        assert page.ByteSize() <= ANSWER_BYTES
        yield page
        request.page_token = page.next_page_token
        if not request.page_token:
            return


def seqs(api: Api, session_id: str, **fields: Any) -> list[int]:
    """The seqs of all pages."""
    request = v1.ListMessagesRequest(session_id=session_id, **fields)
    return [m.seq for page in pages(api.messages.ListMessages, request) for m in page.messages]


@pytest.fixture
def busy(api: Api) -> str:
    """A session with compactions and rewinds."""
    id = api.talk(6, calling("a"), answering("a"), said(), said())
    api.compact(id, 2, 4)
    api.append(id, *(said() for _ in range(5)))
    api.rewind(id, 14)
    api.append(id, *(said() for _ in range(4)), calling("b"))
    api.compact(id, 6, 10)
    api.append(id, said(), said(hidden_from_model=True), said(hidden_from_people=True))
    return id


@pytest.mark.parametrize("view", VIEWS, ids=v1.MessageView.Name)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_messages_come_once_in_both_directions(
    api: Api, busy: str, view: v1.MessageView.ValueType, size: int
) -> None:
    whole = seqs(api, busy, view=view, page_size=1000)
    assert len(set(whole)) == len(whole) > 10
    assert seqs(api, busy, view=view, page_size=size) == whole
    assert seqs(api, busy, view=view, page_size=size, order=DESCENDING) == whole[::-1]
    users = seqs(api, busy, view=view, page_size=1000, roles=[USER])
    assert seqs(api, busy, view=view, page_size=size, roles=[USER]) == users
    assert seqs(api, busy, view=view, page_size=size, roles=[USER], order=DESCENDING) == users[::-1]


@pytest.mark.parametrize("view", VIEWS, ids=v1.MessageView.Name)
@pytest.mark.parametrize("seq", [1, 3, 6, 9, 14, 20, 24, 99])
@pytest.mark.parametrize("size", [1, 2, 5, 100])
def test_a_page_around_a_seq_goes_on_both_ways(
    api: Api, busy: str, view: v1.MessageView.ValueType, seq: int, size: int
) -> None:
    whole = seqs(api, busy, view=view, page_size=1000)
    request = v1.ListMessagesRequest(session_id=busy, view=view, around_seq=seq, page_size=size)
    around = api.messages.ListMessages(request)
    before, after = list[int](), list[int]()
    for token, found in ((around.previous_page_token, before), (around.next_page_token, after)):
        request.page_token = token
        if token:
            for page in pages(api.messages.ListMessages, request):
                found += [message.seq for message in page.messages]
    middle = [message.seq for message in around.messages]
    assert before[::-1] + middle + after == whole
    assert len(middle) <= size


def test_from_seq_begins_there(api: Api, busy: str) -> None:
    whole = seqs(api, busy, view=ALL, page_size=1000)
    assert seqs(api, busy, view=ALL, from_seq=8, page_size=3) == whole[7:]
    assert seqs(api, busy, view=ALL, from_seq=8, page_size=3, order=DESCENDING) == whole[7::-1]
    assert seqs(api, busy, view=ALL, from_seq=1000) == []
    assert seqs(api, busy, view=ALL, from_seq=1000, order=DESCENDING) == whole[::-1]


@pytest.mark.parametrize("view", VIEWS, ids=v1.MessageView.Name)
@pytest.mark.parametrize("size", [1, 3, 100])
def test_B_to_seq_stops_there_in_both_directions(
    api: Api, busy: str, view: v1.MessageView.ValueType, size: int
) -> None:
    """A range is that part of the whole, whatever the pages, with and without a beginning."""
    whole = seqs(api, busy, view=view, page_size=1000)
    places = _places(api, busy, whole)
    for low, high in ((1, 1), (1, 6), (3, 9), (8, 8), (7, 20), (14, 23), (9, 3), (25, 10**6)):
        part = [seq for seq in whole if low <= places[seq] <= high]
        up = seqs(api, busy, view=view, page_size=size, from_seq=low, to_seq=high)
        down = seqs(
            api, busy, view=view, page_size=size, from_seq=high, to_seq=low, order=DESCENDING
        )
        assert (up, down) == (part, part[::-1])
        head = [seq for seq in whole if places[seq] <= high]
        tail = [seq for seq in whole if places[seq] >= low]
        assert seqs(api, busy, view=view, page_size=size, to_seq=high) == head
        back = seqs(api, busy, view=view, page_size=size, to_seq=low, order=DESCENDING)
        assert back == tail[::-1]


def _places(api: Api, session_id: str, shown: list[int]) -> dict[int, int]:
    """Where each message stands: a summary of the context where the range began."""
    log = {message.seq: message for message in api.log(session_id)}
    moved = shown != sorted(shown)
    return {
        seq: (log[seq].replaces_from_seq if moved and log[seq].replaces_from_seq else seq)
        for seq in shown
    }


def test_to_seq_is_bound_to_the_pages_that_follow(api: Api, busy: str) -> None:
    request = v1.ListMessagesRequest(session_id=busy, view=ALL, page_size=2, to_seq=9)
    request.page_token = api.messages.ListMessages(request).next_page_token
    request.to_seq = 10
    found = refused(lambda: api.messages.ListMessages(request))
    assert found.reason == "PAGE_TOKEN_INVALID"
    request.ClearField("to_seq")
    assert refused(lambda: api.messages.ListMessages(request)).reason == "PAGE_TOKEN_INVALID"


def test_to_seq_stops_a_reading_from_a_time_on(api: Api) -> None:
    id = api.talk(6)
    first, *_, last = api.log(id)
    assert seqs(api, id, start_time=first.create_time, to_seq=4, page_size=3) == [1, 2, 3, 4]
    backwards = seqs(api, id, start_time=last.create_time, to_seq=4, order=DESCENDING)
    assert backwards == [6, 5, 4]


def test_start_time_begins_there(api: Api) -> None:
    id = api.create().id
    for _ in range(6):
        api.append(id, said())
        time.sleep(0.002)
    for message in api.log(id):
        at = message.create_time
        assert seqs(api, id, start_time=at, page_size=2) == list(range(message.seq, 7))
        backwards = seqs(api, id, start_time=at, page_size=2, order=DESCENDING)
        assert backwards == list(range(message.seq, 0, -1))


@pytest.mark.parametrize("order", [ASCENDING, DESCENDING], ids=v1.SortOrder.Name)
def test_P1_appends_between_pages_leave_no_gap(api: Api, order: v1.SortOrder.ValueType) -> None:
    id = api.talk(10)
    request = v1.ListMessagesRequest(session_id=id, page_size=3, order=order)
    found, appended = list[int](), 10
    for page in pages(api.messages.ListMessages, request):
        found += [message.seq for message in page.messages]
        if appended < 20:
            appended = api.append(id, said(), said()).last_seq
    expected = list(range(1, 21)) if order == ASCENDING else list(range(10, 0, -1))
    assert found == expected


def test_sessions_made_between_pages_move_no_page(api: Api) -> None:
    owner = new("owner")
    made = [api.create(owner=owner, pinned=n % 3 == 0).id for n in range(10)]
    for order in v1.SessionOrder.values():
        request = v1.ListSessionsRequest(
            filter=v1.SessionFilter(owner=owner), page_size=3, order_by=order
        )
        found = list[str]()
        for page in pages(api.sessions.ListSessions, request):
            found += [summary.session.id for summary in page.sessions]
            api.create(owner=owner)
        assert len(found) == len(set(found))
        assert [id for id in found if id in made] == [*made[9::-3], *_not_pinned(made)]


def _not_pinned(made: list[str]) -> list[str]:
    return [id for n, id in reversed(list(enumerate(made))) if n % 3]


@pytest.mark.parametrize("size", [1, 2, 4, 5, 100])
def test_rewinds_compactions_and_calls_come_once(api: Api, size: int) -> None:
    id = api.talk(8, *(calling(f"a{n}", f"b{n}") for n in range(4)))
    for seq in (1, 3, 5, 7):
        api.compact(id, seq, seq + 1)
    for _ in range(4):
        last = api.append(id, said(), said()).first_seq
        api.rewind(id, last)
    named: dict[str, Any] = {"session_id": id, "page_size": size}
    rewinds = pages(api.messages.ListRewinds, v1.ListRewindsRequest(**named))
    assert [r.after_seq for page in rewinds for r in page.rewinds] == [23, 21, 19, 17]
    compactions = pages(api.compactions.ListCompactions, v1.ListCompactionsRequest(**named))
    summaries = [c.id for page in compactions for c in page.compactions]
    assert summaries == [16, 15, 14, 13]
    calls = pages(api.messages.ListOpenToolCalls, v1.ListOpenToolCallsRequest(**named))
    ids = [c.tool_call.id for page in calls for c in page.open_tool_calls]
    assert ids == [f"{letter}{n}" for n in range(4) for letter in "ab"]


def test_page_sizes_have_a_default_and_a_maximum(api: Api) -> None:
    id = api.talk(1000)
    api.append(id, *(said() for _ in range(20)))
    request = v1.ListMessagesRequest(session_id=id)
    sizes = {}
    for size in (0, 1000, 2**31 - 1):
        request.page_size = size
        sizes[size] = len(api.messages.ListMessages(request).messages)
    assert sizes == {0: 100, 1000: 1000, 2**31 - 1: 1000}
    owner = new("owner")
    for _ in range(202):
        api.create(owner=owner)
    listed = [
        len(
            api.sessions.ListSessions(
                v1.ListSessionsRequest(filter=v1.SessionFilter(owner=owner), page_size=n)
            ).sessions
        )
        for n in (0, 200, 2**31 - 1)
    ]
    assert listed == [50, 200, 200]


def test_open_calls_are_capped_too(api: Api) -> None:
    id = api.talk(0, *(calling(*(f"{n}-{m}" for m in range(256))) for n in range(4)))
    request = v1.ListOpenToolCallsRequest(session_id=id, page_size=2**31 - 1)
    assert len(api.messages.ListOpenToolCalls(request).open_tool_calls) == 1000
    request.page_size = 0
    assert len(api.messages.ListOpenToolCalls(request).open_tool_calls) == 100


@pytest.fixture(params=[2**20, 2**21 - 1024], ids=["1 MiB", "2 MiB"])
def large(api: Api, request: pytest.FixtureRequest) -> str:
    """A session of seven messages that are large, the last but one small."""
    id = api.create(system_prompt="p" * 2**19).id
    for _ in range(5):
        api.append(id, said("x" * (request.param - 200)))
    api.append(id, said())
    api.append(id, said("x" * (request.param - 200)))
    return id


def _within(page: Any, rows: int) -> None:
    assert page.ByteSize() <= PAGE_BYTES + 1024 or rows == 1


@pytest.mark.parametrize("view", VIEWS, ids=v1.MessageView.Name)
def test_pages_of_messages_are_bounded_by_their_bytes(
    api: Api, large: str, view: v1.MessageView.ValueType
) -> None:
    for order in (ASCENDING, DESCENDING):
        request = v1.ListMessagesRequest(session_id=large, view=view, order=order)
        found = list[int]()
        for page in pages(api.messages.ListMessages, request):
            _within(page, len(page.messages))
            found += [message.seq for message in page.messages]
        assert sorted(found) == list(range(1, 8))
    for seq in range(1, 9):
        request = v1.ListMessagesRequest(session_id=large, view=view, around_seq=seq)
        page = api.messages.ListMessages(request)
        _within(page, len(page.messages))
        assert page.messages


def test_a_page_around_a_large_message_loses_nothing(api: Api, large: str) -> None:
    request = v1.ListMessagesRequest(session_id=large, around_seq=4, view=ALL)
    page = api.messages.ListMessages(request)
    found = [message.seq for message in page.messages]
    for token, step in ((page.previous_page_token, -1), (page.next_page_token, 1)):
        request.page_token = token
        for following in pages(api.messages.ListMessages, request):
            found += [message.seq for message in following.messages]
            assert found[-1] == (1 if step < 0 else 7) or following.next_page_token
    assert sorted(found) == list(range(1, 8))


@pytest.mark.parametrize(("order", "large_at"), [(ASCENDING, 256), (DESCENDING, 44)])
def test_pages_across_many_rewinds_are_bounded_by_their_bytes(
    api: Api, order: v1.SortOrder.ValueType, large_at: int
) -> None:
    """The reader looks at 256 hidden ranges at a time: the large message comes first behind them."""
    id = api.talk(0, said("x" * 2**20))
    for n in range(300):
        text = "x" * (2**21 - 1024) if n == large_at else ""
        api.rewind(id, api.append(id, said(text), said()).first_seq)
    api.append(id, said("x" * 2**20))
    found = list[int]()
    request = v1.ListMessagesRequest(session_id=id, order=order, page_size=1000)
    for page in pages(api.messages.ListMessages, request):
        _within(page, len(page.messages))
        found += [message.seq for message in page.messages]
    assert sorted(found) == [1, *range(2, 602, 2), 602]


def test_pieces_of_the_context_are_bounded_by_their_bytes(api: Api, large: str) -> None:
    for as_of_seq in (0, 7):
        request = v1.GetContextRequest(session_id=large, as_of_seq=as_of_seq)
        pieces = list(api.contexts.GetContext(request))
        assert [m.seq for piece in pieces for m in piece.messages] == list(range(1, 8))
        for piece in pieces:
            assert piece.ByteSize() <= ANSWER_BYTES
            _within(piece, len(piece.messages))


def test_pages_of_sessions_are_bounded_by_their_bytes(api: Api) -> None:
    owner = new("owner")
    for _ in range(10):
        api.create(owner=owner, system_prompt="p" * 2**19)
    full = v1.SessionView.SESSION_VIEW_FULL
    found = list[str]()
    for page in pages(
        api.sessions.ListSessions,
        v1.ListSessionsRequest(filter=v1.SessionFilter(owner=owner), view=full),
    ):
        _within(page, len(page.sessions))
        found += [summary.session.id for summary in page.sessions]
    assert len(found) == len(set(found)) == 10


def test_pages_of_open_calls_are_bounded_by_their_bytes(api: Api) -> None:
    id = api.create().id
    for n in range(5):
        call = v1.ToolCall(id=f"c{n}", arguments="x" * (2**20 - 1024))
        api.append(id, sessiond.message("assistant", v1.Part(tool_call=call), client_id=new()))
    found = list[int]()
    for page in pages(api.messages.ListOpenToolCalls, v1.ListOpenToolCallsRequest(session_id=id)):
        _within(page, len(page.open_tool_calls))
        found += [call.seq for call in page.open_tool_calls]
    assert found == [1, 2, 3, 4, 5]


def test_P13_lists_show_the_beginnings_of_long_messages_and_read_a_bounded_amount(api: Api) -> None:
    """A preview of a message of a megabyte; prompts that don't fit a page make it shorter, and lose none."""
    owner = new("owner")
    prompt = "p" * 500_000
    ids = [api.create(owner=owner, system_prompt=prompt).id for _ in range(40)]
    long = v1.Message(
        client_id="long", role=USER, parts=[v1.Part(text="Once " + "upon " * 200_000)]
    )
    api.append(ids[-1], long)
    request = v1.ListSessionsRequest(
        filter=v1.SessionFilter(owner=owner), page_size=200, view=v1.SessionView.SESSION_VIEW_FULL
    )
    page = api.sessions.ListSessions(request)
    newest = next(s for s in page.sessions if s.session.id == ids[-1])
    assert newest.preview.startswith("Once upon upon")
    assert newest.opening == newest.preview
    found = [s.session.id for s in page.sessions]
    assert 1 < len(found) < 40
    while page.next_page_token:
        request.page_token = page.next_page_token
        page = api.sessions.ListSessions(request)
        found += [s.session.id for s in page.sessions]
    assert sorted(found) == sorted(ids)

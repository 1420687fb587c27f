"""What agents built on Navi do, row by row: each test is named after its row in docs/migrating."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from uuid import uuid4

import pytest

import sessiond
from sessiond import Client, from_openai, message_update, session_filter, to_openai, v1
from tests.support.data import airline
from tests.support.processes import ServerProcess


@pytest.fixture
def navi(server: ServerProcess) -> Iterator[Client]:
    with Client(server.target) as client:
        yield client


def said(text: str, role: str = "user") -> v1.Message:
    return from_openai([{"role": role, "content": text}])[0]


def test_A_create_a_session_for_an_agent_and_a_user(navi: Client) -> None:
    made = navi.create_session(agent="travel", owner="ann")
    assert (made.agent, made.owner, made.next_seq) == ("travel", "ann", 1)
    assert navi.get_session(made.id) == made


def test_A_get_a_session_with_two_views_of_one_load(navi: Client) -> None:
    """What people see and what the model sees are views of the same messages."""
    session_id = navi.create_session().id
    for_people, for_model = said("Searching …", "assistant"), said("policy", "system")
    for_people.hidden_from_model = True
    for_model.hidden_from_people = True
    navi.append(session_id, [for_model, said("hi"), for_people, said("hello", "assistant")])
    assert [m.seq for m in navi.list_messages(session_id)] == [2, 3, 4]
    assert [m.seq for m in navi.get_context(session_id).messages] == [1, 2, 4]
    assert [m.seq for m in navi.list_messages(session_id, view="all")] == [1, 2, 3, 4]


def test_A_delta_save(navi: Client) -> None:
    """New messages are added, and flags and late facts of stored ones are updated in one call."""
    session_id = navi.create_session().id
    navi.append(session_id, [said("hi"), said("thinking", "assistant")])
    navi.append(session_id, said("more"))
    updates = [
        message_update(1, hidden_from_model=True, hidden_from_people=True),
        message_update(2, type="plan", extensions={"why": b"because"}, elapsed=1.5, token_count=12),
        message_update(3, kind="reminder", metadata={"is_compression": True}),
    ]
    navi.update_messages(session_id, updates)
    first, second, third = navi.list_messages(session_id, view="all")
    assert (first.hidden_from_model, first.hidden_from_people) == (True, True)
    assert (second.type, second.extensions["why"]) == ("plan", b"because")
    assert (second.elapsed.ToMilliseconds(), second.token_count) == (1500, 12)
    assert (third.kind, dict(third.metadata)) == (
        v1.MessageKind.MESSAGE_KIND_REMINDER,
        {"is_compression": True},
    )
    assert [sessiond.text_of(m) for m in (first, second, third)] == ["hi", "thinking", "more"]


def test_A_global_sequence_per_session_survives_offloading(navi: Client) -> None:
    session_id = navi.create_session().id
    navi.append(session_id, [said(f"{n}") for n in range(1, 11)])
    navi.offload_messages(session_id, all_messages=True)
    assert navi.append(session_id, said("11")).first_seq == 11
    navi.clear_messages(session_id)
    assert navi.append(session_id, said("12")).first_seq == 12


def test_A_hot_and_offload_tables(navi: Client) -> None:
    """Old messages move, the threshold is kept on the session, and nothing else changes."""
    session_id, dicts = airline(3)
    session_id = f"{session_id}-{uuid4()}"
    navi.append(session_id, from_openai(dicts), create_session=v1.Session())
    before = list(navi.list_messages(session_id, view="all")), navi.get_context(session_id)
    moved = navi.offload_messages(session_id, before_seq=len(dicts) - 3)
    assert 1 < moved.offloaded_before_seq <= len(dicts) - 3
    assert moved.message_count == moved.offloaded_before_seq - 1
    assert navi.get_session(session_id).offloaded_before_seq == moved.offloaded_before_seq
    assert (
        list(navi.list_messages(session_id, view="all")),
        navi.get_context(session_id),
    ) == before


def test_A_scroll_up_paging_over_the_offload(navi: Client) -> None:
    """From the newest page upwards, each page behind the one before, across the border."""
    session_id = navi.create_session().id
    navi.append(session_id, [said(f"{n}") for n in range(1, 201)])
    navi.offload_messages(session_id, before_seq=150)
    seen: list[int] = []
    token = ""
    while True:
        page = navi.list_messages_page(
            session_id, order="descending", page_size=30, page_token=token
        )
        seen += [message.seq for message in page.messages]
        token = page.next_page_token
        if not token:
            break
        assert len(page.messages) == 30
    assert seen == list(range(200, 0, -1))


def test_A_list_sessions(navi: Client) -> None:
    """An owner's, pinned first, then the last active; by agent; in pages that say whether more follow."""
    owner = f"ann-{uuid4()}"
    ids = [navi.create_session(owner=owner, agent="ab"[n % 2]).id for n in range(5)]
    navi.update_session(ids[1], pinned=True)
    hers = session_filter(owner=owner)
    listed = [it.session.id for it in navi.list_sessions(hers, order_by="create_time")]
    assert listed == [ids[1], ids[4], ids[3], ids[2], ids[0]]
    by_agent = {
        it.session.id for it in navi.list_sessions(session_filter(owner=owner, agents=["b"]))
    }
    assert by_agent == {ids[1], ids[3]}
    page = navi.list_sessions_page(hers, order_by="create_time", page_size=2)
    assert [it.session.id for it in page.sessions] == listed[:2]
    rest = navi.list_sessions_page(
        hers, order_by="create_time", page_size=9, page_token=page.next_page_token
    )
    assert [it.session.id for it in rest.sessions] == listed[2:]
    assert not rest.next_page_token


def test_A_session_summary(navi: Client) -> None:
    owner = f"ann-{uuid4()}"
    session_id = navi.create_session(owner=owner, title=f"Trip {uuid4().hex[:9]}", pinned=True).id
    navi.append(
        session_id, [said("Where\n is   my bag?"), said("It is " + "very " * 30, "assistant")]
    )
    (summary,) = navi.list_sessions(session_filter(owner=owner))
    session = summary.session
    assert (session.title[:4], session.message_count, session.pinned) == ("Trip", 2, True)
    assert summary.preview == ("It is " + "very " * 30)[:60].rstrip()
    assert summary.opening == "Where is my bag?"
    assert session.HasField("create_time")
    assert session.last_activity_time.ToDatetime() >= session.create_time.ToDatetime()


def test_A_pin_and_name(navi: Client) -> None:
    session_id, title = navi.create_session().id, f"Lisbon {uuid4().hex[:9]}"
    navi.update_session(session_id, pinned=True, title=title)
    found = navi.get_session(session_id)
    assert (found.pinned, found.title) == (True, title)
    assert not navi.update_session(session_id, pinned=False).pinned


def test_A_context_for_debugging(navi: Client) -> None:
    """The context itself, and how many messages and tokens it holds."""
    session_id, dicts = airline(5)
    session_id = f"{session_id}-{uuid4()}"
    messages = from_openai(dicts)
    for message in messages:
        message.token_count = len(sessiond.text_of(message)) // 4
    navi.append(session_id, messages, create_session=v1.Session())
    context = navi.get_context(session_id)
    assert to_openai(context.messages) == dicts
    assert context.totals.message_count == len(dicts)
    assert context.totals.token_count == sum(message.token_count for message in messages)
    assert len(list(islice(navi.stream_context(session_id), 1))) == 1

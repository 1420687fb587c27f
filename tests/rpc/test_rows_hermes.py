"""What agents built on Hermes do, row by row: each test is named after its row in docs/migrating."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from uuid import uuid4

import pytest

import sessiond
from sessiond import Client, from_openai, session_filter, to_openai, v1
from tests.support.data import airline
from tests.support.processes import ServerProcess


@pytest.fixture
def hermes(server: ServerProcess) -> Iterator[Client]:
    with Client(server.target) as client:
        yield client


def name(text: str) -> str:
    """A title that nobody else has."""
    return f"{text} {uuid4().hex[:9]}"


def said(text: str, role: str = "user") -> v1.Message:
    return from_openai([{"role": role, "content": text}])[0]


def test_B_create_and_ensure(hermes: Client) -> None:
    """Creating is 'insert or ignore' if that is wanted, and an append makes what a failed creation didn't."""
    session_id = f"s-{uuid4()}"
    hermes.create_session(session_id, source="cli")
    again = hermes.create_session(session_id, title="again", if_exists="return")
    assert (again.source, again.title) == ("cli", ""), "what is there stays"
    with pytest.raises(sessiond.SessionDiffers):
        hermes.create_session(session_id, source="telegram", if_exists="return")
    with pytest.raises(sessiond.SessionExists):
        hermes.create_session(session_id)
    unmade = f"s-{uuid4()}"
    hermes.append(unmade, said("hi"), create_session=v1.Session(source="cli"))
    assert (hermes.get_session(unmade).source, hermes.get_session(unmade).message_count) == (
        "cli",
        1,
    )


def test_B_session_facts(hermes: Client) -> None:
    parent = hermes.create_session().id
    made = hermes.create_session(
        source="telegram",
        owner="user-1",
        model="big",
        config='{"temperature": 1.10}',
        system_prompt="You help.",
        parent_id=parent,
        parent_kind="continuation",
    )
    found = hermes.get_session(made.id, view="full")
    assert (found.source, found.owner, found.model) == ("telegram", "user-1", "big")
    assert (found.config, found.system_prompt) == ('{"temperature": 1.10}', "You help.")
    assert (found.parent.id, found.parent.kind) == (parent, v1.ParentKind.PARENT_KIND_CONTINUATION)


def test_B_end_and_reopen(hermes: Client) -> None:
    """The first end wins; reopening clears both the end and its reason."""
    session_id = hermes.create_session().id
    hermes.end_session(session_id, "compression")
    first = hermes.get_session(session_id)
    hermes.end_session(session_id, "user_exit")
    assert hermes.get_session(session_id) == first
    assert first.end_reason == "compression"
    hermes.reopen_session(session_id)
    opened = hermes.get_session(session_id)
    assert (opened.end_reason, opened.HasField("end_time")) == ("", False)
    assert hermes.append(session_id, said("on")).first_seq == 1


def test_B_resume_by_title_or_id(hermes: Client) -> None:
    """The exact id, else the unique beginning of one, else the newest of a title's series."""
    stem = f"r{uuid4().hex[:9]}"
    title = name("Trip_%")
    one = hermes.create_session(f"{stem}_1", title=title).id
    two = hermes.create_session(f"{stem}_12", title=f"{title} #2").id
    assert hermes.resolve_session(one).id == one, "the exact id, though it begins another one"
    assert hermes.resolve_session(f"{stem}_12").id == two
    assert hermes.resolve_session(title).id == two
    with pytest.raises(sessiond.SessionAmbiguous) as raised:
        hermes.resolve_session(stem)
    assert set(raised.value.candidates) == {one, two}
    for literal in (f"{stem}%", f"{stem}_1_", title.replace("%", "_")):
        with pytest.raises(sessiond.SessionNotFound):
            hermes.resolve_session(literal)


def test_B_titles(hermes: Client) -> None:
    """Cleaned, bounded, unique if that is asked for; the empty one clears."""
    session_id, plain = hermes.create_session().id, name("A trip")
    hermes.update_session(session_id, title=f"  \u202eA\u200b \t trip{plain[6:]}\x07 ")
    assert hermes.get_session(session_id).title == plain
    with pytest.raises(sessiond.InvalidField):
        hermes.update_session(session_id, title="x" * 101)
    with pytest.raises(sessiond.TitleTaken):
        hermes.create_session(title=plain, title_conflict="refuse")
    hermes.update_session(session_id, title="")
    assert hermes.get_session(session_id).title == ""
    assert hermes.create_session(title=plain, title_conflict="refuse").title == plain


def test_B_title_series(hermes: Client) -> None:
    title = name("x")
    for number in range(1, 4):
        proposed = hermes.next_title(title)
        assert proposed == (title if number == 1 else f"{title} #{number}")
        made = hermes.create_session(title=proposed)
    assert hermes.resolve_session(title).id == made.id
    assert hermes.next_title(f"{title} #2") == f"{title} #4"


def test_B_append(hermes: Client) -> None:
    """Every field of a turn is kept, and messages and tool calls are counted."""
    session_id = hermes.create_session().id
    turn = sessiond.message(
        "assistant",
        sessiond.reasoning("hm"),
        "looking",
        *(
            v1.Part(tool_call=it)
            for it in (
                [
                    v1.ToolCall(id=f"c{n}", name="find", arguments='{"b": 1,"a": 1e400}')
                    for n in (1, 2)
                ]
            )
        ),
        token_count=17,
        finish_reason="tool_calls",
        extensions={"reasoning_details": b'[{"signature": "\\u0000"}]', "codex_items": b"\xff\x00"},
    )
    result = sessiond.message("tool", sessiond.tool_result("c1", "3", tool_name="find"))
    hermes.append(session_id, [turn, result])
    stored = list(hermes.list_messages(session_id))
    for message, sent in zip(stored, (turn, result), strict=True):
        for field, value in sent.ListFields():
            assert getattr(message, field.name) == value, field.name
    found = hermes.get_session(session_id)
    assert (found.message_count, found.tool_call_count, found.open_tool_call_count) == (2, 2, 1)


def test_B_conversation_format(hermes: Client) -> None:
    """OpenAI-style dicts go in and come back equal, with the reasoning fields on assistant turns."""
    session_id, dicts = airline(7)
    session_id = f"{session_id}-{uuid4()}"
    with_reasoning = [
        {**it, "reasoning": "why", "reasoning_details": [{"type": "text", "n": 1.0}]}
        if it["role"] == "assistant"
        else it
        for it in dicts
    ]
    hermes.append(session_id, from_openai(with_reasoning), create_session=v1.Session())
    assert to_openai(list(hermes.list_messages(session_id, view="all"))) == with_reasoning


def test_B_rich_list(hermes: Client) -> None:
    """By source, without sources; with the first user message and the last activity."""
    owner = f"user-{uuid4()}"
    for source in ("cli", "telegram", "cron"):
        made = hermes.create_session(owner=owner, source=source)
        hermes.append(made.id, [said("be kind", "system"), said(f"from {source} " + "x" * 99)])
    chosen = list(
        hermes.list_sessions(
            session_filter(owner=owner, sources=["cli", "cron"], exclude_sources=["cron"])
        )
    )
    (summary,) = chosen
    assert summary.session.source == "cli"
    assert summary.opening == ("from cli " + "x" * 99)[:60]
    assert summary.session.HasField("last_activity_time")
    rest = hermes.list_sessions(session_filter(owner=owner, exclude_sources=["cron"]))
    assert {it.session.source for it in rest} == {"cli", "telegram"}


def test_B_clear_and_delete(hermes: Client) -> None:
    """Clearing resets the counters; deleting leaves nothing to be found."""
    session_id = hermes.create_session().id
    call = sessiond.message("assistant", v1.Part(tool_call=v1.ToolCall(id="c", name="f")))
    hermes.append(session_id, [said("hi"), call])
    assert hermes.clear_messages(session_id).message_count == 2
    found = hermes.get_session(session_id)
    counters = (found.message_count, found.tool_call_count, found.open_tool_call_count)
    assert counters == (0, 0, 0)
    assert hermes.delete_session(session_id).session_count == 1
    with pytest.raises(sessiond.SessionNotFound):
        hermes.get_session(session_id)


def test_B_truncation_guard(hermes: Client) -> None:
    """A writer that knows less than there is can't overwrite it with a shorter history (P5)."""
    session_id = hermes.create_session().id
    hermes.append(session_id, [said("1"), said("2"), said("3")])
    stale = [said("1"), said("other")]
    with pytest.raises(sessiond.NextSeqMismatch) as raised:
        hermes.append(session_id, stale, expected_next_seq=1)
    assert raised.value.next_seq == 4
    for guarded in (
        lambda: hermes.clear_messages(session_id, expected_next_seq=3),
        lambda: hermes.rewind(session_id, 1, expected_next_seq=3),
    ):
        with pytest.raises(sessiond.NextSeqMismatch):
            guarded()
    assert [sessiond.text_of(m) for m in hermes.list_messages(session_id)] == ["1", "2", "3"]


def test_B_one_writer_many_readers(server: ServerProcess) -> None:
    """While one appends, readers of other connections see gapless beginnings of the log (P1)."""
    with Client(server.target) as writer:
        session_id = writer.create_session().id
        done = threading.Event()
        seen: list[list[int]] = []

        def read() -> None:
            with Client(server.target) as reader:
                while not done.is_set():
                    seen.append([m.seq for m in reader.list_messages(session_id)])

        readers = [threading.Thread(target=read) for _ in range(4)]
        for reader in readers:
            reader.start()
        for number in range(60):
            writer.append(session_id, said(f"{number}"))
        done.set()
        for reader in readers:
            reader.join()
    assert len(seen) >= len(readers)
    assert all(seqs == list(range(1, len(seqs) + 1)) for seqs in seen)

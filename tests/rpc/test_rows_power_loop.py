"""What agents built on power-loop do, row by row: each test is named after its row in docs/migrating."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

import sessiond
from sessiond import Client, from_openai, session_filter, v1
from tests.support.processes import ServerProcess


@pytest.fixture
def loop(server: ServerProcess) -> Iterator[Client]:
    with Client(server.target) as client:
        yield client


def said(text: str, role: str = "user", **facts: int) -> v1.Message:
    message = from_openai([{"role": role, "content": text}])[0]
    message.MergeFrom(v1.Message(**facts))  # type: ignore[arg-type]
    return message


def child(loop: Client, parent: str, lifecycle: str = "linked") -> v1.Session:
    return loop.create_session(
        parent_id=parent,
        parent_kind="subagent",
        spawn_tool_call_id="call-7",
        lifecycle=lifecycle,  # type: ignore[arg-type]
    )


def test_C_sessions(loop: Client) -> None:
    """Prompt, model, config, status, metadata, kind, parent, spawning call, depth of 3 at most, lifecycle."""
    root = loop.create_session(
        system_prompt="Work.", model="big", config="{ }", metadata={"team": "a", "n": 1.5}
    )
    assert (root.spawn_depth, root.root_id, root.state) == (
        0,
        root.id,
        v1.SessionState.SESSION_STATE_ACTIVE,
    )
    found = loop.get_session(root.id, view="full")
    assert (found.system_prompt, found.model, found.config) == ("Work.", "big", "{ }")
    assert dict(found.metadata) == {"team": "a", "n": 1.5}
    parent = root
    for depth in (1, 2, 3):
        parent = child(loop, parent.id, "detached")
        assert (parent.spawn_depth, parent.root_id) == (depth, root.id)
        assert parent.parent.spawn_tool_call_id == "call-7"
        assert parent.lifecycle == v1.Lifecycle.LIFECYCLE_DETACHED
    with pytest.raises(sessiond.SpawnTooDeep):
        child(loop, parent.id)


def test_C_lifecycle_of_sub_agents(loop: Client) -> None:
    """An ephemeral one goes when it ends, a linked one with its parent, a detached one stays without one."""
    root = loop.create_session().id
    ephemeral, linked, detached = (
        child(loop, root, kind).id for kind in ("ephemeral", "linked", "detached")
    )
    assert loop.end_session(ephemeral).deleted
    with pytest.raises(sessiond.SessionNotFound):
        loop.get_session(ephemeral)
    assert not loop.end_session(linked).deleted
    gone = loop.delete_session(root)
    assert (gone.session_count, gone.detached_count) == (2, 1)
    with pytest.raises(sessiond.SessionNotFound):
        loop.get_session(linked)
    left = loop.get_session(detached)
    assert (left.HasField("parent"), left.root_id, left.spawn_depth) == (False, detached, 0)


def test_C_children(loop: Client) -> None:
    """Listed, and deleted with a count of all that went, at any depth."""
    root = loop.create_session().id
    children = [child(loop, root).id for _ in range(3)]
    grandchild = child(loop, children[0]).id
    loop.append(grandchild, [said("1"), said("2")])
    assert {it.session.id for it in loop.list_sessions(session_filter(parent_id=root))} == set(
        children
    )
    assert {it.session.id for it in loop.list_sessions(session_filter(subtree_of=root))} == {
        root,
        *children,
        grandchild,
    }
    gone = loop.delete_session(root)
    assert (gone.session_count, gone.message_count) == (5, 2)


def test_C_archive_a_session(loop: Client) -> None:
    """Not listed unless asked for, and otherwise like any other."""
    owner = loop.create_session().id  # as good a name as any
    session_id = loop.create_session(owner=owner).id
    loop.update_session(session_id, archived=True)
    assert list(loop.list_sessions(session_filter(owner=owner))) == []
    (summary,) = loop.list_sessions(session_filter(owner=owner, archived=True))
    assert summary.session.id == session_id
    assert loop.append(session_id, said("hi")).first_seq == 1
    loop.update_session(session_id, archived=False)
    (summary,) = loop.list_sessions(session_filter(owner=owner))
    assert summary.session.id == session_id


def test_C_atomic_seq(loop: Client) -> None:
    """Writers at the same time get consecutive seqs for each of their calls, and leave no gap (P1, P3)."""
    session_id = loop.create_session().id

    def write(number: int) -> list[int]:
        ack = loop.append(session_id, [said(f"{number}/{part}") for part in range(3)])
        return list(range(ack.first_seq, ack.last_seq + 1))

    with ThreadPoolExecutor(8) as writers:
        got = list(writers.map(write, range(40)))
    assert all(seqs == list(range(seqs[0], seqs[0] + 3)) for seqs in got)
    assert sorted(seq for seqs in got for seq in seqs) == list(range(1, 121))
    texts = [sessiond.text_of(message) for message in loop.list_messages(session_id)]
    assert all(texts[seqs[0] - 1] == f"{number}/0" for number, seqs in enumerate(got))


def test_C_message_log(loop: Client) -> None:
    """Name, turn, state and meta of a message."""
    session_id = loop.create_session().id
    message = said("planned", "assistant", turn_index=4)
    message.name = "planner"
    message.metadata.update({"state": "done", "cost": 0.5})
    message.hidden_from_model = True
    loop.append(session_id, message)
    (found,) = loop.list_messages(session_id)
    assert (found.name, found.turn_index, found.hidden_from_model) == ("planner", 4, True)
    assert dict(found.metadata) == {"state": "done", "cost": 0.5}


def test_C_active_messages_all_messages_and_one_message(loop: Client) -> None:
    session_id = loop.create_session().id
    loop.append(session_id, [said(f"{n}") for n in range(1, 7)])
    summary = loop.compact(session_id, 2, 4, "in short").compaction.id
    assert [m.seq for m in loop.get_context(session_id).messages] == [1, summary, 5, 6]
    assert [m.seq for m in loop.list_messages(session_id, view="all")] == [1, 2, 3, 4, 5, 6, 7]
    one = loop.get_message(session_id, seq=3)
    assert (sessiond.text_of(one), one.compacted_by_seq) == ("3", summary)


def test_C_compaction(loop: Client) -> None:
    """The range is compacted out and the summary added in one transaction; the record says all about it."""
    session_id = loop.create_session().id
    loop.append(session_id, [said(f"{n}", token_count=10) for n in range(1, 7)])
    loop.update_session(session_id, turn_index=2)
    made = loop.compact(
        session_id,
        1,
        5,
        said("short", "system", token_count=7),
        author="auto",
        model="small",
    ).compaction
    (record,) = loop.list_compactions(session_id)
    assert record == made
    assert (record.from_seq, record.to_seq, record.id) == (1, 5, 7)
    assert (record.tokens_before, record.tokens_after, record.message_count) == (50, 7, 5)
    assert (record.author, record.model, record.turn_index) == ("auto", "small", 2)
    assert loop.get_session(session_id).context_token_count == 17


def test_C_session_state(loop: Client) -> None:
    """Next seq, turn, and the pending tool calls, which are derived from the log and can't drift."""
    session_id = loop.create_session().id
    calls = [v1.ToolCall(id=call_id, name="f", arguments="{}") for call_id in ("a", "b")]
    loop.append(
        session_id,
        [
            said("go"),
            sessiond.message(
                "assistant",
                *(v1.Part(tool_call=it) for it in (calls)),
            ),
        ],
    )
    loop.update_session(session_id, turn_index=9)
    state = loop.get_session(session_id)
    assert (state.next_seq, state.turn_index, state.open_tool_call_count) == (3, 9, 2)
    loop.append(session_id, sessiond.message("tool", sessiond.tool_result("a", "1")))
    assert [it.tool_call.id for it in loop.list_open_tool_calls(session_id)] == ["b"]
    loop.rewind(session_id, 2)
    assert [it.tool_call.id for it in loop.list_open_tool_calls(session_id)] == ["a", "b"]
    loop.revert_rewind(session_id, newest=True)
    assert loop.get_session(session_id).open_tool_call_count == 1

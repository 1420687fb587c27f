"""`tail`: what happened last, and what happens, as it happens."""

from __future__ import annotations

import io
import json
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

import sessiond
from sessiond import Client, Event, message_update, v1
from sessiond.cli.render.conversation import Style
from sessiond.cli.render.feed import FeedPainter, short_id
from tests.cli.command import Cli, read_lines, write_lines
from tests.cli.proxy import Relay
from tests.cli.running import SECONDS, Tail
from tests.cli.test_exit_codes import on_a_terminal
from tests.support.data import airline_sessions

USER, ASSISTANT, TOOL = v1.Role.ROLE_USER, v1.Role.ROLE_ASSISTANT, v1.Role.ROLE_TOOL


def call(id: str, name: str, **arguments: Any) -> v1.Part:
    return sessiond.tool_call(id, name, json.dumps(arguments))


def say(client: Client, session: str, *parts: str | v1.Part, **fields: Any) -> None:
    client.append(session, sessiond.message(fields.pop("role", USER), *parts, **fields))


def answer(client: Client, session: str, id: str, text: str, **fields: Any) -> None:
    say(client, session, sessiond.tool_result(id, text, **fields), role=TOOL)


@pytest.fixture
def talk(client: Client) -> str:
    """A session of twelve messages, `m1` to `m12`."""
    client.create_session("talk")
    client.append("talk", [sessiond.message(USER, f"m{n}") for n in range(1, 13)])
    return "talk"


def shown_texts(output: str) -> list[str]:
    """The texts `m…` that are shown."""
    words = [line.strip(" ▌┃│") for line in output.splitlines()]
    return [word for word in words if word.startswith("m") and word[1:].isdigit()]


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["kind"] for event in events]


def test_the_last_messages_are_shown_and_it_ends(cli: Cli, talk: str) -> None:
    assert shown_texts(cli.ok("tail", talk)) == [f"m{n}" for n in range(3, 13)]
    assert cli.ok("tail", talk, "-n", "2").splitlines()[-2:] == ["  12 ┃ user", "     ┃ m12"]
    assert shown_texts(cli.ok("tail", "tal", "--lines", "50")) == [f"m{n}" for n in range(1, 13)]
    assert cli.ok("tail", talk, "-n", "0") == "no messages\n"


def test_it_begins_where_the_log_does(cli: Cli, client: Client, talk: str) -> None:
    client.clear_messages(talk)
    assert shown_texts(cli.ok("tail", talk)) == []
    say(client, talk, "m13")
    assert shown_texts(cli.ok("tail", talk)) == ["m13"]


def test_a_real_conversation_looks_as_in_show(cli: Cli, tmp_path: Any) -> None:
    given = airline_sessions()[0]
    cli.ok("import", str(write_lines(tmp_path / "one.jsonl", [given])))
    shown = cli.ok("show", given["id"], "--limit", "0", "--full")
    header, _, body = shown.partition("\n\n")
    assert given["id"] in header
    assert cli.ok("tail", given["id"], "-n", "999", "--full").strip() == body.strip()


def test_without_follow_open_calls_are_flagged(cli: Cli, client: Client, talk: str) -> None:
    say(client, talk, call("c1", "find"), role=ASSISTANT)
    assert "⚠ waits for its result" in cli.ok("tail", talk)


def test_P9_what_happens_is_shown_as_it_happens(
    client: Client, talk: str, tail: Callable[..., Tail]
) -> None:
    following = tail(talk, "-f", "-n", "1")
    following.wait_for("m12")
    calls = [call("c1", "find", q=1), call("c2", "book", n=2)]
    say(client, talk, *calls, role=ASSISTANT)
    following.wait_for("book(n=2)")
    answer(client, talk, "c2", "booked")
    following.wait_for("  14   │   ↳ booked")
    answer(client, talk, "c1", "nothing", is_error=True)
    following.wait_for("  15   │   ✗ nothing")
    client.update_messages(talk, message_update(1, hidden_from_model=True))
    following.wait_for("message 1 changed: not for the model")
    client.compact(talk, 3, 12, v1.Message(parts=[v1.Part(text="They said m3 to m12.")]))
    following.wait_for("compacted 3–12 (10 messages) under summary 16")
    say(client, talk, "m17")
    client.rewind(talk, 16)
    following.wait_for("rewound: 1 message after 16 is hidden")
    client.revert_rewind(talk, newest=True)
    following.wait_for("rewind reverted: 17 back")
    client.revert_compaction(talk, 16)
    following.wait_for("reverted: 3–12 instead of summary 16")
    client.update_session(talk, title="Trip to Lisbon")
    following.wait_for("title: Trip to Lisbon")
    client.end_session(talk, "done")
    following.wait_for("ended: done")
    client.reopen_session(talk)
    following.wait_for("active again")
    client.fork_session(talk, 2, fork_id="copy")
    following.wait_for("fork copy made")
    client.clear_messages(talk)
    following.wait_for("cleared: no messages before 18")
    client.delete_session(talk)
    assert following.ended() == 0
    assert following.output.endswith("session deleted\n")
    assert following.texts["err"] == ""
    lines = following.output.splitlines()
    at = lines.index("  14   │   ↳ booked")
    assert lines[at - 3 : at + 3] == [
        "  13   │ assistant" + lines[at - 3].removeprefix("  13   │ assistant"),
        "       │ ⚙ find(q=1)",
        "       │ ⚙ book(n=2)",
        "  14   │   ↳ booked",
        "       │ ⚙ find(q=1)",
        "  15   │   ✗ nothing",
    ]


def test_a_result_that_comes_later_names_its_tool(
    client: Client, talk: str, tail: Callable[..., Tail]
) -> None:
    following = tail(talk, "-f", "-n", "1")
    following.wait_for("m12")
    say(client, talk, call("c1", "find"), role=ASSISTANT)
    following.wait_for(
        "find"
    )  # of a call and a result that come together, the result is drawn under its call
    say(client, talk, "Hello?")
    following.wait_for("Hello?")
    answer(client, talk, "c1", "found")
    following.wait_for("found")
    assert "result of find" in following.output


def test_the_end_of_a_session_before_anything_is_read_is_0(
    cli: Cli, client: Client, talk: str, tail: Callable[..., Tail]
) -> None:
    following = tail(talk, "-f", "-n", "0", "-o", "jsonl")
    following.wait_for("caught_up")
    client.delete_session(talk)
    assert following.ended() == 0
    assert kinds(read_lines(following.output)) == ["caught_up", "session_deleted"]


@pytest.fixture
def tree(client: Client, talk: str) -> str:
    """`talk` with a sub-agent `child-1` whose messages, `m21` and `m22`, come after its own."""
    client.create_session("child-1", parent_id=talk, parent_kind="subagent")
    for n in (21, 22):
        say(client, "child-1", f"m{n}")
    return talk


def test_of_a_subtree_the_last_messages_are_shown_by_time(cli: Cli, tree: str) -> None:
    text = cli.ok("tail", tree, "--subtree", "-n", "3")
    assert shown_texts(text) == ["m12", "m21", "m22"]
    lines = text.splitlines()
    assert lines[0].startswith("    12 ┃ user")
    assert any(line.startswith("▌    1 ┃ user  child-1") for line in lines)
    assert "sub-agent child-1 made" in text
    assert shown_texts(cli.ok("tail", tree, "--subtree", "-n", "1")) == ["m22"]
    assert shown_texts(cli.ok("tail", tree, "--subtree", "-n", "99"))[:2] == ["m1", "m2"]
    assert shown_texts(cli.ok("tail", "child-1", "--subtree", "-n", "0")) == []


def test_P9_a_subtree_is_followed_with_children_that_come_later(
    client: Client, tree: str, tail: Callable[..., Tail]
) -> None:
    following = tail(tree, "--follow", "--subtree", "-n", "1")
    following.wait_for("m22")
    client.create_session("child-2", parent_id="child-1", parent_kind="subagent")
    following.wait_for("⑂ sub-agent child-2 made  child-1")
    say(client, "child-2", "m31")
    following.wait_for("m31")
    say(client, tree, "m13")
    following.wait_for("m13")
    assert "▌    1 ┃ user  child-2" in following.output
    assert "      ┃ m13" in following.output
    client.delete_session(tree)
    assert following.ended() == 0
    ends = [line for line in following.output.splitlines() if "session deleted" in line]
    assert sorted(line.split()[-1] for line in ends) == ["child-1", "child-2", "deleted"]


def test_sessions_of_a_subtree_have_colours_on_a_terminal(cli: Cli, tree: str) -> None:
    code, text = on_a_terminal(cli, "tail", tree, "--subtree", "-n", "3")
    assert code == 0
    assert "\x1b[95m▌ \x1b[0m" in text


def test_json_lines_are_events_with_tokens_that_resume(
    client: Client, talk: str, tail: Callable[..., Tail]
) -> None:
    following = tail(talk, "-f", "-n", "2", "-o", "jsonl")
    following.wait_for("caught_up")
    client.append(talk, [sessiond.message(USER, "m13"), sessiond.message(USER, "m14")])
    following.wait_for("m14")
    client.update_session(talk, title="Trip")
    following.wait_for("session_changed")
    client.delete_session(talk)
    assert following.ended() == 0
    events = read_lines(following.output)
    assert kinds(events) == [
        *("message_appended", "message_appended", "caught_up"),
        *("message_appended", "message_appended", "session_changed", "session_deleted"),
    ]
    assert {event["session"] for event in events} == {talk}
    assert [
        event["value"]["parts"][0]["text"] for event in events if "parts" in event["value"]
    ] == [
        *("m11", "m12", "m13", "m14"),
    ]
    assert events[0]["value"]["role"] == "user"
    assert [bool(event["token"]) for event in events] == [
        *(False, True, True),
        *(False, True, True, False),
    ]


def test_P9_a_token_resumes_where_it_was_printed(cli: Cli, client: Client, talk: str) -> None:
    events = cli.json("tail", talk, "-n", "1")
    assert kinds(events) == ["message_appended", "caught_up"]
    say(client, talk, "m13")
    resumed = next(iter(client.watch(talk, resume={talk: events[-1]["token"]})))
    assert sessiond.text_of(resumed.value) == "m13"


def test_the_json_of_a_subtree_has_the_last_of_all_sessions(cli: Cli, tree: str) -> None:
    events = cli.json("tail", tree, "--subtree", "-n", "3")
    messages = [event for event in events if event["kind"] == "message_appended"]
    assert [event["value"]["parts"][0]["text"] for event in messages] == ["m12", "m21", "m22"]
    assert [event["session"] for event in messages] == [tree, "child-1", "child-1"]


def test_json_cannot_follow(cli: Cli) -> None:
    error = cli.refused("tail", "s", "-f", "-o", "json", code=2)
    assert "give -o jsonl" in " ".join(error.replace("│", " ").split())


def test_an_unknown_session_is_refused(cli: Cli) -> None:
    for more in ((), ("-f",), ("-f", "--subtree"), ("-o", "jsonl")):
        assert "(SESSION_NOT_FOUND)" in cli.refused("tail", "nowhere", *more)


def test_ctrl_c_ends_it_with_130(talk: str, tail: Callable[..., Tail]) -> None:
    following = tail(talk, "-f")
    following.wait_for("m12")
    following.process.send_signal(signal.SIGINT)
    assert following.ended() == 130
    assert following.texts["err"] == ""


def test_a_person_is_told_that_nothing_has_happened_yet(cli: Cli, client: Client) -> None:
    client.create_session("empty")
    code, text = on_a_terminal(cli, "tail", "empty", "-f", interrupt_at=b"caught up")
    assert (code, text.count("caught up")) == (130, 1)
    say(client, "empty", "m1")
    code, text = on_a_terminal(cli, "tail", "empty", "-f", interrupt_at=b"m1")
    assert (code, text.count("caught up")) == (130, 0)


@pytest.mark.parametrize("output", ["table", "jsonl"])
def test_a_broken_pipe_ends_it_quietly(cli: Cli, client: Client, talk: str, output: str) -> None:
    process = cli.start("tail", talk, "-f", "-o", output)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    deadline = time.monotonic() + SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        say(client, talk, "more")
    assert (process.wait(1), process.stderr.read()) == (141, b"")
    process.stderr.close()


@pytest.mark.parametrize("more", [(), ("--subtree",)])
def test_P9_it_goes_on_when_the_connection_is_lost(
    cli: Cli, client: Client, tree: str, tail: Callable[..., Tail], more: tuple[str, ...]
) -> None:
    with Relay(cli.target) as relay:
        following = tail(tree, "-f", *more, by=Cli(relay.target))
        following.wait_for("m22" if more else "m12")
        relay.cut()
        following.wait_for("connection lost, trying again …\n", "err")
        say(client, tree, "m13")
        relay.mend()
        following.wait_for("m13")
        say(client, tree, "m14")
        following.wait_for("m14")
    following.wait_for("connected again\n", "err")
    assert shown_texts(following.output)[-2:] == ["m13", "m14"]
    assert following.texts["err"].splitlines()[:2] == [
        "connection lost, trying again …",
        "connected again",
    ]


def painted(*events: Event) -> list[str]:
    console = Console(width=100, file=io.StringIO())
    root = v1.Session(id="s", next_seq=1)
    painter = FeedPainter(
        console, root, Style(), tree=False, open_calls=lambda session_id: frozenset()
    )
    return [line.plain for line in painter.paint(events)]


def test_events_of_no_interest_to_people_are_passed_over() -> None:
    assert painted() == []
    assert painted(Event("s", "fell_behind", v1.FellBehind(), "t")) == []
    assert painted(Event("s", "from_the_future", None, "t")) == []


def test_changes_cannot_take_over_the_terminal() -> None:
    session = v1.Session(
        id="s", title="evil\x1b[2J", state=v1.SessionState.SESSION_STATE_ENDED, end_reason="\x9b1m"
    )
    changed = v1.SessionChanged(session=session)
    (line,) = painted(Event("s", "session_changed", changed, "t"))
    assert line == "     ✎ session changed · title: evil␛[2J · ended: �1m"


def test_changes_that_an_event_leaves_out_are_named() -> None:
    changed = v1.SessionChanged(
        session=v1.Session(id="s", state=v1.SessionState.SESSION_STATE_ACTIVE)
    )
    changed.changed_fields.paths.extend(["system_prompt", "metadata", "pinned"])
    (line,) = painted(Event("s", "session_changed", changed, "t"))
    assert line == "     ✎ session changed · metadata changed · system prompt changed"


def test_only_the_kinds_asked_for_are_shown(
    client: Client, talk: str, tail: Callable[..., Tail]
) -> None:
    client.update_session(talk, title="Trip")
    following = tail(talk, "-f", "-n", "5", "-o", "jsonl", "--only", "session_changed")
    following.wait_for("caught_up")
    client.append(talk, sessiond.message(USER, "unheard"))
    client.delete_session(talk)
    assert following.ended() == 0
    events = read_lines(following.output)
    assert kinds(events) == ["session_changed", "caught_up", "session_deleted"]
    assert events[0]["value"]["session"]["title"] == "Trip"


@pytest.mark.parametrize(
    ("id", "short"),
    [
        ("child-1", "child-1"),
        ("a" * 24, "a" * 24),
        ("0198c0de-0000-7000-8000-000000000001", "0198c0de…00000001"),
    ],
)
def test_long_ids_are_shortened_in_the_middle(id: str, short: str) -> None:
    assert short_id(id) == short


def test_ls_follows_sessions_as_they_change(cli: Cli, client: Client) -> None:
    """A line for each that there is, and for each change, on a terminal as in JSON lines."""
    client.create_session("kept", title="Trip to Lisbon")
    lines, table = (Tail(cli, "-f", *output, verb="ls") for output in (["-o", "jsonl"], []))
    try:
        lines.wait_for('"caught_up"')
        table.wait_for("Trip to Lisbon")
        say(client, "kept", "hello")
        lines.wait_for('"next_seq": 2')
        table.wait_for("1 message")
        client.delete_session("kept")
        lines.wait_for('"kind": "deleted"')
        table.wait_for("kept  ✗ deleted")
    finally:
        for it in (lines, table):
            it.close()
    updates = [json.loads(line) for line in lines.output.splitlines()]
    assert {it["session_id"] for it in updates} == {"kept", ""}
    assert "leave the others out" in cli.refused("ls", "-f", "--state", "ended", code=2)

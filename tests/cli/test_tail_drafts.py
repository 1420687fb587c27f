"""`tail -f --drafts`: messages while they are being written."""

from __future__ import annotations

import io
import json
from collections.abc import Callable

import pytest
from rich.console import Console

import sessiond
from sessiond import Client, Event, v1
from sessiond.cli.render.conversation import Style
from sessiond.cli.render.drafts import Drafts
from sessiond.cli.render.feed import FeedPainter
from sessiond.cli.render.json_text import completed
from sessiond.cli.screen import Screen, shares
from tests.cli.command import Cli, read_lines
from tests.cli.proxy import Relay
from tests.cli.running import Tail, Terminal, words
from tests.cli.test_tail import kinds, say

ASSISTANT = v1.Role.ROLE_ASSISTANT
GIVEN_UP = v1.DraftEnd.DRAFT_END_ABORTED


@pytest.fixture
def talk(client: Client) -> str:
    """A session with one message."""
    client.create_session("talk")
    say(client, "talk", "m1")
    return "talk"


def test_json_lines_have_the_draft_and_its_message(
    client: Client, talk: str, tail: Callable[..., Tail]
) -> None:
    following = tail(talk, "-f", "--drafts", "-n", "0", "-o", "jsonl")
    following.wait_for("caught_up")
    with client.draft(talk, "d1") as draft:
        draft.reasoning("hm")
        draft.tool_call('{"q"', id="c1", name="find")
        following.wait_for("find")
        draft.text("Found")
        following.wait_for("Found")
        say(client, talk, "Found it.", role=ASSISTANT, client_id="d1")
        following.wait_for("Found it.")
    with client.draft(talk, "d2") as draft:
        draft.text("Never mind")
        following.wait_for("Never mind")
    following.wait_for("draft_ended")
    client.delete_session(talk)
    assert following.ended() == 0
    events = [it for it in read_lines(following.output) if it["kind"] != "caught_up"]
    assert [kind for kind in kinds(events) if kind != "draft_changed"] == [
        *("message_appended", "draft_ended", "session_deleted"),
    ]
    drafts = [event for event in events if event["kind"].startswith("draft")]
    assert {event["token"] for event in drafts} == {""}
    assert drafts[-1]["value"] == {"client_id": "d2", "end": "aborted"}
    assert drafts[0]["value"]["begins"] is True
    deltas = [delta for event in drafts[:-1] for delta in event["value"]["deltas"]]
    assert deltas[0] == {"part_index": 0, "reasoning": "hm"}
    call = {"id": "c1", "name": "find", "arguments": '{"q"'}
    assert {"part_index": 1, "tool_call": call} in deltas


def test_without_drafts_there_are_none(
    client: Client, talk: str, tail: Callable[..., Tail]
) -> None:
    following = tail(talk, "-f", "-n", "0", "-o", "jsonl")
    table = tail(talk, "-f", "--drafts")
    following.wait_for("caught_up")
    table.wait_for("m1")
    with client.draft(talk, "d1") as draft:
        draft.text("Found")
        watch = client.watch(talk, start="now", drafts=True)
        assert any(event.kind == "draft_changed" for event in watch)
        say(client, talk, "Found it.", role=ASSISTANT, client_id="d1")
    following.wait_for("Found it.")
    table.wait_for("Found it.")
    assert "draft" not in following.output
    assert table.output.count("Found") == 1
    assert "\x1b" not in table.output


def test_drafts_without_follow_are_wrong_usage(cli: Cli) -> None:
    error = cli.refused("tail", "s", "--drafts", code=2)
    assert "give -f with it" in " ".join(error.replace("│", " ").split())


def test_a_draft_grows_and_its_message_takes_its_place(
    client: Client, talk: str, terminal: Callable[..., Terminal]
) -> None:
    screen = terminal(talk, "-f", "--drafts")
    screen.wait_for("m1")
    with client.draft(talk) as draft:
        draft.reasoning("I should look.")
        screen.wait_for_last("assistant writing …", "┆ I should look.")
        draft.tool_call('{"to": "LI', id="c1", name="find_flight")
        screen.wait_for_last("┆ I should look.", '⚙ find_flight(to="LI")')
        draft.tool_call('S", "day"')
        screen.wait_for_last("assistant writing …", "┆ I should look.", '⚙ find_flight(to="LIS")')
        said = v1.ToolCall(id="c1", name="find_flight", arguments='{"to": "LIS", "day": 3}')
        message = sessiond.message(
            ASSISTANT,
            sessiond.reasoning("I should look."),
            v1.Part(tool_call=said),
            client_id=draft.client_id,
        )
        client.append(talk, message)
        rows = screen.wait_for_last("┆ I should look.", '⚙ find_flight(to="LIS", day=3)')
    assert "writing …" not in "\n".join(rows)
    client.append(talk, sessiond.message("tool", sessiond.tool_result("c1", "TP 561")))
    rows = screen.wait_for_last("↳ TP 561")
    assert [row for row in rows if "I should look" in row] == ["       │ ┆ I should look."]
    assert screen.interrupted() == 130


def test_a_draft_that_is_given_up_goes_away(
    client: Client, talk: str, terminal: Callable[..., Terminal]
) -> None:
    screen = terminal(talk, "-f", "--drafts")
    screen.wait_for("m1")
    with client.draft(talk) as draft:
        draft.text("Well, it depends")
        screen.wait_for_last("Well, it depends")
    screen.wait_for_last("m1", "✕ draft given up")


def test_drafts_of_a_subtree_grow_beneath_each_other(
    client: Client, talk: str, terminal: Callable[..., Terminal]
) -> None:
    client.create_session("child", parent_id=talk, parent_kind="subagent")
    main, child = "assistant writing …", "assistant child writing …"
    with client.draft(talk, "d1") as mine:
        mine.text("early ")
        screen = terminal(talk, "-f", "--drafts", "--subtree")
        screen.wait_for_last(main, "early")
        with client.draft("child", "d2") as theirs:
            theirs.text("Sub")
            screen.wait_for_last(main, "early", child, "Sub")
            mine.text("Main")
            screen.wait_for_last(main, "early Main", child, "Sub")
            theirs.text("-agent")
            rows = screen.wait_for_last(main, "early Main", child, "Sub-agent")
            assert rows[-1].startswith("▌ ")
            say(client, "child", "Sub-agent is done", role=ASSISTANT, client_id="d2")
            screen.wait_for_last("Sub-agent is done", main, "early Main")
        say(client, talk, "Main is done", role=ASSISTANT, client_id="d1")
        rows = screen.wait_for_last("Main is done")
    assert not any("caught up" in row for row in rows)
    assert [row for row in words(rows) if "done" in row] == ["Sub-agent is done", "Main is done"]
    assert "early" not in "\n".join(rows)


def test_of_a_long_draft_the_end_is_shown_within_the_terminal(
    client: Client, talk: str, terminal: Callable[..., Terminal]
) -> None:
    screen = terminal(talk, "-f", "--drafts")
    screen.wait_for("m1")
    with client.draft(talk, "d1") as draft:
        draft.text("".join(f"line {n}\n" for n in range(1, 101)))
        heading = "assistant writing … the end of it:"
        screen.wait_for_last(heading, *(f"line {n}" for n in range(88, 101)))
        say(client, talk, "All lines.", role=ASSISTANT, client_id="d1")
        rows = screen.wait_for_last("All lines.")
    assert "line 9" not in "\n".join(rows)


def test_a_lost_connection_takes_drafts_away_and_brings_them_back(
    cli: Cli, client: Client, talk: str, terminal: Callable[..., Terminal]
) -> None:
    with Relay(cli.target) as relay, client.draft(talk, "d1") as draft:
        screen = terminal(talk, "-f", "--drafts", by=Cli(relay.target))
        screen.wait_for("m1")
        draft.text("One ")
        screen.wait_for_last("One")
        relay.cut()
        screen.wait_for_last("m1", "connection lost, trying again …")
        draft.text("two")
        relay.mend()
        screen.wait_for_last("connected again", "assistant writing …", "One two")


def test_ctrl_c_takes_drafts_away(
    client: Client, talk: str, terminal: Callable[..., Terminal]
) -> None:
    screen = terminal(talk, "-f", "--drafts")
    with client.draft(talk) as draft:
        draft.text("Well")
        screen.wait_for_last("Well")
        assert screen.interrupted() == 130
        assert words(screen.rows)[-1] == "m1"


def changed(client_id: str, *deltas: v1.DraftDelta, begins: bool = False, of: str = "s") -> Event:
    value = v1.DraftChanged(client_id=client_id, begins=begins, deltas=deltas)
    return Event(of, "draft_changed", value, "")


def text(words: str) -> v1.DraftDelta:
    return v1.DraftDelta(text=words)


def open_texts(drafts: Drafts) -> list[str]:
    return [sessiond.text_of(draft.message()) for draft in drafts.open.values()]


def test_a_draft_that_begins_anew_forgets_what_was_shown() -> None:
    drafts = Drafts()
    drafts.take([changed("d", text("one "), begins=True)])
    drafts.take([changed("d", text("two"))])
    assert open_texts(drafts) == ["one two"]
    drafts.take([changed("d", text("three"), begins=True)])
    assert open_texts(drafts) == ["three"]


def test_a_watch_that_begins_anew_forgets_drafts_and_one_that_fell_behind_does_not() -> None:
    drafts = Drafts()
    caught_up = Event("s", "caught_up", v1.CaughtUp(), "t")
    drafts.take([changed("d", text("one"), begins=True), changed("d", text("one"), of="other")])
    drafts.take([Event("s", "fell_behind", v1.FellBehind(), "t"), caught_up])
    assert open_texts(drafts) == ["one", "one"]
    drafts.take([caught_up])
    assert list(drafts.open) == [("other", "d")]


def test_the_end_of_a_draft_that_was_not_shown_is_not_told() -> None:
    drafts = Drafts()
    end = Event("s", "draft_ended", v1.DraftEnded(client_id="d", end=GIVEN_UP), "")
    assert drafts.take([end]) == []
    drafts.take([changed("d", text("one"), begins=True)])
    assert drafts.take([end]) == [end]


def test_of_very_long_drafts_only_the_end_is_kept() -> None:
    drafts = Drafts()
    for n in range(30):
        piece = f"{n:03} " * 1000
        call = v1.ToolCallDelta(name="write" if n == 0 else "", arguments=piece)
        deltas = text(piece), v1.DraftDelta(part_index=1, tool_call=call)
        drafts.take([changed("d", *deltas, begins=n == 0)])
    (draft,) = drafts.open.values()
    message = draft.message()
    assert len(sessiond.text_of(message)) < 20_000
    assert sessiond.text_of(message).endswith("029 ")
    (written,) = sessiond.tool_calls_of(message)
    assert written.name == "write"
    assert len(written.arguments) < 20_000


def test_drafts_cannot_take_over_the_terminal() -> None:
    sink = io.StringIO()
    console = Console(width=80, height=20, file=sink, force_terminal=True, no_color=True)
    painter = FeedPainter(
        console, v1.Session(id="s"), Style(), tree=False, open_calls=lambda session_id: frozenset()
    )
    call = v1.ToolCallDelta(name="\x1b[2J", arguments="\x9b2J")
    with Screen(console, painter, drafts=True) as screen:
        deltas = [text("\x1b[2J"), v1.DraftDelta(reasoning="\x1b[H"), v1.DraftDelta(tool_call=call)]
        screen.print(painter.paint(screen.take([changed("d", *deltas, begins=True)])))
    assert "writing …" in sink.getvalue()
    assert "\x1b[2J" not in sink.getvalue()
    assert "\x1b[H" not in sink.getvalue()
    assert "\x9b" not in sink.getvalue()


@pytest.mark.parametrize(
    ("written", "closed"),
    [
        ("", ""),
        ("{", "{}"),
        ('{"a', "{}"),
        ('{"a":', "{}"),
        ('{"a": "x', '{"a": "x"}'),
        ('{"a": "x\\', '{"a": "x"}'),
        ('{"a": "\\"', '{"a": "\\""}'),
        ('{"a": [1, {"b": ",{', '{"a": [1, {"b": ",{"}]}'),
        ('{"a": [1, tr', '{"a": [1]}'),
        ('{"a": 1, "b": {"c": [', '{"a": 1, "b": {"c": []}}'),
        ('{"a": 1}', '{"a": 1}'),
        ("no JSON", ""),
        ("]]", ""),
    ],
)
def test_unfinished_json_is_closed(written: str, closed: str) -> None:
    assert completed(written) == closed
    if closed:
        json.loads(closed)


@pytest.mark.parametrize(
    ("needs", "room", "given"),
    [
        ([], 10, []),
        ([3, 4], 10, [3, 4]),
        ([9, 9], 10, [5, 5]),
        ([2, 20, 20], 12, [2, 5, 5]),
        ([20, 2], 10, [8, 2]),
    ],
)
def test_drafts_share_the_terminal(needs: list[int], room: int, given: list[int]) -> None:
    assert shares(needs, room) == given

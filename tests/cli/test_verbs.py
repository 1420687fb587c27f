"""Each verb, over a real server."""

from __future__ import annotations

import json
from typing import Any

import pytest

import sessiond
from sessiond import Client
from tests.cli.command import Cli


@pytest.fixture
def talk(cli: Cli) -> str:
    """A session of eight messages with a tool call, named `talk`."""
    call = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"q":1}'}}
    lines: list[dict[str, Any]] = [
        {"role": "system", "content": "You book flights."},
        {"role": "user", "content": "Find me a flight."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "name": "find", "content": '["HAT1"]'},
        {"role": "assistant", "content": "HAT1 it is."},
        {"role": "user", "content": "Book it."},
        {"role": "assistant", "content": "Done."},
        {"role": "user", "content": "Thanks!"},
    ]
    given = "\n".join(json.dumps(line) for line in lines)
    assert cli.ok("append", "talk", "--create", given=given) == "1–8\n"
    return "talk"


def texts(messages: list[dict[str, Any]]) -> list[str]:
    """The texts that messages and their results begin with; nothing of one that has none."""
    found = []
    for message in messages:
        (first, *_) = message["parts"]
        (first, *_) = first.get("tool_result", message)["parts"] or [{}]
        found.append(first.get("text", ""))
    return found


def test_create_prints_the_id_and_keeps_the_facts(cli: Cli) -> None:
    id = cli.ok(
        *("create", "--title", "Trip to Lisbon", "--owner", "ann", "--source", "web", "--pin"),
        *("--label", "team=travel", "--metadata", '{"n": 3}', "--model", "m1"),
        *("--system-prompt-file", "-"),
        given="You book flights.",
    ).strip()
    session = cli.json("show", id)["session"]
    assert session["title"] == "Trip to Lisbon"
    assert (session["owner"], session["source"], session["pinned"]) == ("ann", "web", True)
    assert (session["labels"], session["metadata"]) == ({"team": "travel"}, {"n": 3})
    assert session["system_prompt"] == "You book flights."
    assert session["state"] == "active"


def test_create_takes_an_existing_session_only_on_demand(cli: Cli) -> None:
    assert cli.ok("create", "mine") == "mine\n"
    assert "(SESSION_EXISTS)" in cli.refused("create", "mine")
    assert cli.ok("create", "mine", "--if-missing") == "mine\n"


def test_ls_shows_title_or_opening_and_the_pinned_first(cli: Cli, talk: str) -> None:
    cli.ok("create", "empty", "--pin", "--title", "Pinned one")
    lines = cli.ok("ls").splitlines()
    assert lines[0].split() == ["SESSION", "ID", "SOURCE", "STATE", "MESSAGES", "ACTIVE"]
    assert "Pinned one" in lines[1]
    assert "Find me a flight." in lines[2]
    assert " talk " in lines[2]
    assert lines[2].split()[-2] == "8"


def test_ls_filters_limits_and_is_json_alone_on_stdout(cli: Cli, talk: str) -> None:
    for n in range(3):
        cli.ok("create", f"s{n}", "--source", "web", "--label", f"n={n}")
    assert {it["id"] for it in cli.json("ls")} == {"talk", "s0", "s1", "s2"}
    assert {it["id"] for it in cli.json("ls", "--source", "web")} == {"s0", "s1", "s2"}
    assert [it["id"] for it in cli.json("ls", "--label", "n=1")] == ["s1"]
    assert cli.json("ls", "--idle", "1h") == []
    lines = cli.ok("ls", "-o", "jsonl", "--limit", "2").splitlines()
    assert len([json.loads(line) for line in lines]) == 2
    limited = cli("ls", "--limit", "2")
    assert "more than 2" in limited.stderr
    assert len(limited.stdout.splitlines()) == 3


def test_sessions_are_named_by_unique_prefix_or_title(cli: Cli) -> None:
    cli.ok("create", "alpha-1", "--title", "Trip to Porto")
    cli.ok("create", "alpha-2")
    assert cli.ok("title", "Trip to Porto") == "Trip to Porto\n"
    assert cli.ok("title", "alpha-1") == "Trip to Porto\n"
    ambiguous = cli.refused("show", "alpha")
    assert "(SESSION_AMBIGUOUS)" in ambiguous
    assert ambiguous.splitlines() == [
        "error: 'alpha' fits 2 sessions (SESSION_AMBIGUOUS)",
        "  alpha-1",
        "  alpha-2",
    ]


def test_a_title_means_the_session_that_has_exactly_it(cli: Cli, client: Client) -> None:
    for id, title in (("first", "flight change"), ("last", "flight change #8")):
        client.create_session(id, title=title)
    assert cli.json("show", "flight change")["session"]["id"] == "first"
    cli.ok("append", "flight change #8", "to the last")
    cli.ok("append", "flight change", "to the first")
    assert texts(cli.json("show", "first")["messages"]) == ["to the first"]
    assert texts(cli.json("show", "flight change", "--continuations")["messages"]) == [
        "to the last"
    ]
    assert client.resolve_session("flight change").id == "last"
    client.delete_session("first")
    assert "(SESSION_NOT_FOUND)" in cli.refused("append", "flight change", "to nobody")


def test_title_is_set_shown_and_taken_away(cli: Cli, talk: str) -> None:
    assert cli.ok("title", talk, "New one") == "New one\n"
    assert cli.json("title", talk)["title_source"] == "person"
    assert cli.ok("title", talk, "--clear") == "\n"
    cli.ok("create", "other", "--title", "Taken")
    assert "(TITLE_TAKEN)" in cli.refused("title", talk, "Taken", "--if-taken", "refuse")
    assert cli.ok("title", talk, "Taken", "--if-taken", "number") == "Taken #2\n"
    assert "--clear takes a title away" in cli.refused("title", "other", " ", code=2)
    assert cli.ok("title", "other") == "Taken\n"


def test_A_pin_puts_a_session_first_until_it_is_unpinned(cli: Cli) -> None:
    for id in ("old", "new"):
        cli.ok("create", id)
    assert cli.ok("pin", "old") == "old\n"
    assert [it["id"] for it in cli.json("ls")] == ["old", "new"]
    cli.ok("pin", "old", "--off")
    assert [it["id"] for it in cli.json("ls")] == ["new", "old"]


def test_B_clear_removes_the_messages_and_wants_yes_and_a_whole_id(
    cli: Cli, talk: str, client: Client
) -> None:
    client.upload_attachment(talk, b"x", name="file.txt")
    there = cli.json("show", talk)["messages"]
    assert "give --yes" in cli.refused("clear", talk)
    assert "takes whole ids" in cli.refused("clear", talk[:-1], "--yes")
    assert cli.json("show", talk)["messages"] == there
    assert cli.ok("clear", talk, "--yes") == f"removed {len(there)} messages of {talk}\n"
    assert cli.json("show", talk)["messages"] == []
    assert cli.json("attachments", "ls", talk) != []
    cleared = cli.json("clear", talk, "--yes", "--attachments")
    assert (cleared["message_count"], cleared["attachment_count"]) == (0, 1)


def test_append_takes_text_stdin_and_json(cli: Cli) -> None:
    cli.ok("create", "s")
    assert cli.ok("append", "s", "one") == "1\n"
    assert cli.ok("append", "s", given="two\nlines\n") == "2\n"
    assert cli.ok("append", "s", given='{"role": "assistant", "content": "three"}') == "3\n"
    assert cli.ok("append", "s", "--role", "tool", "--call", "c", given='{"role": "x"}') == "4\n"
    assert cli.ok("append", "other", "-", "--create", given="from stdin") == "1\n"
    assert texts(cli.json("show", "other")["messages"]) == ["from stdin"]
    array = '[{"role": "user", "content": "five"}, {"role": "assistant", "content": "six"}]'
    assert cli.ok("append", "s", given=array) == "5–6\n"
    json_as_text = cli.ok("append", "s", "--role", "user", given='{"no": "role"}')
    assert json_as_text == "7\n"
    messages = cli.json("show", "s")["messages"]
    assert texts(messages) == [
        "one",
        "two\nlines",
        "three",
        '{"role": "x"}',
        "five",
        "six",
        '{"no": "role"}',
    ]
    roles = [message["role"] for message in messages]
    assert roles == ["user", "user", "assistant", "tool", "user", "assistant", "user"]


def test_P3_a_broken_line_of_messages_appends_none(cli: Cli) -> None:
    cli.ok("create", "s")
    given = '{"role": "user", "content": "one"}\n{"role": "user", "content": '
    assert "line 2: not JSON" in cli.refused("append", "s", given=given)
    assert cli.json("show", "s")["messages"] == []


@pytest.mark.parametrize(
    "given",
    [
        '{"role": "user", "content": "cut sho',
        '[{"role": "user", "content": "x"},',
        *("{}", "[]", "[1]", '{"rol":"user"}', '{"content":"x"}', " \n{}", "[note] buy milk"),
        '{"role": "user", "content": "x"}\n{"content": "y"}',
    ],
)
def test_P3_what_looks_like_json_is_messages_or_refused(cli: Cli, given: str) -> None:
    cli.ok("create", "s")
    error = cli.refused("append", "s", given=given)
    assert error.startswith("error: stdin looks like JSON but isn't a message: ")
    assert error.endswith("; give --role user to append it as plain text\n")
    assert cli.json("show", "s")["messages"] == []
    assert cli.ok("append", "s", "--role", "user", given=given) == "1\n"
    assert texts(cli.json("show", "s")["messages"]) == [given]


def test_there_has_to_be_something_to_append(cli: Cli) -> None:
    cli.ok("create", "s")
    for arguments, given in (((), ""), ((), "\n"), (("",), ""), (("--role", "user"), "")):
        error = cli.refused("append", "s", *arguments, given=given)
        assert error == "error: nothing to append\n"
    assert cli.ok("append", "s", "", "--role", "tool", "--call", "c1") == "1\n"


def test_a_token_limit_says_what_it_cannot_count(cli: Cli, talk: str) -> None:
    done = cli("context", talk, "--max-context-tokens", "10")
    assert done.stderr == "8 of 8 messages have no token count and count as 0\n"
    assert "8 messages, tokens unknown" in done.stdout
    plan = cli("compact", talk, "--plan", "--max-context-tokens", "10")
    assert "8 of 8 messages have no token count and count as 0\n" in plan.stderr


def test_P4_append_with_a_client_id_is_safe_to_repeat(cli: Cli) -> None:
    cli.ok("create", "s")
    assert cli.ok("append", "s", "one", "--client-id", "x") == "1\n"
    assert cli.ok("append", "s", "one", "--client-id", "x") == "1 (stored before)\n"
    assert "(CLIENT_ID_REUSED)" in cli.refused("append", "s", "two", "--client-id", "x")


def test_P5_append_refuses_when_somebody_else_wrote(cli: Cli) -> None:
    cli.ok("create", "s")
    cli.ok("append", "s", "one", "--expect", "1")
    assert "(NEXT_SEQ_MISMATCH)" in cli.refused("append", "s", "two", "--expect", "1")
    cli.ok("append", "s", "two", "--expect-revision", "2")
    for verb in (("append", "s", "three"), ("rewind", "s", "1")):
        assert "(REVISION_MISMATCH)" in cli.refused(*verb, "--expect-revision", "2")
    assert cli.json("rewind", "s", "1", "--expect-revision", "3")["version"]["revision"] == 4
    reverted = cli.json("rewind", "s", "--revert", "--expect-revision", "4")
    assert reverted["version"]["revision"] == 5


def test_show_is_readable_and_its_json_complete(cli: Cli, talk: str) -> None:
    text = cli.ok("show", talk)
    assert "8 messages · 1 tool call ·" in text
    assert "   2 ┃ user" in text
    assert '       │ ⚙ find(q=1)\n   4   │   ↳ ["HAT1"]' in text
    shown = cli.json("show", talk)
    assert [message["seq"] for message in shown["messages"]] == list(range(1, 9))
    assert shown["session"]["message_count"] == 8
    assert len(cli.ok("show", talk, "-o", "jsonl").splitlines()) == 8


def test_show_leaves_out_what_people_are_not_meant_to_see_unless_all_is_asked_for(
    cli: Cli, client: Client
) -> None:
    client.create_session("s")
    for text, context, transcript in (
        ("for all", True, True),
        ("for nobody", False, False),
        ("for the model", True, False),
        ("for people", False, True),
    ):
        message = sessiond.message("user", text)
        message.hidden_from_model, message.hidden_from_people = not context, not transcript
        client.append("s", message)
    shown = cli.ok("show", "s")
    listed = cli.json("show", "s")["messages"]
    assert [m["parts"][0]["text"] for m in listed] == ["for all", "for people"]
    assert "for people" in shown
    assert "for nobody" not in shown
    assert "for the model" not in shown.replace("not for the model", "")
    every = [" ".join(line.split()[2:]) for line in cli.ok("show", "s", "--all").splitlines()]
    assert "user hidden" in " ".join(every)
    assert "user for the model only" in " ".join(every)
    assert len(cli.json("show", "s", "--all")["messages"]) == 4


def test_show_pages_through_long_sessions(cli: Cli) -> None:
    given = "\n".join(json.dumps({"role": "user", "content": f"m{n}"}) for n in range(1, 121))
    cli.ok("append", "long", "--create", given=given)
    newest = cli.ok("show", "long")
    assert "m71" in newest
    assert "m70" not in newest
    assert "earlier messages" in newest
    part = cli.ok("show", "long", "--from", "10", "--limit", "3")
    assert "--from 13" in part
    assert len(cli.json("show", "long", "--limit", "0")["messages"]) == 120
    assert texts(cli.json("show", "long", "--limit", "2")["messages"]) == ["m119", "m120"]


def test_P8_open_tool_calls_are_flagged(cli: Cli) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": "{}"}}
    given = json.dumps({"role": "assistant", "content": None, "tool_calls": [call]})
    cli.ok("append", "s", "--create", given=given)
    text = cli.ok("show", "s")
    assert "⚠ 1 open tool call" in text
    assert "⚠ waits for its result" in text
    cli.ok("append", "s", "found", "--role", "tool", "--call", "c1")
    assert "⚠" not in cli.ok("show", "s")


def test_P6_P7_compact_folds_and_revert_brings_back(cli: Cli, talk: str) -> None:
    made = cli.json(
        "compact", talk, "2", "5", "--summary", "They chose HAT1.", "--summary-tokens", "5"
    )
    assert made["compaction"]["id"] == 9
    folded = cli.ok("show", talk)
    assert "▸ 4 messages compacted:" in folded
    assert "They chose HAT1." in folded
    assert "Find me a flight." not in folded
    assert "Find me a flight." in cli.ok("show", talk, "--expand")
    seen = cli.json("context", talk)
    assert texts(seen["messages"])[:2] == ["You book flights.", "They chose HAT1."]
    assert seen["totals"]["message_count"] == 5
    before = cli.json("context", talk, "--as-of", "8")
    assert before["totals"]["message_count"] == 8
    assert "summary" in cli.ok("context", talk)
    assert "in the context" in cli.ok("compact", talk, "--list")
    cli.ok("revert", talk, "9")
    assert cli.json("context", talk)["totals"]["message_count"] == 8
    assert "They chose HAT1." not in cli.ok("show", talk)
    assert "reverted" in cli.ok("compact", talk, "--list")


def test_P8_a_range_that_splits_a_call_is_refused_with_the_nearest_safe_one(
    cli: Cli, talk: str
) -> None:
    error = cli.refused("compact", talk, "2", "3", "--summary", "x")
    assert "(COMPACTION_SPLITS_TOOL_CALL)" in error
    assert "nearest safe range:" in error


def test_P8_a_plan_says_what_to_do_or_why_there_is_nothing(cli: Cli, talk: str) -> None:
    plan = cli("compact", talk, "--plan", "--max-context-messages", "5", "--keep-recent", "2")
    assert plan.returncode == 0
    assert plan.stdout.startswith("2–")
    assert f"--summary-file FILE {talk} 2 " in plan.stderr
    nothing = cli.ok("compact", talk, "--plan", "--max-context-messages", "100")
    assert nothing == "nothing to compact: the context is within the goal as it is\n"


def test_P6_rewind_hides_and_revert_brings_back(cli: Cli, talk: str) -> None:
    assert "hid 6–8" in cli.ok("rewind", talk, "5")
    text = cli.ok("show", talk)
    assert "↶ 3 messages rewound" in text
    assert "Book it." not in text
    assert "Book it." in cli.ok("show", talk, "--all")
    assert "in force" in cli.ok("rewind", talk, "--list")
    assert "brought back 6–8" in cli.ok("rewind", talk, "--revert")
    assert "Book it." in cli.ok("show", talk)
    assert cli.refused("rewind", talk, "--revert") == "error: there is no rewind to revert\n"
    assert "(REWIND_NOT_FOUND)" in cli.refused("rewind", talk, "--revert", "--id", "99")
    assert "(NOTHING_TO_REWIND)" in cli.refused("rewind", talk, "8")


def test_fork_copies_the_history_up_to_a_seq(cli: Cli, talk: str) -> None:
    id = cli.ok("fork", talk, "--at", "2", "--id", "copy", "--title", "A copy").strip()
    assert id == "copy"
    shown = cli.json("show", id)
    assert texts(shown["messages"]) == ["You book flights.", "Find me a flight."]
    assert shown["session"]["parent"]["kind"] == "fork"
    assert "fork of talk at 2" in cli.ok("show", "A copy")


def test_end_and_reopen(cli: Cli, talk: str) -> None:
    assert cli.ok("end", talk, "--reason", "done") == "talk\n"
    assert "(SESSION_ENDED)" in cli.refused("append", talk, "more")
    assert "● ended" in cli.ok("ls")
    assert "ended: done" in cli.ok("show", talk)
    assert cli.json("reopen", talk)["state"] == "active"
    cli.ok("append", talk, "more")


def test_rm_asks_and_without_a_terminal_wants_yes(cli: Cli, talk: str) -> None:
    assert "--yes" in cli.refused("rm", talk)
    assert cli.ok("rm", "--yes", talk) == "deleted talk: 8 messages\n"
    assert "(SESSION_NOT_FOUND)" in cli.refused("rm", "--yes", talk)


def test_rm_without_a_question_takes_whole_ids_alone(cli: Cli, talk: str) -> None:
    cli.ok("title", talk, "Trip to Lisbon")
    for name in ("tal", "Trip to Lisbon"):
        error = cli.refused("rm", "--yes", name)
        assert f"{name!r} means talk, titled 'Trip to Lisbon'" in error
    assert cli.ok("rm", "--yes", talk) == "deleted talk: 8 messages\n"


def test_rm_of_several_deletes_none_if_one_is_unknown(cli: Cli, talk: str) -> None:
    cli.refused("rm", "--yes", talk, "nowhere")
    assert cli.json("rm", "--yes", talk)[0]["message_count"] == 8


def test_P6_offload_and_restore_change_nothing_that_is_shown(cli: Cli, talk: str) -> None:
    shown = cli.ok("show", talk)
    assert (
        cli.ok("offload", talk, "--keep", "4") == "offloaded 4 messages; everything before 5 is\n"
    )
    assert cli.json("offload", talk, "--keep", "4")["message_count"] == 0
    assert cli.ok("show", talk) == shown
    assert "offloaded: 1–4" in cli.ok("tail", talk)
    assert cli.json("restore", talk, "--all") == {
        "offloaded_before_seq": 0,
        "message_count": 4,
        "more": False,
    }
    assert cli.ok("restore", talk, "--all") == "restored 0 messages; nothing is offloaded\n"
    rows = cli.ok("offload", talk, "--list").splitlines()
    assert len(rows) == 3
    assert [row.split()[2] for row in rows[1:]] == ["restored", "offloaded"]
    assert (
        "nothing was offloaded" in cli("offload", cli.ok("create", "new").strip(), "--list").stderr
    )

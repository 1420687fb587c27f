"""`import` and `export`: complete, repeatable, interruptible, over a real server."""

from __future__ import annotations

import gzip
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sessiond import Client, session_filter
from tests.cli.command import Cli, read_lines, write_lines
from tests.cli.proxy import Relay
from tests.support.data import AIRLINE, airline_sessions, hermes, power_loop
from tests.support.processes import ServerProcess

EVERYTHING = session_filter(whole_tenant=True)


def talk(session_id: str, count: int, **more: Any) -> dict[str, Any]:
    messages = [
        {"role": ("user", "assistant")[n % 2], "content": f"message {n}"} for n in range(count)
    ]
    return {"id": session_id, "metadata": {}, "messages": messages, **more}


def exported(cli: Cli, *names: str) -> list[dict[str, Any]]:
    return read_lines(cli.ok("export", "--format", "openai", *names))


def test_P10_the_airline_sessions_come_back_equal_and_a_second_import_adds_nothing(
    cli: Cli, tmp_path: Path
) -> None:
    first = cli.ok("import", "--format", "openai", str(AIRLINE))
    assert first == "120 sessions (120 new): 3,206 messages added, 0 known before\n"
    cli.ok("export", "--file", str(tmp_path / "one.jsonl.gz"))
    again = cli.ok("import", str(AIRLINE))
    assert again == "120 sessions (0 new): 0 messages added, 3,206 known before\n"
    cli.ok("export", "--file", str(tmp_path / "two.jsonl.gz"))
    one = (tmp_path / "one.jsonl.gz").read_bytes()
    assert one == (tmp_path / "two.jsonl.gz").read_bytes()
    sessions = read_lines(gzip.decompress(one))
    assert sessions == sorted(airline_sessions(), key=lambda session: session["id"])
    assert sum(len(session["messages"]) for session in sessions) == 3206


def test_P4_an_import_that_was_killed_is_completed_by_the_next_one(
    cli: Cli, client: Client
) -> None:
    for stop in (signal.SIGKILL, signal.SIGINT):
        process = cli.start("import", str(AIRLINE))
        before = len(list(client.list_sessions(EVERYTHING, page_size=200)))
        while process.poll() is None:
            if len(list(client.list_sessions(EVERYTHING, page_size=200))) > before + 5:
                process.send_signal(stop)
                break
        _, errors = process.communicate(timeout=30)
        assert b"Traceback" not in errors
        if stop == signal.SIGINT and process.returncode:
            assert process.returncode == 130
            assert b"can be run again" in errors
    cli.ok("import", str(AIRLINE))
    assert exported(cli) == sorted(airline_sessions(), key=lambda session: session["id"])


def test_P4_a_server_that_goes_away_and_comes_back_is_waited_for(cli: Cli) -> None:
    with Relay(cli.target, cut_after=300_000) as relay:

        def return_later() -> None:
            relay.was_cut.wait(60)
            time.sleep(1.5)
            relay.mend()

        threading.Thread(target=return_later, daemon=True).start()
        done = Cli(relay.target)("import", str(AIRLINE))
        assert relay.was_cut.is_set()
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("went away") <= 1
    assert exported(cli) == sorted(airline_sessions(), key=lambda session: session["id"])


def test_an_import_gives_up_with_a_word_that_it_can_be_repeated(cli: Cli) -> None:
    with Relay(cli.target, cut_after=300_000) as relay:
        error = Cli(relay.target).refused("import", "--retry-for", "1", str(AIRLINE))
    assert "the import can be run again" in error
    assert f"no server answers at {relay.target}" in error
    cli.ok("import", str(AIRLINE))
    assert len(exported(cli)) == 120


def test_a_server_that_was_never_there_ends_an_import_at_once(cli: Cli) -> None:
    error = cli.refused("import", "--retry-for", "3600", "--target", "127.0.0.1:1", str(AIRLINE))
    assert "no server answers at 127.0.0.1:1" in error


def test_of_a_grown_file_only_the_new_messages_are_added(cli: Cli, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "f.jsonl", [talk("a", 3), talk("b", 2)])
    cli.ok("import", str(file))
    write_lines(file, [talk("a", 7), talk("b", 2), talk("c", 1)])
    done = cli.ok("import", str(file))
    assert done == "3 sessions (1 new): 5 messages added, 5 known before\n"
    assert exported(cli) == [talk("a", 7), talk("b", 2), talk("c", 1)]
    write_lines(file, [talk("a", 4)])
    assert "0 messages added, 4 known" in cli.ok("import", str(file))


def test_P4_a_message_that_differs_is_named_and_the_other_sessions_go_on(
    cli: Cli, tmp_path: Path
) -> None:
    file = write_lines(tmp_path / "f.jsonl", [talk("a", 3), talk("b", 2)])
    cli.ok("import", str(file))
    changed = talk("a", 6)
    changed["messages"][1]["content"] = "something else"
    write_lines(file, [changed, talk("b", 4)])
    done = cli("import", str(file))
    assert done.returncode == 1
    assert "session a, message 1: it differs from the one imported before" in done.stderr
    assert "(CLIENT_ID_REUSED)" in done.stderr
    assert done.stderr.rstrip().endswith("error: 1 session refused")
    assert exported(cli) == [talk("a", 3), talk("b", 4)]


def test_P5_a_session_that_went_on_in_the_store_is_not_mixed_with_a_grown_file(
    cli: Cli, tmp_path: Path
) -> None:
    file = write_lines(tmp_path / "f.jsonl", [talk("a", 2)])
    cli.ok("import", str(file))
    cli.ok("append", "a", "said in the store")
    assert "0 messages added" in cli.ok("import", str(file))
    write_lines(file, [talk("a", 4)])
    assert "went on differently in the store after message 2" in cli("import", str(file)).stderr
    assert len(exported(cli)[0]["messages"]) == 3


def test_a_compacted_session_takes_the_new_messages_of_a_grown_file(
    cli: Cli, tmp_path: Path
) -> None:
    file = write_lines(tmp_path / "f.jsonl", [talk("a", 6)])
    cli.ok("import", str(file))
    cli.ok("compact", "a", "1", "4", "--summary", "They talked.")
    write_lines(file, [talk("a", 9)])
    assert "3 messages added, 6 known" in cli.ok("import", str(file))
    assert exported(cli) == [talk("a", 9)]


def test_long_sessions_and_large_messages_go_in_batches(cli: Cli, tmp_path: Path) -> None:
    long = talk("long", 2500)
    large = talk("large", 5)
    for message in large["messages"]:
        message["content"] = "x" * 700_000
    file = write_lines(tmp_path / "f.jsonl", [long, large])
    cli.ok("import", str(file))
    assert "0 messages added, 2,505 known" in cli.ok("import", str(file))
    assert exported(cli) == [large, long]


def test_P4_two_imports_of_one_file_at_once_make_one_history(cli: Cli, tmp_path: Path) -> None:
    sessions = [talk("long", 9000), talk("other", 3)]
    file = write_lines(tmp_path / "f.jsonl", sessions)
    both = [cli.start("import", str(file)) for _ in range(2)]
    for process in both:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    assert exported(cli) == sessions


def test_an_ended_session_is_known_and_takes_nothing_new(cli: Cli, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "f.jsonl", [talk("a", 3)])
    cli.ok("import", str(file))
    cli.ok("end", "a")
    assert "0 messages added, 3 known" in cli.ok("import", str(file))
    write_lines(file, [talk("a", 4)])
    assert "error: session a: " in (error := cli("import", str(file)).stderr)
    assert "(SESSION_ENDED)" in error


def test_the_same_session_twice_in_a_file_is_one_session(cli: Cli, tmp_path: Path) -> None:
    lines = [talk("a", count) for count in (2, 5, 3, 8)]
    done = cli.ok("import", str(write_lines(tmp_path / "f.jsonl", lines)))
    assert done == "4 sessions (1 new): 8 messages added, 10 known before\n"
    assert exported(cli) == [talk("a", 8)]


def test_P14_unreadable_lines_are_named_and_the_others_go_on(cli: Cli) -> None:
    good = json.dumps(talk("good", 1))
    bad = json.dumps(talk("bad/role", 1)).replace('"user"', '"robot"')
    no_id = json.dumps({"id": "not an id\x07", "messages": [{"role": "user", "content": "x"}]})
    done = cli("import", "-", given=f"not json\n{bad}\n\n{no_id}\n{good}\n")
    assert done.returncode == 1
    assert "stdin, line 1: not JSON" in done.stderr
    assert "session bad/role, message 0" in done.stderr
    assert "robot" in done.stderr
    assert "session not an id\u2407" in done.stderr
    assert "(INVALID_FIELD)" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.endswith("error: 2 sessions refused, 1 line or file unreadable\n")
    assert [session["id"] for session in exported(cli)] == ["good"]


def test_a_file_cut_short_is_named(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "cut.jsonl.gz"
    file.write_bytes(AIRLINE.read_bytes()[:100_000])
    done = cli("import", str(file))
    assert done.returncode == 1
    assert "can't be read to its end" in done.stderr
    assert cli.refused("import", str(tmp_path / "missing.jsonl")).startswith("error: ")


def test_metadata_keep_their_types_and_are_replaced_only_on_demand(
    cli: Cli, tmp_path: Path
) -> None:
    metadata = {"task": 7, "reward": 0.0, "big": 2**60 + 1, "deep": {"n": [1, 2.5, None, True]}}
    session = talk("a", 1, metadata=metadata, tools=[{"type": "function"}])
    file = write_lines(tmp_path / "f.jsonl", [session])
    cli.ok("import", str(file))
    text = cli.ok("export")
    assert read_lines(text) == [session]
    assert '"task": 7,' in text
    assert '"reward": 0.0' in text
    write_lines(file, [talk("a", 1, metadata={"task": 8})])
    assert "other metadata in the store, which were kept" in cli("import", str(file)).stderr
    assert exported(cli) == [session]
    assert cli("import", "--update-metadata", str(file)).stderr == ""
    assert exported(cli) == [talk("a", 1, metadata={"task": 8})]


def test_named_sessions_are_exported_in_the_order_given(cli: Cli, tmp_path: Path) -> None:
    cli.ok("import", str(write_lines(tmp_path / "f.jsonl", [talk(i, 1) for i in "abc"])))
    assert [session["id"] for session in exported(cli, "c", "a")] == ["c", "a"]
    assert "(SESSION_NOT_FOUND)" in cli.refused("export", "c", "nowhere")


def test_what_is_rewound_or_replaced_is_exported_on_demand(cli: Cli) -> None:
    cli.ok("append", "s", "--create", "one")
    for text in ("two", "three", "four"):
        cli.ok("append", "s", text)
    cli.ok("compact", "s", "1", "2", "--summary", "a summary")
    cli.ok("append", "s", "five")
    cli.ok("rewind", "s", "5")

    def contents(view: str) -> list[str]:
        (line,) = read_lines(cli.ok("export", "--view", view, "s"))
        return [message["content"] for message in line["messages"]]

    assert contents("transcript") == ["one", "two", "three", "four"]
    assert contents("context") == ["a summary", "three", "four"]
    assert contents("all") == ["one", "two", "three", "four", "a summary", "five"]


def test_a_failed_export_leaves_no_file(cli: Cli, tmp_path: Path) -> None:
    cli.refused("export", "--file", str(tmp_path / "out.jsonl"), "nowhere")
    assert os.listdir(tmp_path) == []
    missing = str(tmp_path / "no" / "out.jsonl")
    error = cli.refused("export", "--file", missing)
    assert error == f"error: No such file or directory: {missing}\n"


@pytest.mark.parametrize("output", ["json", "jsonl"])
def test_the_summary_as_json_stands_alone_on_stdout(cli: Cli, output: str) -> None:
    given = json.dumps(talk("a", 2))
    summary = json.loads(cli.ok("import", "-", "-o", output, given=given))
    assert (summary["sessions"], summary["added"], summary["errors"]) == (1, 2, [])


@pytest.mark.long
def test_P2_a_server_killed_in_the_middle_and_started_again_has_all_of_it(
    start_server: Callable[..., ServerProcess], dsn: str, tmp_path: Path
) -> None:
    sessions = [talk(f"s{n:04}", 12) for n in range(1500)]
    file = write_lines(tmp_path / "many.jsonl", sessions)
    server = start_server(SESSIOND_DSN=dsn)
    cli = Cli(server.target)
    process = cli.start("import", str(file))
    with Client(server.target) as client:
        while len(list(client.list_sessions(EVERYTHING, page_size=200))) < 100:
            assert process.poll() is None
    server.kill()
    time.sleep(6)  # longer than the client library itself repeats calls
    assert process.poll() is None
    start_server(SESSIOND_DSN=dsn, listen=server.target)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert b"the server went away; waiting for it" in errors
    assert output.startswith(b"1,500 sessions ")
    assert exported(cli) == sessions


def test_D_import_says_which_format_a_file_of_another_one_has(cli: Cli, tmp_path: Path) -> None:
    openai = write_lines(tmp_path / "openai.jsonl", [talk("a", 1)])
    native, empty = tmp_path / "native.jsonl", tmp_path / "empty"
    empty.touch()
    prose = tmp_path / "prose.md"
    prose.write_text("# Heading\n\n" + "words\n" * 1000)
    cli.ok("export", "--format", "native", "--file", str(native))
    wrong = {
        ("openai", hermes()): "a SQLite file, which --format hermes or --format power-loop imports",
        ("openai", native): "a native file, which --format native imports",
        ("openai", prose): "no sessions at its beginning",
        ("native", hermes()): "not a native file but a SQLite file",
        ("native", openai): "not a native file but one of OpenAI-style sessions",
        ("native", prose): "not a native file: it has no header",
        ("native", empty): "not a native file: it is empty",
        ("hermes", power_loop()): "not a store of Hermes: its table sessions has no column id",
        ("power-loop", hermes()): "not a store of power-loop: it has no table session_state",
        ("hermes", prose): "prose.md: not a SQLite file",
    }
    for (kind, file), words in wrong.items():
        done = cli("import", "--format", kind, str(file))
        assert done.returncode == 1
        assert words in done.stderr
        assert str(file) in done.stderr
        assert "Traceback" not in done.stderr
        assert len(done.stderr.splitlines()) < 10


def test_P5_a_session_that_no_import_made_takes_nothing_of_a_file(cli: Cli, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "f.jsonl", [talk("a", 2), talk("b", 1)])
    cli.ok("create", "a", "--source", "import")
    cli.ok("append", "a", "said in the store")
    other = write_lines(tmp_path / "other.jsonl", [talk("a", 2)])
    refused = cli("import", "--source", "web", str(other))
    assert "exists already, with another source" in refused.stderr
    done = cli("import", str(file))
    assert "session a: the store has one of this id" in done.stderr
    assert "2 sessions" not in done.stderr
    assert done.stdout == "1 session (1 new), 1 refused: 1 message added, 0 known before\n"
    assert len(exported(cli, "a")[0]["messages"]) == 1

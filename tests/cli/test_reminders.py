"""`sessionctl reminder` and `sessionctl cursor`, over a real server."""

from __future__ import annotations

import re

import pytest
from typer.testing import CliRunner

from sessiond.cli.app import app
from tests.cli.command import Cli


@pytest.fixture
def talk(cli: Cli) -> str:
    cli.ok("append", "talk", "--create", "Book me a flight.")
    return "talk"


def test_A_reminders_from_the_command_line(cli: Cli, talk: str) -> None:
    due = cli.ok("reminder", "create", talk, "0s", "Is it cheaper now?", "--type", "fare").strip()
    later = cli.ok(
        "reminder", "create", talk, "2h", "Again?", "--every", "1d", "--id", "r2"
    ).strip()
    assert later == "r2"
    assert cli.json("ls")[0]["pending_reminder_time"]
    lines = cli.ok("reminder", "ls").splitlines()
    assert lines[0].split() == ["REMINDER", "ID", "SESSION", "TYPE", "DUE", "EVERY", "STATE"]
    assert "Is it cheaper now?" in lines[1]
    assert "1 d" in lines[2]
    (claim,) = cli.json("reminder", "claim", "--type", "fare", "--holder", "me")
    assert (claim["reminder"]["id"], claim["reminder"]["claim"]["holder"]) == (due, "me")
    shown = cli.ok("reminder", "show", talk, due, TZ="UTC")
    assert "claimed by me" in shown
    assert re.search(r"due .*\d\d:\d\d [A-Z]+", shown)
    assert "nothing is due" in cli("reminder", "claim").stderr
    done = cli.ok("reminder", "done", talk, due, claim["claim_token"], "--append")
    assert done.endswith("appended message 2\n")
    assert cli.json("show", talk)["messages"][-1]["kind"] == "reminder"
    assert "(CLAIM_LOST)" in cli.refused("reminder", "done", talk, due, "other")
    assert [it["id"] for it in cli.json("reminder", "ls", talk, "--state", "completed")] == [due]
    assert "skipped    1" in cli.ok("reminder", "skip", talk, "r2")
    assert cli.json("reminder", "cancel", talk, "r2")["state"] == "cancelled"
    assert "no reminders" in cli("reminder", "ls").stderr
    assert [it["id"] for it in cli.json("reminder", "ls", "--state", "any")] == [due, "r2"]


def test_A_reminders_that_fail_from_the_command_line(cli: Cli, talk: str) -> None:
    cli.ok("reminder", "create", talk, "0s", "Is it cheaper?", "--id", "r", "--max-attempts", "2")
    (claim,) = cli.json("reminder", "claim")
    failed = cli.ok(
        *("reminder", "fail", talk, "r", claim["claim_token"], "No answer.", "--retry-in", "0s")
    )
    assert re.search(r"attempts +1 of 2\nlast error +No answer\.\nretried +\S", failed)
    assert re.search(r" 2 of 2 +\S+$", cli.ok("reminder", "claim").splitlines()[1])
    (listed,) = cli.json("reminder", "ls", talk)
    assert (listed["attempt_count"], listed["last_error"]) == (2, "No answer.")
    assert cli.json("reminder", "ls", talk, "--state", "failed") == []
    assert "(CLAIM_LOST)" in cli.refused("reminder", "fail", talk, "r", "other")


def test_reminder_times_are_durations_or_times(cli: Cli, talk: str) -> None:
    made = cli.json("reminder", "create", talk, "2031-05-01T09:30+02:00", "Hello", "--replace")
    assert made["reminder"]["trigger_time"] == "2031-05-01T07:30:00Z"
    assert "neither a duration" in cli.refused("reminder", "create", talk, "tomorrow", code=2)
    again = cli("reminder", "create", talk, "1h", "--replace")
    assert "1 other cancelled" in again.stderr


def test_A_stale_sessions_from_the_command_line(cli: Cli, talk: str) -> None:
    cli.ok("append", talk, "Hello?")
    assert cli.json("consumer", "claim", "titles") == []
    (claimed,) = cli.json("consumer", "claim", "titles", "--idle", "0s", "--wait", "30s")
    assert (claimed["session_id"], claimed["cursor_seq"], claimed["next_seq"]) == (talk, 0, 3)
    assert "nothing to do" in cli("consumer", "claim", "titles", "--idle", "0s").stderr
    token = claimed["claim_token"]
    assert (
        cli.ok("consumer", "set-cursor", talk, "titles", "2", "--token", token)
        == "titles: 2 of 2\n"
    )
    lines = cli.ok("consumer", "cursors", talk).splitlines()
    assert lines[1].split()[:3] == ["titles", "2", "0"]
    assert cli.ok("consumer", "set-cursor", talk, "titles", "0") == "titles: 2 of 2\n"
    assert cli.ok("consumer", "set-cursor", talk, "titles", "1", "--back") == "titles: 1 of 2\n"
    assert "2–2" in cli.ok("consumer", "claim", "titles", "--idle", "0s")


def test_consumers_are_listed_and_forgotten_from_the_command_line(cli: Cli) -> None:
    owner = "ann"
    cli.ok("consumer", "claim", "titles", "--owner", owner)
    lines = cli.ok("consumer", "ls", "--owner", owner).splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["titles", owner]]
    cli.ok("consumer", "rm", "titles", "--owner", owner)
    assert cli.json("consumer", "ls", "--owner", owner) == []
    assert "no such consumer" in cli("consumer", "rm", "titles", "--owner", owner).stderr


def test_tail_tells_of_reminders(cli: Cli, talk: str) -> None:
    cli.ok("reminder", "create", talk, "1h", "Look again", "--id", "r1")
    cli.ok("reminder", "cancel", talk, "r1")
    told = cli.ok("tail", talk)
    assert "reminder r1 (Look again) created" in told
    assert "reminder r1 (Look again) cancelled" in told


@pytest.mark.parametrize("group", ["reminder", "consumer"])
def test_every_verb_of_the_group_has_help_with_an_example(group: str) -> None:
    (found,) = (it.typer_instance for it in app.registered_groups if it.name == group)
    assert found is not None
    for command in found.registered_commands:
        assert command.name is not None
        done = CliRunner().invoke(app, [group, command.name, "--help"], prog_name="sessionctl")
        assert done.exit_code == 0
        assert f"$ sessionctl {group} {command.name}" in done.output

"""The verbs on usage and on journals."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from sessiond import Client, usage_record
from tests.cli.command import Cli


@pytest.fixture
def spent(cli: Cli, client: Client) -> str:
    """A session that used something, with a sub-agent that did too and is gone."""
    client.create_session("trip")
    for turn, model in enumerate(("small", "large", "small")):
        record = usage_record(
            input_tokens=1000 * (turn + 1),
            output_tokens=10,
            model_calls=1,
            estimated_cost="0.0105",
            model=model,
            turn_index=turn,
            time=datetime(2026, 1, 30 + turn // 2, tzinfo=UTC),
        )
        client.record_usage("trip", record)
    client.create_session("sub", parent_id="trip", parent_kind="subagent", lifecycle="ephemeral")
    client.record_usage("sub", usage_record(input_tokens=5, model="small"))
    client.end_session("sub")
    return "trip"


def _table(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_usage_by_model_turn_and_day(cli: Cli, spent: str) -> None:
    by_model = _table(cli.ok("usage", spent, "--by", "model"))
    assert by_model[0][:3] == ["MODEL", "CALLS", "INPUT"]
    assert [row[:3] for row in by_model[1:]] == [
        ["large", "1", "2,000"],
        ["small", "2", "4,000"],
        ["(all)", "3", "6,000"],
    ]
    assert by_model[-1][-3:] == ["6,030", "0.0315", "USD"]
    by_turn = _table(cli.ok("usage", spent, "--by", "turn"))
    assert [row[:2] for row in by_turn[1:-1]] == [["0", "small"], ["1", "large"], ["2", "small"]]
    days = cli.json("usage", spent, "--by", "day", "--to", "2026-01-30")
    assert [(it["day"], it["usage"]["input_tokens"]) for it in days["groups"]] == [
        ("2026-01-30", 3000)
    ]
    assert days["total"]["costs"] == [{"currency": "USD", "estimated": "0.021", "actual": ""}]
    lines = cli.ok("usage", spent, "--by", "day-and-model", "-o", "jsonl").splitlines()
    assert [json.loads(it)["model"] for it in lines] == ["large", "small", "small"]


def test_usage_of_a_subtree_and_of_all(cli: Cli, spent: str) -> None:
    assert cli.json("usage", spent)["total"]["input_tokens"] == 6000
    whole = cli.json("usage", spent, "--subtree", "--by", "session")
    assert whole["total"]["input_tokens"] == 6005
    assert [it["session_id"] for it in whole["groups"]] == ["trip"]
    before = cli.json("usage")["total"]["input_tokens"]
    by_owner = _table(cli.ok("usage", "--by", "owner", "--owner", ""))
    assert by_owner[0][0] == "OWNER"
    assert by_owner[1][0] == "(none)"
    assert cli.json("usage", "--owner", "nobody", "--by", "source")["groups"] == []
    assert "about all" in cli.refused("usage", spent, "--owner", "ann", code=2)
    cli.ok("rm", "--yes", spent)
    assert cli.json("usage")["total"]["input_tokens"] == before >= 6005
    assert "SESSION_NOT_FOUND" in cli.refused("usage", spent)


def test_show_says_what_a_session_used(cli: Cli, spent: str) -> None:
    shown = cli.ok("show", spent)
    assert "used 6,030 tokens, 3 model calls, about 0.0315 USD" in shown


def test_usage_add_counts_once_by_its_request_id(cli: Cli) -> None:
    cli.ok("create", "s")
    call = ("usage-add", "s", "--input", "10", "--generated", "2", "--actual", "0.50")
    assert cli.ok(*call, "--request-id", "r") == "in all 12 tokens, 1 model call, 0.5 USD\n"
    again = cli(*call, "--request-id", "r")
    assert again.stdout == "in all 12 tokens, 1 model call, 0.5 USD\n"
    assert "recorded before" in again.stderr
    for _ in range(2):
        cli.ok("usage-add", "s", "--turn", "1", "--set", "--input", "7", "--model", "m")
    assert cli.json("usage", "s")["total"]["input_tokens"] == 17
    assert "turn_index" in cli.refused("usage-add", "s", "--set")
    assert "estimated" in cli.refused("usage-add", "s", "--estimated", "1e3")


def test_log_lists_what_log_add_appended(cli: Cli, client: Client) -> None:
    cli.ok("create", "s")
    assert cli.ok("journal-add", "s", '{"steps":  [1]}', "--kind", "plan", "--turn", "2") == "1\n"
    assert cli.ok("journal-add", "s", "--lines", given='{"a": 1}\n\n[2]\n') == "2–3\n"
    raw = '{"steps":  [1]}\n{"a": 1}\n[2]\n'
    assert cli.process("journal", "s", "--raw").stdout == raw
    lines = cli.ok("journal", "s").splitlines()
    assert lines[0].split() == ["RECORD", "N", "KIND", "TURN", "MADE"]
    assert lines[1].split()[:5] == ['{"steps":', "[1]}", "1", "plan", "2"]
    newest = cli.json("journal", "s", "--newest", "--limit", "1")
    assert [it["seq"] for it in newest] == [3]
    assert [it["seq"] for it in cli.json("journal", "s", "--kind", "plan")] == [1]
    assert "more than 1" in cli("journal", "s", "-n", "1").stderr
    assert "no records" in cli("journal", "s", "--kind", "x").stderr
    assert cli.ok("journal-add", "s", given=b"\xff\x00 bytes\n") == "4\n"
    assert next(iter(client.list_journal("s", order="descending"))).content == b"\xff\x00 bytes\n"
    assert cli.ok("journal-add", "s", "-", given="again") == "5\n"
    for given in (("",), (), ("-",), ("--lines",)):
        assert "nothing to append" in cli.refused("journal-add", "s", *given)
    cli.refused("journal-add", "s", "x", "--lines", code=2)


@pytest.mark.parametrize("name", ["usage", "usage-add", "journal", "journal-add"])
def test_the_help_shows_an_example(cli: Cli, name: str) -> None:
    assert f"$ sessionctl {name} trip" in cli.ok(name, "--help", COLUMNS="120")

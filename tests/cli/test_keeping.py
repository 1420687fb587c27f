"""The verbs on what is kept."""

from __future__ import annotations

from tests.cli.command import Cli


def test_stats_count_by_state_and_source(cli: Cli) -> None:
    for number in range(3):
        cli.ok("create", f"s{number}", "--source", "cli" if number else "web", "--owner", "ann")
    cli.ok("append", "s1", "hello")
    cli.ok("end", "s2")
    lines = cli.ok("stats").splitlines()
    assert lines[0].split() == ["sessions", "3", "2", "active,", "1", "ended"]
    assert lines[2].split() == ["messages", "1"]
    assert [line.split() for line in lines[-3:]] == [
        ["SOURCE", "SESSIONS", "MESSAGES"],
        ["cli", "2", "1"],
        ["web", "1", "0"],
    ]
    found = cli.json("stats", "--owner", "ann")
    assert (found["session_count"], found["message_count"], found["partial"]) == (3, 1, False)
    assert found["states"][1] == {"state": "ended", "session_count": 1, "message_count": 0}
    assert cli.json("stats", "--owner", "nobody")["session_count"] == 0

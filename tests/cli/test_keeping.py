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


def test_prune_shows_what_would_go_and_deletes_it_with_yes(cli: Cli) -> None:
    for id, source in (("old", "cli"), ("kept", "web"), ("pinned", "cli"), ("active", "cli")):
        cli.ok("create", id, "--source", source, *(["--pin"] if id == "pinned" else []))
        cli.ok("append", id, "hello")
        if id != "active":
            cli.ok("end", id)
    wanted = ("prune", "--ended-for", "0s", "--source", "cli")
    done = cli(*wanted, "--dry-run")
    assert done.returncode == 0
    assert done.stdout.splitlines()[1].split()[2:6] == ["old", "cli", "would", "go"]
    assert "would delete 1 sessions with 1 messages" in done.stderr
    assert "give --yes" in cli.refused(*wanted)
    assert len(cli.json("ls")) == 4
    (went,) = cli.json(*wanted, "--yes")
    assert (went["session_id"], went["outcome"], went["message_count"]) == ("old", "deleted", 1)
    assert {it["id"] for it in cli.json("ls")} == {"kept", "pinned", "active"}
    assert "at least one of" in cli.refused("prune", "--yes", "--source", "cli")
    assert cli.json(*wanted, "--yes") == []

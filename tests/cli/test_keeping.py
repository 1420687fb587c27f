"""The verbs on what is kept."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp

from sessiond import Client, v1
from sessiond.cli.render.retention import pruned_lines, reports_lines
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


def test_ls_says_which_sessions(cli: Cli) -> None:
    for id, owner, agent in (("a", "ann", "coder"), ("b", "", "writer"), ("c", "ann", "reader")):
        cli.ok("create", id, "--owner", owner, "--agent", agent)
    cli.ok("end", "c")

    def ids(*options: str) -> set[str]:
        return {it["id"] for it in cli.json("ls", *options)}

    assert ids() == {"a", "b", "c"}
    assert ids("--owner", "ann") == {"a", "c"}
    assert ids("--owner", "") == {"b"}
    assert ids("--agent", "coder", "--agent", "writer") == {"a", "b"}
    assert ids("--state", "ended") == {"c"}
    assert ids("--subtree", "a") == {"a"}
    assert ids("--idle", "1h") == ids("--archived") == set()


def test_prune_shows_what_would_go_and_deletes_it_with_force(cli: Cli) -> None:
    for id, source in (("old", "cli"), ("kept", "web"), ("pinned", "cli"), ("active", "cli")):
        cli.ok("create", id, "--source", source, *(["--pin"] if id == "pinned" else []))
        cli.ok("append", id, "hello")
        if id != "active":
            cli.ok("end", id)
    wanted = ("prune", "--whole-tenant", "--ended-for", "0s", "--source", "cli")
    done = cli(*wanted)
    assert done.returncode == 0
    assert done.stdout.splitlines()[1].split()[2:6] == ["old", "cli", "would", "go"]
    assert "would delete 1 session with 1 message" in done.stderr
    assert "nothing was deleted: --force deletes them" in done.stderr
    assert len(cli.json("ls")) == 4
    (went,) = cli.json(*wanted, "--force")
    assert (went["session_id"], went["outcome"], went["message_count"]) == ("old", "deleted", 1)
    assert {it["id"] for it in cli.json("ls")} == {"kept", "pinned", "active"}
    assert "at least one of" in cli.refused("prune", "--source", "cli", code=2)
    assert "--owner or --whole-tenant" in cli.refused("prune", "--ended-for", "0s", code=2)
    assert cli.json(*wanted, "--force") == []


def test_retention_policies_are_set_tried_listed_and_removed(cli: Cli) -> None:
    everybodys = ("--whole-tenant", "--source", "cli")
    done = cli("retention", "set", "old", "--ended-for", "30d", *everybodys, "--dry-run")
    assert "ended for 30 d, ended, from cli" in done.stdout
    (policy,) = cli.json("retention", "ls")
    wanted = policy["rule"]["sessions"]
    assert (policy["id"], policy["dry_run"], wanted["sources"]) == ("old", True, ["cli"])
    cli.ok("create", "s1", "--source", "cli")
    cli.ok("end", "s1")
    assert cli.json("retention", "show", "old") == policy
    assert "(RETENTION_POLICY_NOT_FOUND)" in cli.refused("retention", "show", "none")
    assert cli.json("retention", "try", "old") == []
    assert "(RETENTION_POLICY_NOT_FOUND)" in cli.refused("retention", "try", "none")
    (line,) = cli.refused("retention", "set", "none", "--owner", "ann").splitlines()
    assert "must have at least one of older_than, idle_for, ended_for" in line
    assert "longer than nothing" in cli.refused(
        "retention", "set", "none", "--owner", "", "--idle-for", "0s"
    )
    assert "replaces" not in done.stderr
    assert "only report" in done.stderr
    assert "no reports: " in cli("retention", "reports", "old").stderr
    done = cli("retention", "set", "old", "--ended-for", "1s", "--whole-tenant")
    assert "replaces: ended for 30 d, ended, from cli (dry run)" in done.stderr
    assert "delete, for good" in done.stderr
    assert "deletes" in cli.ok("retention", "ls")
    time.sleep(1)
    (would,) = cli.json("retention", "try", "old")
    assert (would["session_id"], would["outcome"]) == ("s1", "would_be_deleted")
    assert [it["id"] for it in cli.json("ls")] == ["s1"]
    cli.ok("retention", "rm", "old")
    assert cli.json("retention", "ls") == []
    assert "(RETENTION_POLICY_NOT_FOUND)" in cli.refused("retention", "rm", "old")
    assert "no reports: " in cli("retention", "reports").stderr
    assert "no retention policy 'old'" in cli.refused("retention", "reports", "old")


def test_reports_tell_people_what_went_and_why() -> None:
    now = datetime(2026, 5, 20, 12, 0, tzinfo=UTC)

    def before(days: int) -> Timestamp:
        return Timestamp(seconds=int((now - timedelta(days=days)).timestamp()))

    went = v1.PrunedSession(
        session_id="s1",
        outcome=v1.PruneOutcome.PRUNE_OUTCOME_DELETED,
        session_count=3,
        message_count=1200,
        source="cli",
        create_time=before(20),
        last_activity_time=before(11),
        end_time=before(10),
    )
    report = v1.RetentionReport(
        policy_id="old", end_time=before(0), session_count=3, message_count=1200, sessions=[went]
    )
    lines = [line.plain.split("  ") for line in reports_lines([report], 120, now)]
    assert [cell.strip() for cell in lines[1] if cell.strip()] == [
        *("old", "now", "deleted", "3", "1,200", "0"),
    ]
    line = [line.plain for line in pruned_lines([went], 120, now, title=False)][1]
    assert line.split("  ")[0] == "s1"
    for part in ("deleted", "+2", "1,200", "20 d ago", "11 d ago", "10 d ago"):
        assert part in line


def test_show_reads_continuations_as_one_conversation(cli: Cli, client: Client) -> None:
    client.create_session("first", title="Trip")
    client.create_session("second", parent_id="first", parent_kind="continuation", title="Trip #2")
    cli.ok("append", "first", "Where shall we go?")
    cli.ok("append", "second", "And when?")
    lines = cli.ok("show", "second", "--continuations").splitlines()
    wanted = ("Trip  first", "Where shall we go?", "Trip #2  second", "And when?")
    places = [next(n for n, line in enumerate(lines) if text in line) for text in wanted]
    assert places == sorted(places)
    told = cli.json("show", "second", "--continuations", "--limit", "0")["messages"]
    assert [(it["session_id"], it["seq"]) for it in told] == [("first", 1), ("second", 1)]
    newest = cli.json("show", "Trip", "--continuations", "--limit", "1")["messages"]
    assert [it["parts"][0]["text"] for it in newest] == ["And when?"]
    assert len(cli.json("show", "second")["messages"]) == 1


def test_server_shows_what_is_on_and_the_limits(cli: Cli) -> None:
    lines = {line.split()[0]: line.split()[1] for line in cli.ok("server").splitlines()}
    assert (lines["search"], lines["auth"]) == ("on", "off")
    assert lines["attachment_bytes"] == "67,108,864"
    found = cli.json("server")
    assert found["limits"]["attachment_bytes"] == 67_108_864
    assert found["version"] == lines["version"]

"""The stores of Hermes and power-loop, imported with one command, and compared by reading both.

Nothing here is taken from the readers under test: what is expected is written down as SQL and plain Python.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

import sessiond
from sessiond import Client, session_filter, v1
from tests.cli.command import COMMAND, Cli
from tests.support.data import hermes, power_loop
from tests.support.postgres import Databases
from tests.support.processes import ServerProcess

ROLES = {
    "system": v1.Role.ROLE_SYSTEM,
    "user": v1.Role.ROLE_USER,
    "assistant": v1.Role.ROLE_ASSISTANT,
    "tool": v1.Role.ROLE_TOOL,
}


@pytest.fixture
def store(databases: Databases) -> Iterator[ServerProcess]:
    """An empty store."""
    process = ServerProcess(SESSIOND_DSN=databases.migrated())
    yield process
    process.stop()
    assert not process.bugs()


def rows(path: Path, text: str, *values: object) -> list[sqlite3.Row]:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row
    found = connection.execute(text, values).fetchall()
    connection.close()
    return found


def imported(store: ServerProcess, kind: str, path: Path) -> dict[str, Any]:
    found = Cli(store.target).json("import", "--format", kind, str(path))
    assert found["errors"] == []
    assert isinstance(found, dict)
    return found


def seconds(time: Any) -> float:
    return float(time.ToNanoseconds()) / 1e9


def log(client: Client, session_id: str) -> list[v1.Message]:
    return list(client.list_messages(session_id, view="all", page_size=1000))


EVERYTHING = session_filter(whole_tenant=True, include_subagents=True)


def all_sessions(client: Client) -> list[str]:
    found: list[str] = []
    for archived in (False, True):
        wanted = session_filter(whole_tenant=True, include_subagents=True, archived=archived)
        found += [it.session.id for it in client.list_sessions(wanted, page_size=200)]
    return sorted(found)


def check_hermes_session(client: Client, row: sqlite3.Row) -> None:
    session = client.get_session(row["id"], view="full")
    facts = {
        "owner": row["user_id"],
        "source": row["source"],
        "model": row["model"],
        "system_prompt": row["system_prompt"],
        "title": row["title"] or "",
        "end_reason": row["end_reason"] or "",
        "message_count": row["message_count"],
        "tool_call_count": row["tool_call_count"],
    }
    assert {name: getattr(session, name) for name in facts} == facts
    assert session.config == row["model_config"]
    assert seconds(session.create_time) == pytest.approx(row["started_at"], abs=1e-6)
    ended = session.state == v1.SessionState.SESSION_STATE_ENDED
    assert ended == (row["ended_at"] is not None) == session.HasField("end_time")
    if ended:
        assert seconds(session.end_time) == pytest.approx(row["ended_at"], abs=1e-6)
    parents = [] if row["parent_session_id"] is None else [row["parent_session_id"]]
    assert [session.parent.id] * session.HasField("parent") == parents
    if parents:  # in this file all children continue what was compressed away
        assert session.parent.kind == v1.ParentKind.PARENT_KIND_CONTINUATION
    check_hermes_usage(session.usage, row)


def check_hermes_usage(usage: v1.SessionUsage, row: sqlite3.Row) -> None:
    for name in ("input", "output", "cache_read", "cache_write", "reasoning"):
        assert getattr(usage.own, f"{name}_tokens") == row[f"{name}_tokens"]
    assert usage.own.model_calls == row["api_call_count"]
    (cost,) = usage.own.costs
    assert (cost.currency, cost.actual) == ("USD", "")
    assert Decimal(cost.estimated) == Decimal(repr(row["estimated_cost_usd"]))
    billing = usage.billing
    assert (billing.provider, billing.base_url, billing.mode) == tuple(
        row[f"billing_{name}"] for name in ("provider", "base_url", "mode")
    )
    assert (billing.cost_status, billing.cost_source, billing.pricing_version) == (
        row["cost_status"],
        row["cost_source"],
        row["pricing_version"],
    )


def spoken(message: v1.Message) -> tuple[str, str, str]:
    """What a message or its result says, which call it answers, and the tool's or speaker's name."""
    for result in sessiond.tool_results_of(message):
        return sessiond.text_of(result), result.tool_call_id, result.tool_name
    return sessiond.text_of(message), "", message.name


def check_hermes_message(message: v1.Message, row: sqlite3.Row) -> None:
    assert message.role == ROLES[row["role"]]
    said, call_id, tool_name = spoken(message)
    assert said == (row["content"] or "")
    assert call_id == (row["tool_call_id"] or "")
    assert tool_name == (row["tool_name"] or "")
    assert sessiond.reasoning_of(message) == (row["reasoning"] or "")
    assert message.finish_reason == (row["finish_reason"] or "")
    calls = json.loads(row["tool_calls"] or "[]")
    assert [(c.id, c.name, c.arguments) for c in sessiond.tool_calls_of(message)] == [
        (c["id"], c["function"]["name"], c["function"]["arguments"]) for c in calls
    ]
    details = row["reasoning_details"]
    assert message.extensions.get("reasoning_details") == (details and details.encode())
    assert seconds(message.origin_time) == pytest.approx(row["timestamp"], abs=1e-6)
    assert seconds(message.create_time) == pytest.approx(row["timestamp"], abs=1e-6)
    assert not message.hidden_from_model
    assert not message.hidden_from_people


def check_hermes(client: Client) -> None:
    found = rows(hermes(), "SELECT * FROM sessions")
    assert all_sessions(client) == sorted(row["id"] for row in found)
    for row in found:
        check_hermes_session(client, row)
        theirs = rows(
            hermes(), "SELECT * FROM messages WHERE session_id = ? ORDER BY id", row["id"]
        )
        ours = log(client, row["id"])
        assert [message.seq for message in ours] == list(range(1, len(theirs) + 1))
        for message, its in zip(ours, theirs, strict=True):
            check_hermes_message(message, its)


def test_D_import_of_a_hermes_store_brings_everything_and_twice_is_as_once(
    store: ServerProcess,
) -> None:
    before = hermes().stat().st_mtime_ns, hermes().read_bytes()
    first = imported(store, "hermes", hermes())
    assert (first["sessions"], first["created"], first["added"]) == (30, 30, 756)
    with Client(store.target) as client:
        check_hermes(client)
        total = client.get_usage(sessions=EVERYTHING).total
        again = imported(store, "hermes", hermes())
        assert (again["created"], again["added"], again["known"]) == (0, 0, 756)
        assert (again["records_added"], again["facts_differ"]) == (0, 0)
        check_hermes(client)
        assert client.get_usage(sessions=EVERYTHING).total == total
        (spent,) = total.costs
        costs = rows(hermes(), "SELECT estimated_cost_usd FROM sessions")
        assert Decimal(spent.estimated) == sum(Decimal(repr(row[0])) for row in costs)
    assert (hermes().stat().st_mtime_ns, hermes().read_bytes()) == before


def test_B_compression_splits_and_titles_of_hermes_read_as_one_conversation(
    store: ServerProcess,
) -> None:
    imported(store, "hermes", hermes())
    with Client(store.target) as client:
        newest = client.resolve_session("flight change", owner="user-0")
        assert newest.title == "flight change #8"
        records = client.export_sessions(["airline-001-1"], continuations=True)
        sessions = [r.session.session.id for r in records if r.HasField("session")]
        assert sessions == ["airline-000-1", "airline-001-1"]


def test_B_conversation_format_of_hermes_comes_back_with_its_reasoning(
    store: ServerProcess,
) -> None:
    imported(store, "hermes", hermes())
    with Client(store.target) as client:
        for row in rows(hermes(), "SELECT id FROM sessions"):
            theirs = rows(
                hermes(), "SELECT * FROM messages WHERE session_id = ? ORDER BY id", row[0]
            )
            for ours, its in zip(sessiond.to_openai(log(client, row[0])), theirs, strict=True):
                assert (ours["role"], ours["content"]) == (its["role"], its["content"])
                assert ours.get("tool_calls") == (
                    its["tool_calls"] and json.loads(its["tool_calls"])
                )
                assert ours.get("reasoning") == its["reasoning"]
                details = its["reasoning_details"]
                assert ours.get("reasoning_details") == (details and json.loads(details))


def milliseconds(time: Any) -> int:
    return int(time.ToMicroseconds()) // 1000


def check_power_loop_session(client: Client, row: sqlite3.Row) -> None:
    session = client.get_session(row["session_id"], view="full")
    assert session.system_prompt == row["system_prompt"]
    assert session.model == row["model"]
    assert session.config == row["config_json"]
    metadata = MessageToDict(session.metadata)
    theirs = json.loads(row["metadata_json"])
    assert {key: metadata[key] for key in theirs} == theirs
    assert session.state == v1.SessionState.SESSION_STATE_ACTIVE
    assert session.archived == (row["status"] == "archived")
    lifecycle = v1.Lifecycle.Name(session.lifecycle).removeprefix("LIFECYCLE_").lower()
    assert lifecycle == row["lifecycle"]
    assert session.HasField("parent") == (row["kind"] == "subagent")
    if row["kind"] == "subagent":
        assert session.parent.kind == v1.ParentKind.PARENT_KIND_SUBAGENT
        assert session.parent.id == row["parent_session_id"]
        assert session.parent.spawn_tool_call_id == row["spawn_tool_call_id"]
    assert session.spawn_depth == row["spawn_depth"]
    assert milliseconds(session.create_time) == row["created_at"]
    assert milliseconds(session.update_time) == row["updated_at"]
    check_power_loop_state(client, session, row["session_id"])


def check_power_loop_state(client: Client, session: v1.Session, session_id: str) -> None:
    """Row C "session state": what was pending there waits here."""
    (state,) = rows(power_loop(), "SELECT * FROM session_state WHERE session_id = ?", session_id)
    pending = json.loads(state["pending_json"] or '{"tool_calls": []}')["tool_calls"]
    waiting = list(client.list_open_tool_calls(session_id))
    assert [(c.tool_call.id, c.tool_call.name) for c in waiting] == [
        (call["id"], call["name"]) for call in pending
    ]
    assert session.open_tool_call_count == len(pending)
    assert session.turn_index == state["round_index"]
    assert session.next_seq == state["next_seq"] + bool(pending)
    newest = max((c.id for c in client.list_compactions(session_id)), default=0)
    noted = rows(
        power_loop(),
        "SELECT max(note_seq) FROM compactions WHERE session_id = ? AND compact_seq = ?",
        session_id,
        state["last_compact_seq"],
    )
    assert newest == (noted[0][0] or 0)


def check_power_loop_message(message: v1.Message, row: sqlite3.Row) -> None:
    assert message.seq == row["seq"]
    assert message.role == ROLES[row["role"]]
    assert spoken(message) == (
        row["content"] or "",
        row["tool_call_id"] or "",
        row["name"] or "",
    )
    calls = json.loads(row["tool_calls_json"] or "[]")
    assert [(c.id, c.name, c.arguments) for c in sessiond.tool_calls_of(message)] == [
        (c["id"], c["function"]["name"], c["function"]["arguments"]) for c in calls
    ]
    assert message.turn_index == row["round_index"]
    assert MessageToDict(message.metadata) == json.loads(row["meta_json"])
    assert (message.compacted_by_seq != 0) == (row["state"] == "compacted_out")
    assert milliseconds(message.origin_time) == row["created_at"]


def check_power_loop_compactions(client: Client, session_id: str) -> None:
    theirs = rows(power_loop(), "SELECT * FROM compactions WHERE session_id = ?", session_id)
    ours = list(client.list_compactions(session_id))
    assert [
        (c.id, c.from_seq, c.to_seq, c.tokens_before, c.tokens_after, c.turn_index) for c in ours
    ] == [tuple(row)[2:8] for row in theirs]
    for compaction, row in zip(ours, theirs, strict=True):
        assert milliseconds(compaction.create_time) == row["created_at"]
        assert compaction.in_context
        context = client.get_context(session_id).messages
        assert context[0].seq == row["note_seq"]
        assert context[1].seq == row["to_seq"] + 1


def check_power_loop_usage(client: Client, session_id: str) -> None:
    theirs = rows(
        power_loop(),
        "SELECT * FROM usage_rounds WHERE session_id = ? ORDER BY round_index",
        session_id,
    )
    ours = list(client.list_usage(session_id, group_by="turn"))
    assert [
        (g.turn_index, g.usage.input_tokens, g.usage.output_tokens, g.usage.total_tokens, g.model)
        for g in ours
    ] == [tuple(row)[1:6] for row in theirs]
    assert [milliseconds(g.time) for g in ours] == [row["created_at"] for row in theirs]
    total = client.get_usage(session_id).total.total_tokens
    assert total == sum(row["total_tokens"] for row in theirs)


def check_power_loop(client: Client) -> None:
    found = rows(power_loop(), "SELECT * FROM sessions")
    assert all_sessions(client) == sorted(row["session_id"] for row in found)
    for row in found:
        id = row["session_id"]
        check_power_loop_session(client, row)
        theirs = rows(power_loop(), "SELECT * FROM messages WHERE session_id = ? ORDER BY seq", id)
        ours = log(client, id)
        for message, its in zip(ours, theirs, strict=False):
            check_power_loop_message(message, its)
        assert all(m.hidden_from_model and m.hidden_from_people for m in ours[len(theirs) :])
        check_power_loop_compactions(client, id)
        check_power_loop_usage(client, id)


def test_C_compaction_and_session_state_of_power_loop_arrive_and_twice_is_as_once(
    store: ServerProcess,
) -> None:
    before = power_loop().read_bytes()
    first = imported(store, "power-loop", power_loop())
    assert (first["sessions"], first["created"]) == (30, 30)
    assert first["in_metadata"] == {"sessions.pending_json": 5}
    with Client(store.target) as client:
        check_power_loop(client)
        again = imported(store, "power-loop", power_loop())
        assert (again["created"], again["added"], again["records_added"]) == (0, 0, 0)
        assert again["in_metadata"] == first["in_metadata"]
        check_power_loop(client)
    assert power_loop().read_bytes() == before


def many_hermes(path: Path, times: int) -> Path:
    """The same store several times over, long enough to be interrupted."""
    path.write_bytes(hermes().read_bytes())
    path.chmod(0o600)
    connection = sqlite3.connect(path)
    for table in ("messages", "sessions"):
        for (name,) in connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ?", (table,)
        ).fetchall():
            connection.execute(f"DROP TRIGGER {name}")
    sessions = [row[1] for row in connection.execute("PRAGMA table_info(sessions)")][1:]
    messages = [row[1] for row in connection.execute("PRAGMA table_info(messages)")][2:]
    for n in range(times):
        facts = ", ".join(
            "NULL" if name in ("title", "parent_session_id") else name for name in sessions
        )
        connection.execute(
            f"INSERT INTO sessions SELECT id || '-{n}', {facts} FROM sessions WHERE id NOT LIKE '%-1-%'"
        )
        columns = ", ".join(messages)
        connection.execute(
            f"INSERT INTO messages (session_id, {columns}) SELECT session_id || '-{n}', {columns}"
            " FROM messages WHERE session_id NOT LIKE '%-1-%' ORDER BY id"
        )
    connection.commit()
    connection.close()
    return path


def contents(client: Client) -> dict[str, list[bytes]]:
    return {
        id: [m.SerializeToString(deterministic=True) for m in log(client, id)]
        for id in all_sessions(client)
    }


@pytest.mark.timeout(300)
def test_D_import_that_was_killed_is_completed_by_the_next_one(
    store: ServerProcess, databases: Databases, tmp_path: Path
) -> None:
    path = many_hermes(tmp_path / "state.db", 6)
    whole = ServerProcess(SESSIOND_DSN=databases.migrated())
    try:
        imported(whole, "hermes", path)
        environment = {**os.environ, "SESSIOND_TARGET": store.target}
        with Client(store.target) as client, Client(whole.target) as reference:
            for _ in range(3):
                process = subprocess.Popen(
                    (*COMMAND, "import", "--format", "hermes", str(path)),
                    env=environment,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                )
                there = len(all_sessions(client))
                while process.poll() is None and len(all_sessions(client)) < there + 40:
                    pass
                process.send_signal(signal.SIGKILL)
                process.communicate(timeout=30)
            imported(store, "hermes", path)
            assert contents(client) == contents(reference)
            assert (
                client.get_usage(sessions=EVERYTHING).total
                == reference.get_usage(sessions=EVERYTHING).total
            )
    finally:
        whole.stop()

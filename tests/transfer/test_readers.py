"""Odd stores of other systems: older and newer columns, rows that don't fit, files in WAL mode."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from google.protobuf.json_format import MessageToDict

from sessiond import v1
from sessiond.cli.openai_files import FormatError
from sessiond.cli.sources import sqlite_file
from sessiond.cli.sources.hermes import HermesReader
from sessiond.cli.sources.making import Report
from tests.cli.command import Cli
from tests.support.processes import ServerProcess

OLD = """
CREATE TABLE schema_version (version INTEGER NOT NULL);
INSERT INTO schema_version VALUES (6);
CREATE TABLE sessions (
    id TEXT PRIMARY KEY, source TEXT NOT NULL, user_id TEXT, parent_session_id TEXT,
    started_at REAL NOT NULL, ended_at REAL, end_reason TEXT, title TEXT, input_tokens INTEGER, future TEXT
);
CREATE TABLE messages (
    id INTEGER PRIMARY KEY, session_id TEXT, role TEXT, content TEXT, tool_call_id TEXT,
    tool_calls TEXT, tool_name TEXT, timestamp REAL, active INTEGER, platform_message_id TEXT
);
CREATE TABLE state_meta (key TEXT, value TEXT);
INSERT INTO state_meta VALUES ('a', 'b');
INSERT INTO sessions VALUES
    ('child', 'cli', 'u', 'a' || char(9) || 'b', 100.5, NULL, NULL, NULL, 5, 'x'),
    ('sub', 'cli', 'u', 'a' || char(9) || 'b', 90.5, NULL, NULL, NULL, NULL, NULL),
    ('lost', 'cli', 'u', 'nobody', 100.5, NULL, NULL, NULL, NULL, NULL),
    ('a' || char(9) || 'b', 'cli', 'u', NULL, 50.25, 100.0, 'compression', 'one', NULL, NULL);
INSERT INTO messages VALUES
    (1, 'child', 'user', 'hi', NULL, NULL, NULL, 101.5, 1, 'tg-1'),
    (2, 'child', 'assistant', NULL, NULL, '[{"id": "c', NULL, 101.25, 1, NULL),
    (3, 'child', 'user', char(0) || 'json:[{"type": "text", "text": "look"}]', NULL, NULL,
        NULL, 103, 0, NULL),
    (4, 'child', 'session_meta', '{}', NULL, NULL, NULL, 104, 1, NULL),
    (5, 'orphan', 'user', '', NULL, NULL, NULL, 105, 1, NULL);
"""


def made(path: Path, script: str) -> Path:
    connection = sqlite3.connect(path)
    connection.executescript(script)
    connection.close()
    return path


def read(path: Path) -> tuple[dict[str, list[v1.TransferRecord]], Report]:
    report = Report()
    found: dict[str, list[v1.TransferRecord]] = {}
    with sqlite_file.opened(path) as database:
        for record in HermesReader(database, report).records():
            if record.HasField("session"):
                found[record.session.session.id] = []
                last = found[record.session.session.id]
            last.append(record)
    return found, report


def test_a_hermes_store_of_schema_6_with_odd_rows_arrives_whole(
    tmp_path: Path, target: ServerProcess
) -> None:
    path = made(tmp_path / "state.db", OLD)
    found, report = read(path)
    (first,) = [id for id in found if id.startswith("hermes:")]
    assert list(found).index(first) < list(found).index("child")
    child, sub, lost = (found[id][0].session.session for id in ("child", "sub", "lost"))
    assert (child.parent.id, child.parent.kind) == (first, v1.ParentKind.PARENT_KIND_CONTINUATION)
    assert sub.parent.kind == v1.ParentKind.PARENT_KIND_SUBAGENT
    assert not lost.HasField("parent")
    assert MessageToDict(lost.metadata) == {"hermes": {"parent_session_id": "nobody"}}
    one, two, three, four = (
        v1.Message.FromString(r.message.payload) for r in found["child"] if r.HasField("message")
    )
    assert MessageToDict(one.metadata) == {"hermes": {"platform_message_id": "tg-1"}}
    assert two.extensions["hermes.tool_calls"] == b'[{"id": "c'
    assert [part.text for part in three.parts] == ["look"]
    assert three.hidden_from_model
    assert three.hidden_from_people
    assert MessageToDict(three.metadata) == {"hermes": {"active": 0.0}}
    assert four.hidden_from_model
    assert four.hidden_from_people
    assert MessageToDict(four.metadata)["hermes"]["role"] == "session_meta"
    assert report.in_metadata["sessions.future"] == 1
    assert report.notes["rows of state_meta, which are of no session and weren't imported"] == 1
    moved = Cli(target.target).json("import", "--format", "hermes", str(path))
    assert (moved["sessions"], moved["errors"], moved["parents_missing"]) == (5, [], 0)


def test_a_file_in_wal_mode_is_read_with_its_log_and_left_alone(tmp_path: Path) -> None:
    path = made(tmp_path / "state.db", "PRAGMA journal_mode = WAL;" + OLD)
    writer = sqlite3.connect(path)
    writer.execute("PRAGMA wal_autocheckpoint = 0")
    writer.execute("UPDATE sessions SET title = 'in the log' WHERE id = 'sub'")
    writer.commit()
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    for file in tmp_path.iterdir():
        file.chmod(0o400)
    tmp_path.chmod(0o500)
    try:
        assert read(path)[0]["sub"][0].session.session.title == "in the log"
    finally:
        tmp_path.chmod(0o700)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    writer.close()


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    with pytest.raises(FormatError, match="not a SQLite file"):
        read(tmp_path / "text")
    older = OLD.replace("VALUES (6)", "VALUES (5)")
    with pytest.raises(FormatError, match="schema version is 5"):
        read(made(tmp_path / "older.db", older))
    with pytest.raises(FormatError, match="no table"):
        read(made(tmp_path / "other.db", "CREATE TABLE t (a)"))

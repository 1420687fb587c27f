"""The native file: everything in it, readable and exact, and never mistaken for whole when it isn't."""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import sessiond
from sessiond import Client, message_update, session_filter, v1
from sessiond.cli import native_files
from sessiond.cli.openai_files import FormatError
from tests.cli.command import COMMAND, Cli
from tests.support.data import AIRLINE
from tests.support.postgres import Databases
from tests.support.processes import ServerProcess
from tests.transfer.reading import everything


@pytest.fixture
def empty(databases: Databases) -> Iterator[ServerProcess]:
    """An empty store."""
    process = ServerProcess(SESSIOND_DSN=databases.migrated())
    yield process
    process.stop()
    assert not process.bugs()


def said(text: str, **fields: Any) -> v1.Message:
    return sessiond.message("user", text, token_count=3, **fields)


def eventful(client: Client, name: str) -> str:
    """A session in which everything has happened."""
    id = client.create_session(
        f"{name}-1",
        title=f"{name} talk",
        owner="ann",
        labels={"a": "b"},
        metadata={"n": 1.5, "deep": {"x": [None, True]}},
        config='{"t":  1e2}',
    ).id
    client.append(id, [said(f"{n} \0 \u2028 \U0001f600") for n in range(6)])
    odd = said("provider items", extensions={"sig": b"\xff\0\xfe", "a": b""})
    odd.parts.add(json='{"b":1, "a":1.0}')
    client.append(id, [odd, sessiond.message("assistant", "")])
    client.compact(id, 1, 3, "what was said", author="me", model="small")
    client.append(id, [said("after")])
    client.rewind(id, 8)
    client.append(id, [said("again")])
    client.revert_rewind(id, newest=True)
    client.update_messages(id, message_update(5, token_count=9))
    client.revert_compaction(id, 9)
    client.compact(id, 1, 2, "shorter")
    client.record_usage(
        id,
        [
            v1.UsageRecord(
                usage=v1.Usage(input_tokens=7, costs=[v1.Cost(estimated="0.000000000001")]),
                model="m",
                turn_index=2,
                request_id="once",
                billing=v1.Billing(provider="p"),
            )
        ],
    )
    for path, content in (("a/b.bin", bytes(range(256)) * 10_000), ("none", b""), ("x", b"x")):
        client.upload_attachment(
            id, content, name=path, metadata={"n": 1}, disposition="inline", attachment_id=path
        )
    client.update_attachment(id, "x", name="renamed", set_metadata={"m": 2})
    client.append_journal(id, v1.JournalRecord(kind="plan", content=b'{"a":\xff'), request_id="r")
    client.append_journal(id, v1.JournalRecord(kind="plan", turn_index=3))
    client.set_cursor(id, "memory", 4)
    client.create_reminder(
        id, 3600.0, interval=60.0, message="wake up", comment="why", metadata={"a": 1}
    )
    client.cancel_reminder(id, client.create_reminder(id, 5000.0).reminder.id)
    for most in (1, 3):
        client.create_reminder(id, 0, type=f"{name}-{most}", max_attempts=most)
        (claim,) = client.claim_reminders("w", EVERYTHING, types=[f"{name}-{most}"])
        client.fail_reminder(id, claim.reminder.id, claim.claim_token, "down", retry_delay=3600)
    client.create_session(f"{name}-2", parent_id=id, parent_kind="continuation", owner="ann")
    client.create_session(
        f"{name}-0", parent_id=id, parent_kind="subagent", spawn_tool_call_id="c", owner="ann"
    )
    client.fork_session(id, fork_id=f"{name}-fork", at_seq=6)
    client.end_session(f"{name}-2", "done")
    return id


EVERYTHING = session_filter(whole_tenant=True, include_subagents=True)
IDS = ("1", "2", "0", "fork")


def test_B_export_and_D_import_of_native_files_give_an_equal_store(
    old: Client, source: ServerProcess, empty: ServerProcess, tmp_path: Path
) -> None:
    eventful(old, "eq")
    file = tmp_path / "all.jsonl.gz"
    ids = [f"eq-{it}" for it in IDS]
    Cli(source.target).ok("export", "--format", "native", "--file", str(file), *ids)
    with Client(empty.target) as new:
        into = Cli(empty.target)
        first = into.json("import", "--format", "native", str(file))
        assert (first["sessions"], first["created"], first["errors"]) == (4, 4, [])
        for id in ids:
            assert everything(new, id) == everything(old, id)
        again = into.json("import", "--format", "native", "-", given=file.read_bytes())
        assert (again["created"], again["added"], again["records_added"]) == (0, 0, 0)
        for id in ids:
            assert everything(new, id) == everything(old, id)
        # What goes on with the copy is what would go on with the original.
        for client in (old, new):
            client.append("eq-1", [said("goes on", client_id="next")])
        assert len(list(old.list_messages("eq-1", view="context"))) == len(
            list(new.list_messages("eq-1", view="context"))
        )
        assert new.record_usage(
            "eq-1",
            [
                v1.UsageRecord(
                    usage=v1.Usage(input_tokens=7, costs=[v1.Cost(estimated="0.000000000001")]),
                    model="m",
                    turn_index=2,
                    request_id="once",
                    billing=v1.Billing(provider="p"),
                )
            ],
        ).replayed_count


def lines_of(source: ServerProcess, *ids: str) -> list[bytes]:
    return Cli(source.target).ok("export", "--format", "native", *ids).encode().splitlines(True)


def test_P10_a_native_file_is_readable_and_exact(old: Client, source: ServerProcess) -> None:
    id = eventful(old, "exact")
    lines = lines_of(source, id)
    read = list(native_files.records(lines))
    written = list(old.export_sessions([id]))
    assert [r.SerializeToString(deterministic=True) for r in read] == [
        r.SerializeToString(deterministic=True) for r in written
    ]
    message = json.loads(lines[2])["message"]
    assert message["message"]["parts"][0]["text"] == "0 \0 \u2028 \U0001f600"
    assert "payload" not in message


def test_P10_what_json_cannot_hold_comes_encoded() -> None:
    odd = v1.Message(client_id="a", role=v1.Role.ROLE_USER)
    odd.metadata["nan"] = float("nan")
    unknown = odd.SerializeToString() + b"\xf8\x3f\x01"
    for payload in (odd.SerializeToString(), unknown, b"\xff\xff"):
        record = v1.TransferRecord(message=v1.TransferMessage(seq=1, payload=payload))
        value = native_files.value_of(record)
        assert value["payload"]
        line = json.dumps({"message": value}).encode() + b"\n"
        (back,) = _bare([line])
        assert back == record


def _bare(lines: list[bytes]) -> list[v1.TransferRecord]:
    reader = native_files._Reader()
    reader.take(json.dumps(native_files._HEADER).encode() + b"\n")
    return [record for line in lines if (record := reader.take(line)) is not None]


def test_a_native_file_that_was_cut_off_or_changed_is_refused_as_a_whole(
    old: Client, source: ServerProcess, empty: ServerProcess, tmp_path: Path
) -> None:
    eventful(old, "cut")
    lines = lines_of(source, "cut-1", "cut-0")
    whole = b"".join(lines)
    assert native_files.check(lines) == len(lines) - 2
    damaged = [whole[:cut] for cut in range(0, len(whole), 4999)]
    damaged += [b"".join(lines[:place] + lines[place + 1 :]) for place in range(len(lines))]
    damaged.append(whole.replace(b"after", b"AFTER"))
    damaged.append(whole.replace(b'"version":1', b'"version":2'))
    damaged.append(whole + lines[-1])
    for content in damaged:
        with pytest.raises(FormatError):
            native_files.check(content.splitlines(True))
    file = tmp_path / "cut.jsonl.gz"
    file.write_bytes(gzip.compress(whole[:-100]))
    into = Cli(empty.target)
    assert "cut.jsonl.gz" in into.refused("import", "--format", "native", str(file))
    file.write_bytes(gzip.compress(whole)[:-200])
    assert "can't be read to its end" in into.refused("import", "--format", "native", str(file))
    with Client(empty.target) as new:
        assert not list(new.list_sessions(EVERYTHING))


@pytest.mark.parametrize(
    "line",
    [
        b'{"cursor":{"seq":"1","newer":1}}\n',
        b'{"message":{"message":{"newer":1}}}\n',
        b'{"message":{"message":{"parts":[{"newer":1}]}}}\n',
        b'{"session":{"encoded":"","newer":1}}\n',
        b'{"trailer":{"sessions":0,"records":0,"newer":1}}\n',
    ],
)
def test_P14_a_name_that_this_release_does_not_know_is_refused(line: bytes) -> None:
    reader = native_files._Reader()
    header = {**native_files._HEADER["sessiond"], "newer": 1}
    with pytest.raises(FormatError, match="newer"):
        reader.take(json.dumps({"sessiond": header}).encode() + b"\n")
    reader.take(json.dumps(native_files._HEADER).encode() + b"\n")
    with pytest.raises(FormatError, match="newer"):
        reader.take(line)


def test_sessions_that_differ_are_refused_and_others_go_on(
    old: Client, source: ServerProcess, empty: ServerProcess, tmp_path: Path
) -> None:
    eventful(old, "differ")
    file = tmp_path / "differ.jsonl"
    file.write_bytes(b"".join(lines_of(source, *(f"differ-{it}" for it in IDS))))
    with Client(empty.target) as new:
        new.create_session("differ-1", title="mine")
        new.create_session("other", title="differ talk", owner="ann")
        done = Cli(empty.target)("import", "--format", "native", str(file))
        assert done.returncode == 1
        assert "differ-1" in done.stderr
        assert "IMPORT_CONFLICT" in done.stderr
        assert new.get_session("differ-1").title == "mine"
        assert new.get_session("differ-fork").message_count == 6
        gone = new.delete_session("differ-1").session_count
        found = Cli(empty.target).json("import", "--format", "native", str(file))
        assert found["created"] == gone
        assert new.get_session("differ-1").title == "differ talk"
        again = Cli(empty.target).json("import", "--format", "native", str(file))
        assert again["records_added"] == again["added"] == 0


@pytest.mark.timeout(300)
def test_D_import_goes_on_when_the_server_was_killed(
    start_server: Callable[..., ServerProcess], databases: Databases, tmp_path: Path
) -> None:
    dsn = databases.migrated()
    first = start_server(SESSIOND_DSN=databases.migrated())
    Cli(first.target).ok("import", str(AIRLINE))
    file = tmp_path / "airline.jsonl"
    Cli(first.target).ok("export", "--format", "native", "--file", str(file))
    second = start_server(SESSIOND_DSN=dsn)
    port = second.target.rpartition(":")[2]
    again: list[ServerProcess] = []

    def kill() -> None:
        with Client(second.target) as client:
            while len(list(client.list_sessions(EVERYTHING, page_size=200))) < 20:
                pass
        second.process.send_signal(signal.SIGKILL)
        second.process.wait()
        again.append(start_server(SESSIOND_DSN=dsn, listen=f"127.0.0.1:{port}"))

    thread = threading.Thread(target=kill)
    thread.start()
    done = subprocess.run(
        (*COMMAND, "import", "--format", "native", str(file), "-o", "json"),
        env={**os.environ, "SESSIOND_TARGET": second.target},
        capture_output=True,
        check=False,
    )
    thread.join()
    assert done.returncode == 0, done.stderr
    assert b"waiting for it" in done.stderr
    into = Cli(again[0].target)
    for target in (Cli(first.target), into):
        target.ok("export", "--file", str(tmp_path / f"{target.target[-5:]}.jsonl"))
    one, other = (
        (tmp_path / f"{target.target[-5:]}.jsonl").read_bytes()
        for target in (Cli(first.target), into)
    )
    assert one == other
    counted = into.json("import", "--format", "native", str(file))
    assert (counted["added"], counted["known"]) == (0, 3206)


def _records(old: Client, name: str, content: bytes) -> list[v1.TransferRecord]:
    """A session with an attachment, as it is exported, but for what feeds tell of it."""
    id = old.create_session(name).id
    old.append(id, [said("see")])
    old.upload_attachment(id, content, attachment_id="it", name="a/x")
    return [it for it in old.export_sessions([id]) if not it.HasField("change")]


def _outcome(new: Client, records: list[v1.TransferRecord]) -> v1.ImportOutcome:
    (outcome,) = (it for answer in new.import_sessions(records) for it in answer.outcomes)
    return outcome


def test_D_import_of_attachments_that_differ_or_break_off(
    old: Client, new: Client, target: ServerProcess
) -> None:
    """Nothing half comes of them, and the session is refused; what is there already is known."""
    content = random.Random(1).randbytes(2_500_000)
    records = _records(old, "files", content)
    kinds = [record.WhichOneof("record") for record in records]
    assert kinds == ["session", "message", "attachment", "chunk", "chunk", "end"]

    def changed(place: int, **chunk: bytes | bool) -> list[v1.TransferRecord]:
        copies = [v1.TransferRecord.FromString(it.SerializeToString()) for it in records]
        if not chunk:
            del copies[place]
        for name, value in chunk.items():
            setattr(copies[place].chunk, name, value)
        return copies

    more = changed(4, chunk=records[4].chunk.chunk + b"x")
    for wrong in (changed(3), changed(2), changed(4), changed(4, chunk=b"x" * 402_848), more):
        outcome = _outcome(new, wrong)
        assert outcome.error.reason == v1.ErrorReason.ERROR_REASON_INVALID_FIELD, outcome
        assert list(new.list_attachments("files")) == []
    assert not _outcome(new, changed(4, chunk=b"", gone=True)).HasField("error")
    assert list(new.list_attachments("files")) == []
    assert _outcome(new, records).records_added == 1
    assert _outcome(new, records).records_known == 1
    assert new.read_attachment("files", "it") == content
    new.delete_attachment("files", "it")
    new.upload_attachment("files", b"other", attachment_id="it")
    conflict = _outcome(new, records).error
    assert conflict.reason == v1.ErrorReason.ERROR_REASON_IMPORT_CONFLICT
    assert new.read_attachment("files", "it") == b"other"
    cut = iter(records[:4])
    with pytest.raises(sessiond.InvalidField):
        list(new.import_sessions(cut))

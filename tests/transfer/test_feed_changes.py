"""B and D: what feeds tell beside messages goes along, and an import takes nothing else for it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sessiond import Client, v1
from tests.rpc.api import new, said
from tests.rpc.test_usage import used
from tests.transfer.reading import told
from tests.transfer.test_round_trip import move

FACTS = v1.TransferChangeKind.TRANSFER_CHANGE_KIND_FACTS
ATTACHMENT = v1.TransferChangeKind.TRANSFER_CHANGE_KIND_ATTACHMENT
USAGE = v1.TransferChangeKind.TRANSFER_CHANGE_KIND_USAGE
WRITER = v1.TransferChangeKind.TRANSFER_CHANGE_KIND_WRITER
STORED = v1.AttachmentChange.ATTACHMENT_CHANGE_STORED
ACQUIRED = v1.WriterChange.WRITER_CHANGE_ACQUIRED


def varied(client: Client) -> str:
    """A session with a change of every kind that isn't about messages."""
    id = new()
    client.create_session(id)
    client.append(id, said())
    client.update_session(id, title=new("t"), system_prompt="p")
    kept = client.upload_attachment(id, b"kept", name="kept.txt").attachment
    gone = client.upload_attachment(id, b"gone", name="gone.txt").attachment
    client.append(id, said())
    client.update_attachment(id, kept.id, name="renamed.txt")
    client.delete_attachment(id, gone.id)
    client.record_usage(id, [used(1), used(2)])
    lease = client.acquire_writer(id, "h" * 256)
    client.release_writer(id, lease.writer_token)
    client.update_session(id, pinned=True)
    return id


def test_B_and_D_feeds_tell_the_same_after_a_move_and_a_second_one_adds_nothing(
    old: Client, new: Client
) -> None:
    id = varied(old)
    before = told(old, id)
    assert {kind for kind, _ in before} >= {
        *("session_changed", "attachment_changed", "usage_recorded", "writer_changed"),
    }
    (outcome,) = move(old, new, [id])
    assert outcome.created
    assert not outcome.HasField("error")
    assert told(new, id) == before
    (again,) = move(old, new, [id])
    assert again.records_added == 0
    assert told(new, id) == before


@pytest.mark.parametrize(
    ("spoil", "field"),
    [
        (lambda it: it.changed_fields.paths.append("id"), "changed_fields"),
        (lambda it: setattr(it, "reference", 3), "reference"),
        (lambda it: setattr(it, "kind", USAGE), "changed_fields"),
        (lambda it: setattr(it, "holder", "h"), "holder"),
        (lambda it: setattr(it, "writer_change", ACQUIRED), "holder"),
        (lambda it: setattr(it, "attachment_id", "a"), "attachment_id"),
    ],
)
def test_P14_a_change_of_facts_that_says_something_else_is_refused(
    old: Client, new: Client, spoil: Callable[[v1.TransferChange], None], field: str
) -> None:
    assert refused_fields(old, new, FACTS, spoil)[0].endswith(f".change.{field}")


@pytest.mark.parametrize(
    ("kind", "spoil", "field"),
    [
        (ATTACHMENT, lambda it: it.ClearField("attachment_id"), "attachment_id"),
        (ATTACHMENT, lambda it: setattr(it, "attachment_change", 9), "attachment_change"),
        (WRITER, lambda it: it.ClearField("holder"), "holder"),
        (WRITER, lambda it: setattr(it, "holder", "h" * 257), "holder"),
        (WRITER, lambda it: it.ClearField("writer_change"), "writer_change"),
    ],
)
def test_P14_a_change_that_does_not_say_of_what_it_tells_is_refused(
    old: Client,
    new: Client,
    kind: v1.TransferChangeKind.ValueType,
    spoil: Callable[[v1.TransferChange], None],
    field: str,
) -> None:
    assert refused_fields(old, new, kind, spoil)[0].endswith(f".change.{field}")


def refused_fields(
    old: Client,
    new: Client,
    kind: v1.TransferChangeKind.ValueType,
    spoil: Callable[[v1.TransferChange], None],
) -> list[str]:
    """The fields for which an import is refused in which the first change of a kind is spoilt."""
    records = list(old.export_sessions([varied(old)]))
    spoil(next(it.change for it in records if it.change.kind == kind))
    (outcome,) = [it for answer in new.import_sessions(records) for it in answer.outcomes]
    assert outcome.error.reason == v1.ErrorReason.ERROR_REASON_INVALID_FIELD
    return [violation.field for violation in outcome.error.field_violations]

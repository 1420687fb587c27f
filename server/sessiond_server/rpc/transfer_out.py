"""Records of exported sessions on their way out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask

from sessiond.v1 import compaction_pb2, message_pb2, usage_pb2
from sessiond.v1 import transfer_service_pb2 as pb
from sessiond_server.operations.export_log import ExportedFile, FileChunk
from sessiond_server.operations.exporting import Exported
from sessiond_server.rpc import sessions_io, transfer_beside
from sessiond_server.rpc.attachments_io import attachment_out
from sessiond_server.rpc.times import timestamp
from sessiond_server.rpc.usage_io import BILLING, usage_out
from sessiond_server.sessions import facts as changed_facts
from sessiond_server.sessions.transfers import (
    BillingFacts,
    Change,
    Compaction,
    CompactionRevert,
    JournalRecord,
    Mark,
    Reminder,
    Rewind,
    RewindRevert,
    SeenRequest,
    SetupChange,
    UsageSum,
    UsageTurn,
)
from sessiond_server.sessions.usage import Amounts
from sessiond_server.store.messages import StoredMessage


def session(found: Exported) -> pb.TransferRecord:
    """The record that begins a session."""
    facts = sessions_io.session_out(found.row)
    facts.ClearField("usage")
    sessions_io.set_setup(facts, found.first_setup)
    return pb.TransferRecord(
        session=pb.TransferSession(
            session=facts,
            create_request_id=found.row.create_request_id,
        )
    )


def end(found: Exported, message_count: int, *, gone: bool) -> pb.TransferRecord:
    """The record that ends it."""
    return pb.TransferRecord(
        end=pb.TransferEnd(
            message_count=message_count,
            next_seq=found.row.next_seq,
            next_change=found.next_change,
            revision=found.row.version.revision,
            gone=gone,
        )
    )


def item(happened: Any) -> pb.TransferRecord:
    """A record within a session."""
    if isinstance(happened, StoredMessage):
        return _message(happened)
    if type(happened) is tuple:
        return _revision(happened)
    return _ITEMS[type(happened)](happened)


def _message(found: StoredMessage) -> pb.TransferRecord:
    return pb.TransferRecord(
        message=pb.TransferMessage(
            seq=found.seq,
            payload=found.payload,
            create_time=timestamp(found.create_time),
            summary=found.summary,
        )
    )


def _revision(found: tuple[int, int, int, bytes]) -> pb.TransferRecord:
    seq, change_no, effective_seq, payload = found
    return pb.TransferRecord(
        revision=pb.TransferRevision(
            seq=seq, change_no=change_no, effective_seq=effective_seq, payload=payload
        )
    )


def _compaction(found: Compaction) -> pb.TransferRecord:
    facts = found._asdict()
    change_no = facts.pop("change_no")
    facts["id"] = facts.pop("summary_seq")
    facts["create_time"] = timestamp(found.create_time)
    compaction = compaction_pb2.Compaction(**facts)
    return pb.TransferRecord(
        compaction=pb.TransferCompaction(compaction=compaction, change_no=change_no)
    )


def _compaction_revert(found: CompactionRevert) -> pb.TransferRecord:
    return pb.TransferRecord(
        compaction_revert=pb.TransferCompactionRevert(
            compaction_id=found.summary_seq,
            effective_seq=found.effective_seq,
            revert_time=timestamp(found.time),
        )
    )


def _rewind(found: Rewind) -> pb.TransferRecord:
    rewind = message_pb2.Rewind(
        id=found.rewind_id,
        after_seq=found.after_seq,
        to_seq=found.to_seq,
        author=found.author,
        actor=found.actor,
        create_time=timestamp(found.create_time),
    )
    return pb.TransferRecord(
        rewind=pb.TransferRewind(rewind=rewind, effective_seq=found.effective_seq)
    )


def _rewind_revert(found: RewindRevert) -> pb.TransferRecord:
    return pb.TransferRecord(
        rewind_revert=pb.TransferRewindRevert(
            rewind_id=found.rewind_id,
            effective_seq=found.effective_seq,
            revert_time=timestamp(found.time),
        )
    )


def _setup(found: SetupChange) -> pb.TransferRecord:
    record = pb.TransferSetup(effective_seq=found.effective_seq)
    sessions_io.set_setup(record, found.setup)
    return pb.TransferRecord(setup=record)


def _change(found: Change) -> pb.TransferRecord:
    return pb.TransferRecord(
        change=pb.TransferChange(
            change_no=found.change_no,
            after_seq=found.after_seq,
            kind=found.kind,  # type: ignore[arg-type]
            seqs=found.seqs,
            create_time=timestamp(found.create_time),
            **_about(found),
        )
    )


def _about(found: Change) -> dict[str, Any]:
    """What a change tells of."""
    if found.kind == pb.TRANSFER_CHANGE_KIND_FACTS:
        fields = changed_facts.from_bits(found.reference)
        return {"changed_fields": FieldMask(paths=fields)} if fields else {}
    told = _about_other(found)
    return told | {"reference": found.reference}


def _about_other(found: Change) -> dict[str, Any]:
    """The child, the reminder, the attachment or the holder that a change tells of."""
    if found.kind == pb.TRANSFER_CHANGE_KIND_ATTACHMENT:
        return {"attachment_id": found.child_id, "attachment_change": found.child_kind}
    if found.kind == pb.TRANSFER_CHANGE_KIND_WRITER:
        return {"holder": found.child_id, "writer_change": found.child_kind}
    if found.kind == pb.TRANSFER_CHANGE_KIND_REMINDER:
        return {"reminder_id": found.child_id, "reminder_change": found.child_kind}
    return {"child_id": found.child_id, "child_kind": found.child_kind}


def _amounts(amounts: Amounts, currency: str) -> dict[str, Any]:
    """What sums of days and turns have in common."""
    return {
        "usage": usage_out({currency: amounts}),
        "currency": currency,
        "record_count": amounts.record_count,
        "estimated_count": amounts.estimated_count,
        "actual_count": amounts.actual_count,
    }


def _usage(found: UsageSum) -> pb.TransferRecord:
    sums = pb.TransferUsage(
        day=found.day.isoformat(),
        model=found.model,
        inherited=found.inherited,
        **_amounts(found.amounts, found.currency),
    )
    return pb.TransferRecord(usage=sums)


def _turn(found: UsageTurn) -> pb.TransferRecord:
    sums = pb.TransferUsage(
        day=found.day.isoformat(),
        model=found.model,
        turn_index=found.turn_index,
        record_time=timestamp(found.record_time),
        **_amounts(found.amounts, found.currency),
    )
    return pb.TransferRecord(usage=sums)


def _billing(found: BillingFacts) -> pb.TransferRecord:
    model, *facts = found.facts
    billing = usage_pb2.Billing(**dict(zip(BILLING, facts, strict=True)))
    return pb.TransferRecord(billing=pb.TransferBilling(billing=billing, model=model))


def _request(found: SeenRequest) -> pb.TransferRecord:
    return pb.TransferRecord(request=pb.TransferRequest(**found._asdict()))


def _file(found: ExportedFile) -> pb.TransferRecord:
    facts = attachment_out(found.row)
    return pb.TransferRecord(attachment=pb.TransferAttachment(attachment=facts, chunk=found.chunk))


def _chunk(found: FileChunk) -> pb.TransferRecord:
    return pb.TransferRecord(chunk=pb.TransferChunk(chunk=found.chunk, gone=found.gone))


_ITEMS: dict[type[Any], Callable[[Any], pb.TransferRecord]] = {
    ExportedFile: _file,
    FileChunk: _chunk,
    Compaction: _compaction,
    CompactionRevert: _compaction_revert,
    Rewind: _rewind,
    RewindRevert: _rewind_revert,
    SetupChange: _setup,
    Change: _change,
    UsageSum: _usage,
    UsageTurn: _turn,
    BillingFacts: _billing,
    SeenRequest: _request,
    JournalRecord: transfer_beside.journal_out,
    Mark: transfer_beside.mark_out,
    Reminder: transfer_beside.reminder_out,
}

"""Records of imported sessions on their way in: checked like any request, and translated."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from sessiond.v1 import feed_service_pb2 as rpc
from sessiond.v1 import message_pb2, reminder_pb2, session_pb2, usage_pb2
from sessiond.v1 import transfer_service_pb2 as pb
from sessiond_server.errors import invalid
from sessiond_server.operations.importing import End, Wanted
from sessiond_server.operations.importing_files import FileImport
from sessiond_server.rpc import (
    attachments_io,
    checks,
    decoding,
    limits,
    messages_in,
    sessions_io,
    transfer_beside,
)
from sessiond_server.rpc.checks import Checks
from sessiond_server.rpc.usage_io import BILLING, COUNTS
from sessiond_server.sessions import facts as changed_facts
from sessiond_server.sessions.transfers import (
    BillingFacts,
    Change,
    Compaction,
    CompactionRevert,
    Item,
    Message,
    Revision,
    Rewind,
    RewindRevert,
    SeenRequest,
    SetupChange,
    UsageSum,
    UsageTurn,
)
from sessiond_server.sessions.usage import Amounts
from sessiond_server.store import requests
from sessiond_server.store.appends import MessageRow
from sessiond_server.store.database import Database
from sessiond_server.store.heads import ACTIVE
from sessiond_server.store.transfers import Origin

_STATES = frozenset(session_pb2.SessionState.values())
_PARENT_KINDS = frozenset(session_pb2.ParentKind.values()) - {session_pb2.PARENT_KIND_UNSPECIFIED}
_REMINDER_CHANGES = frozenset(reminder_pb2.ReminderChange.values()) - {0}
_ATTACHMENT_CHANGES = frozenset(rpc.AttachmentChange.values()) - {0}
_WRITER_CHANGES = frozenset(rpc.WriterChange.values()) - {0}
_CHANGE_KINDS = frozenset(pb.TransferChangeKind.values()) - {pb.TRANSFER_CHANGE_KIND_UNSPECIFIED}
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_SUM = re.compile(r"\d{1,30}(\.\d{1,30})?", re.ASCII)
_REQUEST_KINDS = frozenset({requests.USAGE, requests.JOURNAL})


def session(record: pb.TransferSession, where: str, *, tenant: str) -> Wanted:
    """The session that a record begins. Raises `InvalidFields`."""
    facts = session_pb2.Session()
    facts.CopyFrom(record.session)
    facts.ClearField("parent")
    given = record.session
    with Checks() as check:
        new = sessions_io.new_session(facts, f"{where}.session", facts.id, check, tenant=tenant)
        check.request_id(f"{where}.create_request_id", record.create_request_id)
        check.enum(f"{where}.session.state", given.state, _STATES)
        check.text(f"{where}.session.end_reason", given.end_reason)
        check.seq(f"{where}.session.first_seq", given.first_seq)
        if given.HasField("parent"):
            _check_parent(given, f"{where}.session.parent", check)
        created = _time(given.create_time, f"{where}.session.create_time", check)
        times = [
            _time(getattr(given, name), f"{where}.session.{name}", check)
            if given.HasField(name)
            else None
            for name in ("update_time", "last_activity_time", "end_time")
        ]
    new = replace(new, request_id=record.create_request_id)
    if given.HasField("parent"):
        new = replace(
            new,
            parent_id=given.parent.id,
            parent_kind=given.parent.kind,
            spawn_tool_call_id=given.parent.spawn_tool_call_id,
            fork_seq=given.parent.fork_seq,
        )
    updated, active, ended = times
    return Wanted(
        new,
        Origin(
            given.state or ACTIVE,
            given.end_reason,
            created,
            updated or created,
            active or created,
            ended,
            given.first_seq or 1,
        ),
    )


def _check_parent(given: session_pb2.Session, where: str, check: Checks) -> None:
    parent = given.parent
    check.session_id(f"{where}.id", parent.id)
    if parent.id == given.id:
        check.wrong(f"{where}.id", "must be another session")
    check.enum(f"{where}.kind", parent.kind, _PARENT_KINDS)
    check.tool_call_id(f"{where}.spawn_tool_call_id", parent.spawn_tool_call_id)
    check.seq(f"{where}.fork_seq", parent.fork_seq)


def _time(value: Timestamp, field: str, check: Checks) -> datetime:
    """A time that was, by clocks that don't quite agree."""
    before = len(check.violations)
    check.timestamp(field, value)
    if value.seconds > time.time() + limits.IMPORT_AHEAD:
        check.wrong(field, "must not be more than a day ahead")
    usable = len(check.violations) == before
    return checks.moment(value if usable else Timestamp())


def item(record: pb.TransferRecord, where: str) -> Item:
    """A record within a session. Raises `InvalidFields`."""
    kind = record.WhichOneof("record")
    if kind is None or kind not in _ITEMS:
        raise invalid(where, "must hold a record")
    with Checks() as check:
        found = _ITEMS[kind](getattr(record, kind), f"{where}.{kind}", check)
    return found


def _payload(payload: bytes, where: str, check: Checks) -> MessageRow:
    """A message as it is stored: the bytes that came, unless something is left out of them, or they are more
    than the message needs: what is the same has nearly the same length (see `contents.SPELLING_BYTES`)."""
    message = message_pb2.Message()
    check.size(where, len(payload), limits.MESSAGE_BYTES)
    try:
        message.ParseFromString(payload)
    except DecodeError:
        check.wrong(where, "can't be decoded as sessiond.v1.Message")
    if check.violations:
        return MessageRow("", 0, None, b"")
    whole = bool(message.kind)
    size = message.ByteSize()
    message.DiscardUnknownFields()
    if message.ByteSize() != size:
        decoding.check_known(message_pb2.Message.FromString(payload), where)
    row = messages_in.row(message, where, check)
    return row._replace(payload=payload) if whole and len(payload) == len(row.payload) else row


def _message(record: pb.TransferMessage, where: str, check: Checks) -> Message:
    check.seq(f"{where}.seq", record.seq, least=1)
    created = _time(record.create_time, f"{where}.create_time", check)
    if not record.HasField("create_time"):
        check.wrong(f"{where}.create_time", "is required")
    row = _payload(record.payload, f"{where}.payload", check)
    return Message(record.seq, created, record.summary, *row)


def _revision(record: pb.TransferRevision, where: str, check: Checks) -> Revision:
    for name in ("seq", "change_no", "effective_seq"):
        check.seq(f"{where}.{name}", getattr(record, name), least=1)
    row = _payload(record.payload, f"{where}.payload", check)
    numbers = record.seq, record.change_no, record.effective_seq
    return Revision(*numbers, row.facts, row.type or None, row.payload)


def _compaction(record: pb.TransferCompaction, where: str, check: Checks) -> Compaction:
    facts, inside = record.compaction, f"{where}.compaction"
    for name in ("id", "from_seq", "to_seq"):
        check.seq(f"{inside}.{name}", getattr(facts, name), least=1)
    for name in ("message_count", "tokens_before", "tokens_after"):
        check.seq(f"{inside}.{name}", getattr(facts, name))
    check.seq(f"{where}.change_no", record.change_no)
    check.not_negative(f"{inside}.turn_index", facts.turn_index)
    check.text(f"{inside}.author", facts.author)
    check.text(f"{inside}.actor", facts.actor)
    check.text(f"{inside}.model", facts.model)
    return Compaction(
        facts.id,
        record.change_no,
        facts.from_seq,
        facts.to_seq,
        facts.message_count,
        facts.tokens_before,
        facts.tokens_after,
        facts.author,
        facts.actor,
        facts.model,
        facts.turn_index,
        _time(facts.create_time, f"{inside}.create_time", check),
    )


def _compaction_revert(
    record: pb.TransferCompactionRevert, where: str, check: Checks
) -> CompactionRevert:
    check.seq(f"{where}.compaction_id", record.compaction_id, least=1)
    check.seq(f"{where}.effective_seq", record.effective_seq, least=1)
    moment = _time(record.revert_time, f"{where}.revert_time", check)
    return CompactionRevert(record.compaction_id, record.effective_seq, moment)


def _rewind(record: pb.TransferRewind, where: str, check: Checks) -> Rewind:
    facts, inside = record.rewind, f"{where}.rewind"
    for name in ("id", "after_seq", "to_seq"):
        check.seq(f"{inside}.{name}", getattr(facts, name))
    check.seq(f"{where}.effective_seq", record.effective_seq, least=1)
    check.text(f"{inside}.author", facts.author)
    check.text(f"{inside}.actor", facts.actor)
    return Rewind(
        facts.id,
        facts.after_seq,
        facts.to_seq,
        record.effective_seq,
        facts.author,
        facts.actor,
        _time(facts.create_time, f"{inside}.create_time", check),
    )


def _rewind_revert(record: pb.TransferRewindRevert, where: str, check: Checks) -> RewindRevert:
    check.seq(f"{where}.rewind_id", record.rewind_id, least=1)
    check.seq(f"{where}.effective_seq", record.effective_seq, least=1)
    moment = _time(record.revert_time, f"{where}.revert_time", check)
    return RewindRevert(record.rewind_id, record.effective_seq, moment)


def _setup(record: pb.TransferSetup, where: str, check: Checks) -> SetupChange:
    check.seq(f"{where}.effective_seq", record.effective_seq, least=1)
    sessions_io.check_setup(record, where, check)
    return SetupChange(record.effective_seq, sessions_io.setup_in(record))


def _change(record: pb.TransferChange, where: str, check: Checks) -> Change:
    check.seq(f"{where}.change_no", record.change_no, least=1)
    for name in ("after_seq", "reference"):
        check.seq(f"{where}.{name}", getattr(record, name))
    check.enum(f"{where}.kind", record.kind, _CHANGE_KINDS)
    check.count(f"{where}.seqs", len(record.seqs), limits.CALL_MESSAGES)
    for place, seq in enumerate(record.seqs[: limits.CALL_MESSAGES]):
        check.seq(f"{where}.seqs[{place}]", seq, least=1)
    child_id, child_kind = _subject(record, where, check)
    return Change(
        record.change_no,
        record.after_seq,
        record.kind,
        _reference(record, where, check),
        list(record.seqs) or None,
        child_id,
        child_kind,
        _time(record.create_time, f"{where}.create_time", check),
    )


class _Subject(NamedTuple):
    """What changes of a kind tell of: its fields, and which values they take."""

    id_field: str
    check_id: Callable[[Checks, str, str], None]
    change_field: str
    changes: frozenset[int]


_SUBJECTS = {
    pb.TRANSFER_CHANGE_KIND_CHILD: _Subject(
        "child_id", Checks.session_id, "child_kind", _PARENT_KINDS
    ),
    pb.TRANSFER_CHANGE_KIND_REMINDER: _Subject(
        "reminder_id", Checks.reminder_id, "reminder_change", _REMINDER_CHANGES
    ),
    pb.TRANSFER_CHANGE_KIND_ATTACHMENT: _Subject(
        "attachment_id", Checks.client_id, "attachment_change", _ATTACHMENT_CHANGES
    ),
    pb.TRANSFER_CHANGE_KIND_WRITER: _Subject(
        "holder", Checks.required, "writer_change", _WRITER_CHANGES
    ),
}


def _subject(record: pb.TransferChange, where: str, check: Checks) -> tuple[str, int]:
    """What a change tells of, and what happened to it; changes of other kinds leave that out."""
    found = "", 0
    for kind, subject in _SUBJECTS.items():
        of_id = str(getattr(record, subject.id_field))
        change = int(getattr(record, subject.change_field))
        if record.kind == kind:
            subject.check_id(check, f"{where}.{subject.id_field}", of_id)
            check.enum(f"{where}.{subject.change_field}", change, subject.changes)
            found = of_id, change
        elif of_id or change:
            check.wrong(f"{where}.{subject.id_field}", "must be left out of a change of this kind")
    return found


def _reference(record: pb.TransferChange, where: str, check: Checks) -> int:
    """The number of what a change tells of, or the facts that it touched."""
    fields = record.changed_fields.paths
    if record.kind != pb.TRANSFER_CHANGE_KIND_FACTS:
        if fields:
            check.wrong(f"{where}.changed_fields", "must be left out unless facts were changed")
        return record.reference
    if record.reference:
        check.wrong(f"{where}.reference", "must be left out of a change of facts")
    known = [field for field in fields if field in changed_facts.FIELDS]
    if len(known) < len(fields):
        check.wrong(f"{where}.changed_fields", f"may hold {', '.join(changed_facts.FIELDS)}")
    return changed_facts.to_bits(known)


def _usage(record: pb.TransferUsage, where: str, check: Checks) -> UsageSum | UsageTurn:
    day = _day(record.day, f"{where}.day", check)
    check.text(f"{where}.model", record.model)
    if record.currency and not limits.CURRENCY.fullmatch(record.currency):
        check.wrong(f"{where}.currency", limits.CURRENCY_FORM)
    for field in COUNTS:
        check.seq(f"{where}.usage.{field}", getattr(record.usage, field))
    for field in ("record_count", "estimated_count", "actual_count"):
        check.seq(f"{where}.{field}", getattr(record, field))
    check.count(f"{where}.usage.costs", len(record.usage.costs), 1)
    cost = record.usage.costs[0] if record.usage.costs else usage_pb2.Cost()
    amounts = Amounts._make(
        [
            record.record_count,
            *(getattr(record.usage, field) for field in COUNTS),
            record.estimated_count,
            _money(cost.estimated, f"{where}.usage.costs[0].estimated", check),
            record.actual_count,
            _money(cost.actual, f"{where}.usage.costs[0].actual", check),
        ]
    )
    key = record.model, day, record.currency
    if not record.HasField("turn_index"):
        return UsageSum(record.inherited, day, record.model, record.currency, amounts)
    check.not_negative(f"{where}.turn_index", record.turn_index)
    if record.inherited:
        check.wrong(f"{where}.inherited", "must be left out of a turn")
    time = _time(record.record_time, f"{where}.record_time", check)
    return UsageTurn(record.turn_index, *key, time, amounts)


def _day(text: str, field: str, check: Checks) -> date:
    try:
        if not _DAY.fullmatch(text):
            raise ValueError
        return date.fromisoformat(text)
    except ValueError:
        check.wrong(field, "must be a day such as 2026-01-31")
        return date.min


def _money(text: str, field: str, check: Checks) -> Decimal:
    if text and not _SUM.fullmatch(text):
        check.wrong(
            field, "must be a decimal of at most 30 digits before the point and 30 behind it"
        )
        return Decimal(0)
    return Decimal(text or 0)


def _billing(record: pb.TransferBilling, where: str, check: Checks) -> BillingFacts:
    check.text(f"{where}.model", record.model)
    for field in BILLING:
        most = limits.BASE_URL if field == "base_url" else limits.SHORT_TEXT
        check.text(f"{where}.billing.{field}", getattr(record.billing, field), most)
    return BillingFacts((record.model, *(getattr(record.billing, field) for field in BILLING)))


def _request(record: pb.TransferRequest, where: str, check: Checks) -> SeenRequest:
    check.enum(f"{where}.kind", record.kind, _REQUEST_KINDS)
    check.request_id(f"{where}.request_id", record.request_id)
    if not record.request_id:
        check.wrong(f"{where}.request_id", "is required")
    if not 1 <= len(record.digest) <= 32:
        check.wrong(f"{where}.digest", "must be 1–32 bytes")
    check.seq(f"{where}.result", record.result)
    return SeenRequest(record.kind, record.request_id, record.digest, record.result)


def attachment(
    record: pb.TransferAttachment, where: str, session_id: str, database: Database
) -> FileImport:
    """An attachment that begins. Raises `InvalidFields`."""
    given, inside = record.attachment, f"{where}.attachment"
    with Checks() as check:
        new = attachments_io.described(given, inside, session_id, check)
        for field in ("id", "name"):
            if not getattr(given, field):
                check.wrong(f"{inside}.{field}", "is required")
        check.seq(f"{inside}.size", given.size)
        if len(given.sha256) != 32:
            check.wrong(f"{inside}.sha256", f"must be 32 bytes, has {len(given.sha256)}")
        if not given.HasField("create_time"):
            check.wrong(f"{inside}.create_time", "is required")
        created = _time(given.create_time, f"{inside}.create_time", check)
        updated = created
        if given.HasField("update_time"):
            updated = _time(given.update_time, f"{inside}.update_time", check)
    new = replace(new, create_time=created, update_time=updated)
    return FileImport(database, new, given.size, given.sha256)


def chunk(record: pb.TransferAttachment | pb.TransferChunk, where: str) -> bytes:
    """The bytes of a record. Raises `InvalidFields`."""
    with Checks() as check:
        check.size(f"{where}.chunk", len(record.chunk), limits.ATTACHMENT_FRAME_BYTES)
    return record.chunk


def end(record: pb.TransferEnd, where: str, message_count: int) -> End:
    """Where a session ends of which so many messages came. Raises `InvalidFields`."""
    with Checks() as check:
        check.seq(f"{where}.next_seq", record.next_seq)
        check.seq(f"{where}.next_change", record.next_change)
        check.seq(f"{where}.revision", record.revision)
        if 0 < record.revision < record.next_seq:
            check.wrong(f"{where}.revision", f"must be {record.next_seq} or more, or left out")
        if record.gone:
            check.wrong(f"{where}.gone", "the session was gone when it was exported")
        if record.message_count != message_count:
            check.wrong(
                f"{where}.message_count", f"is {record.message_count}, but {message_count} came"
            )
    return End(record.next_seq, record.next_change, revision=record.revision)


_ITEMS: dict[str, Callable[[Any, str, Checks], Item]] = {
    "message": _message,
    "revision": _revision,
    "compaction": _compaction,
    "compaction_revert": _compaction_revert,
    "rewind": _rewind,
    "rewind_revert": _rewind_revert,
    "setup": _setup,
    "change": _change,
    "usage": _usage,
    "billing": _billing,
    "request": _request,
    "journal": transfer_beside.journal_in,
    "cursor": transfer_beside.mark_in,
    "reminder": transfer_beside.reminder_in,
}

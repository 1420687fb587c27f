"""Recalls on their way in and out."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

import uuid_utils

from sessiond.v1 import message_pb2
from sessiond.v1 import recall_service_pb2 as rpc
from sessiond_server.errors import invalid
from sessiond_server.operations.recalls import Claimed, NewRecall
from sessiond_server.rpc import access, checks, limits, messages_in
from sessiond_server.rpc.checks import Checks
from sessiond_server.rpc.times import duration, optional_timestamp, timestamp
from sessiond_server.sessions.recalls import ONCE
from sessiond_server.store.appends import MessageRow
from sessiond_server.store.recalls import PENDING, RecallRow


def new_recall(request: rpc.CreateRecallRequest) -> NewRecall:
    """A recall to be made, checked."""
    session_id = checks.session_id(request.session_id)
    recall = request.recall
    recall_id = recall.id or str(uuid_utils.uuid7())
    with Checks() as check:
        check.recall_id("recall.id", recall_id)
        check.text("recall.type", recall.type)
        check.note("recall.comment", recall.comment)
        check.struct("recall.metadata", recall.metadata)
        if recall.HasField("message"):
            complete(recall.message, "recall.message", check)
        interval = ONCE
        if recall.HasField("interval"):
            interval = check.span(
                "recall.interval", recall.interval, limits.RECALL_INTERVAL_SECONDS
            )
        trigger_time = _trigger_time(request, check)
    details = rpc.Recall(comment=recall.comment)
    if recall.HasField("message"):
        details.message.CopyFrom(recall.message)
    if recall.HasField("metadata"):
        details.metadata.CopyFrom(recall.metadata)
    return NewRecall(
        session_id,
        access.key_of(session_id),
        recall_id,
        recall.type,
        trigger_time,
        interval,
        details.SerializeToString(deterministic=True),
        _hash(request, details),
        request.replace_pending,
        limits.PENDING_RECALLS,
    )


def _trigger_time(request: rpc.CreateRecallRequest, check: Checks) -> datetime | timedelta:
    given = request.recall.HasField("trigger_time")
    if request.HasField("delay"):
        if given:
            check.wrong("delay", "must be left out with recall.trigger_time")
        return check.span("delay", request.delay, limits.RECALL_DELAY_SECONDS)
    if not given:
        check.wrong("recall.trigger_time", "is required, or a delay")
    check.timestamp("recall.trigger_time", request.recall.trigger_time)
    check.done()
    time = checks.moment(request.recall.trigger_time)
    first, last = limits.RECALL_YEARS
    if not first <= time.year <= last:
        check.wrong("recall.trigger_time", f"must be a time of the years {first} to {last}")
    return time


def _hash(request: rpc.CreateRecallRequest, details: rpc.Recall) -> bytes:
    """What tells a repeated request from another one."""
    said = rpc.CreateRecallRequest(session_id=request.session_id, recall=details)
    said.recall.type = request.recall.type
    for field in ("trigger_time", "interval"):
        if request.recall.HasField(field):
            getattr(said.recall, field).CopyFrom(getattr(request.recall, field))
    if request.HasField("delay"):
        said.delay.CopyFrom(request.delay)
    return hashlib.blake2b(said.SerializeToString(deterministic=True), digest_size=16).digest()


def complete(message: message_pb2.Message, where: str, check: Checks) -> None:
    """Check a recall's message and complete it, but for its client id."""
    message.role = message.role or message_pb2.ROLE_USER
    message.kind = message.kind or message_pb2.MESSAGE_KIND_RECALL
    message.client_id = "recall"
    messages_in.check(message, where, check)
    if message.tool_calls:
        check.wrong(f"{where}.tool_calls", "must be empty: a recall can't call tools")
    if message.tool_call_id:
        check.wrong(f"{where}.tool_call_id", "must be empty: a recall isn't a tool's result")
    check.size(where, len(messages_in.row(message).payload), limits.RECALL_MESSAGE_BYTES)
    message.ClearField("client_id")


def client_id(row: RecallRow) -> str:
    """That of the message which the recall appends for the time that it is due for. Forks have the messages
    of recalls whose names are free there: when a recall was made tells it from those."""
    said = f"{row.create_time.isoformat()} {row.occurrence} {row.recall_id}"
    return f"recall:{hashlib.blake2b(said.encode(), digest_size=16).hexdigest()}"


def message_row(row: RecallRow, given: message_pb2.Message | None) -> MessageRow:
    """The message that a recall appends: a given one, or its own. Refuses if it has none."""
    message = message_pb2.Message()
    if given is not None:
        message.CopyFrom(given)
    else:
        stored = rpc.Recall.FromString(row.details)
        if not stored.HasField("message"):
            raise invalid("append_message", "must be false: the recall has no message")
        message.CopyFrom(stored.message)
    message.client_id = client_id(row)
    return messages_in.row(message)


def recall_out(row: RecallRow, now: datetime) -> rpc.Recall:
    """A stored recall, as it stands at a time."""
    recall = rpc.Recall.FromString(row.details)
    recall.MergeFrom(
        rpc.Recall(
            id=row.recall_id,
            session_id=row.session_id,
            owner=row.owner,
            type=row.type,
            trigger_time=timestamp(row.due_time),
            interval=duration(row.interval) if row.interval_microseconds else None,
            state=row.state,  # type: ignore[arg-type]
            resting=row.held and row.state == PENDING,
            fired_count=row.fired_count,
            missed_count=row.missed_count,
            skipped_count=row.skipped_count,
            last_fire_time=optional_timestamp(row.last_fire_time),
            last_message_seq=row.last_message_seq,
            create_time=timestamp(row.create_time),
            update_time=timestamp(row.update_time),
        )
    )
    if row.claim_token and row.ready_time > now:
        recall.claim.worker = row.claim_worker
        recall.claim.expire_time.CopyFrom(timestamp(row.ready_time))
    return recall


def claim_out(claimed: Claimed) -> rpc.ClaimedRecall:
    recall = recall_out(claimed.row, claimed.now)
    if recall.HasField("message"):
        recall.message.client_id = client_id(claimed.row)
    return rpc.ClaimedRecall(
        recall=recall,
        claim_token=claimed.token,
        expire_time=timestamp(claimed.expire_time),
        missed_count=claimed.missed,
        attempt=claimed.row.claim_count,
    )

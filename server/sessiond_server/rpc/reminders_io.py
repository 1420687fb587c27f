"""Reminders on their way in and out."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

import uuid_utils

from sessiond.v1 import message_pb2
from sessiond.v1 import reminder_pb2 as pb
from sessiond.v1 import reminder_service_pb2 as rpc
from sessiond_server.errors import invalid
from sessiond_server.operations.reminders import Claimed, NewReminder
from sessiond_server.rpc import access, checks, limits, messages_in, parts_in
from sessiond_server.rpc.checks import Checks
from sessiond_server.rpc.times import duration, optional_timestamp, timestamp
from sessiond_server.sessions.reminders import ONCE
from sessiond_server.store.appends import MessageRow
from sessiond_server.store.reminders import PENDING, ReminderRow


def new_reminder(request: rpc.CreateReminderRequest) -> NewReminder:
    """A reminder to be made, checked."""
    session_id = checks.session_id(request.session_id)
    reminder = request.reminder
    reminder_id = reminder.id or str(uuid_utils.uuid7())
    with Checks() as check:
        check.reminder_id("reminder.id", reminder_id)
        check.text("reminder.type", reminder.type)
        check.note("reminder.comment", reminder.comment)
        check.attempts("reminder.max_attempts", reminder.max_attempts)
        check.struct("reminder.metadata", reminder.metadata)
        if reminder.HasField("message"):
            complete(reminder.message, "reminder.message", check)
        interval = ONCE
        if reminder.HasField("interval"):
            interval = check.span(
                "reminder.interval", reminder.interval, limits.REMINDER_INTERVAL_SECONDS
            )
        trigger_time = _trigger_time(request, check)
    details = pb.Reminder(comment=reminder.comment)
    if reminder.HasField("message"):
        details.message.CopyFrom(reminder.message)
    if reminder.HasField("metadata"):
        details.metadata.CopyFrom(reminder.metadata)
    return NewReminder(
        session_id,
        access.key_of(session_id),
        reminder_id,
        reminder.type,
        trigger_time,
        interval,
        reminder.max_attempts,
        details.SerializeToString(deterministic=True),
        _hash(request, details),
        request.replace_pending,
        limits.PENDING_REMINDERS,
    )


def _trigger_time(request: rpc.CreateReminderRequest, check: Checks) -> datetime | timedelta:
    given = request.reminder.HasField("trigger_time")
    if request.HasField("delay"):
        if given:
            check.wrong("delay", "must be left out with reminder.trigger_time")
        return check.span("delay", request.delay, limits.REMINDER_DELAY_SECONDS)
    if not given:
        check.wrong("reminder.trigger_time", "is required, or a delay")
    check.timestamp("reminder.trigger_time", request.reminder.trigger_time)
    check.done()
    time = checks.moment(request.reminder.trigger_time)
    first, last = limits.REMINDER_YEARS
    if not first <= time.year <= last:
        check.wrong("reminder.trigger_time", f"must be a time of the years {first} to {last}")
    return time


def _hash(request: rpc.CreateReminderRequest, details: pb.Reminder) -> bytes:
    """What tells a repeated request from another one."""
    said = rpc.CreateReminderRequest(session_id=request.session_id, reminder=details)
    said.reminder.type = request.reminder.type
    said.reminder.max_attempts = request.reminder.max_attempts
    for field in ("trigger_time", "interval"):
        if request.reminder.HasField(field):
            getattr(said.reminder, field).CopyFrom(getattr(request.reminder, field))
    if request.HasField("delay"):
        said.delay.CopyFrom(request.delay)
    return hashlib.blake2b(said.SerializeToString(deterministic=True), digest_size=16).digest()


def complete(message: message_pb2.Message, where: str, check: Checks) -> None:
    """Check a reminder's message and complete it, but for its client id."""
    message.role = message.role or message_pb2.ROLE_USER
    message.kind = message.kind or message_pb2.MESSAGE_KIND_REMINDER
    message.client_id = "reminder"
    row = messages_in.row(message, where, check)
    parts_in.without_tools(message, where, "a reminder", check)
    check.size(where, len(row.payload), limits.REMINDER_MESSAGE_BYTES)
    message.ClearField("client_id")


def client_id(row: ReminderRow) -> str:
    """That of the message which the reminder appends for the time that it is due for. Forks have the messages
    of reminders whose names are free there: when a reminder was made tells it from those."""
    said = f"{row.create_time.isoformat()} {row.occurrence} {row.reminder_id}"
    return f"reminder:{hashlib.blake2b(said.encode(), digest_size=16).hexdigest()}"


def message_row(row: ReminderRow, given: message_pb2.Message | None) -> MessageRow:
    """The message that a reminder appends: a given one, or its own. Refuses if it has none."""
    message = message_pb2.Message()
    if given is not None:
        message.CopyFrom(given)
    else:
        stored = pb.Reminder.FromString(row.details)
        if not stored.HasField("message"):
            raise invalid("append_message", "must be false: the reminder has no message")
        message.CopyFrom(stored.message)
    message.client_id = client_id(row)
    with Checks() as check:
        return messages_in.row(message, "message", check)


def reminder_out(row: ReminderRow, now: datetime) -> pb.Reminder:
    """A stored reminder, as it stands at a time."""
    reminder = pb.Reminder.FromString(row.details)
    reminder.MergeFrom(
        pb.Reminder(
            id=row.reminder_id,
            session_id=row.session_id,
            owner=row.owner,
            type=row.type,
            trigger_time=timestamp(row.due_time),
            interval=duration(row.interval) if row.interval_microseconds else None,
            state=row.state,  # type: ignore[arg-type]
            paused=row.held and row.state == PENDING,
            fired_count=row.fired_count,
            missed_count=row.missed_count,
            skipped_count=row.skipped_count,
            last_fire_time=optional_timestamp(row.last_fire_time),
            last_message_seq=row.last_message_seq,
            create_time=timestamp(row.create_time),
            update_time=timestamp(row.update_time),
            max_attempts=row.max_attempts,
            attempt_count=row.claim_count,
            last_error=row.last_error.decode(),
            retry_time=timestamp(row.ready_time) if _is_retried(row) else None,
        )
    )
    if row.claim_token and row.ready_time > now:
        reminder.claim.holder = row.claim_holder
        reminder.claim.expire_time.CopyFrom(timestamp(row.ready_time))
    return reminder


def _is_retried(row: ReminderRow) -> bool:
    return row.state == PENDING and not row.claim_token and row.ready_time > row.due_time


def claim_out(claimed: Claimed) -> rpc.ClaimedReminder:
    reminder = reminder_out(claimed.row, claimed.now)
    if reminder.HasField("message"):
        reminder.message.client_id = client_id(claimed.row)
    return rpc.ClaimedReminder(
        reminder=reminder,
        claim_token=claimed.token,
        expire_time=timestamp(claimed.expire_time),
        missed_count=claimed.missed,
        attempt=claimed.row.claim_count,
    )

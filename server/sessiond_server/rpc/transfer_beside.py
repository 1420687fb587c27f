"""What a session has beside its log of messages, on its way out of a store and into one: the records of its
journal, cursors, reminders."""

from __future__ import annotations

from datetime import datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp

from sessiond.v1 import journal_pb2, message_pb2, reminder_pb2
from sessiond.v1 import transfer_service_pb2 as pb
from sessiond_server.rpc import checks, limits, reminders_io
from sessiond_server.rpc.checks import Checks
from sessiond_server.rpc.times import duration, optional_timestamp, timestamp
from sessiond_server.sessions.reminders import ONCE, Schedule
from sessiond_server.sessions.transfers import JournalRecord, Mark, Reminder
from sessiond_server.store.reminders import PENDING

_STATES = frozenset(reminder_pb2.ReminderState.values()) - {0}
_MICROSECOND = timedelta(microseconds=1)


def journal_out(found: JournalRecord) -> pb.TransferRecord:
    record = journal_pb2.JournalRecord(
        seq=found.seq,
        kind=found.kind,
        turn_index=found.turn_index,
        content=found.content,
        origin_time=optional_timestamp(found.origin_time),
        create_time=timestamp(found.create_time),
    )
    return pb.TransferRecord(journal=record)


def journal_in(record: journal_pb2.JournalRecord, where: str, check: Checks) -> JournalRecord:
    check.seq(f"{where}.seq", record.seq, least=1)
    check.text(f"{where}.kind", record.kind)
    check.not_negative(f"{where}.turn_index", record.turn_index)
    check.size(f"{where}.content", len(record.content), limits.JOURNAL_RECORD_BYTES)
    origin = None
    if record.HasField("origin_time"):
        origin = _moment(record.origin_time, f"{where}.origin_time", check)
    return JournalRecord(
        record.seq,
        record.kind,
        record.turn_index,
        record.content,
        origin,
        _moment(record.create_time, f"{where}.create_time", check),
    )


def mark_out(found: Mark) -> pb.TransferRecord:
    mark = pb.TransferCursor(consumer_id=found.consumer_id, seq=found.seq)
    return pb.TransferRecord(cursor=mark)


def mark_in(record: pb.TransferCursor, where: str, check: Checks) -> Mark:
    check.consumer_id(f"{where}.consumer_id", record.consumer_id)
    check.seq(f"{where}.seq", record.seq)
    return Mark(record.consumer_id, record.seq)


def reminder_out(found: Reminder) -> pb.TransferRecord:
    reminder = reminder_pb2.Reminder.FromString(found.details)
    interval = found.interval_microseconds * _MICROSECOND
    reminder.MergeFrom(
        reminder_pb2.Reminder(
            id=found.reminder_id,
            type=found.type,
            trigger_time=timestamp(found.due_time),
            interval=duration(interval) if interval else None,
            state=found.state,  # type: ignore[arg-type]
            fired_count=found.fired_count,
            missed_count=found.missed_count,
            skipped_count=found.skipped_count,
            last_fire_time=optional_timestamp(found.last_fire_time),
            last_message_seq=found.last_message_seq,
            create_time=timestamp(found.create_time),
            update_time=timestamp(found.update_time),
            max_attempts=found.max_attempts,
            attempt_count=found.attempt_count,
            last_error=found.last_error.decode(),
            retry_time=timestamp(found.ready_time) if found.ready_time > found.due_time else None,
        )
    )
    return pb.TransferRecord(
        reminder=pb.TransferReminder(
            reminder=reminder,
            first_time=timestamp(found.first_time),
            occurrence=found.occurrence,
            request_hash=found.request_hash,
        )
    )


def reminder_in(record: pb.TransferReminder, where: str, check: Checks) -> Reminder:
    facts, inside = record.reminder, f"{where}.reminder"
    check.reminder_id(f"{inside}.id", facts.id)
    check.text(f"{inside}.type", facts.type)
    check.enum(f"{inside}.state", facts.state, _STATES)
    check.attempts(f"{inside}.max_attempts", facts.max_attempts)
    check.error(f"{inside}.last_error", facts.last_error)
    _check_attempts(facts, f"{inside}.attempt_count", check)
    for field in ("fired_count", "missed_count", "skipped_count", "last_message_seq"):
        check.seq(f"{inside}.{field}", getattr(facts, field))
    check.seq(f"{where}.occurrence", record.occurrence)
    check.size(f"{where}.request_hash", len(record.request_hash), 32)
    first = _moment(record.first_time, f"{where}.first_time", check)
    interval = ONCE
    if facts.HasField("interval"):
        interval = check.span(
            f"{inside}.interval", facts.interval, limits.REMINDER_INTERVAL_SECONDS
        )
    fired = None
    if facts.HasField("last_fire_time"):
        fired = _moment(facts.last_fire_time, f"{inside}.last_fire_time", check)
    due = _due(Schedule(first, interval, record.occurrence), f"{where}.occurrence", check)
    ready = due
    if facts.HasField("retry_time"):
        ready = max(due, _moment(facts.retry_time, f"{inside}.retry_time", check))
    return Reminder(
        facts.id,
        facts.type,
        facts.state or PENDING,
        first,
        interval // _MICROSECOND,
        record.occurrence,
        due,
        ready,
        facts.attempt_count,
        facts.max_attempts,
        facts.last_error.encode(),
        facts.fired_count,
        facts.missed_count,
        facts.skipped_count,
        fired,
        facts.last_message_seq,
        record.request_hash,
        _details(facts, inside, check),
        _moment(facts.create_time, f"{inside}.create_time", check),
        _moment(facts.update_time, f"{inside}.update_time", check),
    )


def _check_attempts(facts: reminder_pb2.Reminder, field: str, check: Checks) -> None:
    """One that is pending may be tried once more at least: its claim didn't move."""
    check.not_negative(field, facts.attempt_count)
    pending = (facts.state or PENDING) == PENDING
    if pending and 0 < facts.max_attempts <= facts.attempt_count:
        check.wrong(field, "must be below max_attempts while the reminder is pending")


def _due(schedule: Schedule, field: str, check: Checks) -> datetime:
    first, last = limits.REMINDER_YEARS
    try:
        due = schedule.due_time
    except OverflowError:
        due = datetime.max.replace(tzinfo=schedule.first_time.tzinfo)
    if not first <= due.year <= last:
        check.wrong(field, f"makes it due in a year other than {first} to {last}")
        return schedule.first_time
    return due


def _details(facts: reminder_pb2.Reminder, where: str, check: Checks) -> bytes:
    check.note(f"{where}.comment", facts.comment)
    check.struct(f"{where}.metadata", facts.metadata)
    details = reminder_pb2.Reminder(comment=facts.comment)
    if facts.HasField("message"):
        message = message_pb2.Message()
        message.CopyFrom(facts.message)
        reminders_io.complete(message, f"{where}.message", check)
        details.message.CopyFrom(message)
    if facts.HasField("metadata"):
        details.metadata.CopyFrom(facts.metadata)
    return details.SerializeToString(deterministic=True)


def _moment(value: Timestamp, field: str, check: Checks) -> datetime:
    before = len(check.violations)
    check.timestamp(field, value)
    return checks.moment(value if len(check.violations) == before else Timestamp())

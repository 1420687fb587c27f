"""What a session has beside its log of messages, on its way out of a store and into one: records of its
session log, watermarks, recalls."""

from __future__ import annotations

from datetime import datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp

from sessiond.v1 import message_pb2, recall_service_pb2, session_log_service_pb2
from sessiond.v1 import transfer_service_pb2 as pb
from sessiond_server.rpc import checks, limits, recalls_io
from sessiond_server.rpc.checks import Checks
from sessiond_server.rpc.times import duration, optional_timestamp, timestamp
from sessiond_server.sessions.recalls import ONCE, Schedule
from sessiond_server.sessions.transfers import LogRecord, Mark, Recall
from sessiond_server.store.recalls import PENDING

_STATES = frozenset(recall_service_pb2.RecallState.values()) - {0}
_MICROSECOND = timedelta(microseconds=1)


def log_out(found: LogRecord) -> pb.TransferRecord:
    record = session_log_service_pb2.SessionLogRecord(
        log_seq=found.log_seq,
        kind=found.kind,
        round_index=found.round_index,
        content=found.content,
        origin_time=optional_timestamp(found.origin_time),
        create_time=timestamp(found.create_time),
    )
    return pb.TransferRecord(log=record)


def log_in(
    record: session_log_service_pb2.SessionLogRecord, where: str, check: Checks
) -> LogRecord:
    check.seq(f"{where}.log_seq", record.log_seq, least=1)
    check.text(f"{where}.kind", record.kind)
    check.not_negative(f"{where}.round_index", record.round_index)
    check.size(f"{where}.content", len(record.content), limits.LOG_RECORD_BYTES)
    origin = None
    if record.HasField("origin_time"):
        origin = _moment(record.origin_time, f"{where}.origin_time", check)
    return LogRecord(
        record.log_seq,
        record.kind,
        record.round_index,
        record.content,
        origin,
        _moment(record.create_time, f"{where}.create_time", check),
    )


def mark_out(found: Mark) -> pb.TransferRecord:
    mark = pb.TransferWatermark(consumer=found.consumer, seq=found.seq)
    return pb.TransferRecord(watermark=mark)


def mark_in(record: pb.TransferWatermark, where: str, check: Checks) -> Mark:
    check.consumer(f"{where}.consumer", record.consumer)
    check.seq(f"{where}.seq", record.seq)
    return Mark(record.consumer, record.seq)


def recall_out(found: Recall) -> pb.TransferRecord:
    recall = recall_service_pb2.Recall.FromString(found.details)
    interval = found.interval_microseconds * _MICROSECOND
    recall.MergeFrom(
        recall_service_pb2.Recall(
            id=found.recall_id,
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
        )
    )
    return pb.TransferRecord(
        recall=pb.TransferRecall(
            recall=recall,
            first_time=timestamp(found.first_time),
            occurrence=found.occurrence,
            request_hash=found.request_hash,
        )
    )


def recall_in(record: pb.TransferRecall, where: str, check: Checks) -> Recall:
    facts, inside = record.recall, f"{where}.recall"
    check.recall_id(f"{inside}.id", facts.id)
    check.text(f"{inside}.type", facts.type)
    check.enum(f"{inside}.state", facts.state, _STATES)
    for field in ("fired_count", "missed_count", "skipped_count", "last_message_seq"):
        check.seq(f"{inside}.{field}", getattr(facts, field))
    check.seq(f"{where}.occurrence", record.occurrence)
    check.size(f"{where}.request_hash", len(record.request_hash), 32)
    first = _moment(record.first_time, f"{where}.first_time", check)
    interval = ONCE
    if facts.HasField("interval"):
        interval = check.span(f"{inside}.interval", facts.interval, limits.RECALL_INTERVAL_SECONDS)
    fired = None
    if facts.HasField("last_fire_time"):
        fired = _moment(facts.last_fire_time, f"{inside}.last_fire_time", check)
    return Recall(
        facts.id,
        facts.type,
        facts.state or PENDING,
        first,
        interval // _MICROSECOND,
        record.occurrence,
        _due(Schedule(first, interval, record.occurrence), f"{where}.occurrence", check),
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


def _due(schedule: Schedule, field: str, check: Checks) -> datetime:
    first, last = limits.RECALL_YEARS
    try:
        due = schedule.due_time
    except OverflowError:
        due = datetime.max.replace(tzinfo=schedule.first_time.tzinfo)
    if not first <= due.year <= last:
        check.wrong(field, f"makes it due in a year other than {first} to {last}")
        return schedule.first_time
    return due


def _details(facts: recall_service_pb2.Recall, where: str, check: Checks) -> bytes:
    check.note(f"{where}.comment", facts.comment)
    check.struct(f"{where}.metadata", facts.metadata)
    details = recall_service_pb2.Recall(comment=facts.comment)
    if facts.HasField("message"):
        message = message_pb2.Message()
        message.CopyFrom(facts.message)
        recalls_io.complete(message, f"{where}.message", check)
        details.message.CopyFrom(message)
    if facts.HasField("metadata"):
        details.metadata.CopyFrom(facts.metadata)
    return details.SerializeToString(deterministic=True)


def _moment(value: Timestamp, field: str, check: Checks) -> datetime:
    before = len(check.violations)
    check.timestamp(field, value)
    return checks.moment(value if len(check.violations) == before else Timestamp())

"""Reminders, and the sessions that consumers work on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from google.protobuf.duration_pb2 import Duration
from rich.text import Text

from sessiond import text_of
from sessiond.cli.output import enum_name
from sessiond.cli.render.columns import columns
from sessiond.cli.render.prose import one_line
from sessiond.cli.render.times import local_with_zone, relative
from sessiond.v1.consumer_service_pb2 import ClaimedSession, Consumer, Cursor
from sessiond.v1.reminder_pb2 import Reminder, ReminderState
from sessiond.v1.reminder_service_pb2 import ClaimedReminder

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"))


def reminders_lines(
    reminders: Iterable[Reminder], width: int, now: datetime | None = None
) -> Iterator[Text]:
    """A line per reminder: what, where, when, and where it stands."""
    at = now or datetime.now(UTC)
    names = ("REMINDER", "ID", "SESSION", "TYPE", "DUE", "EVERY", "STATE")
    rows = [
        _cells(
            _what(it),
            it.id,
            it.session_id,
            it.type,
            relative(it.trigger_time, at),
            _every(it.interval),
            _state(it),
        )
        for it in reminders
    ]
    return columns(names, rows, width)


def claims_lines(claims: Iterable[ClaimedReminder], width: int) -> Iterator[Text]:
    """A line per claim, with the token that completes it."""
    names = ("REMINDER", "ID", "SESSION", "DUE", "ATTEMPT", "TOKEN")
    rows = [
        _cells(
            _what(it.reminder),
            it.reminder.id,
            it.reminder.session_id,
            local_with_zone(it.reminder.trigger_time)
            + (f" +{it.missed_count}" if it.missed_count else ""),
            _attempts(it.reminder),
            it.claim_token,
        )
        for it in claims
    ]
    return columns(names, rows, width)


def reminder_lines(reminder: Reminder) -> Iterator[Text]:
    """All about a reminder."""
    facts = {
        "reminder": reminder.id,
        "session": reminder.session_id,
        "type": reminder.type,
        "state": _state(reminder),
        "due": local_with_zone(reminder.trigger_time),
        "every": _every(reminder.interval),
        "message": one_line(text_of(reminder.message)),
        "comment": one_line(reminder.comment),
        "fired": str(reminder.fired_count or ""),
        "missed": str(reminder.missed_count or ""),
        "skipped": str(reminder.skipped_count or ""),
        "attempts": _attempts(reminder),
        "last error": reminder.last_error,
        "retried": local_with_zone(reminder.retry_time) if reminder.HasField("retry_time") else "",
        "last fired": local_with_zone(reminder.last_fire_time),
    }
    for name, value in facts.items():
        if value:
            yield Text.assemble((f"{name:<11}", "dim"), one_line(value))


def _what(reminder: Reminder) -> str:
    return text_of(reminder.message) or reminder.comment


def _state(reminder: Reminder) -> str:
    if reminder.HasField("claim"):
        return f"claimed by {reminder.claim.holder}" if reminder.claim.holder else "claimed"
    if reminder.paused:
        return "paused"
    return enum_name(ReminderState.DESCRIPTOR, reminder.state)


def _attempts(reminder: Reminder) -> str:
    """How often it was tried, if there is anything to say about it."""
    if not reminder.attempt_count:
        return ""
    most = f" of {reminder.max_attempts}" if reminder.max_attempts else ""
    return f"{reminder.attempt_count}{most}"


def _every(interval: Duration) -> str:
    seconds = interval.seconds
    for size, unit in _UNITS:
        if seconds and seconds % size == 0 and not interval.nanos:
            return f"{seconds // size} {unit}"
    return f"{interval.ToTimedelta().total_seconds():g} s" if seconds else ""


def cursors_lines(
    marks: Iterable[Cursor], width: int, now: datetime | None = None
) -> Iterator[Text]:
    """A line per consumer: how far it has come in a session."""
    at = now or datetime.now(UTC)
    rows = [
        _cells(
            it.consumer_id,
            str(it.seq),
            str(it.next_seq - 1 - it.seq),
            relative(it.update_time, at),
            it.holder or ("somebody" if it.HasField("expire_time") else ""),
        )
        for it in marks
    ]
    return columns(("CONSUMER", "SEQ", "BEHIND", "SET", "HOLDER"), rows, width)


def consumers_lines(
    consumers: Iterable[Consumer], width: int, now: datetime | None = None
) -> Iterator[Text]:
    """A line per consumer that claims: whose it is, and up to when it has looked."""
    at = now or datetime.now(UTC)
    rows = [_cells(it.id, it.owner, relative(it.scan_time, at)) for it in consumers]
    return columns(("CONSUMER", "OWNER", "LOOKED"), rows, width)


def claimed_lines(
    sessions: Iterable[ClaimedSession], width: int, now: datetime | None = None
) -> Iterator[Text]:
    """A line per claimed session, with the token that sets its cursor."""
    at = now or datetime.now(UTC)
    rows = [
        _cells(
            it.title,
            it.session_id,
            f"{it.cursor_seq + 1}–{it.next_seq - 1}",
            relative(it.last_activity_time, at),
            str(it.attempt),
            it.claim_token,
        )
        for it in sessions
    ]
    return columns(("TITLE", "SESSION", "MESSAGES", "ACTIVE", "ATTEMPT", "TOKEN"), rows, width)


def _cells(*texts: str) -> list[Text]:
    return [Text(one_line(text)) for text in texts]

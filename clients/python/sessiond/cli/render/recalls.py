"""Recalls, and the sessions that consumers work on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from google.protobuf.duration_pb2 import Duration
from rich.text import Text

from sessiond.cli.output import enum_name
from sessiond.cli.render.columns import columns
from sessiond.cli.render.prose import one_line
from sessiond.cli.render.times import local_with_zone, relative
from sessiond.v1.recall_service_pb2 import ClaimedRecall, Recall, RecallState
from sessiond.v1.watermark_service_pb2 import Consumer, StaleSession, Watermark

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"))


def recalls_lines(
    recalls: Iterable[Recall], width: int, now: datetime | None = None
) -> Iterator[Text]:
    """A line per recall: what, where, when, and where it stands."""
    at = now or datetime.now(UTC)
    names = ("RECALL", "ID", "SESSION", "TYPE", "DUE", "EVERY", "STATE")
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
        for it in recalls
    ]
    return columns(names, rows, width)


def claims_lines(claims: Iterable[ClaimedRecall], width: int) -> Iterator[Text]:
    """A line per claim, with the token that completes it."""
    names = ("RECALL", "ID", "SESSION", "DUE", "ATTEMPT", "TOKEN")
    rows = [
        _cells(
            _what(it.recall),
            it.recall.id,
            it.recall.session_id,
            local_with_zone(it.recall.trigger_time)
            + (f" +{it.missed_count}" if it.missed_count else ""),
            str(it.attempt),
            it.claim_token,
        )
        for it in claims
    ]
    return columns(names, rows, width)


def recall_lines(recall: Recall) -> Iterator[Text]:
    """All about a recall."""
    facts = {
        "recall": recall.id,
        "session": recall.session_id,
        "type": recall.type,
        "state": _state(recall),
        "due": local_with_zone(recall.trigger_time),
        "every": _every(recall.interval),
        "message": one_line(recall.message.text),
        "comment": one_line(recall.comment),
        "fired": str(recall.fired_count or ""),
        "missed": str(recall.missed_count or ""),
        "skipped": str(recall.skipped_count or ""),
        "last fired": local_with_zone(recall.last_fire_time),
    }
    for name, value in facts.items():
        if value:
            yield Text.assemble((f"{name:<11}", "dim"), one_line(value))


def _what(recall: Recall) -> str:
    return recall.message.text or recall.comment


def _state(recall: Recall) -> str:
    if recall.HasField("claim"):
        return f"claimed by {recall.claim.worker}" if recall.claim.worker else "claimed"
    if recall.resting:
        return "resting"
    return enum_name(RecallState.DESCRIPTOR, recall.state)


def _every(interval: Duration) -> str:
    seconds = interval.seconds
    for size, unit in _UNITS:
        if seconds and seconds % size == 0 and not interval.nanos:
            return f"{seconds // size} {unit}"
    return f"{interval.ToTimedelta().total_seconds():g} s" if seconds else ""


def watermarks_lines(
    marks: Iterable[Watermark], width: int, now: datetime | None = None
) -> Iterator[Text]:
    """A line per consumer: how far it has come in a session."""
    at = now or datetime.now(UTC)
    rows = [
        _cells(
            it.consumer,
            str(it.seq),
            str(it.next_seq - 1 - it.seq),
            relative(it.update_time, at),
            it.worker or ("somebody" if it.HasField("lease_expire_time") else ""),
        )
        for it in marks
    ]
    return columns(("CONSUMER", "SEQ", "BEHIND", "SET", "WORKER"), rows, width)


def consumers_lines(
    consumers: Iterable[Consumer], width: int, now: datetime | None = None
) -> Iterator[Text]:
    """A line per consumer that claims: whose it is, and up to when it has looked."""
    at = now or datetime.now(UTC)
    rows = [_cells(it.consumer, it.owner, relative(it.scan_time, at)) for it in consumers]
    return columns(("CONSUMER", "OWNER", "LOOKED"), rows, width)


def stale_lines(
    sessions: Iterable[StaleSession], width: int, now: datetime | None = None
) -> Iterator[Text]:
    """A line per claimed session, with the token that sets its watermark."""
    at = now or datetime.now(UTC)
    rows = [
        _cells(
            it.title,
            it.session_id,
            f"{it.watermark_seq + 1}–{it.next_seq - 1}",
            relative(it.last_activity_time, at),
            str(it.attempt),
            it.claim_token,
        )
        for it in sessions
    ]
    return columns(("TITLE", "SESSION", "MESSAGES", "ACTIVE", "ATTEMPT", "TOKEN"), rows, width)


def _cells(*texts: str) -> list[Text]:
    return [Text(one_line(text)) for text in texts]

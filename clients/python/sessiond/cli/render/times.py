"""Times as people read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp

_UNITS = (("y", 365 * 86400), ("mo", 30 * 86400), ("d", 86400), ("h", 3600), ("min", 60))


def to_datetime(stamp: Timestamp) -> datetime | None:
    """The time as an aware UTC datetime; None for an unset timestamp."""
    if not stamp.seconds and not stamp.nanos:
        return None
    return datetime.fromtimestamp(0, UTC) + timedelta(
        seconds=stamp.seconds, microseconds=stamp.nanos // 1000
    )


def relative(stamp: Timestamp, now: datetime) -> str:
    """How long ago it was, in its largest unit: `3 min ago`, `2 d ago`; empty when unset."""
    when = to_datetime(stamp)
    if when is None:
        return ""
    seconds = int((now - when).total_seconds())
    for unit, size in _UNITS:
        if abs(seconds) >= size:
            amount = abs(seconds) // size
            return f"{amount} {unit} ago" if seconds > 0 else f"in {amount} {unit}"
    return "now"


def local(stamp: Timestamp) -> str:
    """The local time to the minute, `2025-05-20 14:03`; empty when unset."""
    when = to_datetime(stamp)
    return "" if when is None else when.astimezone().strftime("%Y-%m-%d %H:%M")


def local_with_zone(stamp: Timestamp) -> str:
    """The local time to the minute and its zone, `2025-05-20 14:03 CEST`; empty when unset."""
    when = to_datetime(stamp)
    return "" if when is None else when.astimezone().strftime("%Y-%m-%d %H:%M %Z")

"""Times on their way out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def timestamp(time: datetime) -> Timestamp:
    """A time of the database's. The driver takes the last one of all for infinity, which has no zone."""
    since = time.replace(tzinfo=UTC) - _EPOCH
    return Timestamp(seconds=since.days * 86400 + since.seconds, nanos=since.microseconds * 1000)


def optional_timestamp(time: datetime | None) -> Timestamp | None:
    return None if time is None else timestamp(time)


def duration(span: timedelta) -> Duration:
    return Duration(seconds=span.days * 86400 + span.seconds, nanos=span.microseconds * 1000)

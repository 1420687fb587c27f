"""Which sessions have lived long enough."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sessiond_server.sessions.filters import SessionFilter

_EARLIEST = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Rule:
    """Which sessions may go; `None` is any. See `sessiond.v1.RetentionRule`."""

    sessions: SessionFilter
    older_than: timedelta | None
    idle_for: timedelta | None
    ended_for: timedelta | None
    include_pinned: bool


@dataclass(frozen=True, slots=True)
class Cutoffs:
    """The times of a rule as of a moment: what happened later is too late. `None` is any."""

    created: datetime
    """A session is written to and ends after it was created, so this is the earliest of all."""
    active: datetime | None
    ended: datetime | None


def cutoffs(rule: Rule, now: datetime) -> Cutoffs:
    """What a rule means at a moment. At least one of its times is given."""
    given = [
        _before(now, time)
        for time in (rule.older_than, rule.idle_for, rule.ended_for)
        if time is not None
    ]
    return Cutoffs(
        min(given),
        None if rule.idle_for is None else _before(now, rule.idle_for),
        None if rule.ended_for is None else _before(now, rule.ended_for),
    )


def _before(now: datetime, time: timedelta) -> datetime:
    try:
        return max(now - time, _EARLIEST)
    except OverflowError:
        return _EARLIEST

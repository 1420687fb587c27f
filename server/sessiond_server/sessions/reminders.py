"""When reminders are due: at a first time, and with an interval again and again, without drift.

The times of a reminder are numbered from 0 on. It is always due for one of them, its *occurrence*; who claims
it late stands for all that are past by then, so that missed ones don't pile up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

ONCE = timedelta(0)
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=10), timedelta(hours=1)
"""How long a time that failed waits to be tried again."""
_LAST_TIME = datetime(9999, 1, 1, tzinfo=UTC)
"""There is no time after it."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """The times of a reminder, and for which of them it is due."""

    first_time: datetime
    interval: timedelta
    """`ONCE` if there is one time only."""
    occurrence: int = 0

    @property
    def due_time(self) -> datetime:
        return self.first_time + self.occurrence * self.interval

    def latest(self, now: datetime) -> int:
        """The number of the last time that isn't in the future; the occurrence's if that itself is."""
        if self.interval == ONCE:
            return self.occurrence
        return max(self.occurrence, (now - self.first_time) // self.interval)

    def at(self, occurrence: int) -> Schedule:
        return replace(self, occurrence=occurrence)

    def after(self, occurrence: int) -> Schedule | None:
        """Due for the time that follows one; `None` if none does."""
        if self.interval == ONCE:
            return None
        following = self.at(occurrence + 1)
        try:
            return following if following.due_time <= _LAST_TIME else None
        except OverflowError:
            return None

    def skipped(self, now: datetime) -> Schedule | None:
        """Due for the next time that isn't past; `None` if there is none."""
        return self.after(self.latest(now))


def pause(attempt: int) -> timedelta:
    """How long it takes until what failed at this attempt is tried again: twice as long each time."""
    return min(FIRST_PAUSE * (1 << min(attempt - 1, 16)), LONGEST_PAUSE)

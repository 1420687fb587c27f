"""When reminders are due: no drift, no pile, no time served twice or forgotten."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from sessiond_server.sessions.reminders import ONCE, Schedule

_TIMES = st.datetimes(datetime(1970, 1, 1), datetime(9998, 12, 31), timezones=st.just(UTC))
_INTERVALS = st.timedeltas(timedelta(seconds=1), timedelta(days=3650))


@given(_TIMES, _INTERVALS, st.integers(0, 10**6), st.lists(_INTERVALS, max_size=20))
def test_A_reminders_serve_each_time_once_however_late(
    first: datetime, interval: timedelta, occurrence: int, pauses: list[timedelta]
) -> None:
    schedule = Schedule(first, interval, occurrence)
    try:
        now = schedule.due_time
    except OverflowError:
        return
    served = occurrence
    for pause in pauses:
        try:
            now = now + pause
        except OverflowError:
            return
        if schedule.due_time > now:
            continue
        latest = schedule.latest(now)
        assert schedule.at(latest).due_time <= now
        assert latest >= served, "nothing is served twice"
        assert schedule.occurrence == served, "nothing is forgotten"
        following = schedule.after(latest)
        if following is None:
            return
        assert following.due_time > now, "what was missed doesn't pile up"
        assert following.due_time == first + following.occurrence * interval, "and doesn't drift"
        schedule, served = following, latest + 1


@given(_TIMES, _INTERVALS, st.integers(0, 1000), _TIMES)
def test_A_reminders_skip_to_a_time_that_is_not_past(
    first: datetime, interval: timedelta, occurrence: int, now: datetime
) -> None:
    try:
        schedule = Schedule(first, interval, occurrence)
        due_time = schedule.due_time
    except OverflowError:
        return
    skipped = schedule.skipped(now)
    if skipped is not None:
        assert skipped.due_time > max(now, due_time)
        before = skipped.at(skipped.occurrence - 1)
        assert before.due_time <= now or before.occurrence == occurrence, "and to the first of them"


@given(_TIMES, _TIMES)
def test_A_reminders_without_an_interval_come_once(first: datetime, now: datetime) -> None:
    schedule = Schedule(first, ONCE)
    assert schedule.latest(now) == 0
    assert schedule.after(0) is schedule.skipped(now) is None

"""Reminders against a model, through days that pass in moments."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from sessiond import v1
from tests.rpc.api import Api, new, refused
from tests.support.processes import ServerProcess
from tests.support.timeline import pass_time

PENDING, COMPLETED, CANCELLED, FAILED = 1, 2, 3, 4
HOUR = 3600
LEASE = 45 * 60
"""Shorter than any pause, longer than any test: what is due and what has ended is never close."""


@dataclass
class Model:
    """A reminder as it should be. Times are hours since the beginning."""

    api: Api
    reminder: v1.Reminder
    first: float
    interval: int
    made: float
    most: int = 0
    occurrence: int = 0
    state: int = PENDING
    lease_end: float = 0
    through: int = 0
    token: str = ""
    attempts: int = 0
    fired: int = 0
    missed: int = 0
    skipped: int = 0
    old_tokens: list[str] = field(default_factory=list)

    @property
    def due(self) -> float:
        return self.first + self.occurrence * self.interval

    def claimable(self, now: float) -> bool:
        return self.state == PENDING and max(self.due, self.lease_end) <= now

    def used_up(self) -> bool:
        return 0 < self.most <= self.attempts

    def end_time(self) -> None:
        """As often as it may, this time has failed."""
        self.missed += self.through - self.occurrence + 1
        attempts = self.attempts
        self.move_on(self.through + 1, FAILED)
        self.attempts = attempts if self.state == FAILED else 0

    def latest(self, now: float) -> int:
        past = int((now - self.first) // self.interval) if self.interval else 0
        return max(self.occurrence, past)

    def release_token(self) -> None:
        if self.token:
            self.old_tokens.append(self.token)
        self.token = ""

    def release(self) -> None:
        self.release_token()
        self.lease_end, self.attempts = 0, 0

    def move_on(self, occurrence: int, otherwise: int) -> None:
        if self.interval:
            self.occurrence = occurrence
        else:
            self.state = otherwise
        self.release()

    def check(self, now: float) -> None:
        """The store says the same, and its times stand where they belong to the microsecond."""
        found = self.api.get_reminder(self.reminder)
        assert found.state == self.state
        assert (found.fired_count, found.missed_count) == (self.fired, self.missed)
        assert found.skipped_count == self.skipped
        assert (found.attempt_count, found.max_attempts) == (self.attempts, self.most)
        assert found.HasField("retry_time") == (
            self.state == PENDING and not self.token and self.lease_end > 0
        )
        passed = int((now - self.made) * HOUR) * 10**9
        begun = self.reminder.trigger_time.ToNanoseconds() - passed
        due = begun + self.occurrence * self.interval * HOUR * 10**9
        assert found.trigger_time.ToNanoseconds() == due
        assert found.HasField("claim") == bool(self.token and self.lease_end > now)


class History:
    """Random doings, each of which the model foretells."""

    def __init__(self, api: Api, dsn: str, seed: int) -> None:
        self.api, self.dsn, self.chance = api, dsn, random.Random(seed)
        self.now = 0.0
        self.reminders: list[Model] = []
        self.session = api.create().id
        self.active = True
        self.messages = 0
        self.claims = self.failures = 0

    def step(self) -> None:
        doings = [
            self.create,
            self.create,
            self.wait,
            self.wait,
            self.claim,
            self.claim,
            self.claim,
        ]
        one = [
            *[self.complete] * 3,
            *[self.fail] * 3,
            self.complete_late,
            self.skip,
            self.cancel,
            self.rest,
        ]
        doing = self.chance.choice([*doings, *one] if self.reminders else doings)
        doing()

    def _one(self) -> Model:
        return self.chance.choice(self.reminders)

    def create(self) -> None:
        if not self.active:
            return
        hours = self.chance.choice([0.5, 2.5, 7.5])
        interval = self.chance.choice([0, 1, 3])
        more = {"interval": Duration(seconds=interval * HOUR)} if interval else {}
        most = self.chance.choice([0, 0, 1, 2, 3])
        reminder = self.api.reminder(
            self.session, f"say {new()}", delay=hours * HOUR, max_attempts=most, **more
        )
        first = self.now + hours
        self.reminders.append(Model(self.api, reminder, first, interval, self.now, most))

    def wait(self) -> None:
        hours = self.chance.choice([1, 1, 4, 11])
        pass_time(self.dsn, hours * HOUR)
        self.now += hours

    def claim(self) -> None:
        for model in self.reminders:
            if self.active and model.claimable(self.now) and model.used_up():
                model.end_time()
                self.failures += 1
        due = {
            it.reminder.id: it for it in self.reminders if self.active and it.claimable(self.now)
        }
        most = self.chance.choice([1, 100])
        got = self.api.claim(count=most, ttl=LEASE)
        assert len(got) == min(most, len(due))
        for claim in got:
            model = due.pop(claim.reminder.id)
            model.release_token()
            model.through = model.latest(self.now)
            model.token, model.lease_end = claim.claim_token, self.now + LEASE / HOUR
            model.attempts += 1
            assert claim.attempt == model.attempts
            assert claim.missed_count == model.through - model.occurrence
            self.claims += 1

    def complete(self) -> None:
        model = self._one()
        if not model.token:
            return
        append = self.active and self.chance.random() < 0.7
        claim = v1.ClaimedReminder(reminder=model.reminder, claim_token=model.token)
        done = self.api.complete(claim, append_message=append)
        assert not done.replayed
        self.messages += append
        model.fired += 1
        model.missed += model.through - model.occurrence
        token = model.token
        model.move_on(model.through + 1, COMPLETED)
        model.old_tokens.remove(token)
        assert self.api.complete(claim, append_message=append).replayed

    def fail(self) -> None:
        model = self._one()
        if not model.token:
            return
        claim = v1.ClaimedReminder(reminder=model.reminder, claim_token=model.token)
        hours = self.chance.choice([0, 2])
        assert not self.api.fail(claim, "down", retry=hours * HOUR).replayed
        if model.used_up():
            model.end_time()
        else:
            model.release_token()
            model.lease_end = self.now + hours
        self.failures += 1
        assert self.api.fail(claim, "again").replayed
        lost = refused(partial(self.api.complete, claim))
        assert lost.reason == "CLAIM_LOST"

    def complete_late(self) -> None:
        model = self._one()
        if model.old_tokens:
            token = self.chance.choice(model.old_tokens)
            claim = v1.ClaimedReminder(reminder=model.reminder, claim_token=token)
            lost = refused(partial(self.api.complete, claim, append_message=True))
            assert lost.reason == "CLAIM_LOST"

    def skip(self) -> None:
        model = self._one()
        self.api.skip(model.reminder)
        if model.state == PENDING:
            following = (
                model.latest(self.now) + 1 if model.due <= self.now else model.occurrence + 1
            )
            model.skipped += following - model.occurrence if model.interval else 1
            model.move_on(following, CANCELLED)

    def cancel(self) -> None:
        model = self._one()
        if self.chance.random() < 0.3:
            self.api.cancel(model.reminder)
            if model.state == PENDING:
                model.state = CANCELLED
                model.release()

    def rest(self) -> None:
        if self.active and self.chance.random() < 0.3:
            self.api.end(self.session)
        else:
            self.api.reopen(self.session)
        self.active = self.api.get(self.session).state == v1.SessionState.SESSION_STATE_ACTIVE


@pytest.fixture
def own(start_server: Callable[..., ServerProcess], dsn: str) -> Iterator[Api]:
    server = start_server(SESSIOND_DSN=dsn)
    with grpc.insecure_channel(server.target) as channel:
        yield Api(channel)
    assert not server.bugs()


@pytest.mark.parametrize("seed", range(2))
def test_A_reminders_through_days_as_a_model_has_them(own: Api, dsn: str, seed: int) -> None:
    history = History(own, dsn, seed)
    for _ in range(180):
        history.step()
        if history.reminders:
            history.chance.choice(history.reminders).check(history.now)
    for model in history.reminders:
        model.check(history.now)
    assert len(own.log(history.session)) == history.messages
    assert history.claims > 2, "or this shows nothing"
    assert history.failures > 2, "nor of failures"

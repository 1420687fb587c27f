"""Reminders: made, found, claimed by one worker at a time, completed, skipped and cancelled."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from functools import partial

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

import sessiond
from sessiond import Client, v1
from tests.rpc.api import EVERYTHING, Api, new, refused, said
from tests.support.processes import ServerProcess

PENDING = v1.ReminderState.REMINDER_STATE_PENDING
COMPLETED = v1.ReminderState.REMINDER_STATE_COMPLETED
CANCELLED = v1.ReminderState.REMINDER_STATE_CANCELLED
FAILED = v1.ReminderState.REMINDER_STATE_FAILED
HOUR = Duration(seconds=3600)


def at(time: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp


def ago(**span: float) -> Timestamp:
    return at(datetime.now(UTC) - timedelta(**span))


def _claimed(api: Api, reminder: v1.Reminder) -> v1.ClaimedReminder:
    (claim,) = api.claim(reminder.type)
    assert claim.reminder.id == reminder.id
    return claim


def test_A_reminders_come_back_as_they_were_made(api: Api) -> None:
    id = api.create(owner=(owner := new("owner"))).id
    reminder = api.reminder(
        id,
        "check the fare",
        type="reminder",
        trigger_time=at(datetime(2031, 5, 1, 12, 30, 0, 123456, UTC)),
        interval=Duration(seconds=90, nanos=500_000),
        comment="asked for\nby Ann",
        metadata={"fare": 312},
    )
    assert reminder == api.get_reminder(reminder)
    assert (reminder.session_id, reminder.owner, reminder.state) == (id, owner, PENDING)
    assert (reminder.type, reminder.comment) == ("reminder", "asked for\nby Ann")
    assert reminder.trigger_time.ToDatetime(UTC) == datetime(2031, 5, 1, 12, 30, 0, 123456, UTC)
    assert reminder.interval == Duration(seconds=90, nanos=500_000)
    assert dict(reminder.metadata) == {"fare": 312}
    assert sessiond.text_of(reminder.message) == "check the fare"
    assert reminder.message.role == v1.Role.ROLE_USER
    assert reminder.message.kind == v1.MessageKind.MESSAGE_KIND_REMINDER
    assert not reminder.message.client_id
    assert not reminder.HasField("claim")


def test_A_reminders_made_twice_are_one(api: Api) -> None:
    id = api.talk()
    request = v1.CreateReminderRequest(session_id=id, reminder=v1.Reminder(id="one", comment="c"))
    request.delay.FromSeconds(3600)
    first, again = (api.reminders.CreateReminder(request) for _ in range(2))
    assert (first.created, again.created) == (True, False)
    assert first.reminder == again.reminder
    api.cancel(first.reminder)
    assert api.reminders.CreateReminder(request).reminder.state == CANCELLED
    request.reminder.id = ""
    made = {api.reminders.CreateReminder(request).reminder.id for _ in range(2)}
    assert len(made) == 2


def test_A_reminders_one_pending_per_session_if_wanted(api: Api) -> None:
    id = api.talk()
    first, second = api.reminder(id, delay=60), api.reminder(id, delay=70)
    request = v1.CreateReminderRequest(session_id=id, reminder=v1.Reminder(), replace_pending=True)
    request.delay.FromSeconds(80)
    made = api.reminders.CreateReminder(request)
    assert made.replaced_count == 2
    listed = api.reminders.ListReminders(v1.ListRemindersRequest(session_id=id, state=PENDING))
    assert [it.id for it in listed.reminders] == [made.reminder.id]
    assert {api.get_reminder(it).state for it in (first, second)} == {CANCELLED}


def test_A_reminders_are_listed_by_session_owner_and_state(api: Api) -> None:
    owner = new("owner")
    one, two = (api.create(owner=owner).id for _ in range(2))
    late, soon = api.reminder(one, delay=7200), api.reminder(one, delay=60)
    other, gone = api.reminder(two, delay=600), api.reminder(two, delay=5)
    api.cancel(gone)

    def ids(page_size: int = 1, **filters: object) -> list[str]:
        found: list[str] = []
        owner = filters.pop("owner", None)
        wanted = v1.SessionFilter(owner=owner, whole_tenant=owner is None)  # type: ignore[arg-type]
        request = v1.ListRemindersRequest(
            page_size=page_size,
            filter=wanted,
            **filters,  # type: ignore[arg-type]
        )
        while True:
            page = api.reminders.ListReminders(request)
            found += [it.id for it in page.reminders]
            request.page_token = page.next_page_token
            if not page.next_page_token:
                return found

    assert ids(owner=owner) == [soon.id, other.id, late.id, gone.id]
    assert ids(owner=owner, state=PENDING) == [soon.id, other.id, late.id]
    assert ids(owner=owner, state=CANCELLED) == [gone.id]
    assert ids(owner=owner, state=COMPLETED) == []
    assert ids(session_id=one) == [soon.id, late.id]
    assert ids(session_id=one, owner=owner, state=PENDING) == [soon.id, late.id]
    assert ids(session_id=one, owner="other") == []
    assert {late.id, soon.id, other.id, gone.id} <= set(ids(page_size=1000))


def test_A_reminders_are_claimed_by_one_worker_and_completed_once(api: Api) -> None:
    id, kind = api.talk(2), new("type")
    reminder = api.reminder(id, "look again", type=kind)
    claim = _claimed(api, reminder)
    assert (claim.attempt, claim.missed_count) == (1, 0)
    assert claim.reminder.claim.holder == "w"
    assert claim.reminder.claim.expire_time == claim.expire_time
    assert api.claim(kind) == []
    done = api.complete(claim, append_message=True)
    assert (done.replayed, done.message_seq, done.reminder.state) == (False, 3, COMPLETED)
    again = api.complete(claim, append_message=True)
    assert (again.replayed, again.message_seq, again.reminder) == (True, 3, done.reminder)
    assert api.claim(kind) == []
    last = api.log(id)[-1]
    assert (last.seq, sessiond.text_of(last), last.kind) == (3, "look again", reminder.message.kind)
    assert sessiond.text_of(api.context(id)[-1]) == "look again"
    assert api.get_reminder(reminder).last_message_seq == 3


def test_A_reminders_of_a_fork_say_theirs_though_it_has_what_the_origins_said(api: Api) -> None:
    """A fork has the origin's messages and none of its reminders, so their ids are free in it."""
    kind = new("type")

    def fire(session_id: str, text: str) -> int:
        claim = _claimed(api, api.reminder(session_id, text, id="daily", type=kind))
        return api.complete(claim, append_message=True).message_seq

    origin = api.talk(1)
    assert fire(origin, "stand up") == 2
    alike, other, rewound = (api.fork(origin).id for _ in range(3))
    api.rewind(rewound, 1)
    assert [fire(alike, "stand up"), fire(other, "sit down"), fire(rewound, "stand up")] == [3] * 3
    assert [sessiond.text_of(m) for m in api.context(alike)[1:]] == ["stand up", "stand up"]
    assert [sessiond.text_of(m) for m in api.context(other)[1:]] == ["stand up", "sit down"]
    assert [sessiond.text_of(m) for m in api.context(rewound)[1:]] == ["stand up"]


def test_A_reminders_that_move_keep_the_client_id_of_their_message(api: Api) -> None:
    """So that a worker which has appended it by itself doesn't double it behind an import (P4)."""
    kind = new("type")
    reminder = api.reminder(api.talk(), "look again", type=kind)
    claim = _claimed(api, reminder)
    api.append(reminder.session_id, claim.reminder.message)
    records = api.export(session_ids=[reminder.session_id])
    api.delete(reminder.session_id)
    api.bring(*records)
    again = _claimed(api, reminder)
    assert again.reminder.message.client_id == claim.reminder.message.client_id
    assert api.complete(again, append_message=True).message_seq == 2
    assert len(api.log(reminder.session_id)) == 2


def test_A_reminders_are_due_again_when_the_lease_ends(api: Api) -> None:
    reminder = api.reminder(api.talk(), type=(kind := new("type")))
    (first,) = api.claim(kind, ttl=1)
    (second,) = api.claim(kind, wait=30)
    assert (second.reminder.id, second.attempt) == (reminder.id, 2)
    lost = refused(partial(api.complete, first, append_message=True))
    assert lost.reason == "CLAIM_LOST"
    assert lost.metadata == {"session_id": reminder.session_id, "reminder_id": reminder.id}
    api.complete(second, append_message=True)
    assert len(api.log(reminder.session_id)) == 2
    assert refused(partial(api.complete, first)).reason == "CLAIM_LOST"


def test_A_reminders_late_completion_counts_if_nobody_else_claimed(api: Api) -> None:
    reminder = api.reminder(api.talk(), type=(kind := new("type")))
    (claim,) = api.claim(kind, ttl=1)
    while api.get_reminder(reminder).HasField("claim"):
        time.sleep(0.05)
    assert api.complete(claim).reminder.state == COMPLETED


def test_A_reminders_wake_who_waits_for_them(api: Api) -> None:
    """Long poll: answered when one is due, not when the wait is over; and with none at its end."""
    kind, found = new("type"), list[v1.ClaimedReminder]()
    id = api.talk()
    waiting = threading.Thread(target=lambda: found.extend(api.claim(kind, wait=60)))
    waiting.start()
    time.sleep(0.3)
    reminder = api.reminder(id, delay=0.5, type=kind)
    waiting.join(30)
    assert [it.reminder.id for it in found] == [reminder.id]
    assert api.claim(kind, wait=0.2) == []
    request = v1.ClaimRemindersRequest(filter=EVERYTHING, types=[kind], wait=Duration(seconds=60))
    assert not api.reminders.ClaimReminders(request, timeout=2).claims, "before the deadline"


def test_A_reminders_interval_neither_drifts_nor_piles_up(api: Api) -> None:
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=3, minutes=20)
    kind = new("type")
    reminder = api.reminder(api.talk(), type=kind, trigger_time=at(start), interval=HOUR)
    claim = _claimed(api, reminder)
    assert (claim.missed_count, claim.reminder.trigger_time) == (3, at(start))
    done = api.complete(claim, append_message=True).reminder
    assert (done.state, done.fired_count, done.missed_count) == (PENDING, 1, 3)
    assert done.trigger_time == at(start + timedelta(hours=4))
    assert api.claim(kind) == []
    assert len(api.log(reminder.session_id)) == 2


def test_A_reminders_skip_to_the_next(api: Api) -> None:
    start = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=20)
    reminder = api.reminder(api.talk(), trigger_time=at(start), interval=HOUR)
    skipped = api.skip(reminder, trigger_time=reminder.trigger_time)
    assert skipped.trigger_time == at(start + timedelta(hours=1))
    assert (skipped.skipped_count, skipped.state) == (1, PENDING)
    assert api.skip(reminder, trigger_time=reminder.trigger_time) == skipped, "safe to repeat"
    assert api.skip(reminder).trigger_time == at(start + timedelta(hours=2))
    past = api.reminder(api.talk(), trigger_time=ago(hours=2.5), interval=HOUR)
    moved = api.skip(past)
    assert moved.skipped_count == 3
    assert moved.trigger_time.ToDatetime(UTC) > datetime.now(UTC)
    once = api.skip(api.reminder(api.talk(), delay=60))
    assert (once.state, once.skipped_count) == (CANCELLED, 1)
    assert api.skip(once) == once


@pytest.mark.parametrize("act", ["cancel", "skip"])
def test_A_reminders_that_were_cancelled_or_skipped_cannot_be_completed(api: Api, act: str) -> None:
    reminder = api.reminder(api.talk(), type=(kind := new("type")), interval=HOUR)
    claim = _claimed(api, reminder)
    changed = getattr(api, act)(reminder)
    assert not changed.HasField("claim")
    assert refused(partial(api.complete, claim, append_message=True)).reason == "CLAIM_LOST"
    assert len(api.log(reminder.session_id)) == 1
    assert api.claim(kind) == []
    if act == "cancel":
        assert api.cancel(reminder) == changed == api.skip(reminder)


def test_A_reminders_claims_can_be_extended_and_given_up(api: Api) -> None:
    reminder = api.reminder(api.talk(), type=(kind := new("type")))
    (claim,) = api.claim(kind, ttl=5)
    request = v1.ExtendReminderClaimRequest(
        session_id=reminder.session_id, reminder_id=reminder.id, claim_token=claim.claim_token
    )
    request.lease_ttl.FromSeconds(3000)
    longer = api.reminders.ExtendReminderClaim(request).expire_time
    assert longer.seconds - claim.expire_time.seconds > 2000
    request.ClearField("lease_ttl")
    request.give_up = True
    api.reminders.ExtendReminderClaim(request)
    (again,) = api.claim(kind)
    assert again.attempt == 1, "what was given up didn't fail"
    assert refused(partial(api.reminders.ExtendReminderClaim, request)).reason == "CLAIM_LOST"
    assert refused(partial(api.complete, claim)).reason == "CLAIM_LOST"


def test_A_reminders_that_fail_are_tried_again_as_often_as_they_say(api: Api) -> None:
    reminder = api.reminder(api.talk(), type=(kind := new("type")), max_attempts=2)
    assert (reminder.max_attempts, reminder.attempt_count, reminder.last_error) == (2, 0, "")
    (claim,) = api.claim(kind)
    assert (claim.attempt, claim.reminder.attempt_count) == (1, 1)
    failed = api.fail(claim, "no route to the airline", retry=0.3)
    again = failed.reminder
    assert (failed.replayed, again.state, again.attempt_count) == (False, PENDING, 1)
    assert again.last_error == "no route to the airline"
    assert not again.HasField("claim")
    replay = api.fail(claim, "something else")
    assert (replay.replayed, replay.reminder.last_error) == (True, again.last_error)
    lost = refused(partial(api.complete, claim, append_message=True))
    assert (lost.reason, lost.metadata["reminder_id"]) == ("CLAIM_LOST", reminder.id)
    (last,) = api.claim(kind, wait=30)
    assert last.attempt == 2
    over = api.fail(last, "still none").reminder
    assert (over.state, over.attempt_count, over.missed_count) == (FAILED, 2, 1)
    assert (over.last_error, over.HasField("retry_time")) == ("still none", False)
    assert over.trigger_time == reminder.trigger_time
    assert api.claim(kind) == []
    assert api.fail(last).replayed
    assert refused(partial(api.fail, claim)).reason == "CLAIM_LOST"
    assert api.cancel(reminder) == api.skip(reminder) == over, "it is over"
    listed = v1.ListRemindersRequest(session_id=reminder.session_id, state=FAILED)
    assert list(api.reminders.ListReminders(listed).reminders) == [over]
    assert len(api.log(reminder.session_id)) == 1


def test_A_reminders_that_fail_wait_longer_each_time(api: Api) -> None:
    """10 s, 20 s … at most an hour; unless a delay is given. Without limit they never end."""
    reminder = api.reminder(api.talk(), type=(kind := new("type")))
    waited = []
    for _ in range(12):
        (claim,) = api.claim(kind)
        before = api.get_reminder(reminder).update_time.ToDatetime(UTC)
        failed = api.fail(claim).reminder
        assert (failed.state, failed.attempt_count) == (PENDING, claim.attempt)
        pause = failed.retry_time.ToDatetime(UTC) - failed.update_time.ToDatetime(UTC)
        assert failed.update_time.ToDatetime(UTC) > before
        waited.append(round(pause.total_seconds()))
        claim = _due_at_once(api, reminder)
        api.fail(claim, retry=0)
    assert waited == [10, 40, 160, 640, 2560, *[3600] * 7]


def _due_at_once(api: Api, reminder: v1.Reminder) -> v1.ClaimedReminder:
    """A claim of what waits to be tried again, by an export and an import without its `retry_time`."""
    records = api.export(session_ids=[reminder.session_id])
    for record in records:
        if record.HasField("reminder"):
            record.reminder.reminder.ClearField("retry_time")
    api.delete(reminder.session_id)
    api.bring(*records)
    return _claimed(api, reminder)


def test_A_reminders_that_come_again_go_on_with_their_next_time_when_one_fails(api: Api) -> None:
    """As scheduled jobs do: the time that failed counts as missed, with those that it stood for."""
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=2, minutes=20)
    kind = new("type")
    reminder = api.reminder(
        api.talk(), type=kind, trigger_time=at(start), interval=HOUR, max_attempts=1
    )
    claim = _claimed(api, reminder)
    after = api.fail(claim, "down").reminder
    assert (after.state, after.missed_count, after.attempt_count) == (PENDING, 3, 0)
    assert after.trigger_time == at(start + timedelta(hours=3))
    assert (after.last_error, after.HasField("retry_time")) == ("down", False)
    assert api.claim(kind) == []
    api.skip(reminder)
    past = api.reminder(api.talk(), type=kind, trigger_time=at(start), interval=HOUR)
    api.fail(_claimed(api, past), "down", retry=0)
    done = api.complete(_claimed(api, past)).reminder
    assert (done.last_error, done.attempt_count) == ("", 0), "it was completed since"


def test_A_reminders_leases_that_end_are_failures(api: Api) -> None:
    """The next claim of anybody's notices the last of them."""
    kind = new("type")
    reminder = api.reminder(api.talk(), type=kind, max_attempts=2)
    api.claim(kind, ttl=1)
    (last,) = api.claim(kind, ttl=1, wait=30)
    assert (last.attempt, last.reminder.last_error) == (2, "The claim's lease has ended.")
    assert api.claim(kind) == []
    assert api.get_reminder(reminder).state == PENDING
    assert api.claim(kind, wait=5) == [], "what woke it is over"
    over = api.get_reminder(reminder)
    assert (over.state, over.last_error) == (FAILED, "The claim's lease has ended.")
    assert refused(partial(api.complete, last)).reason == "CLAIM_LOST"


def test_A_reminders_last_attempt_that_is_late_counts_while_nobody_claims(api: Api) -> None:
    reminder = api.reminder(api.talk(), type=(kind := new("type")), max_attempts=1)
    (claim,) = api.claim(kind, ttl=1)
    while api.get_reminder(reminder).HasField("claim"):
        time.sleep(0.05)
    assert api.complete(claim, append_message=True).reminder.state == COMPLETED
    given_up = api.reminder(reminder.session_id, type=kind, max_attempts=1)
    claim = _claimed(api, given_up)
    request = v1.ExtendReminderClaimRequest(
        session_id=given_up.session_id,
        reminder_id=given_up.id,
        claim_token=claim.claim_token,
        give_up=True,
    )
    api.reminders.ExtendReminderClaim(request)
    assert _claimed(api, given_up).attempt == 1, "a claim that is given up isn't an attempt"


def test_A_reminders_fail_though_their_session_has_ended(api: Api) -> None:
    reminder = api.reminder(api.talk(), type=(kind := new("type")), max_attempts=1)
    claim = _claimed(api, reminder)
    api.end(reminder.session_id)
    assert api.fail(claim, "too late").reminder.state == FAILED
    api.reopen(reminder.session_id)
    assert api.claim(kind) == []


def test_A_reminders_move_with_their_failures_and_without_the_claim(api: Api) -> None:
    id, kind = api.talk(), new("type")
    tried, over, claimed = (
        api.reminder(id, id=name, type=f"{kind}-{name}", max_attempts=most)
        for name, most in (("tried", 3), ("over", 1), ("claimed", 1))
    )
    api.fail(_claimed(api, tried), "once", retry=3600)
    api.fail(_claimed(api, over), "for good\x00")
    _claimed(api, claimed)
    before = [api.get_reminder(it) for it in (tried, over, claimed)]
    assert [it.attempt_count for it in before] == [1, 1, 1]
    records = api.export(session_ids=[id])
    api.delete(id)
    api.bring(*records)
    after = [api.get_reminder(it) for it in (tried, over, claimed)]
    assert after[:2] == before[:2]
    assert (after[2].attempt_count, after[2].HasField("claim")) == (0, False)
    assert _claimed(api, claimed).attempt == 1
    assert api.claim(tried.type) == []
    for record in records:
        if record.reminder.reminder.id == "tried":
            record.reminder.reminder.attempt_count = 3
    api.delete(id)
    (outcome,) = api.bring(*records)
    assert outcome.error.reason == v1.ErrorReason.ERROR_REASON_INVALID_FIELD


def test_A_reminders_of_other_types_are_left_to_others(api: Api) -> None:
    one, other = new("type"), new("type")
    id = api.talk()
    for kind in (one, one, other):
        api.reminder(id, type=kind)
    assert [it.reminder.type for it in api.claim(one, "none", count=1)] == [one]
    assert sorted(it.reminder.type for it in api.claim(one, other)) == sorted((one, other))


def test_A_reminders_rest_while_their_session_has_ended(api: Api) -> None:
    kind = new("type")
    ended, archived = api.talk(), api.talk()
    reminders = [api.reminder(id, type=kind) for id in (ended, archived)]
    api.end(ended)
    api.archive(archived)
    assert [api.get_reminder(it).paused for it in reminders] == [True, False]
    (claim,) = api.claim(kind)
    assert claim.reminder.session_id == archived
    create = partial(api.reminder, ended, type=kind)
    assert refused(create).reason == "SESSION_ENDED"
    api.reopen(ended)
    assert [it.reminder.session_id for it in api.claim(kind)] == [ended]
    api.end(archived)
    assert refused(partial(api.complete, claim, append_message=True)).reason == "SESSION_ENDED"
    assert api.complete(claim).reminder.state == COMPLETED
    api.delete(ended)
    assert refused(partial(api.get_reminder, reminders[0])).reason == "SESSION_NOT_FOUND"


def test_A_reminders_message_respects_the_writer_lease(api: Api) -> None:
    reminder = api.reminder(api.talk(), type=(kind := new("type")))
    token = api.lease(reminder.session_id)
    claim = _claimed(api, reminder)
    assert refused(partial(api.complete, claim, append_message=True)).reason == "WRITER_LEASE_HELD"
    done = api.complete(claim, append_message=True, writer_token=token)
    assert (done.reminder.type, done.message_seq) == (kind, 2)


def test_A_reminders_appended_by_the_worker_itself_are_not_doubled(api: Api) -> None:
    """The worker dies between its append and the completion; the next one does all again (P4)."""
    reminder = api.reminder(api.talk(), type=(kind := new("type")), interval=HOUR)
    (first,) = api.claim(kind, ttl=1)
    api.append(reminder.session_id, first.reminder.message)
    (second,) = api.claim(kind, wait=30)
    assert second.reminder.message == first.reminder.message
    assert api.append(reminder.session_id, second.reminder.message).replayed
    assert api.complete(second, append_message=True).message_seq == 2
    assert [sessiond.text_of(m) for m in api.log(reminder.session_id)] == ["message 1", "remember"]


def test_A_reminders_can_append_what_the_worker_says(api: Api) -> None:
    reminder = api.reminder(api.talk(), "", type=new("type"))
    claim = _claimed(api, reminder)
    wrong = refused(partial(api.complete, claim, append_message=True))
    assert wrong.fields == ["append_message"]
    reply = sessiond.message("system", "the fare is 300 now")
    assert api.complete(claim, message=reply).message_seq == 2
    last = api.log(reminder.session_id)[-1]
    assert (sessiond.text_of(last), last.role) == (sessiond.text_of(reply), v1.Role.ROLE_SYSTEM)


def test_A_session_summary_says_when_a_reminder_is_pending(api: Api) -> None:
    id = api.create(owner=(owner := new("owner"))).id

    def pending() -> Timestamp | None:
        request = v1.ListSessionsRequest(filter=v1.SessionFilter(owner=owner))
        (summary,) = api.sessions.ListSessions(request).sessions
        return summary.pending_reminder_time if summary.HasField("pending_reminder_time") else None

    assert pending() is None
    late = api.reminder(id, delay=7200)
    soon = api.reminder(id, delay=60)
    assert pending() == soon.trigger_time
    api.cancel(soon)
    assert pending() == late.trigger_time
    api.cancel(late)
    assert pending() is None


def test_A_reminders_move_with_their_session(api: Api, server: ServerProcess) -> None:
    """An export holds what was said, by reminders too, and what is to happen."""
    reminder = api.reminder(api.talk(), "now", type=(kind := new("type")), interval=HOUR)
    api.complete(_claimed(api, reminder), append_message=True)
    skipped = api.skip(reminder)
    id = reminder.session_id
    with Client(server.target) as client:
        records = list(client.export_sessions([id]))
        before = [sessiond.text_of(message) for message in client.list_messages(id)]
        client.delete_session(id)
        answers = list(client.import_sessions(records))
        (outcome,) = (outcome for answer in answers for outcome in answer.outcomes)
        assert not outcome.HasField("error"), outcome.error
        assert [sessiond.text_of(message) for message in client.list_messages(id)] == before
        (moved,) = client.list_reminders(id)
    assert (moved.id, moved.trigger_time) == (reminder.id, skipped.trigger_time)
    assert (moved.fired_count, moved.skipped_count, moved.state) == (1, 1, PENDING)
    assert api.claim(kind) == []


def test_P14_what_is_wrong_with_a_reminder_is_named(api: Api) -> None:
    message = v1.Message(
        parts=[sessiond.tool_result("a", "x" * 70_000), v1.Part(tool_call=v1.ToolCall(id="a"))]
    )
    reminder = v1.Reminder(
        id="a b", comment="x" * 5000, message=message, interval=Duration(seconds=0)
    )
    request = v1.CreateReminderRequest(session_id=api.talk(), reminder=reminder)
    found = refused(partial(api.reminders.CreateReminder, request))
    assert set(found.fields) == {
        "reminder.id",
        "reminder.comment",
        "reminder.interval",
        "reminder.message",
        "reminder.message.parts[0].tool_result",
        "reminder.message.parts[1].tool_call",
        "reminder.trigger_time",
    }


def test_a_stop_does_not_wait_for_those_who_wait(start_server: object, dsn: str) -> None:
    server: ServerProcess = start_server(SESSIOND_DSN=dsn)  # type: ignore[operator]
    with grpc.insecure_channel(server.target) as channel:
        api = Api(channel)
        request = v1.ClaimRemindersRequest(filter=EVERYTHING, wait=Duration(seconds=60))
        call = api.reminders.ClaimReminders.future(request)
        api.append(api.talk(), said())
        time.sleep(0.3)
        assert server.stop() == 0
        assert call.result(timeout=30).claims == []
    assert not server.bugs()

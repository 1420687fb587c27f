"""P9: what happens to reminders stands in the feed, with the messages that they append."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration

import sessiond
from sessiond import Client, Event, v1
from sessiond.v1 import ReminderChange
from sessiond_server.rpc import limits
from tests.rpc.api import Api, new, said
from tests.support.processes import ServerProcess

CREATED = ReminderChange.REMINDER_CHANGE_CREATED
FIRED = ReminderChange.REMINDER_CHANGE_FIRED
SKIPPED = ReminderChange.REMINDER_CHANGE_SKIPPED
CANCELLED = ReminderChange.REMINDER_CHANGE_CANCELLED
FAILED = ReminderChange.REMINDER_CHANGE_FAILED
STORED: dict[str, Any] = {
    "kind": v1.MessageKind.MESSAGE_KIND_NORMAL,
}
"""What the server fills in."""


def past(client: Client, session_id: str) -> list[Event]:
    """All that has happened."""
    events = []
    for event in client.watch(session_id):
        if event.kind == "caught_up":
            break
        events.append(event)
    return events


def told(events: list[Event]) -> list[str]:
    """Messages by their text, reminders by what happened to them."""
    return [
        sessiond.text_of(event.value)
        if event.kind == "message_appended"
        else ReminderChange.Name(event.value.change).removeprefix("REMINDER_CHANGE_").lower()
        for event in events
    ]


def test_A_reminders_an_event_when_one_changes(api: Api, server: ServerProcess) -> None:
    kind = new("type")
    id = api.talk()
    reminder = api.reminder(id, "wake up", type=kind, interval=Duration(seconds=3600))
    (claim,) = api.claim(kind)
    api.complete(claim, append_message=True)
    later = api.skip(reminder)
    api.cancel(reminder)
    other = api.reminder(id, delay=3600)
    replacing = api.reminder(id, delay=3600, _replace_pending=True)
    with Client(server.target) as client:
        events = past(client, id)
    assert told(events) == [
        *("message 1", "created", "wake up", "fired", "skipped", "cancelled"),
        *("created", "cancelled", "created"),
    ]
    changes = [event.value for event in events if event.kind == "reminder_changed"]
    assert [it.reminder.id for it in changes] == [
        *[reminder.id] * 4,
        *(other.id, other.id, replacing.id),
    ]
    assert [it.trigger_time for it in changes[:2]] == [reminder.trigger_time] * 2
    assert changes[2].trigger_time.seconds == reminder.trigger_time.seconds + 3600
    assert changes[3].trigger_time == later.trigger_time
    assert changes[0].reminder == api.get_reminder(reminder), "as it is now"


def test_A_reminders_an_event_when_one_fails_for_good(api: Api, server: ServerProcess) -> None:
    """Not when it is tried again; once for each time of one that comes again."""
    kind = new("type")
    id = api.talk()
    reminder = api.reminder(id, type=kind, interval=Duration(seconds=3600), max_attempts=2)
    once = api.reminder(id, type=kind + "-once", max_attempts=1)
    for _ in range(2):
        (claim,) = api.claim(kind)
        api.fail(claim, "down", retry=0)
    api.claim(kind + "-once", ttl=1)
    while api.get_reminder(once).state == v1.ReminderState.REMINDER_STATE_PENDING:
        api.claim(kind + "-other", wait=1)
    with Client(server.target) as client:
        events = past(client, id)
    assert told(events) == ["message 1", "created", "created", "failed", "failed"]
    changes = [event.value for event in events[-2:]]
    assert [it.change for it in changes] == [FAILED, FAILED]
    assert [it.reminder.id for it in changes] == [reminder.id, once.id]
    assert [it.trigger_time for it in changes] == [reminder.trigger_time, once.trigger_time]
    assert changes[0].reminder.state == v1.ReminderState.REMINDER_STATE_PENDING
    assert changes[0].reminder.missed_count == 1


def test_P9_reminder_events_are_told_live_at_another_replica(
    start_server: Callable[..., ServerProcess], dsn: str
) -> None:
    one, other = (start_server(SESSIOND_DSN=dsn) for _ in range(2))
    with grpc.insecure_channel(one.target) as channel, Client(other.target) as client:
        api = Api(channel)
        id = api.talk()
        watch = iter(client.watch(id, start="now"))
        assert next(watch).kind == "caught_up"
        reminder = api.reminder(id, type="t")
        event = next(watch)
        assert (event.kind, event.value.change, event.value.reminder) == (
            *("reminder_changed", CREATED),
            reminder,
        )
        (claim,) = api.claim("t")
        api.complete(claim, append_message=True)
        assert [next(watch).kind, next(watch).value.change] == ["message_appended", FIRED]
        cancelled = api.reminder(id, delay=60)
        assert next(watch).value.change == CREATED
        api.cancel(cancelled)
        assert next(watch).value.change == CANCELLED


def _sent(message: v1.Message) -> int:
    """How many bytes a message takes in the store."""
    stored = v1.Message()
    stored.CopyFrom(message)
    stored.ClearField("seq")
    stored.ClearField("create_time")
    return stored.ByteSize()


def test_P9_a_reminder_s_message_and_its_event_are_one_where_a_page_is_cut(
    api: Api, server: ServerProcess
) -> None:
    """A page ends, by its bytes, exactly between the two."""
    kind = new("type")
    sizes = list[int]()
    for filling in ("", "x"):
        id = api.create().id
        if filling:
            room = limits.PAGE_BYTES - sum(sizes) - 3 * 64
            rest = room - _sent(said(filling * (room - 1000), **STORED))
            api.append(id, said(filling * (room - 1000 + rest), **STORED))
        api.reminder(id, "y" * 60_000, type=kind)
        (claim,) = api.claim(kind)
        api.complete(claim, append_message=True)
        sizes.append(_sent(api.log(id)[-1]))
    assert sizes[0] == sizes[1]
    with Client(server.target) as client:
        events = past(client, id)
    assert [event.kind for event in events[-2:]] == ["message_appended", "reminder_changed"]
    assert [bool(event.token) for event in events[1:]] == [True, False, True]


def test_P11_reminder_events_outlive_a_clearing_of_the_messages(
    api: Api, server: ServerProcess
) -> None:
    id = api.talk(3)
    reminder = api.reminder(id, delay=60)
    api.messages.ClearMessages(v1.ClearMessagesRequest(session_id=id))
    assert api.get_reminder(reminder).state == reminder.state
    with Client(server.target) as client:
        kinds = [event.kind for event in past(client, id)]
    assert kinds == ["reminder_changed", "messages_cleared"]
    fork = api.fork(id)
    listed = api.reminders.ListReminders(v1.ListRemindersRequest(session_id=fork.id))
    assert not listed.reminders, "a fork has none"

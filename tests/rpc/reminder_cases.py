"""The cases of reminders, and of claims that were lost."""

from __future__ import annotations

from sessiond import v1
from tests.rpc.api import Api, new, refused
from tests.rpc.cases import Expected, case


@case("REMINDER_NOT_FOUND")
def reading_an_unknown_reminder(api: Api) -> Expected:
    reminder = v1.Reminder(id="none", session_id=api.talk())
    return refused(lambda: api.get_reminder(reminder)), {"reminder_id": "none"}


@case("REMINDER_NOT_FOUND")
def skipping_an_unknown_reminder(api: Api) -> Expected:
    reminder = v1.Reminder(id="none", session_id=api.talk())
    return refused(lambda: api.skip(reminder)), {"reminder_id": "none"}


@case("SESSION_NOT_FOUND")
def cancelling_a_reminder_of_an_unknown_session(api: Api) -> Expected:
    reminder = v1.Reminder(id="none", session_id="nobody")
    return refused(lambda: api.cancel(reminder)), {"session_id": "nobody"}


@case("SESSION_NOT_FOUND")
def listing_the_reminders_of_an_unknown_session(api: Api) -> Expected:
    request = v1.ListRemindersRequest(session_id="nobody")
    return refused(lambda: api.reminders.ListReminders(request)), {"session_id": "nobody"}


@case("REMINDER_EXISTS")
def a_reminder_with_the_id_of_another(api: Api) -> Expected:
    id = api.talk()
    api.reminder(id, "one", id="r", delay=60)
    return refused(lambda: api.reminder(id, "other", id="r", delay=60)), {"reminder_id": "r"}


@case("TOO_MANY_REMINDERS")
def more_pending_reminders_than_may_be(api: Api) -> Expected:
    id = api.talk()
    for _ in range(1000):
        api.reminder(id, "", delay=3600)
    return refused(lambda: api.reminder(id)), {"session_id": id, "limit": 1000}


@case("TOO_MANY_CONSUMERS")
def more_consumers_in_a_session_than_may_be(api: Api) -> Expected:
    id = api.talk()

    def set_of(consumer: str) -> None:
        request = v1.SetCursorRequest(session_id=id, consumer_id=consumer, seq=1)
        api.consumers.SetCursor(request)

    for n in range(100):
        set_of(f"c{n}")
    return refused(lambda: set_of("one-more")), {"session_id": id, "limit": 100}


@case("TOO_MANY_CONSUMERS")
def more_consumers_of_an_owner_than_may_be(api: Api) -> Expected:
    owner = new("owner")

    def claim_of(consumer: str) -> None:
        request = v1.ClaimSessionsRequest(
            consumer_id=consumer, filter=v1.SessionFilter(owner=owner)
        )
        api.consumers.ClaimSessions(request)

    for n in range(100):
        claim_of(f"c{n}")
    return refused(lambda: claim_of("one-more")), {"limit": 100}


@case("CLAIM_LOST")
def setting_a_cursor_with_the_token_of_nobody(api: Api) -> Expected:
    id = api.talk(1)
    request = v1.SetCursorRequest(session_id=id, consumer_id="c", seq=1, claim_token="nobody's")
    return refused(lambda: api.consumers.SetCursor(request)), {"session_id": id}


@case("SEQ_OUT_OF_RANGE")
def setting_a_cursor_beyond_the_end(api: Api) -> Expected:
    id = api.talk(1)
    request = v1.SetCursorRequest(session_id=id, consumer_id="c", seq=2)
    found = refused(lambda: api.consumers.SetCursor(request))
    return found, {"field": "seq", "seq": 2, "first_seq": 1, "next_seq": 2}


@case("CLAIM_LOST")
def completing_a_reminder_that_was_cancelled(api: Api) -> Expected:
    reminder = api.reminder(api.talk(), type=(kind := new("type")))
    (claim,) = api.claim(kind)
    api.cancel(reminder)
    found = refused(lambda: api.complete(claim))
    return found, {"session_id": reminder.session_id, "reminder_id": reminder.id}


@case("CLAIM_LOST")
def completing_with_the_token_of_nobody(api: Api) -> Expected:
    reminder = api.reminder(api.talk(), delay=60)
    claim = v1.ClaimedReminder(reminder=reminder, claim_token="nobody's")
    found = refused(lambda: api.complete(claim))
    return found, {"session_id": reminder.session_id, "reminder_id": reminder.id}


@case("CLAIM_LOST")
def extending_the_claim_of_nobody(api: Api) -> Expected:
    id = api.talk()
    request = v1.ExtendSessionClaimRequest(
        session_id=id, consumer_id="c", claim_token="nobody's", give_up=True
    )
    return refused(lambda: api.consumers.ExtendSessionClaim(request)), {"session_id": id}


@case("CLAIM_LOST")
def failing_with_a_claim_that_is_another_s(api: Api) -> Expected:
    reminder = api.reminder(api.talk())
    found = refused(lambda: api.fail(v1.ClaimedReminder(reminder=reminder, claim_token="nobody's")))
    return found, {"session_id": reminder.session_id, "reminder_id": reminder.id}


@case("CONSUMER_NOT_FOUND")
def deleting_a_consumer_that_is_not_there(api: Api) -> Expected:
    request = v1.DeleteConsumerRequest(consumer_id="none", owner="nobody")
    found = refused(lambda: api.consumers.DeleteConsumer(request))
    request.allow_missing = True
    assert not api.consumers.DeleteConsumer(request).deleted
    return found, {"consumer_id": "none", "owner": "nobody"}

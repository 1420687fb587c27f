"""The calls of ReminderService."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sessiond import v1
from sessiond._calls import Service, paged, unary, whole
from sessiond._ids import uuid7
from sessiond._requests import values

_rpc = Service("sessiond.v1.ReminderService").rpc


@unary(_rpc("CreateReminder", v1.CreateReminderRequest, v1.CreateReminderResponse), whole)
def create_reminder(
    session_id: str,
    when: datetime | timedelta | float,
    *,
    id: str = "",
    type: str = "",
    interval: float | timedelta | None = None,
    message: str | v1.Message | None = None,
    comment: str = "",
    metadata: Mapping[str, Any] | None = None,
    max_attempts: int = 0,
    replace_pending: bool = False,
) -> v1.CreateReminderRequest:
    """Has something happen in a session at a time.

    Args:
        session_id: The session's id.
        when: A time with its time zone, or how long from now, in seconds.
        id: The reminder's id, unique in its session. Left out, a UUIDv7, so that the call is safe to repeat.
        type: What kind it is, for workers that serve some kinds only.
        interval: If given, it is due again and again, in seconds: 1 s to 3650 days.
        message: What to add to the context when it is due: a text of the user's, or a message.
        comment: For the application, not for the conversation. At most 4096 characters.
        metadata: The application's own facts, a JSON object.
        max_attempts: How often it is claimed at most for one of its times, up to 1000; 0 is without limit.
            When all of these fail it is over, or pending for its next time.
        replace_pending: Whether to cancel all other reminders of the session that are pending.

    Returns a `CreateReminderResponse`: the reminder, whether this made it, and how many it replaced.

    Raises:
        SessionNotFound: There is no such session.
        ReminderExists: The id belongs to another reminder.
        TooManyReminders: The session has 1000 that are pending.

    Example:
        client.create_reminder("chat-1", 3600, message="Look whether the flight is cheaper.")
    """
    at = isinstance(when, datetime)
    reminder = v1.Reminder(
        id=id or uuid7(),
        type=type,
        trigger_time=values.timestamp(when) if isinstance(when, datetime) else None,
        interval=values.duration(interval),
        comment=comment,
        message=_message(message),
        metadata=values.struct(metadata),
        max_attempts=max_attempts,
    )
    return v1.CreateReminderRequest(
        session_id=session_id,
        reminder=reminder,
        delay=None if at else values.duration(when),  # type: ignore[arg-type]
        replace_pending=replace_pending,
    )


def _message(message: str | v1.Message | None) -> v1.Message | None:
    return v1.Message(parts=[v1.Part(text=message)]) if isinstance(message, str) else message


@unary(_rpc("GetReminder", v1.GetReminderRequest, v1.GetReminderResponse), lambda it: it.reminder)
def get_reminder(session_id: str, reminder_id: str) -> v1.GetReminderRequest:
    """Reads a reminder.

    Args:
        session_id: The session's id.
        reminder_id: The reminder's id.

    Raises:
        ReminderNotFound: The session has no such reminder.
    """
    return v1.GetReminderRequest(session_id=session_id, reminder_id=reminder_id)


@paged(
    _rpc("ListReminders", v1.ListRemindersRequest, v1.ListRemindersResponse),
    lambda it: it.reminders,
)
def list_reminders(
    session_id: str = "",
    filter: v1.SessionFilter | None = None,
    *,
    state: values.ReminderState | None = None,
    page_size: int = 0,
) -> v1.ListRemindersRequest:
    """Lists reminders: pending ones first, each group by trigger time, the soonest first.

    Args:
        session_id: Only of this session.
        filter: Only of these sessions: a `session_filter`. Required without `session_id`, but with an API key
            that is bound to an owner.
        state: Only in this state: `pending`, `completed`, `cancelled`, `failed`.
        page_size: How many to read at a time: 0 is 100, at most 1000.
    """
    return v1.ListRemindersRequest(
        session_id=session_id,
        filter=filter,
        state=values.enum_value(v1.ReminderState, "REMINDER_STATE_", state),
        page_size=page_size,
    )


@unary(
    _rpc("CancelReminder", v1.CancelReminderRequest, v1.CancelReminderResponse),
    lambda it: it.reminder,
)
def cancel_reminder(session_id: str, reminder_id: str) -> v1.CancelReminderRequest:
    """Ends a reminder for good; one that is over stays as it is.

    Args:
        session_id: The session's id.
        reminder_id: The reminder's id.

    Raises:
        ReminderNotFound: The session has no such reminder.
    """
    return v1.CancelReminderRequest(session_id=session_id, reminder_id=reminder_id)


@unary(
    _rpc("SkipReminder", v1.SkipReminderRequest, v1.SkipReminderResponse), lambda it: it.reminder
)
def skip_reminder(
    session_id: str, reminder_id: str, *, trigger_time: datetime | None = None
) -> v1.SkipReminderRequest:
    """Moves a reminder to its next time that isn't past; one without an interval is cancelled.

    Args:
        session_id: The session's id.
        reminder_id: The reminder's id.
        trigger_time: If given, skip only if it is due at this time: then it is safe to repeat.

    Raises:
        ReminderNotFound: The session has no such reminder.
    """
    return v1.SkipReminderRequest(
        session_id=session_id,
        reminder_id=reminder_id,
        trigger_time=values.timestamp(trigger_time),
    )


@unary(
    _rpc("ClaimReminders", v1.ClaimRemindersRequest, v1.ClaimRemindersResponse),
    lambda it: list(it.claims),
)
def claim_reminders(
    holder: str = "",
    filter: v1.SessionFilter | None = None,
    *,
    max_count: int = 1,
    wait: float | timedelta = 0,
    lease_ttl: float | timedelta | None = None,
    types: Sequence[str] = (),
) -> v1.ClaimRemindersRequest:
    """Claims reminders that are due: nobody else gets them until the lease ends.

    Args:
        holder: Who claims, for those who look at the reminder.
        filter: Only reminders of these sessions: a `session_filter`. Required, but with an API key that is
            bound to an owner.
        max_count: How many at most, up to 100.
        wait: How long to wait for one, in seconds, up to 60; less than the client's timeout.
        lease_ttl: How long the claims last, in seconds: 1 s to 1 h, 1 min if left out.
        types: Only reminders of these types.

    Returns a list of `ClaimedReminder`s, empty if none was due.

    Example:
        everybody = sessiond.session_filter(whole_tenant=True, include_subagents=True)
        while True:
            for claim in client.claim_reminders("worker-1", everybody, wait=20):
                reminder = claim.reminder
                client.complete_reminder(
                    reminder.session_id, reminder.id, claim.claim_token, append_message=True
                )
                answer(reminder.session_id)
    """
    return v1.ClaimRemindersRequest(
        holder=holder,
        max_count=max_count,
        wait=values.duration(wait),
        lease_ttl=values.duration(lease_ttl),
        types=types,
        filter=filter,
    )


@unary(_rpc("CompleteReminder", v1.CompleteReminderRequest, v1.CompleteReminderResponse), whole)
def complete_reminder(
    session_id: str,
    reminder_id: str,
    claim_token: str,
    *,
    append_message: bool = False,
    message: str | v1.Message | None = None,
    expected_next_seq: int = 0,
    expected_revision: int = 0,
    writer_token: str = "",
) -> v1.CompleteReminderRequest:
    """Says that a claimed reminder is done. Doing so again with the same token changes nothing.

    Args:
        session_id: The session's id.
        reminder_id: The reminder's id.
        claim_token: The claim's token.
        append_message: Whether to append the reminder's message to the session, in the same transaction.
        message: A message to append instead of the reminder's.
        expected_next_seq: If not 0, complete it only if the session's next seq is this.
        expected_revision: If not 0, complete it only if the session's revision is this: what the model sees
            is as it was.
        writer_token: The token of the writer lease, if one is held.

    Returns a `CompleteReminderResponse`: the reminder, whether it was completed so before, the seq of the
    message, and the session's `version`.

    Raises:
        ValueError: Both `append_message` and `message` are given.
        NextSeqMismatch, RevisionMismatch: Somebody wrote to the session.
        ClaimLost: Another worker has claimed it since, or it was cancelled or skipped.
        SessionEnded: The message can't be appended; nothing was done.
        WriterLeaseHeld: Likewise.
    """
    appended = values.given(append_message=append_message or None, message=_message(message))
    values.only_one(**appended)
    return v1.CompleteReminderRequest(
        session_id=session_id,
        reminder_id=reminder_id,
        claim_token=claim_token,
        guard=values.guard(expected_next_seq, expected_revision, writer_token),
        **appended,
    )


@unary(_rpc("FailReminder", v1.FailReminderRequest, v1.FailReminderResponse), whole)
def fail_reminder(
    session_id: str,
    reminder_id: str,
    claim_token: str,
    error: str = "",
    *,
    retry_delay: float | timedelta | None = None,
) -> v1.FailReminderRequest:
    """Says that a claimed reminder failed: it is tried again later, unless this was its last attempt.

    Doing so again with the same token changes nothing.

    Args:
        session_id: The session's id.
        reminder_id: The reminder's id.
        claim_token: The claim's token.
        error: What went wrong, for people. At most 1024 characters.
        retry_delay: How long from now it can be claimed again, in seconds, up to 7 days. Left out, 10 s
            behind the first attempt, then twice as long each time, at most 1 h.

    Returns a `FailReminderResponse`: the reminder, and whether it failed so before.

    Raises:
        ClaimLost: Another worker has claimed it since, or it was cancelled, skipped or completed.

    Example:
        try:
            answer(claim.reminder.session_id)
        except ProviderDown as error:
            client.fail_reminder(
                claim.reminder.session_id, claim.reminder.id, claim.claim_token, str(error)[:1024]
            )
    """
    return v1.FailReminderRequest(
        session_id=session_id,
        reminder_id=reminder_id,
        claim_token=claim_token,
        error=error,
        retry_delay=values.duration(retry_delay),
    )


@unary(
    _rpc("ExtendReminderClaim", v1.ExtendReminderClaimRequest, v1.ExtendReminderClaimResponse),
    lambda it: it.expire_time,
)
def extend_reminder_claim(
    session_id: str,
    reminder_id: str,
    claim_token: str,
    *,
    lease_ttl: float | timedelta | None = None,
    give_up: bool = False,
) -> v1.ExtendReminderClaimRequest:
    """Makes a claim last longer, or gives it up; when it ends, or is due again.

    Args:
        session_id: The session's id.
        reminder_id: The reminder's id.
        claim_token: The claim's token.
        lease_ttl: How long it lasts from now, in seconds: 1 s to 1 h, 1 min if left out.
        give_up: Give it up instead: it is due again when `lease_ttl` has passed, at once if left out.

    Raises:
        ClaimLost: Another worker has claimed it since, or it was cancelled or skipped.
    """
    return v1.ExtendReminderClaimRequest(
        session_id=session_id,
        reminder_id=reminder_id,
        claim_token=claim_token,
        lease_ttl=values.duration(lease_ttl),
        give_up=give_up,
    )

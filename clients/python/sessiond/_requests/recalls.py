"""The calls of RecallService."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sessiond import v1
from sessiond._calls import Service, paged, unary, whole
from sessiond._ids import uuid7
from sessiond._requests import values

_rpc = Service("sessiond.v1.RecallService").rpc


@unary(_rpc("CreateRecall", v1.CreateRecallRequest, v1.CreateRecallResponse), whole)
def create_recall(
    session_id: str,
    when: datetime | timedelta | float,
    *,
    id: str = "",
    type: str = "",
    interval: float | timedelta | None = None,
    message: str | v1.Message | None = None,
    comment: str = "",
    metadata: Mapping[str, Any] | None = None,
    replace_pending: bool = False,
) -> v1.CreateRecallRequest:
    """Has something happen in a session at a time.

    Args:
        session_id: The session's id.
        when: A time with its time zone, or how long from now, in seconds.
        id: The recall's id, unique in its session. Left out, a UUIDv7, so that the call is safe to repeat.
        type: What kind it is, for workers that serve some kinds only.
        interval: If given, it is due again and again, in seconds: 1 s to 3650 days.
        message: What to add to the context when it is due: a text of the user's, or a message.
        comment: For the application, not for the conversation. At most 4096 characters.
        metadata: The application's own facts, a JSON object.
        replace_pending: Whether to cancel all other recalls of the session that are pending.

    Returns a `CreateRecallResponse`: the recall, whether this made it, and how many it replaced.

    Raises:
        SessionNotFound: There is no such session.
        RecallExists: The id belongs to another recall.
        TooManyRecalls: The session has 1000 that are pending.

    Example:
        client.create_recall("chat-1", 3600, message="Look whether the flight is cheaper.")
    """
    at = isinstance(when, datetime)
    recall = v1.Recall(
        id=id or uuid7(),
        type=type,
        trigger_time=values.timestamp(when) if isinstance(when, datetime) else None,
        interval=values.duration(interval),
        comment=comment,
        message=_message(message),
        metadata=values.struct(metadata),
    )
    return v1.CreateRecallRequest(
        session_id=session_id,
        recall=recall,
        delay=None if at else values.duration(when),  # type: ignore[arg-type]
        replace_pending=replace_pending,
    )


def _message(message: str | v1.Message | None) -> v1.Message | None:
    return v1.Message(text=message) if isinstance(message, str) else message


@unary(_rpc("GetRecall", v1.GetRecallRequest, v1.GetRecallResponse), lambda it: it.recall)
def get_recall(session_id: str, recall_id: str) -> v1.GetRecallRequest:
    """Reads a recall.

    Args:
        session_id: The session's id.
        recall_id: The recall's id.

    Raises:
        RecallNotFound: The session has no such recall.
    """
    return v1.GetRecallRequest(session_id=session_id, recall_id=recall_id)


@paged(_rpc("ListRecalls", v1.ListRecallsRequest, v1.ListRecallsResponse), lambda it: it.recalls)
def list_recalls(
    session_id: str = "",
    *,
    owner: str = "",
    state: values.RecallState | None = None,
    page_size: int = 0,
) -> v1.ListRecallsRequest:
    """Lists recalls: pending ones first, each group by trigger time, the soonest first.

    Args:
        session_id: Only of this session.
        owner: Only of this owner's sessions.
        state: Only in this state: `pending`, `completed`, `cancelled`.
        page_size: How many to read at a time: 0 is 100, at most 1000.
    """
    return v1.ListRecallsRequest(
        session_id=session_id,
        owner=owner,
        state=values.enum_value(v1.RecallState, "RECALL_STATE_", state),
        page_size=page_size,
    )


@unary(_rpc("CancelRecall", v1.CancelRecallRequest, v1.CancelRecallResponse), lambda it: it.recall)
def cancel_recall(session_id: str, recall_id: str) -> v1.CancelRecallRequest:
    """Ends a recall for good; one that is over stays as it is.

    Args:
        session_id: The session's id.
        recall_id: The recall's id.

    Raises:
        RecallNotFound: The session has no such recall.
    """
    return v1.CancelRecallRequest(session_id=session_id, recall_id=recall_id)


@unary(_rpc("SkipRecall", v1.SkipRecallRequest, v1.SkipRecallResponse), lambda it: it.recall)
def skip_recall(
    session_id: str, recall_id: str, *, trigger_time: datetime | None = None
) -> v1.SkipRecallRequest:
    """Moves a recall to its next time that isn't past; one without an interval is cancelled.

    Args:
        session_id: The session's id.
        recall_id: The recall's id.
        trigger_time: If given, skip only if it is due at this time: then it is safe to repeat.

    Raises:
        RecallNotFound: The session has no such recall.
    """
    return v1.SkipRecallRequest(
        session_id=session_id,
        recall_id=recall_id,
        trigger_time=values.timestamp(trigger_time),
    )


@unary(
    _rpc("ClaimDueRecalls", v1.ClaimDueRecallsRequest, v1.ClaimDueRecallsResponse),
    lambda it: list(it.claims),
)
def claim_due_recalls(
    worker: str = "",
    *,
    max_count: int = 1,
    wait: float | timedelta = 0,
    lease_ttl: float | timedelta | None = None,
    types: Sequence[str] = (),
    owner: str = "",
) -> v1.ClaimDueRecallsRequest:
    """Claims recalls that are due: nobody else gets them until the lease ends.

    Args:
        worker: Who claims, for those who look at the recall.
        max_count: How many at most, up to 100.
        wait: How long to wait for one, in seconds, up to 60; less than the client's timeout.
        lease_ttl: How long the claims last, in seconds: 1 s to 1 h, 1 min if left out.
        types: Only recalls of these types.
        owner: Only recalls of this owner's sessions.

    Returns a list of `ClaimedRecall`s, empty if none was due.

    Example:
        while True:
            for claim in client.claim_due_recalls("worker-1", wait=20):
                recall = claim.recall
                client.complete_recall(
                    recall.session_id, recall.id, claim.claim_token, append_message=True
                )
                answer(recall.session_id)
    """
    return v1.ClaimDueRecallsRequest(
        worker=worker,
        max_count=max_count,
        wait=values.duration(wait),
        lease_ttl=values.duration(lease_ttl),
        types=types,
        owner=owner,
    )


@unary(_rpc("CompleteRecall", v1.CompleteRecallRequest, v1.CompleteRecallResponse), whole)
def complete_recall(
    session_id: str,
    recall_id: str,
    claim_token: str,
    *,
    append_message: bool = False,
    message: str | v1.Message | None = None,
    writer_token: str = "",
) -> v1.CompleteRecallRequest:
    """Says that a claimed recall is done. Doing so again with the same token changes nothing.

    Args:
        session_id: The session's id.
        recall_id: The recall's id.
        claim_token: The claim's token.
        append_message: Whether to append the recall's message to the session, in the same transaction.
        message: A message to append instead of the recall's.
        writer_token: The token of the writer lease, if one is held.

    Returns a `CompleteRecallResponse`: the recall, whether it was completed so before, and the seq of the
    message.

    Raises:
        ClaimLost: Another worker has claimed it since, or it was cancelled or skipped.
        SessionEnded: The message can't be appended; nothing was done.
        WriterLeaseHeld: Likewise.
    """
    return v1.CompleteRecallRequest(
        session_id=session_id,
        recall_id=recall_id,
        claim_token=claim_token,
        append_message=append_message,
        message=_message(message),
        writer_token=writer_token,
    )


@unary(
    _rpc("ExtendRecallClaim", v1.ExtendRecallClaimRequest, v1.ExtendRecallClaimResponse),
    lambda it: it.expire_time,
)
def extend_recall_claim(
    session_id: str,
    recall_id: str,
    claim_token: str,
    *,
    lease_ttl: float | timedelta | None = None,
    give_up: bool = False,
) -> v1.ExtendRecallClaimRequest:
    """Makes a claim last longer, or gives it up; when it ends, or is due again.

    Args:
        session_id: The session's id.
        recall_id: The recall's id.
        claim_token: The claim's token.
        lease_ttl: How long it lasts from now, in seconds: 1 s to 1 h, 1 min if left out.
        give_up: Give it up instead: it is due again when `lease_ttl` has passed, at once if left out.

    Raises:
        ClaimLost: Another worker has claimed it since, or it was cancelled or skipped.
    """
    return v1.ExtendRecallClaimRequest(
        session_id=session_id,
        recall_id=recall_id,
        claim_token=claim_token,
        lease_ttl=values.duration(lease_ttl),
        give_up=give_up,
    )

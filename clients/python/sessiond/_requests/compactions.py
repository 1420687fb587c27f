"""The calls of CompactionService."""

from __future__ import annotations

from datetime import timedelta

from sessiond import v1
from sessiond._calls import Service, paged, unary, whole
from sessiond._ids import uuid7
from sessiond._requests import values

_rpc = Service("sessiond.v1.CompactionService").rpc


@unary(_rpc("PlanCompaction", v1.PlanCompactionRequest, v1.PlanCompactionResponse), whole)
def plan_compaction(
    session_id: str,
    *,
    max_context_tokens: int | None = None,
    max_context_messages: int | None = None,
    keep_recent_messages: int = 0,
    summary_token_count: int = 0,
    acquire_lease: bool = False,
    holder: str = "",
    lease_ttl: float | timedelta | None = None,
) -> v1.PlanCompactionRequest:
    """Proposes a range that can safely be compacted, or says why there is none.

    Args:
        session_id: The session's id.
        max_context_tokens: What the context should come down to, in tokens.
        max_context_messages: Or in messages.
        keep_recent_messages: How many of the newest messages stay: 0 is 4, at most 10,000.
        summary_token_count: How many tokens the summary will take, for the goal.
        acquire_lease: Whether to take the compaction lease: nobody else can compact until it ends.
        holder: Who takes it, a name that nobody else uses. Left out, one is made up.
        lease_ttl: How long the lease lasts, in seconds: 1 s to 1 h, 2 min if left out.

    Returns a `PlanCompactionResponse`: `plan`, or why there is `nothing` to compact, the `lease`, if
    one was taken, and the session's `version`.

    Raises:
        ValueError: Both goals are given.
        CompactionLeaseHeld: Another compactor is at work.

    Example:
        answer = client.plan_compaction("chat-1", max_context_tokens=50_000, acquire_lease=True)
        if answer.HasField("plan"):
            plan = answer.plan
            client.compact(
                "chat-1", plan.from_seq, plan.to_seq, summary, lease_token=answer.lease.token
            )
    """
    goal = values.given(
        max_context_tokens=max_context_tokens, max_context_messages=max_context_messages
    )
    values.only_one(**goal)
    return v1.PlanCompactionRequest(
        session_id=session_id,
        keep_recent_messages=keep_recent_messages,
        summary_token_count=summary_token_count,
        acquire_lease=acquire_lease,
        holder=holder or (uuid7() if acquire_lease else ""),
        lease_ttl=values.duration(lease_ttl),
        **goal,
    )


@unary(_rpc("CompactSession", v1.CompactSessionRequest, v1.CompactSessionResponse), whole)
def compact(
    session_id: str,
    from_seq: int,
    to_seq: int,
    summary: str | v1.Message,
    *,
    tokens_before: int = 0,
    tokens_after: int = 0,
    author: str = "",
    model: str = "",
    lease_token: str = "",
    expected_next_seq: int = 0,
    expected_revision: int = 0,
    writer_token: str = "",
) -> v1.CompactSessionRequest:
    """Replaces a range of the context by a summary. The log stays as it is.

    Args:
        session_id: The session's id.
        from_seq: The first seq of the range; see `plan_compaction`.
        to_seq: The last seq of the range.
        summary: The summary's text, or a message, whose role is the system's if it has none. It isn't
            changed: one without `client_id` gets a UUIDv7 in the copy that is sent.
        tokens_before: For the record: the range's tokens. Left out, the sum of its messages'.
        tokens_after: For the record: the summary's tokens. Left out, its `token_count`.
        author: For the record: who compacts. At most 256 characters.
        model: For the record: with which model. At most 256 characters.
        lease_token: The token of the compaction lease, if one is held; this ends the lease.
        expected_next_seq: If not 0, compact only if the session's next seq is this.
        expected_revision: If not 0, compact only if the session's revision is this: what the model sees
            is as it was.
        writer_token: The token of the writer lease, if one is held.

    Returns a `CompactSessionResponse`: the compaction, the session's `version`, and whether the
    compaction was there before.

    Raises:
        CompactionSplitsToolCall, CompactionOverlap: Not a safe range; see `nearest_range`.
        CompactionRangeEmpty: No message of the context stands in the range.
        CompactionLeaseHeld, CompactionLeaseLost: Another compactor is or was at work.
        NextSeqMismatch, RevisionMismatch: Somebody else wrote.
    """
    request = v1.CompactSessionRequest(
        session_id=session_id,
        from_seq=from_seq,
        to_seq=to_seq,
        summary=v1.Message(parts=[v1.Part(text=summary)]) if isinstance(summary, str) else summary,
        tokens_before=tokens_before,
        tokens_after=tokens_after,
        author=author,
        model=model,
        lease_token=lease_token,
        guard=values.guard(expected_next_seq, expected_revision, writer_token),
    )
    request.summary.client_id = request.summary.client_id or uuid7()
    return request


@unary(
    _rpc("RevertCompaction", v1.RevertCompactionRequest, v1.RevertCompactionResponse),
    whole,
)
def revert_compaction(
    session_id: str,
    compaction_id: int,
    *,
    expected_next_seq: int = 0,
    expected_revision: int = 0,
    writer_token: str = "",
) -> v1.RevertCompactionRequest:
    """Puts the replaced messages back in the place of the summary.

    Args:
        session_id: The session's id.
        compaction_id: The compaction's id.
        expected_next_seq: If not 0, revert only if the session's next seq is this.
        expected_revision: If not 0, revert only if the session's revision is this: what the model sees
            is as it was.
        writer_token: The token of the writer lease, if one is held.

    Returns a `RevertCompactionResponse`: the compaction, the session's `version`, and whether it was
    reverted before.

    Raises:
        CompactionNotFound: The session has no compaction with this id.
        NextSeqMismatch, RevisionMismatch: Somebody else wrote.
    """
    return v1.RevertCompactionRequest(
        session_id=session_id,
        compaction_id=compaction_id,
        guard=values.guard(expected_next_seq, expected_revision, writer_token),
    )


@unary(
    _rpc("GetCompaction", v1.GetCompactionRequest, v1.GetCompactionResponse),
    lambda answer: answer.compaction,
)
def get_compaction(session_id: str, compaction_id: int) -> v1.GetCompactionRequest:
    """Reads one compaction, reverted or not.

    Raises:
        CompactionNotFound: The session has no compaction with this id.
    """
    return v1.GetCompactionRequest(session_id=session_id, compaction_id=compaction_id)


@paged(
    _rpc("ListCompactions", v1.ListCompactionsRequest, v1.ListCompactionsResponse),
    lambda page: page.compactions,
)
def list_compactions(
    session_id: str, *, page_size: int = 0, page_token: str = ""
) -> v1.ListCompactionsRequest:
    """Iterates over a session's compactions, reverted ones too, the newest first.

    Args:
        session_id: The session's id.
        page_size: Compactions a page: 0 is 100, at most 1000.
        page_token: Where to begin: the `next_page_token` of a page.
    """
    return v1.ListCompactionsRequest(
        session_id=session_id, page_size=page_size, page_token=page_token
    )


@unary(
    _rpc("RenewCompactionLease", v1.RenewCompactionLeaseRequest, v1.RenewCompactionLeaseResponse),
    lambda answer: answer.lease,
)
def renew_compaction_lease(
    session_id: str, lease_token: str, *, lease_ttl: float | timedelta | None = None
) -> v1.RenewCompactionLeaseRequest:
    """Makes a compaction lease last for `lease_ttl` seconds from now: 1 s to 1 h, 2 min if left out.

    Returns the `CompactionLease`.

    Raises:
        CompactionLeaseLost: It is over.
    """
    return v1.RenewCompactionLeaseRequest(
        session_id=session_id, lease_token=lease_token, lease_ttl=values.duration(lease_ttl)
    )


@unary(
    _rpc(
        "ReleaseCompactionLease",
        v1.ReleaseCompactionLeaseRequest,
        v1.ReleaseCompactionLeaseResponse,
    ),
    lambda answer: None,
)
def release_compaction_lease(session_id: str, lease_token: str) -> v1.ReleaseCompactionLeaseRequest:
    """Gives up a compaction lease. Releasing one that is over changes nothing."""
    return v1.ReleaseCompactionLeaseRequest(session_id=session_id, lease_token=lease_token)

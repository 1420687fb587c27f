"""The calls of ConsumerService."""

from __future__ import annotations

from datetime import timedelta

from sessiond import v1
from sessiond._calls import Service, paged, unary, whole
from sessiond._requests import values

_rpc = Service("sessiond.v1.ConsumerService").rpc


@unary(_rpc("SetCursor", v1.SetCursorRequest, v1.SetCursorResponse), lambda it: it.cursor)
def set_cursor(
    session_id: str,
    consumer_id: str,
    seq: int,
    *,
    claim_token: str = "",
    allow_decrease: bool = False,
) -> v1.SetCursorRequest:
    """Says up to where a consumer has worked in a session; the cursor as it stands.

    Args:
        session_id: The session's id.
        consumer_id: The consumer's id: 1–128 printable ASCII characters without spaces.
        seq: The last seq that it has worked on. A cursor never goes back by itself.
        claim_token: The claim's token, if the session was claimed; this ends the claim.
        allow_decrease: Whether the cursor may go back.

    Raises:
        SeqOutOfRange: The session has no such message yet.
        ClaimLost: Another worker has claimed the session since.
        TooManyConsumers: The session has cursors of 100 others.
    """
    return v1.SetCursorRequest(
        session_id=session_id,
        consumer_id=consumer_id,
        seq=seq,
        claim_token=claim_token,
        allow_decrease=allow_decrease,
    )


@unary(_rpc("GetCursor", v1.GetCursorRequest, v1.GetCursorResponse), lambda it: it.cursor)
def get_cursor(session_id: str, consumer_id: str) -> v1.GetCursorRequest:
    """Reads how far a consumer has come in a session; its `seq` is 0 if it never set any.

    Args:
        session_id: The session's id.
        consumer_id: The consumer's id.
    """
    return v1.GetCursorRequest(session_id=session_id, consumer_id=consumer_id)


@paged(
    _rpc("ListCursors", v1.ListCursorsRequest, v1.ListCursorsResponse),
    lambda it: it.cursors,
)
def list_cursors(session_id: str, *, page_size: int = 0) -> v1.ListCursorsRequest:
    """Lists how far consumers have come in a session, by consumer.

    Args:
        session_id: The session's id.
        page_size: How many to read at a time: 0 is 100, at most 1000.
    """
    return v1.ListCursorsRequest(session_id=session_id, page_size=page_size)


@unary(_rpc("ClaimSessions", v1.ClaimSessionsRequest, v1.ClaimSessionsResponse), whole)
def claim_sessions(
    consumer_id: str,
    filter: v1.SessionFilter | None = None,
    *,
    idle_for: float | timedelta | None = None,
    max_count: int = 1,
    wait: float | timedelta = 0,
    lease_ttl: float | timedelta | None = None,
    holder: str = "",
) -> v1.ClaimSessionsRequest:
    """Claims sessions that nobody has written to for a while, with messages past the consumer's cursor.

    Args:
        consumer_id: The consumer's id: 1–128 printable ASCII characters without spaces.
        filter: Whose sessions: a `session_filter` with `owner`, who has consumers of his own, or
            `whole_tenant`, and `include_subagents`. Required, but with an API key that is bound to an owner.
        idle_for: For how long, in seconds; 30 min if left out.
        max_count: How many at most, up to 100.
        wait: How long to wait for one, in seconds, up to 60; less than the client's timeout.
        lease_ttl: How long the claims last, in seconds: 1 s to 1 h, 5 min if left out.
        holder: Who claims, for those who look at the cursor.

    Raises:
        TooManyConsumers: There are 100 others; `delete_consumer` forgets one.

    Returns a `ClaimSessionsResponse`: the sessions, and whether there may be more.

    Example:
        everybody = sessiond.session_filter(whole_tenant=True)
        while True:
            for claimed in client.claim_sessions("memory", everybody, wait=20).sessions:
                remember(client.list_messages(claimed.session_id, from_seq=claimed.cursor_seq + 1))
                client.set_cursor(
                    claimed.session_id,
                    "memory",
                    claimed.next_seq - 1,
                    claim_token=claimed.claim_token,
                )
    """
    return v1.ClaimSessionsRequest(
        consumer_id=consumer_id,
        idle_for=values.duration(idle_for),
        max_count=max_count,
        wait=values.duration(wait),
        lease_ttl=values.duration(lease_ttl),
        holder=holder,
        filter=filter,
    )


@unary(
    _rpc("ExtendSessionClaim", v1.ExtendSessionClaimRequest, v1.ExtendSessionClaimResponse),
    lambda it: it.expire_time,
)
def extend_session_claim(
    session_id: str,
    consumer_id: str,
    claim_token: str,
    *,
    lease_ttl: float | timedelta | None = None,
    give_up: bool = False,
) -> v1.ExtendSessionClaimRequest:
    """Makes a claim last longer, or gives it up; when it ends, or the session is due again.

    Args:
        session_id: The session's id.
        consumer_id: The consumer's id.
        claim_token: The claim's token.
        lease_ttl: How long it lasts from now, in seconds: 1 s to 1 h, 5 min if left out.
        give_up: Give it up instead: it is due again when `lease_ttl` has passed, at once if left out.

    Raises:
        ClaimLost: Another worker has claimed the session since.
    """
    return v1.ExtendSessionClaimRequest(
        session_id=session_id,
        consumer_id=consumer_id,
        claim_token=claim_token,
        lease_ttl=values.duration(lease_ttl),
        give_up=give_up,
    )


@paged(
    _rpc("ListConsumers", v1.ListConsumersRequest, v1.ListConsumersResponse),
    lambda it: it.consumers,
)
def list_consumers(*, owner: str | None = None, page_size: int = 0) -> v1.ListConsumersRequest:
    """Lists the consumers that claim, by owner and id.

    Args:
        owner: Only this owner's; empty, only those of all sessions.
        page_size: How many to read at a time: 0 is 100, at most 1000.
    """
    return v1.ListConsumersRequest(page_size=page_size, **values.given(owner=owner))


@unary(
    _rpc("DeleteConsumer", v1.DeleteConsumerRequest, v1.DeleteConsumerResponse),
    lambda it: it.deleted,
)
def delete_consumer(
    consumer_id: str, *, owner: str, allow_missing: bool = False
) -> v1.DeleteConsumerRequest:
    """Forgets a consumer that claims; whether there was one. Its cursors stay.

    Args:
        consumer_id: The consumer's id.
        owner: Whose it is; empty, the one of all sessions.
        allow_missing: Whether to answer, instead of to raise, if there is no such consumer.

    Raises:
        ConsumerNotFound: There is no such consumer.
    """
    return v1.DeleteConsumerRequest(
        consumer_id=consumer_id, owner=owner, allow_missing=allow_missing
    )

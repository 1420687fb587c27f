"""The calls of WatermarkService."""

from __future__ import annotations

from datetime import timedelta

from sessiond import v1
from sessiond._calls import Service, paged, unary, whole
from sessiond._requests import values

_rpc = Service("sessiond.v1.WatermarkService").rpc


@unary(
    _rpc("SetWatermark", v1.SetWatermarkRequest, v1.SetWatermarkResponse), lambda it: it.watermark
)
def set_watermark(
    session_id: str,
    consumer: str,
    seq: int,
    *,
    claim_token: str = "",
    allow_decrease: bool = False,
) -> v1.SetWatermarkRequest:
    """Says up to where a consumer has worked in a session; the watermark as it stands.

    Args:
        session_id: The session's id.
        consumer: The consumer's name: 1–128 printable ASCII characters without spaces.
        seq: The last seq that it has worked on. A watermark never goes back by itself.
        claim_token: The claim's token, if the session was claimed; this ends the claim.
        allow_decrease: Whether the watermark may go back.

    Raises:
        SeqOutOfRange: The session has no such message yet.
        ClaimLost: Another worker has claimed the session since.
        TooManyConsumers: The session has watermarks of 100 others.
    """
    return v1.SetWatermarkRequest(
        session_id=session_id,
        consumer=consumer,
        seq=seq,
        claim_token=claim_token,
        allow_decrease=allow_decrease,
    )


@unary(
    _rpc("GetWatermark", v1.GetWatermarkRequest, v1.GetWatermarkResponse), lambda it: it.watermark
)
def get_watermark(session_id: str, consumer: str) -> v1.GetWatermarkRequest:
    """Reads how far a consumer has come in a session; its `seq` is 0 if it never set any.

    Args:
        session_id: The session's id.
        consumer: The consumer's name.
    """
    return v1.GetWatermarkRequest(session_id=session_id, consumer=consumer)


@paged(
    _rpc("ListWatermarks", v1.ListWatermarksRequest, v1.ListWatermarksResponse),
    lambda it: it.watermarks,
)
def list_watermarks(session_id: str, *, page_size: int = 0) -> v1.ListWatermarksRequest:
    """Lists how far consumers have come in a session, by consumer.

    Args:
        session_id: The session's id.
        page_size: How many to read at a time: 0 is 100, at most 1000.
    """
    return v1.ListWatermarksRequest(session_id=session_id, page_size=page_size)


@unary(
    _rpc("ClaimStaleSessions", v1.ClaimStaleSessionsRequest, v1.ClaimStaleSessionsResponse), whole
)
def claim_stale_sessions(
    consumer: str,
    *,
    idle_for: float | timedelta | None = None,
    max_count: int = 1,
    lease_ttl: float | timedelta | None = None,
    worker: str = "",
    include_children: bool = False,
    owner: str = "",
) -> v1.ClaimStaleSessionsRequest:
    """Claims sessions that nobody has written to for a while, with messages past the consumer's watermark.

    Args:
        consumer: The consumer's name: 1–128 printable ASCII characters without spaces.
        idle_for: For how long, in seconds; 30 min if left out.
        max_count: How many at most, up to 100.
        lease_ttl: How long the claims last, in seconds: 1 s to 1 h, 5 min if left out.
        worker: Who claims, for those who look at the watermark.
        include_children: Whether to claim the sessions of sub-agents as well.
        owner: Only this owner's sessions. Each owner has consumers of its own.

    Raises:
        TooManyConsumers: There are 100 others; `delete_consumer` forgets one.

    Returns a `ClaimStaleSessionsResponse`: the sessions, and whether there may be more.

    Example:
        for stale in client.claim_stale_sessions("memory", max_count=10).sessions:
            remember(client.list_messages(stale.session_id, from_seq=stale.watermark_seq + 1))
            client.set_watermark(
                stale.session_id, "memory", stale.next_seq - 1, claim_token=stale.claim_token
            )
    """
    return v1.ClaimStaleSessionsRequest(
        consumer=consumer,
        idle_for=values.duration(idle_for),
        max_count=max_count,
        lease_ttl=values.duration(lease_ttl),
        worker=worker,
        include_children=include_children,
        owner=owner,
    )


@paged(
    _rpc("ListConsumers", v1.ListConsumersRequest, v1.ListConsumersResponse),
    lambda it: it.consumers,
)
def list_consumers(*, owner: str = "", page_size: int = 0) -> v1.ListConsumersRequest:
    """Lists the consumers that claim, by owner and name.

    Args:
        owner: Only this owner's.
        page_size: How many to read at a time: 0 is 100, at most 1000.
    """
    return v1.ListConsumersRequest(owner=owner, page_size=page_size)


@unary(
    _rpc("DeleteConsumer", v1.DeleteConsumerRequest, v1.DeleteConsumerResponse),
    lambda it: it.deleted,
)
def delete_consumer(consumer: str, *, owner: str = "") -> v1.DeleteConsumerRequest:
    """Forgets a consumer that claims; whether there was one. Its watermarks stay.

    Args:
        consumer: The consumer's name.
        owner: Whose it is; left out, the one of all sessions.
    """
    return v1.DeleteConsumerRequest(consumer=consumer, owner=owner)

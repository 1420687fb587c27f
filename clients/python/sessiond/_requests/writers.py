"""The calls of WriterService."""

from __future__ import annotations

from datetime import timedelta

from sessiond import v1
from sessiond._calls import Service, unary, whole
from sessiond._requests import values

_rpc = Service("sessiond.v1.WriterService").rpc


@unary(_rpc("AcquireWriter", v1.AcquireWriterRequest, v1.AcquireWriterResponse), whole)
def acquire_writer(
    session_id: str, holder: str, *, lease_ttl: float | timedelta | None = None
) -> v1.AcquireWriterRequest:
    """Takes the writer lease: until it ends only calls with its token can write to the session.

    `writer` takes it, renews it and gives it up by itself.

    Args:
        session_id: The session's id.
        holder: A name that no other process uses. The same holder may acquire again, which makes
            its earlier token useless. At most 256 characters.
        lease_ttl: How long the lease lasts if it isn't renewed, in seconds: 1 s to 1 h, 30 s if left out.

    Returns an `AcquireWriterResponse`: the token, the fencing number, when it ends, and the
    session's `version`, which the new writer must have read up to.

    Raises:
        WriterLeaseHeld: Another writer holds it; see its `holder` and `expire_time`.
    """
    return v1.AcquireWriterRequest(
        session_id=session_id, holder=holder, lease_ttl=values.duration(lease_ttl)
    )


@unary(_rpc("RenewWriter", v1.RenewWriterRequest, v1.RenewWriterResponse), whole)
def renew_writer(
    session_id: str, writer_token: str, *, lease_ttl: float | timedelta | None = None
) -> v1.RenewWriterRequest:
    """Makes a writer lease last for `lease_ttl` seconds from now: 1 s to 1 h, 30 s if left out.

    Raises:
        WriterLeaseLost: It is over.
    """
    return v1.RenewWriterRequest(
        session_id=session_id, writer_token=writer_token, lease_ttl=values.duration(lease_ttl)
    )


@unary(
    _rpc("ReleaseWriter", v1.ReleaseWriterRequest, v1.ReleaseWriterResponse), lambda answer: None
)
def release_writer(session_id: str, writer_token: str) -> v1.ReleaseWriterRequest:
    """Gives up a writer lease. Releasing one that is over changes nothing."""
    return v1.ReleaseWriterRequest(session_id=session_id, writer_token=writer_token)

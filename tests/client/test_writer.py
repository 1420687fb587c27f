"""Writer leases: how they are kept, and how they are lost."""

from __future__ import annotations

import time

import pytest

import sessiond
from sessiond import v1
from sessiond._lease import WriterLease


def taken(ttl: float) -> WriterLease:
    lease = WriterLease("a", None, ttl)
    version = v1.SessionVersion(next_seq=5)
    lease._taken(
        v1.AcquireWriterResponse(writer_token="t", epoch=2, version=version), time.monotonic()
    )
    return lease


def test_P5_a_lease_knows_its_token_and_epoch() -> None:
    lease = taken(30)
    assert (lease.token, lease.epoch, lease.version.next_seq, lease.lost) == ("t", 2, 5, False)
    assert lease.holder != WriterLease("a", None, 30).holder
    assert WriterLease("a", "me", 30).holder == "me"


def test_P5_a_lease_that_wasn_t_renewed_in_time_is_lost_for_good() -> None:
    lease = taken(0.05)
    time.sleep(0.06)
    assert lease.lost
    lease._renewed(time.monotonic())
    assert lease.lost


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (sessiond.WriterLeaseLost(), True),
        (sessiond.SessionNotFound(), True),
        (sessiond.Unavailable(), False),
        (sessiond.DeadlineExceeded(), False),
    ],
)
def test_P5_a_lease_is_lost_when_the_server_says_so(
    error: sessiond.SessiondError, lost: bool
) -> None:
    lease = taken(30)
    lease._failed(error)
    assert lease.lost == lost

"""The cases of leases: held by somebody else, or lost."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from sessiond import v1
from tests.rpc.api import Api, refused, said
from tests.rpc.cases import Expected, case
from tests.rpc.refusals import Refusal


def _held(found: Refusal, id: str, holder: str) -> Expected:
    """The end of the lease is in the metadata and in RetryInfo, which say the same."""
    expire_time = found.metadata["expire_time"]
    left = (datetime.fromisoformat(expire_time) - datetime.now(UTC)).total_seconds()
    assert found.retry_delay is not None
    assert abs(found.retry_delay - left) < 20
    assert 0 < found.retry_delay <= 120
    return found, {"session_id": id, "holder": holder, "expire_time": expire_time}


@case("WRITER_LEASE_HELD")
def appending_without_the_lease(api: Api) -> Expected:
    id = api.talk(1)
    token = api.lease(id)
    api.append(id, said(), writer_token=token)
    return _held(refused(lambda: api.append(id, said())), id, "writer")


@case("WRITER_LEASE_HELD")
def acquiring_what_another_one_holds(api: Api) -> Expected:
    id = api.talk(1)
    api.lease(id)
    return _held(refused(lambda: api.lease(id, "another")), id, "writer")


@case("WRITER_LEASE_HELD")
def rewinding_without_the_lease(api: Api) -> Expected:
    id = api.talk(2)
    api.lease(id)
    return _held(refused(lambda: api.rewind(id, 1)), id, "writer")


@case("WRITER_LEASE_LOST")
def appending_with_a_token_that_was_replaced(api: Api) -> Expected:
    id = api.talk(1)
    old = api.lease(id)
    api.lease(id)
    found = refused(lambda: api.append(id, said(), writer_token=old))
    assert api.get(id).next_seq == 2
    return found, {"session_id": id}


@case("WRITER_LEASE_LOST")
def appending_with_a_token_that_was_released(api: Api) -> Expected:
    id = api.talk(1)
    token = api.lease(id)
    request = v1.ReleaseWriterRequest(session_id=id, writer_token=token)
    api.writers.ReleaseWriter(request)
    api.writers.ReleaseWriter(request)
    return refused(lambda: api.append(id, said(), writer_token=token)), {"session_id": id}


@case("WRITER_LEASE_LOST")
def renewing_a_lease_of_nobody(api: Api) -> Expected:
    id = api.talk(1)
    request = v1.RenewWriterRequest(session_id=id, writer_token="writer-of-nobody")
    return refused(lambda: api.writers.RenewWriter(request)), {"session_id": id}


@case("COMPACTION_LEASE_HELD")
def compacting_without_the_lease(api: Api) -> Expected:
    id = api.talk(4)
    api.plan(id)
    return _held(refused(lambda: api.compact(id, 1, 2)), id, "compactor")


@case("COMPACTION_LEASE_HELD")
def planning_what_another_one_compacts(api: Api) -> Expected:
    id = api.talk(4)
    api.plan(id)
    return _held(refused(lambda: api.plan(id, "another")), id, "compactor")


@case("COMPACTION_LEASE_LOST")
def compacting_with_a_lease_that_a_compaction_ended(api: Api) -> Expected:
    id = api.talk(6)
    token = api.plan(id).lease.token
    api.compact(id, 1, 2, lease_token=token)
    return refused(lambda: api.compact(id, 3, 4, lease_token=token)), {"session_id": id}


@case("COMPACTION_LEASE_LOST")
def renewing_a_compaction_lease_of_nobody(api: Api) -> Expected:
    id = api.talk(4)
    api.plan(id)
    request = v1.RenewCompactionLeaseRequest(session_id=id, lease_token="compaction-of-nobody")
    found = refused(lambda: api.compactions.RenewCompactionLease(request))
    return found, {"session_id": id}


@case("WRITER_LEASE_LOST")
def ending_with_a_token_that_was_replaced(api: Api) -> Expected:
    id = api.talk(1)
    old = api.lease(id)
    api.lease(id)
    request = v1.EndSessionRequest(session_id=id, guard=v1.WriteGuard(writer_token=old))
    found = refused(lambda: api.sessions.EndSession(request))
    assert api.get(id).state == v1.SessionState.SESSION_STATE_ACTIVE
    return found, {"session_id": id}


@case("WRITER_LEASE_LOST")
def appending_with_a_lease_that_ran_out(api: Api) -> Expected:
    id = api.talk(1)
    token = api.lease(id, seconds=1)
    time.sleep(1.1)
    found = refused(lambda: api.append(id, said(), writer_token=token))
    api.append(id, said())
    return found, {"session_id": id}

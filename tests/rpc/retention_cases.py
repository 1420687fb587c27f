"""The cases of retention policies."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

from sessiond import v1
from tests.rpc.api import Api, new, refused
from tests.rpc.cases import Expected, case


def _set(api: Api, name: str, etag: str = "") -> v1.RetentionPolicy:
    nobody = v1.SessionFilter(owner="nobody")
    rule = v1.RetentionRule(sessions=nobody, ended_for=Duration(seconds=10**9))
    policy = v1.RetentionPolicy(id=name, rule=rule, etag=etag)
    request = v1.SetRetentionPolicyRequest(policy=policy)
    return api.retention.SetRetentionPolicy(request).policy


def _delete(api: Api, name: str, etag: str = "") -> object:
    return api.retention.DeleteRetentionPolicy(
        v1.DeleteRetentionPolicyRequest(policy_id=name, etag=etag)
    )


@case("RETENTION_POLICY_NOT_FOUND")
def deleting_a_policy_that_is_not_there(api: Api) -> Expected:
    reading = v1.GetRetentionPolicyRequest(policy_id="nothing")
    read = refused(lambda: api.retention.GetRetentionPolicy(reading))
    found = refused(lambda: _delete(api, "nothing"))
    assert (read.code, read.reason, read.metadata) == (found.code, found.reason, found.metadata)
    return found, {"policy_id": "nothing"}


@case("TOO_MANY_RETENTION_POLICIES")
def setting_more_policies_than_may_be(api: Api) -> Expected:
    names = [new("policy") for _ in range(100)]
    for name in names:
        _set(api, name)
    found = refused(lambda: _set(api, "one-more"))
    _set(api, names[0])
    for name in names:
        _delete(api, name)
    return found, {"limit": 100}


@case("ETAG_MISMATCH")
def replacing_a_policy_that_was_replaced(api: Api) -> Expected:
    name = new("policy")
    old = _set(api, name)
    now = _set(api, name, old.etag)
    found = refused(lambda: _set(api, name, old.etag))
    assert refused(lambda: _delete(api, name, old.etag)).metadata == found.metadata
    _delete(api, name, now.etag)
    return found, {"etag": now.etag}

"""The calls of RetentionService."""

from __future__ import annotations

from datetime import timedelta

from sessiond import v1
from sessiond._calls import Service, paged, unary
from sessiond._requests import values

_rpc = Service("sessiond.v1.RetentionService").rpc


def retention_rule(
    sessions: v1.SessionFilter | None = None,
    *,
    older_than: float | timedelta | None = None,
    idle_for: float | timedelta | None = None,
    ended_for: float | timedelta | None = None,
    include_pinned: bool = False,
) -> v1.RetentionRule:
    """Says which sessions have lived long enough. All that is given must hold, and at least one of the times.

    Args:
        sessions: Which sessions: a `session_filter`. Required, but with an API key that is bound to an owner.
            Without `states`, only ended ones; sub-agents' sessions that it leaves out go only with their
            parents.
        older_than: Created at least so many seconds ago.
        idle_for: Not written to for at least so long.
        ended_for: Ended at least so long ago.
        include_pinned: Whether pinned ones may go too.

    Example:
        old = sessiond.retention_rule(sessiond.session_filter(owner="ann"), ended_for=30 * 86400)
        for pruned in client.prune_sessions(old):
            print(pruned.session_id)
    """
    return v1.RetentionRule(
        sessions=sessions,
        older_than=values.duration(older_than),
        idle_for=values.duration(idle_for),
        ended_for=values.duration(ended_for),
        include_pinned=include_pinned,
    )


@unary(
    _rpc("SetRetentionPolicy", v1.SetRetentionPolicyRequest, v1.SetRetentionPolicyResponse),
    lambda answer: answer.policy,
)
def set_retention_policy(
    policy_id: str, rule: v1.RetentionRule, *, dry_run: bool = False, etag: str = ""
) -> v1.SetRetentionPolicyRequest:
    """Makes a retention policy, or replaces the one of its id, and returns it.

    The service then deletes what fits by itself, every hour unless set otherwise.

    Args:
        policy_id: 1–63 of `a-z 0-9 . _ -`.
        rule: Which sessions may go: a `retention_rule`.
        dry_run: Whether only to report what would go.
        etag: Replace it only if the policy still has this etag.

    Raises:
        EtagMismatch: The policy changed since the etag was read, or is gone.
        TooManyRetentionPolicies: There are 100 already.
    """
    policy = v1.RetentionPolicy(id=policy_id, rule=rule, dry_run=dry_run, etag=etag)
    return v1.SetRetentionPolicyRequest(policy=policy)


@unary(
    _rpc("GetRetentionPolicy", v1.GetRetentionPolicyRequest, v1.GetRetentionPolicyResponse),
    lambda answer: answer.policy,
)
def get_retention_policy(policy_id: str) -> v1.GetRetentionPolicyRequest:
    """Reads one retention policy.

    Raises:
        RetentionPolicyNotFound: There is no such policy.
    """
    return v1.GetRetentionPolicyRequest(policy_id=policy_id)


@paged(
    _rpc(
        "ListRetentionPolicies", v1.ListRetentionPoliciesRequest, v1.ListRetentionPoliciesResponse
    ),
    lambda page: page.policies,
)
def list_retention_policies(
    *, page_size: int = 0, page_token: str = ""
) -> v1.ListRetentionPoliciesRequest:
    """Iterates over the retention policies, by id.

    Args:
        page_size: Policies a page: 0 is 100, at most 1000.
        page_token: Where to begin: the `next_page_token` of a page.
    """
    return v1.ListRetentionPoliciesRequest(page_size=page_size, page_token=page_token)


@unary(
    _rpc(
        "DeleteRetentionPolicy", v1.DeleteRetentionPolicyRequest, v1.DeleteRetentionPolicyResponse
    ),
    lambda answer: answer.deleted,
)
def delete_retention_policy(
    policy_id: str, *, etag: str = "", allow_missing: bool = False
) -> v1.DeleteRetentionPolicyRequest:
    """Ends a retention policy: nothing more is deleted by it; whether there was one. Its reports stay.

    Args:
        policy_id: The policy's id.
        etag: Delete it only if the policy still has this etag.
        allow_missing: Whether to answer, instead of to raise, if there is no such policy.

    Raises:
        RetentionPolicyNotFound: There is no such policy.
        EtagMismatch: The policy changed since the etag was read.
    """
    return v1.DeleteRetentionPolicyRequest(
        policy_id=policy_id, etag=etag, allow_missing=allow_missing
    )


@paged(
    _rpc("ListRetentionReports", v1.ListRetentionReportsRequest, v1.ListRetentionReportsResponse),
    lambda page: page.reports,
)
def list_retention_reports(
    policy_id: str = "", *, page_size: int = 0, page_token: str = ""
) -> v1.ListRetentionReportsRequest:
    """Iterates over the reports of what retention policies did, the newest first.

    Args:
        policy_id: Only of this policy.
        page_size: Reports a page: 0 is 20, at most 100.
        page_token: Where to begin: the `next_page_token` of a page.
    """
    return v1.ListRetentionReportsRequest(
        policy_id=policy_id, page_size=page_size, page_token=page_token
    )


@paged(
    _rpc("PruneSessions", v1.PruneSessionsRequest, v1.PruneSessionsResponse),
    lambda page: page.sessions,
)
def prune_sessions(
    rule: v1.RetentionRule,
    *,
    force: bool = False,
    page_size: int = 0,
    page_token: str = "",
) -> v1.PruneSessionsRequest:
    """Iterates over the sessions that have lived long enough, and with `force` deletes them for good.

    Pages are deleted as the iteration goes on: what isn't iterated over may stay.

    Args:
        rule: Which sessions may go: a `retention_rule`, or that of a policy.
        force: Whether to delete them. Left out, it only tells what would go.
        page_size: Sessions that a call deletes at most: 0 is 50, at most 200.
        page_token: Where to go on: the `next_page_token` of a page of the same rule.

    Yields a `PrunedSession` for each that fitted, which says what became of it.
    """
    return v1.PruneSessionsRequest(
        rule=rule, force=force, page_size=page_size, page_token=page_token
    )


prune_sessions_page = prune_sessions.page(
    "prune_sessions_page",
    """Does one page of `prune_sessions`, a `PruneSessionsResponse`; takes the same arguments.""",
)

"""The calls of RetentionService."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta

from sessiond import v1
from sessiond._calls import Service, paged, unary
from sessiond._requests import values

_rpc = Service("sessiond.v1.RetentionService").rpc


def retention_rule(
    *,
    older_than: float | timedelta | None = None,
    idle_for: float | timedelta | None = None,
    ended_for: float | timedelta | None = None,
    states: Iterable[values.SessionState] = (),
    sources: Iterable[str] = (),
    exclude_sources: Iterable[str] = (),
    owner: str = "",
    agent: str = "",
    labels: Mapping[str, str] | None = None,
    include_pinned: bool = False,
    include_subagents: bool = False,
) -> v1.RetentionRule:
    """A rule of the same arguments as `Client.prune_sessions`. Times are in seconds."""
    return v1.RetentionRule(
        older_than=values.duration(older_than),
        idle_for=values.duration(idle_for),
        ended_for=values.duration(ended_for),
        states=[values.enum_value(v1.SessionState, "SESSION_STATE_", state) for state in states],
        sources=sources,
        exclude_sources=exclude_sources,
        owner=owner,
        agent=agent,
        labels=labels,
        include_pinned=include_pinned,
        include_subagents=include_subagents,
    )


@unary(
    _rpc("SetRetentionPolicy", v1.SetRetentionPolicyRequest, v1.SetRetentionPolicyResponse),
    lambda answer: answer.policy,
)
def set_retention_policy(
    policy_id: str,
    *,
    dry_run: bool = False,
    older_than: float | timedelta | None = None,
    idle_for: float | timedelta | None = None,
    ended_for: float | timedelta | None = None,
    states: Iterable[values.SessionState] = (),
    sources: Iterable[str] = (),
    exclude_sources: Iterable[str] = (),
    owner: str = "",
    agent: str = "",
    labels: Mapping[str, str] | None = None,
    include_pinned: bool = False,
    include_subagents: bool = False,
    etag: str = "",
) -> v1.SetRetentionPolicyRequest:
    """Makes a retention policy, or replaces the one of its id, and returns it.

    The service then deletes what fits by itself, every hour unless set otherwise. The rule is given
    as in `prune_sessions`.

    Args:
        policy_id: 1–63 of `a-z 0-9 . _ -`.
        dry_run: Whether only to report what would go.
        older_than: Created at least so many seconds ago.
        idle_for: Not written to for at least so long.
        ended_for: Ended at least so long ago.
        states: Only in these states. Left out, only ended ones.
        sources: Only of these sources.
        exclude_sources: Not of these sources.
        owner: Only this owner's.
        agent: Only of this agent.
        labels: Only with all of these labels.
        include_pinned: Whether pinned ones may go too.
        include_subagents: Whether sub-agents' sessions may go by themselves.
        etag: Replace it only if the policy still has this etag.

    Raises:
        EtagMismatch: The policy changed since the etag was read, or is gone.
        TooManyRetentionPolicies: There are 100 already.
    """
    rule = retention_rule(
        older_than=older_than,
        idle_for=idle_for,
        ended_for=ended_for,
        states=states,
        sources=sources,
        exclude_sources=exclude_sources,
        owner=owner,
        agent=agent,
        labels=labels,
        include_pinned=include_pinned,
        include_subagents=include_subagents,
    )
    policy = v1.RetentionPolicy(id=policy_id, rule=rule, dry_run=dry_run, etag=etag)
    return v1.SetRetentionPolicyRequest(policy=policy)


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
    *,
    force: bool = False,
    older_than: float | timedelta | None = None,
    idle_for: float | timedelta | None = None,
    ended_for: float | timedelta | None = None,
    states: Iterable[values.SessionState] = (),
    sources: Iterable[str] = (),
    exclude_sources: Iterable[str] = (),
    owner: str = "",
    agent: str = "",
    labels: Mapping[str, str] | None = None,
    include_pinned: bool = False,
    include_subagents: bool = False,
    rule: v1.RetentionRule | None = None,
    page_size: int = 0,
    page_token: str = "",
) -> v1.PruneSessionsRequest:
    """Iterates over the sessions that have lived long enough, and with `force` deletes them for good.

    All that is given must hold, and at least one of the times must be given, in seconds. Pages are
    deleted as the iteration goes on: what isn't iterated over may stay.

    Args:
        force: Whether to delete them. Left out, it only tells what would go.
        older_than: Created at least so long ago.
        idle_for: Not written to for at least so long.
        ended_for: Ended at least so long ago.
        states: Only in these states, of `active`, `ended`. Left out, only ended ones.
        sources: Only of these sources. At most 64.
        exclude_sources: Not of these sources. At most 64.
        owner: Only this owner's.
        agent: Only of this agent.
        labels: Only with all of these labels. At most 16.
        include_pinned: Whether pinned ones may go too.
        include_subagents: Whether sub-agents' sessions may go by themselves. Left out, they go only
            with their parents.
        rule: The rule as a whole, for instance a policy's, in place of the arguments above.
        page_size: Sessions that a call deletes at most: 0 is 50, at most 200.
        page_token: Where to go on: the `next_page_token` of a page of the same rule.

    Yields a `PrunedSession` for each that fitted, which says what became of it.
    """
    rule = rule or retention_rule(
        older_than=older_than,
        idle_for=idle_for,
        ended_for=ended_for,
        states=states,
        sources=sources,
        exclude_sources=exclude_sources,
        owner=owner,
        agent=agent,
        labels=labels,
        include_pinned=include_pinned,
        include_subagents=include_subagents,
    )
    return v1.PruneSessionsRequest(
        rule=rule, force=force, page_size=page_size, page_token=page_token
    )


prune_sessions_page = prune_sessions.page(
    "prune_sessions_page",
    """Does one page of `prune_sessions`, a `PruneSessionsResponse`; takes the same arguments.""",
)

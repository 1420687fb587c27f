"""Filters of sessions, as many calls take them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from sessiond import v1
from sessiond._requests import values
from sessiond._requests.values import enum_value


def session_filter(
    *,
    owner: str | None = None,
    sources: Iterable[str] = (),
    exclude_sources: Iterable[str] = (),
    agents: Iterable[str] = (),
    states: Iterable[values.SessionState] = (),
    archived: bool | None = None,
    labels: Mapping[str, str] | None = None,
    parent_id: str = "",
    subtree_of: str = "",
    include_subagents: bool = False,
    created_from: datetime | None = None,
    created_before: datetime | None = None,
    active_from: datetime | None = None,
    active_before: datetime | None = None,
    ended_from: datetime | None = None,
    ended_before: datetime | None = None,
    whole_tenant: bool = False,
) -> v1.SessionFilter:
    """Says which sessions a call is about. All that is given must hold; times have a time zone.

    One of `owner`, `parent_id`, `subtree_of` and `whole_tenant` is required, unless the call names sessions
    or the API key is bound to an owner. Sub-agents' sessions are left out unless `include_subagents`,
    `parent_id` or `subtree_of` is given. A call that can't select by something that is given is refused
    with `InvalidField`.

    Args:
        owner: Only this owner's; empty for those without an owner.
        sources: Only of these sources. At most 64.
        exclude_sources: Not of these sources. At most 64.
        agents: Only of these agents. At most 64.
        states: Only in these states, of `active` and `ended`.
        archived: Whether only archived ones, or only others. Left out, lists of sessions hold the others,
            and everything else takes both.
        labels: Only with all of these labels. At most 16.
        parent_id: Only the children of this session.
        subtree_of: Only this session and its descendants at any depth.
        include_subagents: Whether to take sub-agents' sessions as well.
        created_from: Only those created at this time or later.
        created_before: Only those created before this time.
        active_from: Only those last written to at this time or later.
        active_before: Only those last written to before this time.
        ended_from: Only those that ended at this time or later.
        ended_before: Only those that ended before this time.
        whole_tenant: Everybody's sessions.

    Example:
        client.list_sessions(sessiond.session_filter(owner="ann", states=["active"]))
    """
    return v1.SessionFilter(
        owner=owner,
        sources=sources,
        exclude_sources=exclude_sources,
        agents=agents,
        states=[enum_value(v1.SessionState, "SESSION_STATE_", state) for state in states],
        archived=archived,
        labels=labels,
        parent_id=parent_id,
        subtree_of=subtree_of,
        include_subagents=include_subagents,
        create_time=_range(created_from, created_before),
        last_activity_time=_range(active_from, active_before),
        end_time=_range(ended_from, ended_before),
        whole_tenant=whole_tenant,
    )


def _range(start: datetime | None, end: datetime | None) -> v1.TimeRange | None:
    if start is None and end is None:
        return None
    return v1.TimeRange(start_time=values.timestamp(start), end_time=values.timestamp(end))

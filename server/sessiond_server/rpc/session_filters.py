"""Filters of sessions on their way in: the one place that checks them and fills in what they mean."""

from __future__ import annotations

import json
from collections.abc import Collection

from sessiond.v1 import session_filter_pb2 as pb
from sessiond_server.rpc import access, checks, limits
from sessiond_server.rpc.checks import Checks
from sessiond_server.sessions.filters import ACTIVE, ENDED, SessionFilter, TimeRange

FIELDS = frozenset(field.name for field in pb.SessionFilter.DESCRIPTOR.fields)
FIXED = frozenset(
    {
        "owner",
        "sources",
        "exclude_sources",
        "agents",
        "parent_id",
        "subtree_of",
        "include_subagents",
        "whole_tenant",
    }
)
"""What never changes in a session, but that it may lose its parent."""
_SCOPES = ("parent_id", "subtree_of", "whole_tenant")
_STATES = (ACTIVE, ENDED)


def filter_in(
    wanted: pb.SessionFilter,
    where: str,
    check: Checks,
    *,
    serves: Collection[str] = FIELDS,
    named: bool = False,
    archived: bool | None = None,
) -> SessionFilter:
    """A filter of the field `where`; `check` gets what is wrong with it. `serves` are the fields that the RPC
    can select by, `named` says that the request names sessions besides, and `archived` is meant where the
    filter says nothing of it."""
    for field, _ in wanted.ListFields():
        if field.name not in serves:
            check.wrong(f"{where}.{field.name}", "must be left out: this call can't select by it")
    scoped = wanted.HasField("owner") or any(getattr(wanted, scope) for scope in _SCOPES)
    if not scoped and not named:
        scopes = [scope for scope in ("owner", *_SCOPES) if scope in serves]
        check.wrong(where, f"must say whose sessions: one of {', '.join(scopes)} is required")
    _check(wanted, where, check)
    family = wanted.include_subagents or wanted.parent_id or wanted.subtree_of
    return SessionFilter(
        tenant=access.tenant(),
        owner=wanted.owner if wanted.HasField("owner") else None,
        sources=tuple(wanted.sources),
        exclude_sources=tuple(wanted.exclude_sources),
        agents=tuple(wanted.agents),
        states=tuple(sorted(set(wanted.states))),
        archived=wanted.archived if wanted.HasField("archived") else archived,
        labels_json=json.dumps(dict(wanted.labels), sort_keys=True) if wanted.labels else "",
        parent_id=wanted.parent_id,
        subtree_of=wanted.subtree_of,
        subagents=bool(family or named),
        create_time=_range(wanted, "create_time", where, check),
        last_activity_time=_range(wanted, "last_activity_time", where, check),
        end_time=_range(wanted, "end_time", where, check),
    )


def _check(wanted: pb.SessionFilter, where: str, check: Checks) -> None:
    check.text(f"{where}.owner", wanted.owner)
    check.texts(f"{where}.sources", wanted.sources, limits.SOURCES)
    check.texts(f"{where}.exclude_sources", wanted.exclude_sources, limits.SOURCES)
    check.texts(f"{where}.agents", wanted.agents, limits.AGENTS)
    check.enums(f"{where}.states", wanted.states, _STATES)
    labels = wanted.labels
    check.labels(f"{where}.labels", labels.items(), len(labels), limits.LABEL_FILTERS)
    if wanted.parent_id:
        check.session_id(f"{where}.parent_id", wanted.parent_id)
    if wanted.subtree_of:
        check.session_id(f"{where}.subtree_of", wanted.subtree_of)


def _range(wanted: pb.SessionFilter, field: str, where: str, check: Checks) -> TimeRange:
    """A range of time that may be left out."""
    given: pb.TimeRange = getattr(wanted, field)
    ends = []
    for end in ("start_time", "end_time"):
        wrong = len(check.violations)
        if given.HasField(end):
            check.timestamp(f"{where}.{field}.{end}", getattr(given, end))
        known = given.HasField(end) and len(check.violations) == wrong
        ends.append(checks.moment(getattr(given, end)) if known else None)
    start, behind = ends
    if start is not None and behind is not None and behind <= start:
        check.wrong(f"{where}.{field}.end_time", "must be later than start_time")
    return TimeRange(start, behind)

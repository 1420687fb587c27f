"""Filters of sessions as requests have them."""

from __future__ import annotations

from sessiond.v1.session_filter_pb2 import SessionFilter
from sessiond_server.rpc import access, limits
from sessiond_server.rpc.checks import Checks
from sessiond_server.sessions.session_filters import SessionFacts

_CHANGING = (
    "states",
    "archived",
    "labels",
    "create_time",
    "last_activity_time",
    "end_time",
)


def facts_in(given: SessionFilter, where: str, check: Checks) -> SessionFacts:
    """What to follow: of a filter, what never changes of a session. A caller who is bound to an owner follows
    that owner's sessions."""
    for descriptor, _ in given.ListFields():
        if descriptor.name in _CHANGING:
            check.wrong(f"{where}.{descriptor.name}", "can't be followed: leave it out")
    owner = access.owner()
    if owner is None and given.HasField("owner"):
        owner = given.owner
    check.text(f"{where}.owner", given.owner)
    for field in ("sources", "exclude_sources", "agents"):
        check.texts(f"{where}.{field}", getattr(given, field), limits.SOURCES)
    for field in ("parent_id", "subtree_of"):
        if getattr(given, field):
            check.session_id(f"{where}.{field}", getattr(given, field))
    if owner is None and not (given.parent_id or given.subtree_of or given.whole_tenant):
        check.wrong(where, "must have owner, parent_id, subtree_of or whole_tenant")
    return SessionFacts(
        access.tenant(),
        owner,
        frozenset(given.sources),
        frozenset(given.exclude_sources),
        frozenset(given.agents),
        given.parent_id,
        given.subtree_of,
        given.include_subagents,
    )

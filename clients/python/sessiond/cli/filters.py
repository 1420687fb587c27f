"""The options that say which sessions, as a filter."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import typer

from sessiond import v1
from sessiond._requests.filters import session_filter
from sessiond.cli import arguments, options
from sessiond.cli.terminal import Run


def filter_of(
    run: Run,
    *,
    owner: str | None = None,
    source: list[str] | None = None,
    exclude_source: list[str] | None = None,
    agent: list[str] | None = None,
    state: list[options.State] | None = None,
    archived: bool | None = None,
    label: list[str] | None = None,
    parent: str = "",
    subtree: str = "",
    idle: str = "",
    subagents: bool = False,
    everybody: bool = True,
) -> v1.SessionFilter:
    """The filter of what is given; sessions are named as people name them. Where nothing says whose sessions,
    and `everybody` isn't off, it is everybody's, or those of the owner to whom the API key is bound."""
    unscoped = owner is None and not (parent or subtree)
    return session_filter(
        owner=owner,
        sources=source or (),
        exclude_sources=exclude_source or (),
        agents=agent or (),
        states=[v1.SessionState.Value(f"SESSION_STATE_{it.name}") for it in state or ()],
        archived=archived,
        labels=arguments.labels(label),
        parent_id=run.find(parent).id if parent else "",
        subtree_of=run.find(subtree).id if subtree else "",
        active_before=datetime.now(UTC) - arguments.duration(idle) if idle else None,
        include_subagents=subagents,
        whole_tenant=unscoped and everybody and not run.bound,
    )


def rule_filter(run: Run, *, whole_tenant: bool, **fields: Any) -> v1.SessionFilter:
    """The filter of what deletes: nothing that is forgotten means everybody's. A usage error if nothing says
    whose sessions."""
    if fields["owner"] is None and not whole_tenant and not run.bound:
        raise typer.BadParameter("say whose sessions: give --owner or --whole-tenant")
    return filter_of(run, everybody=whole_tenant, **fields)

"""Verbs on retention policies: retention set, ls, show, try, rm, reports."""

from __future__ import annotations

from itertools import islice
from typing import Annotated

import typer

from sessiond import RetentionPolicyNotFound, retention_rule, v1
from sessiond.cli import arguments, options
from sessiond.cli.filters import rule_filter
from sessiond.cli.output import Format, plain, write, write_all
from sessiond.cli.render.retention import (
    policies_lines,
    pruned_lines,
    pruned_total,
    reports_lines,
    rule_text,
)
from sessiond.cli.terminal import Failure, Run, note
from sessiond.cli.verbs import Output, unwrapped, verb

app = typer.Typer(
    no_args_is_help=True,
    help="Policies by which the service deletes sessions that have lived long enough.",
    epilog=unwrapped(
        "Example: $ sessionctl retention set old-chats --whole-tenant --ended-for 30d --dry-run"
    ),
    rich_markup_mode="rich",
)

PolicyId = Annotated[str, typer.Argument(metavar="ID", help="The policy's id.")]


@verb(
    app,
    "set",
    "retention set old-chats --whole-tenant --ended-for 30d --source telegram --dry-run",
    "retention set idle --owner ann --idle-for 52w --state active --state ended",
)
def set_policy(
    run: Run,
    policy_id: PolicyId,
    older_than: options.OlderThan = "",
    idle_for: options.IdleFor = "",
    ended_for: options.EndedFor = "",
    state: options.PruneStates = None,
    source: options.OnlySources = None,
    exclude_source: options.NotSources = None,
    owner: options.OfOwner = None,
    whole_tenant: options.WholeTenant = False,
    agent: options.OnlyAgents = None,
    label: options.OnlyLabels = None,
    include_pinned: options.WithPinned = False,
    include_subagents: options.WithSubagents = False,
    dry_run: options.DryRun = False,
    output: Output = Format.TABLE,
) -> None:
    """Makes or replaces a policy. The service then deletes by itself what fits, for good.

    With --dry-run it only reports what would go. The service follows policies every
    SESSIOND_RETENTION_INTERVAL seconds, an hour unless it is set: `retention try` shows at once what
    a policy would delete, `retention reports` what became of it after a run.
    """
    rule = retention_rule(
        rule_filter(
            run,
            whole_tenant=whole_tenant,
            owner=owner,
            source=source,
            exclude_source=exclude_source,
            agent=agent,
            state=state,
            label=label,
            subagents=include_subagents,
        ),
        older_than=arguments.optional_duration(older_than),
        idle_for=arguments.optional_duration(idle_for),
        ended_for=arguments.optional_duration(ended_for),
        include_pinned=include_pinned,
    )
    before = _policy(run, policy_id)
    policy = run.client.set_retention_policy(policy_id, rule, dry_run=dry_run)
    _show(run, [policy], output)
    if before is not None:
        note(f"replaces: {rule_text(before.rule)}{' (dry run)' if before.dry_run else ''}")
    what = "only report what" if dry_run else "delete, for good, what"
    note(
        f"the service will {what} fits, from its next run on, in an hour at most unless set otherwise"
    )
    note(f"what would go now: sessionctl retention try {policy_id}")


@verb(app, "ls", "retention ls", "retention ls -o json")
def ls(run: Run, output: Output = Format.TABLE) -> None:
    """Lists the policies."""
    _show(run, list(run.client.list_retention_policies()), output)


@verb(app, "show", "retention show old-chats", "retention show old-chats -o json")
def show(run: Run, policy_id: PolicyId, output: Output = Format.TABLE) -> None:
    """Shows one policy."""
    policy = run.client.get_retention_policy(policy_id)
    if output is not Format.TABLE:
        return write(plain(policy), output)
    _show(run, [policy], output)


@verb(app, "try", "retention try old-chats")
def try_policy(run: Run, policy_id: PolicyId, output: Output = Format.TABLE) -> None:
    """Shows what a policy would delete now, and deletes nothing."""
    policy = run.client.get_retention_policy(policy_id)
    found = run.client.prune_sessions(policy.rule)
    _show_sessions(run, list(found), output)


@verb(app, "rm", "retention rm old-chats")
def rm(run: Run, policy_id: PolicyId) -> None:
    """Ends a policy: nothing more is deleted by it. Its reports stay."""
    run.client.delete_retention_policy(policy_id)


@verb(app, "reports", "retention reports old-chats", "retention reports -n 0 -o jsonl")
def reports(
    run: Run,
    policy_id: Annotated[
        str, typer.Argument(metavar="[ID]", help="Only of this policy; all if left out.")
    ] = "",
    limit: options.Limit = 20,
    full: Annotated[bool, typer.Option("--full", help="Name the sessions.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Lists what policies deleted, would have deleted or kept, the newest first.

    There are none before the service has followed a policy, which it does every
    SESSIOND_RETENTION_INTERVAL seconds, or where nothing fitted; `retention try` shows at once what
    would go.
    """
    rows = list(islice(run.client.list_retention_reports(policy_id), limit or None))
    if policy_id and not rows and _policy(run, policy_id) is None:
        raise Failure(f"there is no retention policy {policy_id!r}, and no report of one")
    if output is not Format.TABLE:
        return write_all((plain(it) for it in rows), output)
    if not rows:
        return note(
            "no reports: nothing fitted, or no run yet (see `sessionctl retention ls`);"
            " `sessionctl retention try ID` shows what would go now"
        )
    for line in reports_lines(rows, run.console.width):
        run.console.print(line, soft_wrap=True)
    for report in rows if full else ():
        run.console.print()
        for line in pruned_lines(report.sessions, run.console.width, title=False):
            run.console.print(line, soft_wrap=True)


def _policy(run: Run, policy_id: str) -> v1.RetentionPolicy | None:
    try:
        return run.client.get_retention_policy(policy_id)
    except RetentionPolicyNotFound:
        return None


def _show(run: Run, policies: list[v1.RetentionPolicy], output: Format) -> None:
    if output is not Format.TABLE:
        return write_all((plain(it) for it in policies), output)
    if not policies:
        return note("no retention policies")
    for line in policies_lines(policies, run.console.width):
        run.console.print(line, soft_wrap=True)


def _show_sessions(run: Run, found: list[v1.PrunedSession], output: Format) -> None:
    if output is not Format.TABLE:
        return write_all((plain(it) for it in found), output)
    for line in pruned_lines(found, run.console.width) if found else ():
        run.console.print(line, soft_wrap=True)
    note(pruned_total(found) if found else "no sessions fit")

"""Verbs on the server and what it keeps: server, stats, prune."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import typer
from rich.text import Text

from sessiond import retention_rule, v1
from sessiond.cli import arguments, options
from sessiond.cli.filters import filter_of, rule_filter
from sessiond.cli.output import Format, plain, write, write_all
from sessiond.cli.render.retention import pruned_lines, pruned_total
from sessiond.cli.render.stats import server_lines, sources_lines, stats_lines
from sessiond.cli.terminal import Run, note
from sessiond.cli.verbs import Output, verb

app = typer.Typer()

_MAX_PAGE = 200


@verb(app, "server", "server", "server -o json | jq .limits.attachment_bytes")
def server(run: Run, output: Output = Format.TABLE) -> None:
    """Shows the server's version, what is switched on, and the limits that its operator has set."""
    found = run.client.get_server_info()
    if output is not Format.TABLE:
        return write(plain(found), output)
    for line in server_lines(found):
        run.console.print(line, soft_wrap=True)


@verb(app, "stats", "stats", "stats --owner ann -o json | jq .message_count")
def stats(run: Run, owner: options.OfOwner = None, output: Output = Format.TABLE) -> None:
    """Counts the sessions by state and by source, their messages, tool calls and bytes."""
    found = run.client.get_tenant_stats(filter_of(run, owner=owner, subagents=True))
    if output is not Format.TABLE:
        return write(plain(found), output)
    for line in stats_lines(found):
        run.console.print(line, soft_wrap=True)
    if found.sources:
        run.console.print(Text())
        for line in sources_lines(found, run.console.width):
            run.console.print(line, soft_wrap=True)


@verb(
    app,
    "prune",
    "prune --whole-tenant --ended-for 30d --source telegram",
    "prune --force --owner ann --older-than 52w --state active --state ended --idle-for 12w",
)
def prune(
    run: Run,
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
    force: options.Force = False,
    output: Output = Format.TABLE,
) -> None:
    """Shows which sessions have lived long enough, and with --force deletes them for good.

    Linked children go with them. At least one of --older-than, --idle-for and --ended-for is needed;
    all that is given must hold.
    """
    if not (older_than or idle_for or ended_for):
        raise typer.BadParameter("give at least one of --older-than, --idle-for and --ended-for")
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
    _show(run, _pruned(run, rule, force), output)
    if not force:
        note("nothing was deleted: --force deletes them")


def _pruned(run: Run, rule: v1.RetentionRule, force: bool) -> Iterator[Sequence[v1.PrunedSession]]:
    """Pages of what fits. With `force` each is told before the next one is deleted."""
    token = ""
    while True:
        page = run.client.prune_sessions_page(
            rule, force=force, page_size=_MAX_PAGE, page_token=token
        )
        yield page.sessions
        token = page.next_page_token
        if not token:
            return


def _show(run: Run, pages: Iterable[Sequence[v1.PrunedSession]], output: Format) -> None:
    if output is not Format.TABLE:
        return write_all((plain(it) for page in pages for it in page), output)
    found: list[v1.PrunedSession] = []
    for page in pages:
        if page:
            for line in pruned_lines(page, run.console.width):
                run.console.print(line, soft_wrap=True)
        found += page
    note(pruned_total(found) if found else "no sessions fit")

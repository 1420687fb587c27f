"""Verbs on what can be found: search, reindex."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice

import typer
from rich.text import Text

from sessiond import v1
from sessiond.cli import arguments, options
from sessiond.cli.filters import filter_of
from sessiond.cli.output import Format, plain, write, write_all
from sessiond.cli.render.hits import hit_lines
from sessiond.cli.render.prose import count
from sessiond.cli.terminal import Run, note
from sessiond.cli.verbs import Output, verb

app = typer.Typer()

_MAX_PAGE = 100


@verb(
    app,
    "search",
    "search 'refund policy' --source telegram",
    "search '\"lost luggage\" OR delay* -train' --session trip --context 1",
    "search -- '-refund hotel'",
    "search 東京 --role user --within 7d -o jsonl | jq '.snippet.runs|map(.text)|add'",
)
def search(
    run: Run,
    query: options.Query,
    session: options.InSession = "",
    subtree_of: options.InSubtree = "",
    owner: options.OfOwner = None,
    source: options.OnlySources = None,
    exclude_source: options.NotSources = None,
    agent: options.OnlyAgents = None,
    label: options.OnlyLabels = None,
    role: options.OnlyRoles = None,
    within: options.Within = "",
    newest: options.NewestFirst = False,
    rewound: options.WithRewound = False,
    context: options.Neighbors = 0,
    limit: options.Limit = 20,
    output: Output = Format.TABLE,
) -> None:
    """Finds messages by what they say, think, call or answer.

    All words must be in a message: word, "words in a row", OR, -without, begin*. With -- before it, a
    query may begin with a minus. `show SESSION --from SEQ` shows a hit among the others.
    """
    age = arguments.optional_duration(within)
    wanted = filter_of(
        run,
        owner=owner,
        source=source,
        exclude_source=exclude_source,
        agent=agent,
        label=label,
        subtree=subtree_of,
        subagents=True,
        everybody=not session,
    )
    hits = run.client.search_messages(
        query,
        wanted,
        session_id=run.find(session).id if session else "",
        roles=[v1.Role.Value(f"ROLE_{it.name}") for it in role or ()],
        start_time=_ago(age),
        order_by="newest" if newest else "relevance",
        include_rewound=rewound,
        context_before=context,
        context_after=context,
        page_size=min(limit or _MAX_PAGE, _MAX_PAGE),
    )
    shown = islice(hits, limit or None)
    if output is not Format.TABLE:
        return write_all((plain(hit) for hit in shown), output)
    found = 0
    for found, hit in enumerate(shown, 1):
        if found > 1:
            run.console.print(Text())
        for line in hit_lines(hit):
            run.console.print(line, soft_wrap=True)
    if not found:
        note("nothing found")


def _ago(age: timedelta | None) -> datetime | None:
    if age is None:
        return None
    now = datetime.now(UTC)
    earliest = datetime.min.replace(tzinfo=UTC)
    return now - age if age < now - earliest else earliest


@verb(app, "reindex", "reindex trip", "reindex --all")
def reindex(
    run: Run,
    sessions: options.Sessions = None,
    every: options.AllSessions = False,
    output: Output = Format.TABLE,
) -> None:
    """Has sessions indexed anew in the background, after damage.

    Until then they are found as they are indexed now.
    """
    if bool(sessions) == every:
        raise typer.BadParameter("name sessions, or give --all")
    ids = [run.find(name).id for name in sessions or ()]
    number = run.client.reindex_sessions(ids, all_sessions=every)
    if output is not Format.TABLE:
        return write({"session_count": number}, output)
    print(f"{count(number, 'session')} will be indexed anew")

"""Verbs on what happens: tail."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

import typer
from rich.text import Text

import sessiond
from sessiond import Event
from sessiond.cli import options
from sessiond.cli.following import Follower
from sessiond.cli.output import Format, Json, plain, write_all
from sessiond.cli.render.conversation import Style
from sessiond.cli.render.feed import FeedPainter
from sessiond.cli.screen import Screen, say
from sessiond.cli.terminal import Run
from sessiond.cli.verbs import Output, SessionName, verb

app = typer.Typer()

_MAX_PAGE = 1000


@verb(
    app,
    "tail",
    "tail trip -f",
    "tail 'Trip to Lisbon' --follow --subtree --lines 30",
    "tail trip -f --drafts",
    "tail trip -f --only session_changed --only child_created -o jsonl",
    "tail trip -f -o jsonl | jq -r 'select(.kind == \"message_appended\").value.parts[].text // empty'",
)
def tail(
    run: Run,
    session: SessionName,
    follow: options.Follow = False,
    lines: options.Lines = 10,
    subtree: options.Subtree = False,
    drafts: options.Drafts = False,
    only: options.OnlyKinds = None,
    full: options.Full = False,
    output: Output = Format.TABLE,
) -> None:
    """Shows what happened last in a session, and with -f what happens, as it happens.

    Messages look as in `show`; compactions, rewinds and the like are a line each. With -f it rides
    out restarts of the server, and ends with the session's deletion or Ctrl-C. As JSON an event is
    {"session", "kind", "value", "token"}: the last of each piece that the server sends at once has a
    token, from which a watch can go on; that of the others, and of drafts, is empty.

    With --only it shows some kinds of events alone, and what tells where the watch stands (`caught_up`,
    `fell_behind`, `session_deleted`).

    With --drafts, messages that are being written grow at the bottom of the terminal until they are
    appended or given up. With -o jsonl their events are printed too; a table that goes elsewhere
    than to a terminal has messages alone.
    """
    if follow and output is Format.JSON:
        raise typer.BadParameter("-o json is one document, which -f never ends: give -o jsonl")
    if drafts and not follow:
        raise typer.BadParameter("--drafts shows what is being written now: give -f with it")
    found = run.find(session)
    follower = partial(
        Follower, run.client, found, lines=lines, subtree=subtree, follow=follow, kinds=only or ()
    )
    if output is Format.TABLE:
        open_calls = _nothing_known if follow else _open_calls(run)
        painter = FeedPainter(run.console, found, Style(full), tree=subtree, open_calls=open_calls)
        drafts = drafts and run.console.is_interactive and sys.stdout.isatty()
        with Screen(run.console, painter, drafts=drafts) as screen:
            events = follower(drafts=drafts, on_change=screen.say)
            _show(run, events, painter, screen, follow)
    else:
        write_all(_json(follower(drafts=drafts, on_change=say)), output)


def _show(run: Run, follower: Follower, painter: FeedPainter, screen: Screen, follow: bool) -> None:
    silent = True
    for group in follower:
        lines = list(painter.paint(screen.take(group)))
        caught_up = any(event.kind == "caught_up" for event in group)
        if silent and not lines and caught_up and follow and run.console.is_terminal:
            lines = list(painter.remark("✓ caught up"))
        screen.print(lines)
        silent = silent and not lines
    if silent and not follow:
        run.console.print(Text("no messages", style="dim"))


def _json(follower: Follower) -> Iterator[Json]:
    for group in follower:
        for event in group:
            yield _event(event)
        sys.stdout.flush()


def _event(event: Event) -> Json:
    return {
        "session": event.session_id,
        "kind": event.kind,
        "value": plain(event.value),
        "token": event.token,
    }


def _open_calls(run: Run) -> Callable[[str], frozenset[tuple[int, str]]]:
    def of(session_id: str) -> frozenset[tuple[int, str]]:
        with suppress(sessiond.SessionNotFound):
            calls = run.client.list_open_tool_calls(session_id, page_size=_MAX_PAGE)
            return frozenset((call.seq, call.tool_call.id) for call in calls)
        return frozenset()

    return of


def _nothing_known(session_id: str) -> frozenset[tuple[int, str]]:
    """What is open now is likely to be answered in the next moment, and that is shown."""
    del session_id
    return frozenset()

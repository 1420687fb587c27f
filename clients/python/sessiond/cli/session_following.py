"""`ls --follow`: sessions as they are, then each one as it changes."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from rich.text import Text

import sessiond
from sessiond import Client, SessionUpdate, v1
from sessiond._watch import worth_another_try
from sessiond.cli.output import Format, Json, plain, write
from sessiond.cli.render.prose import count, one_line
from sessiond.cli.render.sessions import PIN, state
from sessiond.cli.screen import say
from sessiond.cli.terminal import Run

_SILENTLY = 2.0
"""Seconds without a server before a person is told."""


def follow_sessions(run: Run, output: Format, wanted: v1.SessionFilter) -> None:
    """Prints a line per session and change, until Ctrl-C."""
    for update, token in _updates(run.client, wanted):
        if output is not Format.TABLE:
            write(_json(update, token), output)
            sys.stdout.flush()
        elif (line := _line(update)) is not None:
            run.console.print(line, soft_wrap=True)


def _updates(client: Client, wanted: v1.SessionFilter) -> Iterator[tuple[SessionUpdate, str]]:
    """All updates, of one stream after the other while the server is away; each with a token behind the frame
    before it."""
    resume = ""
    heard = lost = False
    while True:
        watch = client.with_timeout(_SILENTLY).watch_sessions(wanted, resume=resume)
        try:
            for update in watch:
                if lost:
                    say("connected again")
                heard, lost = True, False
                yield update, watch.token
        except sessiond.SessiondError as error:
            if not (heard and worth_another_try(error)):
                raise
        if not lost:
            say("connection lost, trying again …")
        lost, resume = True, watch.token


def _json(update: SessionUpdate, token: str) -> Json:
    return {
        "kind": update.kind,
        "session_id": update.session_id,
        "incarnation": update.incarnation,
        "session": None if update.session is None else plain(update.session),
        "version": None if update.version is None else plain(update.version),
        "delete_time": None if update.delete_time is None else plain(update.delete_time),
        "token": token,
    }


def _line(update: SessionUpdate) -> Text | None:
    session = update.session
    if update.kind == "deleted":
        return Text(f"{update.session_id}  ✗ deleted", style="dim")
    if session is None:
        return None
    title = one_line(session.title)
    line = Text(f"{PIN} " if session.pinned else "").append(title or session.id, style="bold")
    if title:
        line.append(f"  {session.id}")
    line.append("  ").append_text(state(session))
    return line.append(f"  {count(session.message_count, 'message')}", style="dim")

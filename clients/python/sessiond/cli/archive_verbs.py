"""Verbs on where messages are kept: archive, restore."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

from sessiond import v1
from sessiond.cli import options
from sessiond.cli.output import Format, plain, write, write_all
from sessiond.cli.render.prose import count
from sessiond.cli.render.records import archives_lines
from sessiond.cli.terminal import Run, note
from sessiond.cli.verbs import Output, SessionName, verb

app = typer.Typer()


@verb(
    app, "archive", "archive trip --keep 1000", "archive trip --before 5000", "archive trip --list"
)
def archive(
    run: Run,
    session: SessionName,
    before: options.ArchiveBefore = 0,
    keep: options.ArchiveKeep = 0,
    author: options.Author = "sessionctl",
    listing: options.ListThem = False,
    output: Output = Format.TABLE,
) -> None:
    """Moves the beginning of the log into compressed segments, about a fifth of the size.

    Nothing that is shown changes. It ends before a tool call that waits for its result.
    """
    found = run.find(session)
    if listing:
        return _list(run, found.id, output)
    done = _all(
        lambda: run.client.archive_messages(
            found.id, before_seq=before, keep_recent_messages=keep, author=author
        )
    )
    if output is not Format.TABLE:
        return write(plain(done), output)
    print(f"archived {count(done.message_count, 'message')}; {_border(done)}")


@verb(app, "restore", "restore trip", "restore trip --from 4000")
def restore(
    run: Run,
    session: SessionName,
    from_seq: options.RestoreFrom = 0,
    author: options.Author = "sessionctl",
    output: Output = Format.TABLE,
) -> None:
    """Moves messages back from the archive. Nothing that is shown changes.

    Whole segments come back: with --from also the messages before it that are in one with it.
    """
    found = run.find(session)
    done = _all(lambda: run.client.restore_messages(found.id, from_seq=from_seq, author=author))
    if output is not Format.TABLE:
        return write(plain(done), output)
    print(f"restored {count(done.message_count, 'message')}; {_border(done)}")


def _all(step: Callable[[], Any]) -> v1.ArchiveMessagesResponse:
    """Call after call, until nothing is left; the last answer with all messages counted."""
    moved = 0
    while True:
        answer = step()
        moved += answer.message_count
        if not answer.more:
            return v1.ArchiveMessagesResponse(
                archived_before_seq=answer.archived_before_seq, message_count=moved
            )


def _border(done: v1.ArchiveMessagesResponse) -> str:
    if not done.archived_before_seq:
        return "nothing is archived"
    return f"everything before {done.archived_before_seq} is"


def _list(run: Run, session_id: str, output: Format) -> None:
    found = run.client.list_archives(session_id)
    if output is not Format.TABLE:
        return write_all((plain(it) for it in found), output)
    rows = list(found)
    if not rows:
        return note("nothing was archived")
    for line in archives_lines(rows, run.console.width):
        run.console.print(line, soft_wrap=True)

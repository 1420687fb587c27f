"""Verbs on where messages are kept: offload, restore."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

from sessiond import v1
from sessiond.cli import options
from sessiond.cli.output import Format, plain, write, write_all
from sessiond.cli.render.prose import count
from sessiond.cli.render.records import offloads_lines
from sessiond.cli.terminal import Run, note
from sessiond.cli.verbs import Output, SessionName, verb

app = typer.Typer()


@verb(
    app, "offload", "offload trip --keep 1000", "offload trip --before 5000", "offload trip --list"
)
def offload(
    run: Run,
    session: SessionName,
    before: options.OffloadBefore = None,
    keep: options.OffloadKeep = None,
    every: options.AllMessages = False,
    author: options.Author = "sessionctl",
    listing: options.ListThem = False,
    output: Output = Format.TABLE,
) -> None:
    """Moves the beginning of the log into compressed segments, about a fifth of the size.

    Nothing that is shown changes. It ends before a tool call that waits for its result.
    """
    if not listing and before is None and keep is None and not every:
        raise typer.BadParameter("give --before, --keep or --all")
    if every and (before is not None or keep is not None):
        raise typer.BadParameter("give --all alone")
    found = run.find(session)
    if listing:
        return _list(run, found.id, output)
    done = _all(
        lambda: run.client.offload_messages(
            found.id,
            before_seq=before,
            all_messages=before is None,
            keep_recent_messages=keep or 0,
            author=author,
        )
    )
    if output is not Format.TABLE:
        return write(plain(done), output)
    print(f"offloaded {count(done.message_count, 'message')}; {_border(done)}")


@verb(app, "restore", "restore trip --all", "restore trip --from 4000")
def restore(
    run: Run,
    session: SessionName,
    from_seq: options.RestoreFrom = None,
    every: options.AllMessages = False,
    author: options.Author = "sessionctl",
    output: Output = Format.TABLE,
) -> None:
    """Moves offloaded messages back. Nothing that is shown changes.

    Whole segments come back: with --from also the messages before it that are in one with it.
    """
    if (from_seq is None) != every:
        raise typer.BadParameter("give --from or --all")
    found = run.find(session)
    done = _all(
        lambda: run.client.restore_messages(
            found.id, from_seq=from_seq, all_messages=every, author=author
        )
    )
    if output is not Format.TABLE:
        return write(plain(done), output)
    print(f"restored {count(done.message_count, 'message')}; {_border(done)}")


def _all(step: Callable[[], Any]) -> v1.OffloadMessagesResponse:
    """Call after call, until nothing is left; the last answer with all messages counted."""
    moved = 0
    while True:
        answer = step()
        moved += answer.message_count
        if not answer.more:
            return v1.OffloadMessagesResponse(
                offloaded_before_seq=answer.offloaded_before_seq, message_count=moved
            )


def _border(done: v1.OffloadMessagesResponse) -> str:
    if not done.offloaded_before_seq:
        return "nothing is offloaded"
    return f"everything before {done.offloaded_before_seq} is"


def _list(run: Run, session_id: str, output: Format) -> None:
    found = run.client.list_offloads(session_id)
    if output is not Format.TABLE:
        return write_all((plain(it) for it in found), output)
    rows = list(found)
    if not rows:
        return note("nothing was offloaded")
    for line in offloads_lines(rows, run.console.width):
        run.console.print(line, soft_wrap=True)

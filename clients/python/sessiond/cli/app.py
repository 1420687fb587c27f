"""The application: global options and the verbs."""

from __future__ import annotations

import sys
from importlib import metadata
from typing import Annotated

import typer

from sessiond.cli import (
    attachment_verbs,
    consumer_verbs,
    context_verbs,
    feed_verbs,
    keeping_verbs,
    key_verbs,
    message_verbs,
    offload_verbs,
    reminder_verbs,
    retention_verbs,
    search_verbs,
    session_verbs,
    transfer_verbs,
    usage_verbs,
)
from sessiond.cli.terminal import EXIT_USAGE
from sessiond.cli.verbs import Target, Timeout, unwrapped

_EPILOG = """
[bold]Sessions[/bold] are named by id, the unique beginning of one, or exact title: `x` isn't `x #2`.
Only `show --continuations x` begins at the newest of `x`, `x #2`, `x #3`.

[bold]Output[/bold]: `-o table` is for people and may change. `-o json` and `-o jsonl` are stable:
field names as in the API, 64-bit numbers as numbers, enums as lower-case names (`assistant`), times
as RFC 3339, bytes as base64. Stdout has the result alone; everything else goes to stderr.

[bold]Exit codes[/bold]: 0 done, 1 refused or failed, 2 wrong usage, 130 interrupted.

[bold]Environment[/bold]: SESSIOND_TARGET (where the server is), SESSIOND_API_KEY (if it wants
one), NO_COLOR.

Example: $ sessionctl ls
"""

app = typer.Typer(
    name="sessionctl",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
    epilog=unwrapped(_EPILOG),
)
for group in (
    session_verbs,
    message_verbs,
    search_verbs,
    feed_verbs,
    context_verbs,
    transfer_verbs,
    offload_verbs,
    keeping_verbs,
    usage_verbs,
):
    app.registered_commands += group.app.registered_commands
app.add_typer(
    attachment_verbs.app,
    name="attachments",
    help="Files of a session: upload, ls, download, rm.",
    epilog=unwrapped("Example: $ sessionctl attachments upload trip tickets.pdf"),
)
app.add_typer(retention_verbs.app, name="retention")
app.add_typer(reminder_verbs.app, name="reminder")
app.add_typer(consumer_verbs.app, name="consumer")
app.add_typer(key_verbs.app, name="keys")


def _version(wanted: bool) -> None:
    if not wanted:
        return
    try:
        found = metadata.version("sessiond")
    except metadata.PackageNotFoundError:
        found = "unknown (not installed as a package)"
    print(f"sessionctl {found}")
    raise typer.Exit


@app.callback()
def options(
    ctx: typer.Context,
    target: Target = None,
    timeout: Timeout = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    """Sessions of a sessiond server: make, list, read, follow, write, compact, import and export them."""
    del version
    ctx.obj = {"target": target, "timeout": timeout}


def run() -> None:
    """Runs the command line; ends the process with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")
    if any("\udc80" <= character <= "\udcff" for word in sys.argv for character in word):
        print("error: the arguments aren't UTF-8", file=sys.stderr)
        sys.exit(EXIT_USAGE)
    app(prog_name="sessionctl")

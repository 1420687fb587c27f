"""Verbs on what is kept: stats."""

from __future__ import annotations

import typer
from rich.text import Text

from sessiond.cli import options
from sessiond.cli.output import Format, plain, write
from sessiond.cli.render.stats import sources_lines, stats_lines
from sessiond.cli.terminal import Run
from sessiond.cli.verbs import Output, verb

app = typer.Typer()


@verb(app, "stats", "stats", "stats --owner ann -o json | jq .message_count")
def stats(run: Run, owner: options.OnlyOwner = "", output: Output = Format.TABLE) -> None:
    """Counts the sessions by state and by source, their messages, tool calls and bytes."""
    found = run.client.get_stats(owner)
    if output is not Format.TABLE:
        return write(plain(found), output)
    for line in stats_lines(found):
        run.console.print(line, soft_wrap=True)
    if found.sources:
        run.console.print(Text())
        for line in sources_lines(found, run.console.width):
            run.console.print(line, soft_wrap=True)

"""Verbs on consumers and their cursors: consumer ls, cursors, set-cursor, claim, rm."""

from __future__ import annotations

from typing import Annotated

import typer

from sessiond.cli import arguments, options
from sessiond.cli.filters import filter_of
from sessiond.cli.output import Format, plain, write, write_all
from sessiond.cli.render.reminders import claimed_lines, consumers_lines, cursors_lines
from sessiond.cli.terminal import Run, note
from sessiond.cli.verbs import Output, SessionName, unwrapped, verb

app = typer.Typer(
    no_args_is_help=True,
    help="How far consumers have come in sessions, and which sessions wait for them.",
    epilog=unwrapped("Example: $ sessionctl consumer claim titles --idle 30min"),
    rich_markup_mode="rich",
)

ConsumersOf = Annotated[str, typer.Option("--owner", help="Only this owner's.")]
Consumer = Annotated[str, typer.Argument(metavar="CONSUMER", help="The consumer's id.")]
Whose = Annotated[str, typer.Option("--owner", help="Whose it is; '' is the one of all sessions.")]
Seq = Annotated[int, typer.Argument(min=0, help="The last seq that it has worked on.")]
Token = Annotated[str, typer.Option(help="The claim's token, from `consumer claim`.")]
Back = Annotated[bool, typer.Option("--back", help="Let it go back: work on messages again.")]
Idle = Annotated[str, typer.Option(help="Only sessions without activity for so long.")]
Count = Annotated[int, typer.Option("--limit", "-n", min=1, max=100, help="At most so many.")]
Wait = Annotated[str, typer.Option(help="Wait so long for one to become due: 20s, at most 60s.")]
Lease = Annotated[str, typer.Option(help="How long the claims last.")]
Holder = Annotated[str, typer.Option(help="Who claims, for those who look.")]
Subagents = Annotated[bool, typer.Option("--include-subagents", help="With sub-agents' sessions.")]


@verb(app, "cursors", "consumer cursors trip")
def cursors(run: Run, session: SessionName, output: Output = Format.TABLE) -> None:
    """Lists how far consumers have come in a session."""
    found = run.client.list_cursors(run.find(session).id)
    if output is not Format.TABLE:
        return write_all((plain(it) for it in found), output)
    rows = list(found)
    if not rows:
        return note("no cursors")
    for line in cursors_lines(rows, run.console.width):
        run.console.print(line, soft_wrap=True)


@verb(
    app,
    "set-cursor",
    "consumer set-cursor trip memory 42 --token TOKEN",
    "consumer set-cursor trip memory 0 --back",
)
def set_cursor(
    run: Run,
    session: SessionName,
    consumer: Consumer,
    seq: Seq,
    token: Token = "",
    back: Back = False,
    output: Output = Format.TABLE,
) -> None:
    """Says up to where a consumer has worked. A cursor goes back only with --back."""
    mark = run.client.set_cursor(
        run.find(session).id, consumer, seq, claim_token=token, allow_decrease=back
    )
    if output is not Format.TABLE:
        return write(plain(mark), output)
    print(f"{mark.consumer_id}: {mark.seq} of {mark.next_seq - 1}")


@verb(app, "claim", "consumer claim titles --idle 30min -n 10", "consumer claim memory --wait 20s")
def claim(
    run: Run,
    consumer: Consumer,
    idle: Idle = "30min",
    limit: Count = 1,
    wait: Wait = "0s",
    lease_ttl: Lease = "5min",
    holder: Holder = "sessionctl",
    subagents: Subagents = False,
    owner: options.OfOwner = None,
    output: Output = Format.TABLE,
) -> None:
    """Claims idle sessions with messages past a consumer's cursor, each for this caller alone."""
    answer = run.client.claim_sessions(
        consumer,
        filter_of(run, owner=owner, subagents=subagents),
        idle_for=arguments.duration(idle),
        max_count=limit,
        wait=arguments.duration(wait),
        lease_ttl=arguments.duration(lease_ttl),
        holder=holder,
    )
    if output is not Format.TABLE:
        return write_all((plain(it) for it in answer.sessions), output)
    if not answer.sessions:
        return note("there may be more: ask again" if answer.more else "nothing to do")
    for line in claimed_lines(answer.sessions, run.console.width):
        run.console.print(line, soft_wrap=True)


@verb(app, "ls", "consumer ls", "consumer ls --owner ann")
def ls(run: Run, owner: ConsumersOf = "", output: Output = Format.TABLE) -> None:
    """Lists the consumers that claim."""
    found = run.client.list_consumers(owner=owner or None)
    if output is not Format.TABLE:
        return write_all((plain(it) for it in found), output)
    rows = list(found)
    if not rows:
        return note("no consumers")
    for line in consumers_lines(rows, run.console.width):
        run.console.print(line, soft_wrap=True)


@verb(app, "rm", "consumer rm titles --owner ann", "consumer rm titles --owner ''")
def rm(run: Run, consumer: Consumer, owner: Whose) -> None:
    """Forgets a consumer that claims no more, which makes room for another. Its cursors stay."""
    if not run.client.delete_consumer(consumer, owner=owner, allow_missing=True):
        note("no such consumer")

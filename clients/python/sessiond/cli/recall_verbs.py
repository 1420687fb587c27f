"""Verbs on recalls: recall create, ls, show, cancel, skip, claim, done."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Annotated

import typer

from sessiond import v1
from sessiond.cli import arguments, options
from sessiond.cli.output import Format, plain, write, write_all
from sessiond.cli.render.prose import count
from sessiond.cli.render.recalls import claims_lines, recall_lines, recalls_lines
from sessiond.cli.terminal import Run, note
from sessiond.cli.verbs import Output, SessionName, unwrapped, verb

app = typer.Typer(
    no_args_is_help=True,
    help="What is to happen in sessions at a time, once or again and again.",
    epilog=unwrapped("Example: $ sessionctl recall create trip 2h 'Ask whether it arrived.'"),
    rich_markup_mode="rich",
)

_STATE = "RECALL_STATE_"

When = Annotated[
    str,
    typer.Argument(
        help="How long from now (90min, 2h, 1d), or a time: 2030-05-01T09:30, which is local, or"
        " with its zone: 2030-05-01T09:30Z."
    ),
]
Text = Annotated[
    str | None, typer.Argument(metavar="[TEXT]", help="What to add to the context then.")
]
Every = Annotated[str, typer.Option(help="Again and again: every 90min, 2h, 1d.")]
Type = Annotated[str, typer.Option(help="What kind it is, for workers that serve some kinds only.")]
Comment = Annotated[str, typer.Option(help="A comment, not for the conversation.")]
Id = Annotated[str, typer.Option("--id", help="Its id; makes the call safe to repeat.")]
Replace = Annotated[bool, typer.Option(help="Cancel the session's other pending recalls.")]
RecallId = Annotated[str, typer.Argument(metavar="RECALL", help="The recall's id.")]
OnlySession = Annotated[
    str, typer.Argument(metavar="[SESSION]", help="Only of this session.", show_default=False)
]
InState = Annotated[options.RecallState, typer.Option(help="Only in this state.")]
OnlyTypes = Annotated[list[str] | None, typer.Option("--type", help="Only this type; repeatable.")]
Count = Annotated[int, typer.Option("--limit", "-n", min=1, max=100, help="At most so many.")]
Wait = Annotated[str, typer.Option(help="Wait so long for one to become due: 20s, at most 60s.")]
Lease = Annotated[str, typer.Option(help="How long the claim lasts.")]
Worker = Annotated[str, typer.Option(help="Who claims, for those who look.")]
Token = Annotated[str, typer.Argument(metavar="TOKEN", help="The claim's token, from `claim`.")]
Append = Annotated[bool, typer.Option("--append", help="Append its message to the session.")]
Say = Annotated[str | None, typer.Option("--say", help="Append this text instead.")]


@verb(
    app,
    "create",
    "recall create trip 2h 'Ask whether the refund has arrived.' --id refund",
    "recall create trip 2030-05-01T09:30 'Good morning!' --every 1d --replace",
)
def create(
    run: Run,
    session: SessionName,
    when: When,
    text: Text = None,
    every: Every = "",
    type: Type = "",
    comment: Comment = "",
    metadata: options.Metadata = "{}",
    id: Id = "",
    replace: Replace = False,
    output: Output = Format.TABLE,
) -> None:
    """Has something happen in a session at a time, and prints the recall's id."""
    at = _when(when)
    found = arguments.json_object(metadata)
    made = run.client.create_recall(
        run.find(session).id,
        at,
        id=id,
        type=type,
        interval=arguments.duration(every) if every else None,
        message=text,
        comment=comment,
        metadata=found or None,
        replace_pending=replace,
    )
    if output is not Format.TABLE:
        return write(plain(made), output)
    print(made.recall.id)
    if made.replaced_count:
        note(f"{count(made.replaced_count, 'other')} cancelled")


def _when(text: str) -> datetime | timedelta:
    """A duration from now, or a time, which is the local one if it says no zone."""
    with suppress(ValueError):
        return datetime.fromisoformat(text).astimezone(UTC)
    with suppress(typer.BadParameter):
        return arguments.duration(text)
    raise typer.BadParameter(
        f"{text!r} is neither a duration such as 90s, 15min, 2h, 7d or 1w, nor a time such as"
        " 2030-05-01T09:30"
    )


@verb(app, "ls", "recall ls", "recall ls trip --state completed", "recall ls --owner ann -o json")
def ls(
    run: Run,
    session: OnlySession = "",
    owner: options.OnlyOwner = "",
    state: InState = options.RecallState.PENDING,
    limit: options.Limit = 50,
    output: Output = Format.TABLE,
) -> None:
    """Lists recalls, the soonest first."""
    wanted = None if state is options.RecallState.ANY else v1.RecallState.Value(_STATE + state.name)
    found = run.client.list_recalls(
        run.find(session).id if session else "", owner=owner, state=wanted
    )
    if output is not Format.TABLE:
        return write_all((plain(it) for it in islice(found, limit or None)), output)
    rows = list(islice(found, limit + 1 if limit else None))
    if not rows:
        return note("no recalls")
    for line in recalls_lines(rows[: limit or None], run.console.width):
        run.console.print(line, soft_wrap=True)
    if limit and len(rows) > limit:
        note(f"there are more than {limit}: --limit 0 lists all")


@verb(app, "show", "recall show trip refund")
def show(run: Run, session: SessionName, recall: RecallId, output: Output = Format.TABLE) -> None:
    """Shows a recall."""
    _print(run, run.client.get_recall(run.find(session).id, recall), output)


@verb(app, "cancel", "recall cancel trip refund")
def cancel(run: Run, session: SessionName, recall: RecallId, output: Output = Format.TABLE) -> None:
    """Cancels a recall for good; one that is over stays as it is."""
    _print(run, run.client.cancel_recall(run.find(session).id, recall), output)


@verb(app, "skip", "recall skip trip refund")
def skip(run: Run, session: SessionName, recall: RecallId, output: Output = Format.TABLE) -> None:
    """Skips to a recall's next time; one that doesn't come again is cancelled."""
    _print(run, run.client.skip_recall(run.find(session).id, recall), output)


@verb(app, "claim", "recall claim --wait 20s --type reminder", "recall claim -n 10 -o jsonl")
def claim(
    run: Run,
    limit: Count = 1,
    wait: Wait = "0s",
    lease: Lease = "1min",
    types: OnlyTypes = None,
    owner: options.OnlyOwner = "",
    worker: Worker = "sessionctl",
    output: Output = Format.TABLE,
) -> None:
    """Claims what is due: nobody else gets it until the lease ends. `recall done` completes it."""
    claims = run.client.claim_due_recalls(
        worker,
        max_count=limit,
        wait=arguments.duration(wait),
        lease_ttl=arguments.duration(lease),
        types=types or (),
        owner=owner,
    )
    if output is not Format.TABLE:
        return write_all((plain(it) for it in claims), output)
    if not claims:
        return note("nothing is due")
    for line in claims_lines(claims, run.console.width):
        run.console.print(line, soft_wrap=True)


@verb(
    app,
    "done",
    "recall done trip refund TOKEN --append",
    "recall done trip refund TOKEN --say 'The fare is 300 now.'",
)
def done(
    run: Run,
    session: SessionName,
    recall: RecallId,
    token: Token,
    append: Append = False,
    say: Say = None,
    output: Output = Format.TABLE,
) -> None:
    """Completes a claimed recall, with the message that it adds to the session, if any."""
    if append and say is not None:
        raise typer.BadParameter("give --append or --say, not both")
    answer = run.client.complete_recall(
        run.find(session).id, recall, token, append_message=append, message=say
    )
    if output is not Format.TABLE:
        return write(plain(answer), output)
    _print(run, answer.recall, output)
    if answer.message_seq:
        print(f"appended message {answer.message_seq}")


def _print(run: Run, recall: v1.Recall, output: Format) -> None:
    if output is not Format.TABLE:
        return write(plain(recall), output)
    for line in recall_lines(recall):
        run.console.print(line, soft_wrap=True)

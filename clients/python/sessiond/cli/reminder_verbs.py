"""Verbs on reminders: reminder create, ls, show, cancel, skip, claim, done, fail."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Annotated

import typer

from sessiond import v1
from sessiond.cli import arguments, options
from sessiond.cli.filters import filter_of
from sessiond.cli.output import Format, plain, write, write_all
from sessiond.cli.render.prose import count
from sessiond.cli.render.reminders import claims_lines, reminder_lines, reminders_lines
from sessiond.cli.terminal import Run, note
from sessiond.cli.verbs import Output, SessionName, unwrapped, verb

app = typer.Typer(
    no_args_is_help=True,
    help="What is to happen in sessions at a time, once or again and again.",
    epilog=unwrapped("Example: $ sessionctl reminder create trip 2h 'Ask whether it arrived.'"),
    rich_markup_mode="rich",
)

_STATE = "REMINDER_STATE_"

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
Attempts = Annotated[
    int, typer.Option("--max-attempts", min=0, max=1000, help="Try so often; 0 is without limit.")
]
Id = Annotated[str, typer.Option("--id", help="Its id; makes the call safe to repeat.")]
Replace = Annotated[bool, typer.Option(help="Cancel the session's other pending reminders.")]
ReminderId = Annotated[str, typer.Argument(metavar="REMINDER", help="The reminder's id.")]
OnlySession = Annotated[
    str, typer.Argument(metavar="[SESSION]", help="Only of this session.", show_default=False)
]
InState = Annotated[options.ReminderState, typer.Option(help="Only in this state.")]
OnlyTypes = Annotated[list[str] | None, typer.Option("--type", help="Only this type; repeatable.")]
Count = Annotated[int, typer.Option("--limit", "-n", min=1, max=100, help="At most so many.")]
Wait = Annotated[str, typer.Option(help="Wait so long for one to become due: 20s, at most 60s.")]
Lease = Annotated[str, typer.Option(help="How long the claim lasts.")]
Holder = Annotated[str, typer.Option(help="Who claims, for those who look.")]
Token = Annotated[str, typer.Argument(metavar="TOKEN", help="The claim's token, from `claim`.")]
Append = Annotated[bool, typer.Option("--append", help="Append its message to the session.")]
Error = Annotated[str, typer.Argument(metavar="[ERROR]", help="What went wrong.")]
RetryIn = Annotated[
    str, typer.Option("--retry-in", help="Try again after so long: 90s, 15min; else ever later.")
]
Say = Annotated[str | None, typer.Option("--say", help="Append this text instead.")]


@verb(
    app,
    "create",
    "reminder create trip 2h 'Ask whether the refund has arrived.' --id refund",
    "reminder create trip 2030-05-01T09:30 'Good morning!' --every 1d --replace",
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
    max_attempts: Attempts = 0,
    id: Id = "",
    replace: Replace = False,
    output: Output = Format.TABLE,
) -> None:
    """Has something happen in a session at a time, and prints the reminder's id."""
    at = _when(when)
    found = arguments.json_object(metadata)
    made = run.client.create_reminder(
        run.find(session).id,
        at,
        id=id,
        type=type,
        interval=arguments.duration(every) if every else None,
        message=text,
        comment=comment,
        metadata=found or None,
        max_attempts=max_attempts,
        replace_pending=replace,
    )
    if output is not Format.TABLE:
        return write(plain(made), output)
    print(made.reminder.id)
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


@verb(
    app,
    "ls",
    "reminder ls",
    "reminder ls trip --state completed",
    "reminder ls --owner ann -o json",
)
def ls(
    run: Run,
    session: OnlySession = "",
    owner: options.OfOwner = None,
    state: InState = options.ReminderState.PENDING,
    limit: options.Limit = 50,
    output: Output = Format.TABLE,
) -> None:
    """Lists reminders, the soonest first."""
    wanted = (
        None if state is options.ReminderState.ANY else v1.ReminderState.Value(_STATE + state.name)
    )
    sessions = filter_of(run, owner=owner, subagents=True, everybody=not session)
    found = run.client.list_reminders(
        run.find(session).id if session else "", sessions, state=wanted
    )
    if output is not Format.TABLE:
        return write_all((plain(it) for it in islice(found, limit or None)), output)
    rows = list(islice(found, limit + 1 if limit else None))
    if not rows:
        return note("no reminders")
    for line in reminders_lines(rows[: limit or None], run.console.width):
        run.console.print(line, soft_wrap=True)
    if limit and len(rows) > limit:
        note(f"there are more than {limit}: --limit 0 lists all")


@verb(app, "show", "reminder show trip refund")
def show(
    run: Run, session: SessionName, reminder: ReminderId, output: Output = Format.TABLE
) -> None:
    """Shows a reminder."""
    _print(run, run.client.get_reminder(run.find(session).id, reminder), output)


@verb(app, "cancel", "reminder cancel trip refund")
def cancel(
    run: Run, session: SessionName, reminder: ReminderId, output: Output = Format.TABLE
) -> None:
    """Cancels a reminder for good; one that is over stays as it is."""
    _print(run, run.client.cancel_reminder(run.find(session).id, reminder), output)


@verb(app, "skip", "reminder skip trip refund")
def skip(
    run: Run, session: SessionName, reminder: ReminderId, output: Output = Format.TABLE
) -> None:
    """Skips to a reminder's next time; one that doesn't come again is cancelled."""
    _print(run, run.client.skip_reminder(run.find(session).id, reminder), output)


@verb(app, "claim", "reminder claim --wait 20s --type reminder", "reminder claim -n 10 -o jsonl")
def claim(
    run: Run,
    limit: Count = 1,
    wait: Wait = "0s",
    lease_ttl: Lease = "1min",
    types: OnlyTypes = None,
    owner: options.OfOwner = None,
    holder: Holder = "sessionctl",
    output: Output = Format.TABLE,
) -> None:
    """Claims what is due: nobody else gets it until the lease ends.

    `reminder done` completes it, `reminder fail` has it tried again.
    """
    claims = run.client.claim_reminders(
        holder,
        filter_of(run, owner=owner, subagents=True),
        max_count=limit,
        wait=arguments.duration(wait),
        lease_ttl=arguments.duration(lease_ttl),
        types=types or (),
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
    "reminder done trip refund TOKEN --append",
    "reminder done trip refund TOKEN --say 'The fare is 300 now.'",
)
def done(
    run: Run,
    session: SessionName,
    reminder: ReminderId,
    token: Token,
    append: Append = False,
    say: Say = None,
    output: Output = Format.TABLE,
) -> None:
    """Completes a claimed reminder, with the message that it adds to the session, if any."""
    if append and say is not None:
        raise typer.BadParameter("give --append or --say, not both")
    answer = run.client.complete_reminder(
        run.find(session).id, reminder, token, append_message=append, message=say
    )
    if output is not Format.TABLE:
        return write(plain(answer), output)
    _print(run, answer.reminder, output)
    if answer.message_seq:
        print(f"appended message {answer.message_seq}")


@verb(
    app,
    "fail",
    "reminder fail trip refund TOKEN 'The airline does not answer.'",
    "reminder fail trip refund TOKEN --retry-in 15min",
)
def fail(
    run: Run,
    session: SessionName,
    reminder: ReminderId,
    token: Token,
    error: Error = "",
    retry_in: RetryIn = "",
    output: Output = Format.TABLE,
) -> None:
    """Says that a claimed reminder failed: it is tried again, or over after its last attempt."""
    answer = run.client.fail_reminder(
        run.find(session).id,
        reminder,
        token,
        error,
        retry_delay=arguments.duration(retry_in) if retry_in else None,
    )
    _print(run, answer.reminder, output)


def _print(run: Run, reminder: v1.Reminder, output: Format) -> None:
    if output is not Format.TABLE:
        return write(plain(reminder), output)
    for line in reminder_lines(reminder):
        run.console.print(line, soft_wrap=True)

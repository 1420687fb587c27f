"""Verbs on whole sessions: create, ls, title, pin, end, reopen, fork, clear, rm."""

from __future__ import annotations

from itertools import islice
from typing import Annotated

import typer

import sessiond
from sessiond import v1
from sessiond.cli import arguments, options
from sessiond.cli.filters import filter_of
from sessiond.cli.output import Format, Json, plain, write, write_all
from sessiond.cli.render.prose import count, one_line
from sessiond.cli.render.sessions import sessions_lines
from sessiond.cli.session_following import follow_sessions
from sessiond.cli.terminal import Failure, Run, is_terminal, note
from sessiond.cli.verbs import Output, SessionName, verb

app = typer.Typer()

_MAX_PAGE = 200
_LISTED = 50


@verb(app, "create", "create --title 'Trip to Lisbon' --source cli --label team=travel")
def create(
    run: Run,
    session_id: Annotated[
        str, typer.Argument(metavar="[ID]", help="Its id; one is made if left out.")
    ] = "",
    title: options.Title = "",
    if_taken: options.IfTaken = options.Taken.ALLOW,
    owner: options.Owner = "",
    source: options.Source = "",
    agent: options.Agent = "",
    model: options.Model = "",
    system_prompt: options.PromptFile = None,
    label: options.Label = None,
    metadata: options.Metadata = "{}",
    pinned: options.Pin = False,
    if_missing: options.IfMissing = False,
    output: Output = Format.TABLE,
) -> None:
    """Makes a session and prints its id. Its source is `cli` unless told otherwise."""
    try:
        session = run.client.create_session(
            session_id or None,
            title=title,
            title_conflict=if_taken.value,
            owner=owner,
            source=source or "cli",
            agent=agent,
            model=model,
            system_prompt=arguments.text_of(None, system_prompt, "the system prompt") or "",
            labels=arguments.labels(label),
            metadata=arguments.json_object(metadata),
            pinned=pinned,
            if_exists="return" if if_missing else "fail",
        )
    except sessiond.SessionDiffers as error:
        if source or error.field != "source":
            raise
        session = run.client.get_session(session_id)
    _show_id(session, output)


@verb(
    app,
    "ls",
    "ls --source cli --idle 2d",
    "ls -o json | jq -r '.[].id'",
    "ls --owner ann --follow -o jsonl",
)
def ls(
    run: Run,
    owner: options.OfOwner = None,
    source: options.OnlySources = None,
    exclude_source: options.NotSources = None,
    agent: options.OnlyAgents = None,
    state: options.OnlyStates = None,
    archived: options.Archived = False,
    every: options.EverySession = False,
    label: options.OnlyLabels = None,
    parent: options.OnlyParent = "",
    subtree: options.OnlySubtree = "",
    idle: options.OnlyIdle = "",
    text: options.OnlyText = "",
    sort: options.Sort = options.Order.ACTIVITY,
    limit: options.Limit = _LISTED,
    follow: options.FollowList = False,
    output: Output = Format.TABLE,
) -> None:
    """Lists sessions: pinned ones first, then the newest. Without archived and sub-agents' ones.

    With -f it prints all sessions, archived ones too, in no order, and then each one as it changes or is
    deleted, within 5 s, until Ctrl-C. It rides out restarts of the server. As JSON lines an update is
    {"kind", "session_id", "incarnation", "session", "version", "delete_time", "token"}; its kind is changed,
    deleted or caught_up.
    """
    if follow:
        changing = (state, archived, label, idle, text, sort is not options.Order.ACTIVITY)
        if any(changing) or limit != _LISTED:
            raise typer.BadParameter(
                "-f follows by owner, source, agent, parent and subtree alone: leave the others out"
            )
        if output is Format.JSON:
            raise typer.BadParameter("-o json is one document, which -f never ends: give -o jsonl")
    wanted = filter_of(
        run,
        owner=owner,
        source=source,
        exclude_source=exclude_source,
        agent=agent,
        state=state,
        archived=None if follow else archived,
        label=label,
        parent=parent,
        subtree=subtree,
        idle=idle,
        subagents=every,
    )
    if follow:
        return follow_sessions(run, output, wanted)
    found = run.client.list_sessions(
        wanted,
        text=text,
        order_by="create_time" if sort is options.Order.CREATED else "last_activity",
        page_size=min(limit + 1, _MAX_PAGE) if limit else _MAX_PAGE,
    )
    listed = islice(found, limit or None)
    if output is not Format.TABLE:
        return write_all((plain(summary) for summary in listed), output)
    rows = list(listed)
    if not rows:
        return note("no sessions")
    for line in sessions_lines(rows, run.console.width):
        run.console.print(line, soft_wrap=True)
    if limit and next(iter(found), None):
        note(f"there are more than {limit}: --limit 0 lists all")


@verb(app, "title", "title trip 'Trip to Lisbon'", "title 'Trip to Lisbon' --clear")
def title(
    run: Run,
    session: SessionName,
    new: Annotated[
        str | None, typer.Argument(metavar="[TITLE]", help="The new one; shown if left out.")
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Take the title away.")] = False,
    if_taken: options.IfTaken = options.Taken.ALLOW,
    output: Output = Format.TABLE,
) -> None:
    """Shows or sets a session's title. One set here is never replaced by an automatic one."""
    if clear and new is not None:
        raise typer.BadParameter("give a title or --clear, not both")
    if new is not None and not new.strip():
        raise typer.BadParameter("the title is empty: --clear takes a title away")
    found = run.find(session)
    if clear or new is not None:
        found = run.client.update_session(
            found.id, title=new or "", title_source="person", title_conflict=if_taken.value
        )
    if output is Format.TABLE:
        print(one_line(found.title))
    else:
        write(plain(found), output)


@verb(app, "pin", "pin trip", "pin trip --off")
def pin(
    run: Run,
    session: SessionName,
    off: Annotated[bool, typer.Option("--off", help="Unpin it.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Pins a session: lists begin with it, and retention keeps it unless told otherwise."""
    _show_id(run.client.update_session(run.find(session).id, pinned=not off), output)


@verb(app, "archive", "archive trip", "archive trip --off")
def archive(
    run: Run,
    session: SessionName,
    off: Annotated[bool, typer.Option("--off", help="Take it back.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Puts a session away: `ls` leaves it out, and shows it with --archived. It still takes messages.

    It has nothing to do with `offload` and `restore`, which move messages of any session.
    """
    _show_id(run.client.update_session(run.find(session).id, archived=not off), output)


@verb(app, "end", "end trip --reason done")
def end(
    run: Run,
    session: SessionName,
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    output: Output = Format.TABLE,
) -> None:
    """Ends a session: it takes no more messages. The first end wins; ephemeral ones are deleted."""
    _show_id(run.client.end_session(run.find(session).id, reason).session, output)


@verb(app, "reopen", "reopen trip")
def reopen(run: Run, session: SessionName, output: Output = Format.TABLE) -> None:
    """Makes an ended session active again."""
    _show_id(run.client.reopen_session(run.find(session).id).session, output)


@verb(app, "fork", "fork 'Trip to Lisbon' --at 12 --title 'Trip to Porto'")
def fork(
    run: Run,
    session: SessionName,
    at: Annotated[int, typer.Option(min=0, help="The last seq to take over; 0 is all.")] = 0,
    new_id: Annotated[str, typer.Option("--id", help="The new session's id.")] = "",
    title: options.Title = "",
    if_taken: options.IfTaken = options.Taken.ALLOW,
    output: Output = Format.TABLE,
) -> None:
    """Copies a session's history up to a seq into a new session and prints the new id."""
    found = run.find(session)
    forked = run.client.fork_session(
        found.id, at, fork_id=new_id or None, title=title, title_conflict=if_taken.value
    )
    _show_id(forked, output)


@verb(app, "clear", "clear trip", "clear trip --yes --attachments")
def clear(
    run: Run,
    session: SessionName,
    attachments: Annotated[
        bool, typer.Option("--attachments", help="Remove its attachments too.")
    ] = False,
    yes: options.Yes = False,
    output: Output = Format.TABLE,
) -> None:
    """Removes all messages of a session and its log for good; the session stays, its numbering goes on.

    Asks first, unless told not to by --yes. What nobody is asked about has to be named by its whole id.
    """
    found = _to_remove(run, [session], yes, "clear")[0]
    if not yes and not _confirmed("Clear", found):
        return note(f"kept the messages of {found.id}")
    answer = run.client.clear_messages(found.id, delete_attachments=attachments)
    if output is not Format.TABLE:
        return write(plain(answer), output)
    files = f", {count(answer.attachment_count, 'attachment')}" if attachments else ""
    print(f"removed {count(answer.message_count, 'message')}{files} of {found.id}")


@verb(app, "rm", "rm trip", "rm --yes airline-000-0 airline-000-1")
def rm(
    run: Run,
    sessions: Annotated[
        list[str], typer.Argument(help="As for other verbs; with --yes ids alone.")
    ],
    yes: options.Yes = False,
    output: Output = Format.TABLE,
) -> None:
    """Deletes sessions for good, with linked children. Asks first, unless told not to by --yes.

    What nobody is asked about has to be named by its whole id.
    """
    answers: list[Json] = []
    for session in _to_remove(run, sessions, yes, "rm"):
        if not yes and not _confirmed("Delete", session):
            note(f"kept {session.id}")
            continue
        answer = run.client.delete_session(session.id, allow_missing=True)
        answers.append({"id": session.id, **_object(plain(answer))})
        if output is Format.TABLE:
            print(f"deleted {session.id}: {_extent(answer)}")
    if output is not Format.TABLE:
        write_all(answers, output)


def _to_remove(run: Run, names: list[str], yes: bool, verb: str) -> list[v1.Session]:
    """The sessions that are meant: all are found, or none is touched."""
    if not yes and not is_terminal():
        raise Failure(f"{verb} deletes for good and there is no terminal to ask on: give --yes")
    return [_by_id(run, name, verb) if yes else run.find(name) for name in names]


def _by_id(run: Run, name: str, verb: str) -> v1.Session:
    found = run.find(name)
    if found.id != name:
        title = f", titled {one_line(found.title)!r}" if found.title else ""
        raise Failure(f"{verb} --yes takes whole ids: {name!r} means {found.id}{title}")
    return found


def _confirmed(verb: str, session: v1.Session) -> bool:
    name = f"{one_line(session.title)!r} ({session.id})" if session.title else session.id
    messages = count(session.message_count, "message")
    return typer.confirm(f"{verb} {name} with {messages} for good?", err=True)


def _extent(answer: v1.DeleteSessionResponse) -> str:
    extent = count(answer.message_count, "message")
    if answer.session_count > 1:
        extent += f", {count(answer.session_count - 1, 'session')} of sub-agents"
    if answer.detached_count:
        extent += f"; {count(answer.detached_count, 'child', 'children')} stay"
    return extent


def _show_id(session: v1.Session, output: Format) -> None:
    if output is Format.TABLE:
        print(session.id)
    else:
        write(plain(session), output)


def _object(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}

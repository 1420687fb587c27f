"""Verbs on what agents used, and on their own records: usage, usage-add, journal, journal-add."""

from __future__ import annotations

import sys
from enum import StrEnum
from itertools import islice
from typing import Annotated, Any

import typer

from sessiond import usage_record, v1
from sessiond.cli import arguments, options
from sessiond.cli.filters import filter_of
from sessiond.cli.output import Format, Json, plain, write, write_all
from sessiond.cli.render.usage import records_lines, usage_lines, usage_summary
from sessiond.cli.terminal import Failure, Run, note
from sessiond.cli.verbs import Output, SessionName, verb

app = typer.Typer()


class Grouping(StrEnum):
    """By what usage is summed up."""

    TURN = "turn"
    MODEL = "model"
    DAY = "day"
    DAY_AND_MODEL = "day-and-model"
    SESSION = "session"
    OWNER = "owner"
    AGENT = "agent"
    SOURCE = "source"


_COLUMNS: dict[Grouping | None, tuple[str, ...]] = {
    None: ("MODEL",),
    Grouping.TURN: ("TURN", "MODEL"),
    Grouping.MODEL: ("MODEL",),
    Grouping.DAY: ("DAY",),
    Grouping.DAY_AND_MODEL: ("DAY", "MODEL"),
    Grouping.SESSION: ("SESSION",),
    Grouping.OWNER: ("OWNER",),
    Grouping.AGENT: ("AGENT",),
    Grouping.SOURCE: ("SOURCE",),
}
_PAGE = 1000
_GROUPINGS: dict[Grouping, v1.UsageGrouping.ValueType] = {
    it: v1.UsageGrouping.Value(f"USAGE_GROUPING_{it.name}") for it in Grouping
}

By = Annotated[Grouping | None, typer.Option(help="By what to sum up.")]
Subtree = Annotated[
    bool, typer.Option("--subtree", help="With all that comes from it, deleted ones too.")
]
FromDay = Annotated[str, typer.Option("--from", help="Only this day (UTC) or later: 2026-01-31.")]
ToDay = Annotated[str, typer.Option("--to", help="Only this day or earlier.")]
Model = Annotated[str, typer.Option(help="The model that was called.")]
Count = Annotated[int, typer.Option(min=0)]
Cost = Annotated[str, typer.Option(help="A decimal such as 0.0321.")]
Turn = Annotated[int | None, typer.Option(min=0, help="The turn that it belongs to.")]
SetTurn = Annotated[
    bool, typer.Option("--set", help="Replace what is recorded of the turn; needs --turn.")
]
RequestId = Annotated[str, typer.Option(help="Makes it safe to repeat.")]
Kind = Annotated[str, typer.Option(help="What the records are, for instance plan.")]
Kinds = Annotated[list[str] | None, typer.Option("--kind", help="Only this kind; repeatable.")]
RecordText = Annotated[str | None, typer.Argument(help="The record; stdin if it is - or left out.")]
Lines = Annotated[bool, typer.Option("--lines", help="Each line of stdin is a record.")]
Newest = Annotated[bool, typer.Option("--newest", help="The newest first.")]
Raw = Annotated[
    bool, typer.Option("--raw", help="Write the records as they are, each with a line break.")
]


@verb(
    app,
    "usage",
    "usage trip --by model",
    "usage trip --subtree --by session",
    "usage --by day --from 2026-01-01 -o json | jq .total.costs",
    "usage --by owner --source telegram",
)
def usage(
    run: Run,
    session: Annotated[
        str | None, typer.Argument(metavar="[SESSION]", help="As for other verbs; all if left out.")
    ] = None,
    by: By = None,
    subtree: Subtree = False,
    owner: options.OfOwner = None,
    source: options.OnlySources = None,
    agent: options.OnlyAgents = None,
    from_day: FromDay = "",
    to_day: ToDay = "",
    output: Output = Format.TABLE,
) -> None:
    """Shows what calls of models used and cost: of a session, its subtree, or all there ever were."""
    found, groups = None, list[v1.UsageGroup]()
    token, first = "", True
    scope = _scope(run, session, subtree, owner=owner, source=source, agent=agent)
    while first or token:
        page = run.client.get_usage(
            group_by=None if by is None else _GROUPINGS[by],
            **scope,
            from_day=from_day,
            to_day=to_day,
            page_size=_PAGE,
            page_token=token,
        )
        found, first = found or page, False
        groups += page.groups
        token = page.next_page_token
    assert found is not None
    _show_usage(run, found.total, groups, by, output)


def _scope(run: Run, session: str | None, subtree: bool, **fields: Any) -> dict[str, Any]:
    """Of what, as the client's arguments."""
    if session is None:
        if subtree:
            raise typer.BadParameter("--subtree is about a session")
        return {"sessions": filter_of(run, **fields, subagents=True)}
    if any(it is not None for it in fields.values()):
        raise typer.BadParameter("--owner, --source and --agent are about all sessions")
    return {"subtree_of" if subtree else "session_id": run.find(session).id}


def _show_usage(
    run: Run, total: v1.Usage, groups: list[v1.UsageGroup], by: Grouping | None, output: Format
) -> None:
    if output is Format.TABLE:
        for line in usage_lines(groups, total, _COLUMNS[by], run.console.width):
            run.console.print(line, soft_wrap=True)
    elif output is Format.JSON:
        listed: list[Json] = [plain(it) for it in groups]
        write({"total": plain(total), "groups": listed}, output)
    else:
        write_all((plain(it) for it in groups) if by is not None else [plain(total)], output)


@verb(
    app,
    "usage-add",
    "usage-add trip --model gpt-4o --input 1200 --generated 90 --estimated 0.0321",
    "usage-add trip --turn 3 --set --input 980 --generated 32",
)
def usage_add(
    run: Run,
    session: SessionName,
    model: Model = "",
    input_tokens: Annotated[int, typer.Option("--input", min=0, help="Tokens read.")] = 0,
    output_tokens: Annotated[int, typer.Option("--generated", min=0, help="Tokens written.")] = 0,
    cache_read: Count = 0,
    cache_write: Count = 0,
    reasoning: Count = 0,
    total: Annotated[int, typer.Option(min=0, help="All tokens; left out, their sum.")] = 0,
    calls: Annotated[int, typer.Option(min=0, help="How many calls of models it were.")] = 1,
    estimated: Cost = "",
    actual: Cost = "",
    currency: Annotated[str, typer.Option(help="Three capital letters.")] = "USD",
    turn_index: Annotated[int | None, typer.Option("--turn", min=0, help="Its turn.")] = None,
    set_turn: SetTurn = False,
    request_id: RequestId = "",
    output: Output = Format.TABLE,
) -> None:
    """Records what calls of models used and cost."""
    record = usage_record(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cache_read_tokens=cache_read,
        cache_write_tokens=cache_write,
        reasoning_tokens=reasoning,
        total_tokens=total,
        model_calls=calls,
        estimated_cost=estimated or None,
        actual_cost=actual or None,
        currency=currency if estimated or actual else "",
        model=model,
        turn_index=turn_index,
        set_turn=set_turn,
        request_id=request_id,
    )
    answer = run.client.record_usage(run.find(session).id, record)
    if output is not Format.TABLE:
        return write(plain(answer), output)
    if answer.replayed_count:
        note("it had been recorded before")
    print(f"in all {usage_summary(answer.usage.own)}")


@verb(
    app,
    "journal",
    "journal trip --kind plan --newest -n 5",
    "journal trip --raw | jq .steps",
)
def journal(
    run: Run,
    session: SessionName,
    kind: Kinds = None,
    newest: Newest = False,
    raw: Raw = False,
    limit: options.Limit = 100,
    output: Output = Format.TABLE,
) -> None:
    """Lists an agent's own records of a session: raw plans, decisions, traces."""
    records = run.client.list_journal(
        run.find(session).id,
        kinds=kind or (),
        order="descending" if newest else "ascending",
        page_size=min(limit + 1, _PAGE) if limit else _PAGE,
    )
    listed = islice(records, limit or None)
    if raw:
        for record in listed:
            sys.stdout.buffer.write(record.content + b"\n")
        return
    if output is not Format.TABLE:
        return write_all((plain(record) for record in listed), output)
    rows = list(listed)
    if not rows:
        return note("no records")
    for line in records_lines(rows, run.console.width):
        run.console.print(line, soft_wrap=True)
    if limit and next(iter(records), None):
        note(f"there are more than {limit}: --limit 0 lists all")


@verb(
    app,
    "journal-add",
    "journal-add trip '{\"steps\": []}' --kind plan",
    "journal-add trip --lines --kind trace < trace.jsonl",
)
def journal_add(
    run: Run,
    session: SessionName,
    text: RecordText = None,
    kind: Kind = "",
    turn_index: Annotated[int, typer.Option("--turn", min=0, help="Its turn.")] = 0,
    lines: Lines = False,
    request_id: RequestId = "",
    output: Output = Format.TABLE,
) -> None:
    """Appends an agent's own records to a session, byte for byte as they are."""
    text = None if text == "-" else text
    if lines and text is not None:
        raise typer.BadParameter("--lines is about stdin")
    given = arguments.stdin_bytes("the record") if text is None else text.encode()
    contents = [it for it in given.split(b"\n") if it.strip()] if lines else [given]
    if not any(contents):
        raise Failure("nothing to append")
    records = [v1.JournalRecord(content=it, kind=kind, turn_index=turn_index) for it in contents]
    answer = run.client.append_journal(run.find(session).id, records, request_id=request_id or None)
    if output is not Format.TABLE:
        return write(plain(answer), output)
    first, last = answer.first_seq, answer.last_seq
    print(first if first == last else f"{first}–{last}")

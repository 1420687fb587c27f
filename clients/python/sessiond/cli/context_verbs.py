"""Verbs on what the model sees and what is hidden: compact, revert, rewind."""

from __future__ import annotations

import shlex
from typing import NamedTuple

import typer

import sessiond
from sessiond import v1
from sessiond.cli import arguments, options
from sessiond.cli.output import Format, plain, write, write_all
from sessiond.cli.render.prose import count, span
from sessiond.cli.render.records import compactions_lines, rewinds_lines
from sessiond.cli.terminal import Failure, Run, note, note_uncounted
from sessiond.cli.verbs import Output, SessionName, verb
from sessiond.v1 import NothingToCompact

app = typer.Typer()

_WHY_NOTHING: dict[int, str] = {
    NothingToCompact.NOTHING_TO_COMPACT_WITHIN_GOAL: "the context is within the goal as it is",
    NothingToCompact.NOTHING_TO_COMPACT_TOO_SHORT: "nothing but what is to be kept",
    NothingToCompact.NOTHING_TO_COMPACT_OPEN_TOOL_CALL: "a tool call is in the way",
}


@verb(
    app,
    "compact",
    "compact trip --plan --max-context-tokens 20000",
    "compact trip 3 40 --summary-file summary.md",
    "compact trip --list",
)
def compact(
    run: Run,
    session: SessionName,
    from_seq: options.RangeFrom = None,
    to_seq: options.RangeTo = None,
    text: options.Summary = None,
    file: options.SummaryFile = None,
    summary_tokens: options.SummaryTokens = 0,
    author: options.Author = "sessionctl",
    model: options.ByModel = "",
    expect: options.Expect = 0,
    expect_revision: options.ExpectRevision = 0,
    plan: options.Plan = False,
    max_context_tokens: options.GoalTokens = None,
    max_context_messages: options.GoalMessages = None,
    keep_recent: options.KeepRecent = 0,
    listing: options.ListThem = False,
    output: Output = Format.TABLE,
) -> None:
    """Replaces the messages FROM to TO of the context by a summary; `revert` takes it back.

    With --plan it only shows a safe range that reaches a goal.
    """
    if listing:
        return _list_compactions(run, session, output)
    if plan:
        goal = _Goal(max_context_tokens, max_context_messages, keep_recent, summary_tokens)
        return _plan(run, session, goal, output)
    if from_seq is None or to_seq is None:
        raise typer.BadParameter("give FROM and TO, or --plan to see a safe range")
    body = arguments.text_of(text, file, "the summary")
    if not body:
        raise typer.BadParameter("give the summary with --summary or --summary-file")
    message = v1.Message(parts=[v1.Part(text=body)], token_count=summary_tokens)
    done = run.client.compact(
        run.find(session).id,
        from_seq,
        to_seq,
        message,
        author=author,
        model=model,
        expected_next_seq=expect,
        expected_revision=expect_revision,
    )
    if output is not Format.TABLE:
        return write(plain(done), output)
    made = done.compaction
    print(f"summary {made.id} stands for {count(made.message_count, 'message')}", end=" ")
    print(f"({span(made.from_seq, made.to_seq)}); `revert` with {made.id} brings them back")


class _Goal(NamedTuple):
    max_context_tokens: int | None
    max_context_messages: int | None
    keep_recent: int
    summary_tokens: int


def _plan(run: Run, session: str, goal: _Goal, output: Format) -> None:
    if goal.max_context_tokens is not None and goal.max_context_messages is not None:
        raise typer.BadParameter("give --max-context-tokens or --max-context-messages, not both")
    found = run.find(session)
    if goal.max_context_tokens is not None:
        note_uncounted(run.client.get_context(found.id).messages)
    answer = run.client.plan_compaction(
        found.id,
        max_context_tokens=goal.max_context_tokens,
        max_context_messages=goal.max_context_messages,
        keep_recent_messages=goal.keep_recent,
        summary_token_count=goal.summary_tokens,
    )
    _show_plan(found.id, answer, output)


def _show_plan(session_id: str, answer: v1.PlanCompactionResponse, output: Format) -> None:
    if output is not Format.TABLE:
        write(plain(answer), output)
    elif not answer.HasField("plan"):
        reason = _WHY_NOTHING.get(answer.nothing, "no safe range")
        print(f"nothing to compact: {reason}")
    else:
        plan = answer.plan
        tokens = f", {plan.token_count:,} tokens" if plan.token_count else ""
        print(
            f"{span(plan.from_seq, plan.to_seq)}: {count(plan.message_count, 'message')}{tokens}",
            end="",
        )
        print("" if plan.reaches_goal else "; this doesn't reach the goal, but nothing safe does")
        guard = f"--expect-revision {answer.version.revision} --summary-file FILE"
        name = f"{'-- ' if session_id.startswith('-') else ''}{shlex.quote(session_id)}"
        note(f"to do it: sessionctl compact {guard} {name} {plan.from_seq} {plan.to_seq}")


def _list_compactions(run: Run, session: str, output: Format) -> None:
    found = run.client.list_compactions(run.find(session).id)
    if output is not Format.TABLE:
        return write_all((plain(it) for it in found), output)
    rows = list(found)
    if not rows:
        return note("no compactions")
    for line in compactions_lines(rows, run.console.width):
        run.console.print(line, soft_wrap=True)


@verb(app, "revert", "revert trip 41")
def revert(
    run: Run,
    session: SessionName,
    compaction_id: options.CompactionId,
    output: Output = Format.TABLE,
) -> None:
    """Reverts a compaction: what its summary replaced stands in the context again."""
    done = run.client.revert_compaction(run.find(session).id, compaction_id)
    if output is not Format.TABLE:
        return write(plain(done), output)
    made = done.compaction
    print(f"{span(made.from_seq, made.to_seq)}: in the place of summary {made.id} again")


@verb(app, "rewind", "rewind trip 12", "rewind trip --revert", "rewind trip --list")
def rewind(
    run: Run,
    session: SessionName,
    after_seq: options.AfterSeq = None,
    revert: options.Revert = False,
    rewind_id: options.RewindId = None,
    author: options.Author = "sessionctl",
    expect: options.Expect = 0,
    expect_revision: options.ExpectRevision = 0,
    listing: options.ListThem = False,
    output: Output = Format.TABLE,
) -> None:
    """Hides the messages after a seq. Nothing is deleted; --revert brings them back."""
    if sum((after_seq is not None, revert, listing)) != 1:
        raise typer.BadParameter("give one of AFTER_SEQ, --revert and --list")
    found = run.find(session)
    if listing:
        return _list_rewinds(run, found.id, output)
    done: v1.RewindSessionResponse | v1.RevertRewindResponse
    if after_seq is None:
        done = _revert_rewind(run, found.id, rewind_id, expect, expect_revision)
    else:
        done = run.client.rewind(
            found.id,
            after_seq,
            expected_next_seq=expect,
            expected_revision=expect_revision,
            author=author,
        )
    if output is not Format.TABLE:
        return write(plain(done), output)
    what, made = "brought back" if revert else "hid", done.rewind
    print(f"rewind {made.id} {what} {span(made.after_seq + 1, made.to_seq)}")


def _revert_rewind(
    run: Run, session_id: str, rewind_id: int | None, expect: int, expect_revision: int
) -> v1.RevertRewindResponse:
    try:
        return run.client.revert_rewind(
            session_id,
            rewind_id,
            newest=rewind_id is None,
            expected_next_seq=expect,
            expected_revision=expect_revision,
        )
    except sessiond.RewindNotFound as error:
        if rewind_id is not None:
            raise
        raise Failure("there is no rewind to revert") from error


def _list_rewinds(run: Run, session_id: str, output: Format) -> None:
    found = run.client.list_rewinds(session_id)
    if output is not Format.TABLE:
        return write_all((plain(it) for it in found), output)
    rows = list(found)
    if not rows:
        return note("no rewinds")
    for line in rewinds_lines(rows, run.console.width):
        run.console.print(line, soft_wrap=True)

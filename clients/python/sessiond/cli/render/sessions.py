"""Sessions for people: the table of `ls` and the header of `show`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from rich.text import Text

from sessiond.cli.output import enum_name
from sessiond.cli.render.columns import columns
from sessiond.cli.render.prose import count, one_line
from sessiond.cli.render.times import relative
from sessiond.cli.render.usage import usage_summary
from sessiond.v1.session_pb2 import (
    SESSION_STATE_ACTIVE,
    ParentKind,
    Session,
    SessionState,
    SessionSummary,
)

_STATE_STYLES = {"active": "green", "ended": "yellow"}
_COLUMNS = ("SESSION", "ID", "SOURCE", "STATE", "MESSAGES", "ACTIVE")
_MAX_SOURCE = 16
_CUT_AT = 60
PIN = "📌"


def sessions_lines(
    summaries: Sequence[SessionSummary], width: int, now: datetime | None = None
) -> Iterator[Text]:
    """A line per session: title or opening, id, source, state, messages, last activity."""
    at = now or datetime.now(UTC)
    rows = [_row(summary, at) for summary in summaries]
    return columns(_COLUMNS, rows, width, right=("MESSAGES",))


def _row(summary: SessionSummary, now: datetime) -> list[Text]:
    session = summary.session
    return [
        _name(summary),
        Text(session.id),
        Text(one_line(session.source)[:_MAX_SOURCE]),
        state(session),
        Text(f"{session.message_count:,}"),
        Text(relative(session.last_activity_time, now), style="dim"),
    ]


def header(session: Session, now: datetime | None = None) -> Iterator[Text]:
    """A few lines on a session: title, id and state, where it is from, its counters."""
    at = now or datetime.now(UTC)
    title = one_line(session.title)
    first = Text(f"{PIN} " if session.pinned else "").append(title or session.id, style="bold")
    if title:
        first.append(f"  {session.id}", style="dim")
    yield first.append("  ").append_text(state(session))
    facts = list(_facts(session, at))
    if facts:
        yield Text(" · ".join(facts), style="dim")
    yield _counters(session)
    if session.HasField("usage"):
        yield Text(f"used {usage_summary(session.usage.own)}", style="dim")


def state(session: Session) -> Text:
    """The state in its colour, and whether it is archived."""
    name = enum_name(SessionState.DESCRIPTOR, session.state or SESSION_STATE_ACTIVE)
    archived = ", archived" if session.archived else ""
    return Text(f"● {name}{archived}", style=_STATE_STYLES.get(name, ""))


def _facts(session: Session, now: datetime) -> Iterator[str]:
    for name in ("source", "owner", "agent", "model"):
        value = one_line(getattr(session, name))
        if value:
            yield f"{name} {value}"
    if session.HasField("parent"):
        kind = enum_name(ParentKind.DESCRIPTOR, session.parent.kind)
        at = f" at {session.parent.fork_seq}" if session.parent.fork_seq else ""
        yield f"{kind} of {session.parent.id}{at}"
    if session.end_reason:
        yield f"ended: {one_line(session.end_reason)}"
    yield from (f"{key}={one_line(value)}" for key, value in sorted(session.labels.items()))
    yield f"created {relative(session.create_time, now)}"
    yield f"last active {relative(session.last_activity_time, now)}"


def _counters(session: Session) -> Text:
    calls = count(session.tool_call_count, "tool call")
    line = Text(f"{count(session.message_count, 'message')} · {calls}")
    line.append(f" · context {count(session.context_message_count, 'message')}")
    if session.context_token_count:
        line.append(f", {session.context_token_count:,} tokens")
    line.stylize("dim")
    if session.open_tool_call_count:
        text = f" · ⚠ {count(session.open_tool_call_count, 'open tool call')}"
        line.append(text, style="bold red")
    return line


def _name(summary: SessionSummary) -> Text:
    session = summary.session
    mark = Text(f"{PIN} " if session.pinned else "")
    if session.title:
        return mark.append(one_line(session.title), style="bold")
    text = one_line(summary.opening or summary.preview) or "(empty)"
    return mark.append(text + ("…" if len(text) >= _CUT_AT else ""), style="italic")

"""Retention for people: what went or would go, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from rich.text import Text

from sessiond.cli.render.columns import columns
from sessiond.cli.render.prose import one_line
from sessiond.cli.render.times import relative
from sessiond.v1.retention_pb2 import (
    PRUNE_OUTCOME_DELETED,
    PRUNE_OUTCOME_KEPT_FOR_DESCENDANT,
    PRUNE_OUTCOME_KEPT_IN_USE,
    PRUNE_OUTCOME_WOULD_BE_DELETED,
    PrunedSession,
)

_OUTCOMES = {
    PRUNE_OUTCOME_DELETED: ("deleted", "red"),
    PRUNE_OUTCOME_WOULD_BE_DELETED: ("would go", "yellow"),
    PRUNE_OUTCOME_KEPT_IN_USE: ("kept: in use", "green"),
    PRUNE_OUTCOME_KEPT_FOR_DESCENDANT: ("kept: for a sub-agent's", "green"),
}
_NAMES = ("SESSION", "ID", "SOURCE", "OUTCOME", "WITH", "MESSAGES", "CREATED", "ACTIVE", "ENDED")


def pruned_lines(
    found: Sequence[PrunedSession], width: int, now: datetime | None = None
) -> Iterator[Text]:
    """A line per session: title, id, source, outcome, what goes with it, and the times that say why."""
    at = now or datetime.now(UTC)
    rows = [_row(it, at) for it in found]
    return columns(_NAMES, rows, width, right=("WITH", "MESSAGES"))


def _row(it: PrunedSession, now: datetime) -> list[Text]:
    name, style = _OUTCOMES.get(it.outcome, ("?", ""))
    others = it.session_count - 1
    return [
        Text(one_line(it.title) or "(no title)"),
        Text(it.session_id),
        Text(one_line(it.source)),
        Text(name, style=style),
        Text(f"+{others:,}" if others > 0 else ""),
        Text(f"{it.message_count:,}"),
        Text(relative(it.create_time, now)),
        Text(relative(it.last_activity_time, now)),
        Text(relative(it.end_time, now) if it.HasField("end_time") else ""),
    ]


def pruned_total(found: Sequence[PrunedSession]) -> str:
    """All of them in a sentence."""
    sessions = sum(it.session_count for it in found)
    messages = sum(it.message_count for it in found)
    verb = "deleted"
    if any(it.outcome == PRUNE_OUTCOME_WOULD_BE_DELETED for it in found):
        verb = "would delete"
    kept = sum(not it.session_count for it in found)
    text = f"{verb} {sessions:,} sessions with {messages:,} messages"
    return f"{text}; kept {kept:,}" if kept else text

"""Retention for people: what went or would go, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from rich.text import Text

from sessiond.cli.output import enum_name
from sessiond.cli.render.columns import columns
from sessiond.cli.render.prose import count, one_line
from sessiond.cli.render.times import relative
from sessiond.v1.retention_pb2 import (
    PRUNE_OUTCOME_DELETED,
    PRUNE_OUTCOME_KEPT_FOR_DESCENDANT,
    PRUNE_OUTCOME_KEPT_IN_USE,
    PRUNE_OUTCOME_WOULD_BE_DELETED,
    PrunedSession,
    RetentionPolicy,
    RetentionReport,
    RetentionRule,
)
from sessiond.v1.session_filter_pb2 import SessionFilter, TimeRange
from sessiond.v1.session_pb2 import SessionState

_OUTCOMES = {
    PRUNE_OUTCOME_DELETED: ("deleted", "red"),
    PRUNE_OUTCOME_WOULD_BE_DELETED: ("would go", "yellow"),
    PRUNE_OUTCOME_KEPT_IN_USE: ("kept: in use", "green"),
    PRUNE_OUTCOME_KEPT_FOR_DESCENDANT: ("kept: for a sub-agent's", "green"),
}
_NAMES = ("SESSION", "ID", "SOURCE", "OUTCOME", "WITH", "MESSAGES", "CREATED", "ACTIVE", "ENDED")


def pruned_lines(
    found: Sequence[PrunedSession], width: int, now: datetime | None = None, *, title: bool = True
) -> Iterator[Text]:
    """A line per session: title, id, source, outcome, what goes with it, and the times that say why."""
    at = now or datetime.now(UTC)
    first = 0 if title else 1
    rows = [_row(it, at)[first:] for it in found]
    return columns(_NAMES[first:], rows, width, right=("WITH", "MESSAGES"))


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
    text = f"{verb} {count(sessions, 'session')} with {count(messages, 'message')}"
    return f"{text}; kept {kept:,}" if kept else text


def policies_lines(
    policies: Sequence[RetentionPolicy], width: int, now: datetime | None = None
) -> Iterator[Text]:
    """A line per policy: its rule, whether it deletes, when it was last followed."""
    at = now or datetime.now(UTC)
    rows = [
        [
            Text(it.id),
            Text(rule_text(it.rule)),
            Text("dry run" if it.dry_run else "deletes", style="yellow" if it.dry_run else "red"),
            Text(relative(it.last_run_time, at) if it.HasField("last_run_time") else "never"),
        ]
        for it in policies
    ]
    return columns(("POLICY", "RULE", "MODE", "LAST RUN"), rows, width)


def rule_text(rule: RetentionRule) -> str:
    """A rule in words, as the options that make it."""
    words = [
        f"{name.replace('_', ' ')} {_days(getattr(rule, name).ToTimedelta())}"
        for name in ("older_than", "idle_for", "ended_for")
        if rule.HasField(name)
    ]
    words += _filter_words(rule.sessions)
    words += ["pinned too"] if rule.include_pinned else []
    return one_line(", ".join(words))


def _filter_words(wanted: SessionFilter) -> list[str]:
    states = [enum_name(SessionState.DESCRIPTOR, state) for state in wanted.states] or ["ended"]
    words = [" or ".join(states)]
    if wanted.HasField("archived"):
        words.append("archived" if wanted.archived else "not archived")
    if wanted.HasField("owner"):
        words.append(f"owner {wanted.owner}" if wanted.owner else "without an owner")
    for name, values in (
        ("from", wanted.sources),
        ("not from", wanted.exclude_sources),
        ("agent", wanted.agents),
    ):
        words += [f"{name} {' or '.join(values)}"] if values else []
    words += [f"{key}={value}" for key, value in sorted(wanted.labels.items())]
    words += [f"children of {wanted.parent_id}"] if wanted.parent_id else []
    words += [f"subtree of {wanted.subtree_of}"] if wanted.subtree_of else []
    for name, times in (
        ("created", wanted.create_time),
        ("last active", wanted.last_activity_time),
        ("ended", wanted.end_time),
    ):
        words += [_range_words(name, times)] if times.ByteSize() else []
    words += ["sub-agents' too"] if wanted.include_subagents else []
    return words


def _range_words(name: str, times: TimeRange) -> str:
    ends = [
        f"{word} {getattr(times, end).ToJsonString()}"
        for word, end in (("from", "start_time"), ("before", "end_time"))
        if times.HasField(end)  # type: ignore[arg-type]
    ]
    return " ".join([name, *ends])


def _days(time: timedelta) -> str:
    for seconds, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if time.total_seconds() >= seconds:
            return f"{time.total_seconds() / seconds:.3g} {unit}"
    return f"{time.total_seconds():.3g} s"


def reports_lines(
    reports: Sequence[RetentionReport], width: int, now: datetime | None = None
) -> Iterator[Text]:
    """A line per report: policy, when, what went or would have gone, what was kept."""
    at = now or datetime.now(UTC)
    rows = [
        [
            Text(it.policy_id),
            Text(relative(it.end_time, at)),
            Text("would go" if it.dry_run else "deleted", style="yellow" if it.dry_run else "red"),
            Text(f"{it.session_count:,}"),
            Text(f"{it.message_count:,}"),
            Text(f"{it.kept_count:,}"),
        ]
        for it in reports
    ]
    names = ("POLICY", "WHEN", "OUTCOME", "SESSIONS", "MESSAGES", "KEPT")
    return columns(names, rows, width, right=names[3:])

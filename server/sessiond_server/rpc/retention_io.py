"""Rules of retention on their way in, and what became of sessions on its way out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Literal
from uuid import UUID

from google.protobuf.duration_pb2 import Duration

from sessiond.v1 import retention_pb2 as pb
from sessiond_server.errors import PageTokenInvalid
from sessiond_server.operations.pruning import Pruned
from sessiond_server.rpc import page_tokens
from sessiond_server.rpc.checks import Checks
from sessiond_server.rpc.session_filters import filter_in
from sessiond_server.rpc.times import optional_timestamp, timestamp
from sessiond_server.sessions.filters import ENDED
from sessiond_server.sessions.retention import Rule
from sessiond_server.store.policies import PolicyRow, ReportedSession, ReportRow
from sessiond_server.store.retention import PrunePlace

_Time = Literal["older_than", "idle_for", "ended_for"]
_TIMES: tuple[_Time, ...] = ("older_than", "idle_for", "ended_for")


def rule_in(rule: pb.RetentionRule, where: str, check: Checks) -> Rule:
    """A rule; `check` gets what is wrong with it."""
    sessions = filter_in(rule.sessions, f"{where}.sessions", check)
    if not any(rule.HasField(field) for field in _TIMES):
        check.wrong(where, f"must have at least one of {', '.join(_TIMES)}")
    for time in _TIMES:
        if rule.HasField(time):
            check.duration(f"{where}.{time}", getattr(rule, time))
    return Rule(
        sessions=replace(sessions, states=sessions.states or (ENDED,)),
        older_than=_time(rule, "older_than"),
        idle_for=_time(rule, "idle_for"),
        ended_for=_time(rule, "ended_for"),
        include_pinned=rule.include_pinned,
    )


def _time(rule: pb.RetentionRule, field: _Time) -> timedelta | None:
    value: Duration = getattr(rule, field)
    if not rule.HasField(field):
        return None
    most = 10_000 * 366 * 86400  # what is wrong is refused, but not before all of it is looked at
    return timedelta(seconds=min(max(value.seconds, 0), most), microseconds=value.nanos // 1000)


def pruned_out(pruned: Pruned) -> pb.PrunedSession:
    """What became of a session that fitted a rule."""
    row = pruned.row
    return pb.PrunedSession(
        session_id=row.session_id,
        outcome=pruned.outcome,  # type: ignore[arg-type]
        session_count=pruned.gone.sessions,
        message_count=pruned.gone.messages,
        detached_count=pruned.gone.detached,
        state=row.state,  # type: ignore[arg-type]
        source=row.source,
        create_time=timestamp(row.create_time),
        last_activity_time=timestamp(row.activity_time),
        end_time=optional_timestamp(row.end_time),
        owner=row.owner,
        title=row.title,
    )


def totals(found: Sequence[Pruned]) -> tuple[int, int]:
    """How many sessions and messages went."""
    return sum(it.gone.sessions for it in found), sum(it.gone.messages for it in found)


def token(place: PrunePlace | None, call: bytes) -> str:
    """The page token of a place."""
    if place is None:
        return ""
    return page_tokens.encode([place.pinned, place.time.isoformat(), str(place.session_key)], call)


def place(token: str, call: bytes) -> PrunePlace:
    """The place of a page token."""
    pinned, time, key = page_tokens.decode(token, call, bool, str, str)
    try:
        found = PrunePlace(bool(pinned), datetime.fromisoformat(str(time)), UUID(str(key)))
    except ValueError as error:
        raise PageTokenInvalid from error
    if found.time.tzinfo != UTC:
        raise PageTokenInvalid
    return found


def stored_rule(tenant: str, encoded: bytes) -> Rule:
    """A tenant's rule that was checked before it was stored."""
    rule = rule_in(pb.RetentionRule.FromString(encoded), "rule", Checks())
    return replace(rule, sessions=replace(rule.sessions, tenant=tenant))


def policy_out(row: PolicyRow) -> pb.RetentionPolicy:
    """A stored policy."""
    return pb.RetentionPolicy(
        id=row.policy_id,
        rule=pb.RetentionRule.FromString(row.rule),
        dry_run=row.dry_run,
        etag=row.etag,
        create_time=timestamp(row.create_time),
        update_time=timestamp(row.update_time),
        last_run_time=optional_timestamp(row.last_run_time),
    )


def report_out(row: ReportRow) -> pb.RetentionReport:
    """A report without its sessions."""
    return pb.RetentionReport(
        id=str(row.report_id),
        policy_id=row.policy_id,
        rule=pb.RetentionRule.FromString(row.rule),
        dry_run=row.dry_run,
        start_time=timestamp(row.start_time),
        end_time=timestamp(row.end_time),
        session_count=row.session_count,
        message_count=row.message_count,
        kept_count=row.kept_count,
    )


def reported_out(session: ReportedSession) -> pb.PrunedSession:
    """A session of a report."""
    return pb.PrunedSession(
        session_id=session.session_id,
        outcome=session.outcome,  # type: ignore[arg-type]
        session_count=session.session_count,
        message_count=session.message_count,
        detached_count=session.detached_count,
        state=session.state,  # type: ignore[arg-type]
        source=session.source,
        create_time=timestamp(session.create_time),
        last_activity_time=timestamp(session.activity_time),
        end_time=optional_timestamp(session.end_time),
    )

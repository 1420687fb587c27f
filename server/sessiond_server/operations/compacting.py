"""Compaction: planning a safe range, replacing it by a summary, and putting it back."""

from __future__ import annotations

import secrets
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from sessiond_server.errors import (
    ClientIdReused,
    CompactionNotFound,
    CompactionOverlap,
    CompactionRangeEmpty,
    CompactionSplitsToolCall,
    SeqOutOfRange,
    SessionNotFound,
    WriterLeaseLost,
)
from sessiond_server.operations import gate, hiding, reading
from sessiond_server.sessions import planning
from sessiond_server.sessions.guards import By, Guard, Version
from sessiond_server.sessions.planning import Goal
from sessiond_server.sessions.toolcalls import Item, ToolCalls
from sessiond_server.sessions.visibility import Span, segments
from sessiond_server.store import appends, changes, contexts, heads, messages
from sessiond_server.store.appends import Append, MessageRow
from sessiond_server.store.contexts import CompactionInsert, CompactionRow, ContextMap
from sessiond_server.store.database import Connection, Database
from sessiond_server.store.heads import Head
from sessiond_server.store.keys import SessionKey

_ALL = 2**31 - 1


class CompactionLease(NamedTuple):
    """A lease: the token to compact with, who holds it, and when it ends."""

    token: str
    holder: str
    expire_time: datetime


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan, or why there is none; the lease, if one was taken."""

    plan_range: tuple[int, int] | None
    message_count: int
    token_count: int
    reaches_goal: bool
    version: Version
    nothing: int = 0
    lease: CompactionLease | None = None


@dataclass(frozen=True, slots=True)
class Compact:
    """A compaction to be made."""

    session_id: str
    key: SessionKey
    from_seq: int
    to_seq: int
    summary: MessageRow
    tokens_before: int
    tokens_after: int
    by: By
    model: str
    lease_token: str
    guard: Guard


async def plan(
    database: Database,
    session_id: str,
    key: SessionKey,
    goal: Goal,
    lease: tuple[str, timedelta] | None,
) -> Planned:
    """Propose a range, and take the lease (holder, duration) with it if one is wanted."""

    async def look(connection: Connection, head: Head) -> Planned:
        context, calls = await _outline(connection, session_id, key)
        return _planned(calls, context.spans, goal, head)

    if lease is None:
        async with database.snapshot() as connection:
            return await look(connection, await reading.head_of(connection, session_id, key))
    holder, duration = lease

    async def work(connection: Connection) -> Planned:
        head = await gate.lock(connection, session_id, key)
        if head.compactor_holder != holder:
            gate.check_compactor(session_id, head, "", await heads.now(connection))
        planned = await look(connection, head)
        if planned.nothing:
            return planned
        token = f"compaction-{secrets.token_urlsafe(18)}"
        expire_time = await heads.set_compactor(connection, key, token, holder, duration)
        return replace(planned, lease=CompactionLease(token, holder, expire_time))

    return await database.transact(work)


def _planned(calls: ToolCalls, spans: Sequence[Span], goal: Goal, head: Head) -> Planned:
    found = planning.plan(calls, goal)
    if isinstance(found, int):
        return Planned(None, 0, 0, False, head.version, nothing=found)
    return Planned(
        (calls.items[found.first].position, _end(calls.items[found.last], spans)),
        found.last - found.first + 1,
        found.tokens,
        found.reaches_goal,
        head.version,
    )


async def _outline(
    connection: Connection, session_id: str, key: SessionKey
) -> tuple[ContextMap, ToolCalls]:
    context = await contexts.context_map(connection, key)
    if context is None:
        raise SessionNotFound(session_id)
    pieces = segments(context.spans, context.first_seq, context.next_seq - 1)
    items = await contexts.outline(connection, key, pieces, limit=_ALL, border=context.border)
    waiting = await messages.open_tool_calls(connection, key, (0, 0), _ALL)
    return context, ToolCalls(items, {call.seq for call in waiting})


@dataclass(frozen=True, slots=True)
class Compacted:
    """A compaction, how far the session has come, and whether the compaction stood so before."""

    row: CompactionRow
    version: Version
    replayed: bool = False


async def compact(database: Database, wanted: Compact) -> Compacted:
    """Make a compaction."""

    async def work(connection: Connection) -> Compacted:
        head = await gate.lock(connection, wanted.session_id, wanted.key)
        replayed = await _replayed(connection, wanted, head)
        if replayed is not None:
            return Compacted(replayed, head.version, replayed=True)
        now = await heads.now(connection)
        gate.check_open(wanted.session_id, head)
        gate.check_writer(wanted.session_id, head, wanted.guard.writer_token, now)
        gate.check_compactor(wanted.session_id, head, wanted.lease_token, now)
        gate.check_expected(head, wanted.guard)
        return await _compact(connection, wanted, head)

    return await database.transact(work)


async def _replayed(connection: Connection, wanted: Compact, head: Head) -> CompactionRow | None:
    """The compaction that a retry means (P4)."""
    known = await appends.known(connection, head, [wanted.summary])
    if not known:
        return None
    stored = known[wanted.summary.client_id]
    row = await contexts.read_compaction(connection, wanted.key, stored.seq)
    if row is None or not stored.says(wanted.summary):
        raise ClientIdReused(wanted.summary.client_id, stored.seq)
    return row


async def _compact(connection: Connection, wanted: Compact, head: Head) -> Compacted:
    if wanted.to_seq > head.last_seq:
        raise SeqOutOfRange("to_seq", wanted.to_seq, head.first_seq, head.next_seq)
    context, calls = await _outline(connection, wanted.session_id, wanted.key)
    first, last = _places(calls, context.spans, wanted.from_seq, wanted.to_seq)
    _check_whole(calls, context.spans, first, last, wanted)
    replaced = calls.items[first : last + 1]
    summary_seq = head.next_seq
    token = Guard(writer_token=wanted.guard.writer_token)
    rest = Append(wanted.session_id, wanted.key, [wanted.summary], token)
    if not await appends.store(connection, [rest], summary=True, looked=True):
        raise WriterLeaseLost(wanted.session_id)  # it ended since the look before
    span = Span(replaced[0].position, _end(replaced[-1], context.spans), summary_seq)
    await contexts.add_compacted_span(connection, wanted.key, span)
    await _record(connection, wanted, head, calls.items, replaced, span)
    await changes.record(connection, wanted.key, changes.COMPACTED, reference=summary_seq)
    version = await heads.context_changed(connection, wanted.key)
    return Compacted(await read(connection, wanted.key, summary_seq), version)


async def _record(
    connection: Connection,
    wanted: Compact,
    head: Head,
    items: Sequence[Item],
    replaced: Sequence[Item],
    span: Span,
) -> None:
    tokens = sum(item.tokens for item in replaced)
    await contexts.insert_compaction(
        connection,
        wanted.key,
        CompactionInsert(
            span.summary_seq,
            head.next_change,
            span.from_seq,
            span.to_seq,
            len(replaced),
            wanted.tokens_before or tokens,
            wanted.tokens_after or wanted.summary.token_count,
            *wanted.by,
            wanted.model,
        ),
    )
    summary = wanted.summary
    await contexts.set_counters(
        connection,
        wanted.key,
        len(items) - len(replaced) + summary.in_context,
        sum(item.tokens for item in items) - tokens + summary.token_count * summary.in_context,
    )
    if wanted.lease_token:
        await heads.release_compactor(connection, wanted.key, wanted.lease_token)


def _places(calls: ToolCalls, spans: Sequence[Span], from_seq: int, to_seq: int) -> tuple[int, int]:
    """The places of a range in the context. Raises `CompactionOverlap` and `CompactionRangeEmpty`."""
    for span in spans:
        inside = from_seq <= span.from_seq and span.to_seq <= to_seq
        if span.summary_seq and not inside and span.from_seq <= to_seq and from_seq <= span.to_seq:
            nearest = _around(calls, spans, from_seq, to_seq)
            raise CompactionOverlap(from_seq, to_seq, span.summary_seq, nearest)
    first, last = _between(calls.items, from_seq, to_seq)
    if first > last:
        raise CompactionRangeEmpty(from_seq, to_seq)
    return first, last


def _between(items: Sequence[Item], from_seq: int, to_seq: int) -> tuple[int, int]:
    first = bisect_left(items, from_seq, key=lambda item: item.position)
    return first, bisect_right(items, to_seq, key=lambda item: item.position) - 1


def _around(
    calls: ToolCalls, spans: Sequence[Span], from_seq: int, to_seq: int
) -> tuple[int, int] | None:
    """The range, widened to take in whole compactions, or the nearest safe one."""
    for span in spans:
        if span.summary_seq and span.from_seq <= to_seq and from_seq <= span.to_seq:
            from_seq, to_seq = min(from_seq, span.from_seq), max(to_seq, span.to_seq)
    first, last = _between(calls.items, from_seq, to_seq)
    if first > last:
        return None
    split = calls.split(first, last)
    return (from_seq, to_seq) if split is None else _seqs(calls, spans, split.nearest)


def _check_whole(
    calls: ToolCalls, spans: Sequence[Span], first: int, last: int, wanted: Compact
) -> None:
    split = calls.split(first, last)
    if split is not None:
        nearest = _seqs(calls, spans, split.nearest)
        raise CompactionSplitsToolCall(wanted.from_seq, wanted.to_seq, split.tool_call_id, nearest)


def _seqs(
    calls: ToolCalls, spans: Sequence[Span], places: tuple[int, int] | None
) -> tuple[int, int] | None:
    return places and (calls.items[places[0]].position, _end(calls.items[places[1]], spans))


def _end(last: Item, spans: Sequence[Span]) -> int:
    """Where a range ends whose last message is `last`: a summary ends where what it replaces does."""
    if not last.summary:
        return last.seq
    return next(span.to_seq for span in spans if span.summary_seq == last.seq)


async def read(connection: Connection, key: SessionKey, summary_seq: int) -> CompactionRow:
    """A compaction. Raises `CompactionNotFound`."""
    row = await contexts.read_compaction(connection, key, summary_seq)
    if row is None:
        raise CompactionNotFound(summary_seq)
    return row


async def revert(
    database: Database, session_id: str, key: SessionKey, summary_seq: int, guard: Guard
) -> Compacted:
    """Revert a compaction."""

    async def work(connection: Connection) -> Compacted:
        head = await gate.lock(connection, session_id, key)
        row = await read(connection, key, summary_seq)
        if row.revert_time is not None:
            return Compacted(row, head.version, replayed=True)
        await gate.check_change(connection, session_id, head, guard)
        await contexts.revert_compaction(connection, key, summary_seq, head.next_seq)
        await hiding.derive(connection, key, head, rewound_changed=False)
        await changes.record(connection, key, changes.REVERTED, reference=summary_seq)
        version = await heads.context_changed(connection, key)
        return Compacted(await read(connection, key, summary_seq), version)

    return await database.transact(work)


async def renew_lease(
    database: Database, session_id: str, key: SessionKey, token: str, ttl: timedelta
) -> CompactionLease:
    """Make a living compaction lease last longer."""

    async def work(connection: Connection) -> CompactionLease:
        head = await gate.lock(connection, session_id, key)
        gate.check_compactor(session_id, head, token, await heads.now(connection))
        expire_time = await heads.renew_compactor(connection, key, ttl)
        return CompactionLease(token, head.compactor_holder, expire_time)

    return await database.transact(work)


async def release_lease(database: Database, session_id: str, key: SessionKey, token: str) -> None:
    """Give up the compaction lease."""

    async def work(connection: Connection) -> None:
        await gate.lock(connection, session_id, key)
        await heads.release_compactor(connection, key, token)

    await database.transact(work)

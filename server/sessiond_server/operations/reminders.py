"""Reminders: made, claimed by one worker at a time, completed with what they append, skipped, cancelled."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import ClassVar

from sessiond_server.errors import (
    ClaimLost,
    ClientIdReused,
    ReminderExists,
    ReminderNotFound,
    TooManyReminders,
    WriterLeaseLost,
)
from sessiond_server.operations import gate, reading
from sessiond_server.sessions.filters import SessionFilter
from sessiond_server.sessions.guards import Guard, Version
from sessiond_server.sessions.reminders import pause
from sessiond_server.store import appends, changes, heads, reminders
from sessiond_server.store.appends import Append, MessageRow
from sessiond_server.store.database import Connection, Database
from sessiond_server.store.heads import Head
from sessiond_server.store.keys import SessionKey
from sessiond_server.store.reminders import (
    CANCELLED,
    COMPLETED,
    FAILED,
    LEASE_ENDED,
    PENDING,
    Lapsed,
    ReminderInsert,
    ReminderRow,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class NewReminder:
    """A reminder to be made; `trigger_time` is a time, or a delay from now."""

    session_id: str
    key: SessionKey
    reminder_id: str
    type: str
    trigger_time: datetime | timedelta
    interval: timedelta
    max_attempts: int
    details: bytes
    request_hash: bytes
    replace_pending: bool
    most_pending: int


@dataclass(frozen=True, slots=True)
class Created:
    """A reminder as it stands, whether this made it, and how many it replaced."""

    row: ReminderRow
    now: datetime
    created: bool = False
    replaced: int = 0


async def create(database: Database, new: NewReminder) -> Created:
    """Make a reminder, unless the same request made it before."""

    async def work(connection: Connection) -> Created:
        head = await gate.lock(connection, new.session_id, new.key)
        known = await reminders.read(connection, new.key, new.reminder_id)
        if known is not None:
            if known[0].request_hash != new.request_hash:
                raise ReminderExists(new.reminder_id)
            return Created(*known)
        gate.check_open(new.session_id, head)
        replaced = await _make_room(connection, new)
        now = await heads.now(connection)
        time = new.trigger_time
        row = await reminders.insert(
            connection,
            new.key,
            ReminderInsert(
                new.reminder_id,
                new.type,
                now + time if isinstance(time, timedelta) else time,
                new.interval // _MICROSECOND,
                new.max_attempts,
                new.request_hash,
                new.details,
            ),
        )
        await _record(connection, row, reminders.CREATED, row.due_time)
        return Created(row, now, created=True, replaced=replaced)

    return await database.transact(work)


async def _make_room(connection: Connection, new: NewReminder) -> int:
    """Cancel what is pending, or see that it isn't too much; how many were cancelled."""
    if not new.replace_pending:
        if await reminders.count_pending(connection, new.key) >= new.most_pending:
            raise TooManyReminders(new.session_id, new.most_pending)
        return 0
    pending = await reminders.lock_pending(connection, new.key)
    for row in pending:
        await _cancel(connection, row)
    return len(pending)


async def _cancel(connection: Connection, row: ReminderRow) -> ReminderRow:
    due_time, row.state = row.due_time, CANCELLED
    row.begin(row.schedule)
    stored = await reminders.update(connection, row)
    await _record(connection, stored, reminders.CANCELLED_IT, due_time)
    return stored


async def _record(
    connection: Connection,
    row: ReminderRow,
    change: int,
    trigger_time: datetime,
    message_seq: int = 0,
) -> None:
    await changes.record(
        connection,
        row.key,
        changes.REMINDER,
        reference=(trigger_time - _EPOCH) // _MICROSECOND,
        seqs=[message_seq] if message_seq else None,
        child_id=row.reminder_id,
        child_kind=change,
    )


async def read(
    connection: Connection, session_id: str, key: SessionKey, reminder_id: str
) -> tuple[ReminderRow, datetime]:
    """A reminder, and the database's time."""
    found = await reminders.read(connection, key, reminder_id)
    if found is None:
        await reading.head_of(connection, session_id, key)
        raise ReminderNotFound(reminder_id)
    return found


async def _locked(
    connection: Connection, session_id: str, key: SessionKey, reminder_id: str
) -> tuple[Head, ReminderRow]:
    """A reminder with its session, both locked."""
    head = await gate.lock(connection, session_id, key)
    row = await reminders.lock(connection, key, reminder_id)
    if row is None:
        raise ReminderNotFound(reminder_id)
    return head, row


async def cancel(
    database: Database, session_id: str, key: SessionKey, reminder_id: str
) -> tuple[ReminderRow, datetime]:
    """End a reminder for good; as it stands, and the database's time."""

    async def work(connection: Connection) -> tuple[ReminderRow, datetime]:
        _, row = await _locked(connection, session_id, key, reminder_id)
        if row.state == PENDING:
            row = await _cancel(connection, row)
        return row, await heads.now(connection)

    return await database.transact(work)


async def skip(
    database: Database,
    session_id: str,
    key: SessionKey,
    reminder_id: str,
    trigger_time: datetime | None,
) -> tuple[ReminderRow, datetime]:
    """Move a reminder to its next time, if it is due at `trigger_time` or that is `None`."""

    async def work(connection: Connection) -> tuple[ReminderRow, datetime]:
        _, row = await _locked(connection, session_id, key, reminder_id)
        now = await heads.now(connection)
        if row.state == PENDING and trigger_time in (None, row.due_time):
            row = await _skip(connection, row, now)
        return row, now

    return await database.transact(work)


async def _skip(connection: Connection, row: ReminderRow, now: datetime) -> ReminderRow:
    due_time, following = row.due_time, row.schedule.skipped(now)
    if following is None:
        row.skipped_count += 1
        row.state = CANCELLED
    else:
        row.skipped_count += following.occurrence - row.occurrence
    row.begin(following or row.schedule)
    stored = await reminders.update(connection, row)
    await _record(connection, stored, reminders.SKIPPED, due_time)
    return stored


@dataclass(frozen=True, slots=True)
class Claiming:
    """Who claims, what, how much, and for how long."""

    sessions: SessionFilter
    holder: str
    types: list[str]
    limit: int
    max_bytes: int
    ttl: timedelta


@dataclass(frozen=True, slots=True)
class Claimed:
    """A claim: the reminder as it was when it was claimed."""

    row: ReminderRow
    token: str
    missed: int
    expire_time: datetime
    now: datetime


@dataclass(frozen=True, slots=True)
class Claims:
    """What was claimed, of all that was due."""

    claims: list[Claimed]
    unfinished: ClassVar = False

    @property
    def any(self) -> bool:
        return bool(self.claims)


LAPSED = 100
"""How many reminders a claim ends at most, since nobody came back from their last attempt."""


async def claim(database: Database, wanted: Claiming) -> Claims:
    """Claim what is due, the longest due first. No session is locked for it: a claim never waits."""
    await _end_lapsed(database, wanted.sessions.tenant)

    async def work(connection: Connection) -> Claims:
        rows, now = await reminders.lock_due(
            connection,
            wanted.sessions,
            wanted.types,
            wanted.limit,
            wanted.max_bytes,
        )
        if now is None:
            return Claims([])
        claims = [
            reminders.Claim(row, row.schedule.latest(now), f"reminder-{secrets.token_urlsafe(18)}")
            for row in rows
        ]
        expire_time = now + wanted.ttl
        await reminders.claim(connection, claims, expire_time, wanted.holder)
        return Claims(
            [
                Claimed(row, token, occurrence - row.occurrence, expire_time, now)
                for row, occurrence, token in claims
            ]
        )

    return await database.transact(work)


async def _end_lapsed(database: Database, tenant: str) -> None:
    """End reminders whose last claim's lease has ended, but for those of sessions that others lock."""
    async with database.connection() as connection:
        found = await reminders.lapsed(connection, tenant, LAPSED)
    for lapsed in found:
        await _end_one(database, lapsed)


async def _end_one(database: Database, lapsed: Lapsed) -> None:
    async def work(connection: Connection) -> None:
        found = await reminders.lock_lapsed(connection, lapsed)
        if found is not None:
            row, _ = found
            row.last_error = LEASE_ENDED
            await _end_time(connection, row)

    await database.transact(work)


@dataclass(frozen=True, slots=True)
class Completion:
    """A claim that is done, and what its completion appends."""

    session_id: str
    key: SessionKey
    reminder_id: str
    token: str
    guard: Guard
    message: Callable[[ReminderRow], MessageRow] | None
    """Makes the message to append, if one is."""


@dataclass(frozen=True, slots=True)
class Completed:
    """A completed reminder, the time, the seq that its completion appended, how far the session has come, and
    whether it was completed before."""

    row: ReminderRow
    now: datetime
    seq: int
    version: Version
    replayed: bool = False


async def complete(database: Database, wanted: Completion) -> Completed:
    """Complete a claim."""

    async def work(connection: Connection) -> Completed:
        head, row = await _locked(connection, wanted.session_id, wanted.key, wanted.reminder_id)
        now = await heads.now(connection)
        if row.done_token == wanted.token:
            return Completed(row, now, row.last_message_seq, head.version, replayed=True)
        if row.state != PENDING or row.claim_token != wanted.token:
            raise ClaimLost(wanted.session_id, wanted.reminder_id)
        await gate.check_guard(connection, wanted.session_id, head, wanted.guard)
        seq, version = 0, head.version
        if wanted.message is not None:
            seq, version = await _append(connection, wanted, head, wanted.message(row), now)
        return Completed(await _advance(connection, row, now, seq), now, seq, version)

    return await database.transact(work)


async def _append(
    connection: Connection, wanted: Completion, head: Head, row: MessageRow, now: datetime
) -> tuple[int, Version]:
    """Append the message under the head's lock, unless the worker did so itself (P4); its seq, and how far
    the session has come."""
    known = (await appends.known(connection, head, [row])).get(row.client_id)
    if known is not None:
        if not known.says(row):
            raise ClientIdReused(row.client_id, known.seq)
        return known.seq, head.version
    gate.check_open(wanted.session_id, head)
    token = wanted.guard.writer_token
    gate.check_writer(wanted.session_id, head, token, now)
    append = Append(wanted.session_id, wanted.key, [row], Guard(writer_token=token))
    stored = await appends.store(connection, [append], looked=True)
    if not stored:
        raise WriterLeaseLost(wanted.session_id)  # it ended since the look above
    return stored[0].first_seq, stored[0].version


async def _advance(
    connection: Connection, row: ReminderRow, now: datetime, seq: int
) -> ReminderRow:
    due_time, following = row.due_time, row.schedule.after(row.claimed_occurrence)
    row.fired_count += 1
    row.missed_count += row.claimed_occurrence - row.occurrence
    row.done_token, row.last_fire_time, row.last_message_seq = row.claim_token, now, seq
    row.last_error = b""
    if following is None:
        row.state, following = COMPLETED, row.schedule.at(row.claimed_occurrence)
    row.begin(following)
    stored = await reminders.update(connection, row)
    await _record(connection, stored, reminders.FIRED, due_time, seq)
    return stored


@dataclass(frozen=True, slots=True)
class Failure:
    """A claim that failed, why, and how long it takes until it is tried again, if that is said."""

    session_id: str
    key: SessionKey
    reminder_id: str
    token: str
    error: bytes
    retry_delay: timedelta | None


async def fail(database: Database, wanted: Failure) -> tuple[ReminderRow, datetime, bool]:
    """Have what failed tried again, or end it; as it stands, the time, and whether it failed so before."""

    async def work(connection: Connection) -> tuple[ReminderRow, datetime, bool]:
        _, row = await _locked(connection, wanted.session_id, wanted.key, wanted.reminder_id)
        now = await heads.now(connection)
        if row.failed_token == wanted.token:
            return row, now, True
        if row.state != PENDING or row.claim_token != wanted.token:
            raise ClaimLost(wanted.session_id, wanted.reminder_id)
        row.failed_token, row.last_error = wanted.token, wanted.error
        if 0 < row.max_attempts <= row.claim_count:
            return await _end_time(connection, row), now, False
        delay = wanted.retry_delay
        row.ready_time = now + (pause(row.claim_count) if delay is None else delay)
        return await reminders.update(connection, row), now, False

    return await database.transact(work)


async def _end_time(connection: Connection, row: ReminderRow) -> ReminderRow:
    """Go on to the next time of a reminder that is locked and has failed as often as it may; end it if there
    is none."""
    due_time, following = row.due_time, row.schedule.after(row.claimed_occurrence)
    row.missed_count += row.claimed_occurrence - row.occurrence + 1
    if following is None:
        row.state, attempts = FAILED, row.claim_count
        row.begin(row.schedule.at(row.claimed_occurrence))
        row.claim_count = attempts
    else:
        row.begin(following)
    stored = await reminders.update(connection, row)
    await _record(connection, stored, reminders.FAILED_IT, due_time)
    return stored


async def extend(
    database: Database,
    session_id: str,
    key: SessionKey,
    reminder_id: str,
    token: str,
    ttl: timedelta,
    *,
    give_up: bool,
) -> datetime:
    """Let a claim last longer, or give it up; when it ends, or is due again."""

    async def work(connection: Connection) -> datetime:
        row = await reminders.lock(connection, key, reminder_id)
        if row is None:
            await reading.head_of(connection, session_id, key)
            raise ReminderNotFound(reminder_id)
        if row.state != PENDING or row.claim_token != token:
            raise ClaimLost(session_id, reminder_id)
        return await reminders.extend(connection, row, ttl, "" if give_up else token)

    return await database.transact(work)

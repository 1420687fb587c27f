"""Reminders as they are stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sessiond_server.sessions.filters import SessionFilter
from sessiond_server.sessions.reminders import Schedule
from sessiond_server.store.database import Connection, known_columns
from sessiond_server.store.filters import fitting
from sessiond_server.store.keys import SessionKey
from sessiond_server.store.sessions import SessionRow
from sessiond_server.store.sql import query

PENDING, COMPLETED, CANCELLED, FAILED = 1, 2, 3, 4
"""States: the values of `sessiond.v1.ReminderState`."""
CREATED, FIRED, SKIPPED, CANCELLED_IT, FAILED_IT = 1, 2, 3, 4, 5
"""What is told in feeds: the values of `sessiond.v1.ReminderChange`."""

_MICROSECOND = timedelta(microseconds=1)


@dataclass(slots=True)
class ReminderRow:
    """A row of `reminder`."""

    bucket: int
    session_key: UUID
    reminder_id: str
    tenant: str
    session_id: str
    owner: str
    type: str
    state: int
    held: bool
    first_time: datetime
    interval_microseconds: int
    occurrence: int
    due_time: datetime
    ready_time: datetime
    claimed_occurrence: int
    claim_token: str
    claim_holder: str
    claim_count: int
    max_attempts: int
    done_token: str
    failed_token: str
    last_error: bytes
    fired_count: int
    missed_count: int
    skipped_count: int
    last_fire_time: datetime | None
    last_message_seq: int
    request_hash: bytes
    details: bytes
    create_time: datetime
    update_time: datetime

    @property
    def key(self) -> SessionKey:
        return SessionKey(self.bucket, self.session_key)

    @property
    def interval(self) -> timedelta:
        return self.interval_microseconds * _MICROSECOND

    @property
    def schedule(self) -> Schedule:
        return Schedule(self.first_time, self.interval, self.occurrence)

    def begin(self, schedule: Schedule) -> None:
        """Be due for one of its times, for which nobody has tried anything yet."""
        self.occurrence, self.due_time = schedule.occurrence, schedule.due_time
        self.ready_time, self.claim_count = schedule.due_time, 0


@dataclass(frozen=True, slots=True)
class ReminderInsert:
    """A reminder to be made, in the order of the statement's parameters behind its session's key."""

    reminder_id: str
    type: str
    first_time: datetime
    interval_microseconds: int
    max_attempts: int
    request_hash: bytes
    details: bytes


async def insert(connection: Connection, key: SessionKey, new: ReminderInsert) -> ReminderRow:
    """Make a reminder of a session that exists."""
    values = [getattr(new, name) for name in ReminderInsert.__slots__]
    row = await connection.fetchrow(query("insert_reminder"), *key, *values)
    assert row is not None
    return known_columns(ReminderRow, row)


async def read(
    connection: Connection, key: SessionKey, reminder_id: str
) -> tuple[ReminderRow, datetime] | None:
    """A reminder, and the database's time."""
    row = await connection.fetchrow(query("read_reminder"), *key, reminder_id)
    return None if row is None else (known_columns(ReminderRow, row), row["now"])


async def lock(connection: Connection, key: SessionKey, reminder_id: str) -> ReminderRow | None:
    row = await connection.fetchrow(query("lock_reminder"), *key, reminder_id)
    return None if row is None else known_columns(ReminderRow, row)


async def lock_pending(connection: Connection, key: SessionKey) -> list[ReminderRow]:
    rows = await connection.fetch(query("lock_pending_reminders"), *key)
    return [known_columns(ReminderRow, row) for row in rows]


async def count_pending(connection: Connection, key: SessionKey) -> int:
    count: int = await connection.fetchval(query("count_pending_reminders"), *key)
    return count


async def update(connection: Connection, row: ReminderRow) -> ReminderRow:
    """Store what changed and end the claim; the caller holds the session's lock and the reminder's."""
    stored = await connection.fetchrow(
        query("update_reminder"),
        *row.key,
        row.reminder_id,
        row.state,
        row.occurrence,
        row.due_time,
        row.ready_time,
        row.claim_count,
        row.done_token,
        row.failed_token,
        row.last_error,
        row.fired_count,
        row.missed_count,
        row.skipped_count,
        row.last_fire_time,
        row.last_message_seq,
    )
    assert stored is not None
    return known_columns(ReminderRow, stored)


async def lock_due(
    connection: Connection,
    wanted: SessionFilter,
    types: Sequence[str],
    limit: int,
    max_bytes: int,
) -> tuple[list[ReminderRow], datetime | None]:
    """Reminders of sessions that fit which are due and which nobody else locks, of so many bytes at most, and
    the time."""
    rest, tenant = replace(wanted, owner=None), wanted.tenant
    if wanted.owner is not None:
        kinds = list(types) or None
        sql, values = fitting("due_reminders_of_owner", rest, tenant, limit, wanted.owner, kinds)
    elif types:
        sql, values = fitting("due_reminders_of_types", rest, tenant, limit, list(types))
    else:
        sql, values = fitting("due_reminders", rest, tenant, limit)
    found = await connection.fetch(sql, *values)
    rows: list[ReminderRow] = []
    size = 0
    for record in found:
        size += len(record["details"]) + len(record["last_error"]) + 1024
        if rows and size > max_bytes:
            break
        rows.append(known_columns(ReminderRow, record))
    return rows, found[0]["now"] if found else None


class Claim(NamedTuple):
    """A claim to be stored: up to which of its times the reminder is claimed."""

    row: ReminderRow
    occurrence: int
    token: str


LEASE_ENDED = b"The claim's lease has ended."
"""What is said of a claim that nobody completed."""


async def claim(
    connection: Connection, claims: Sequence[Claim], expire_time: datetime, holder: str
) -> None:
    """Store claims of reminders that are locked; the rows are as they are then."""
    await connection.execute(
        query("claim_reminders"),
        [claim.row.bucket for claim in claims],
        [claim.row.session_key for claim in claims],
        [claim.row.reminder_id for claim in claims],
        [claim.occurrence for claim in claims],
        [claim.token for claim in claims],
        expire_time,
        holder,
        LEASE_ENDED,
    )
    for row, occurrence, token in claims:
        row.last_error = LEASE_ENDED if row.claim_token else row.last_error
        row.claimed_occurrence, row.claim_token, row.claim_holder = occurrence, token, holder
        row.ready_time = expire_time
        row.claim_count += 1


class Lapsed(NamedTuple):
    """A reminder whose last claim's lease has ended."""

    bucket: int
    session_key: UUID
    reminder_id: str


async def lapsed(connection: Connection, tenant: str, limit: int) -> list[Lapsed]:
    """Those of a tenant, the longest ago first."""
    return [
        Lapsed(*row) for row in await connection.fetch(query("lapsed_reminders"), tenant, limit)
    ]


async def lock_lapsed(connection: Connection, found: Lapsed) -> tuple[ReminderRow, datetime] | None:
    """Lock one of these and its session, and the time; `None` if it isn't so any more, or another
    transaction has the session."""
    if not await connection.fetchval(query("lock_free_head"), *found[:2]):
        return None
    row = await connection.fetchrow(query("lock_lapsed_reminder"), *found)
    return None if row is None else (known_columns(ReminderRow, row), row["now"])


async def extend(connection: Connection, row: ReminderRow, ttl: timedelta, token: str) -> datetime:
    """Let a claim last so long from now; without a token, be due again then."""
    ready_time: datetime = await connection.fetchval(
        query("extend_reminder_claim"), *row.key, row.reminder_id, ttl, token
    )
    return ready_time


async def next_due(connection: Connection, tenant: str) -> tuple[bool, float | None]:
    """Whether anything is due, and how many seconds until something else is."""
    row = await connection.fetchrow(query("next_due_reminder"), tenant)
    assert row is not None
    return row["due"], row["seconds"]


class Place(NamedTuple):
    """The last row of a page."""

    state: int
    due_time: datetime
    session_key: UUID
    reminder_id: str


@dataclass(frozen=True, slots=True)
class Listing:
    """Which reminders to list: of a session or of any, of those that fit, and in a state or (0) in any."""

    key: SessionKey | None
    sessions: SessionFilter
    state: int


async def page(
    connection: Connection, wanted: Listing, after: Place, limit: int, max_bytes: int
) -> tuple[list[ReminderRow], datetime | None, bool]:
    """A page, the time of the look, and whether there is more."""
    states = (wanted.state, wanted.state) if wanted.state else (PENDING, FAILED)
    end = (limit + 1, max_bytes)
    owner, tenant = wanted.sessions.owner, wanted.sessions.tenant
    rest = replace(wanted.sessions, owner=None)
    if wanted.key is not None:
        place = (after.state, after.due_time, after.reminder_id)
        name, sessions = "list_reminders_of_session", wanted.sessions
        sql, values = fitting(name, sessions, *wanted.key, *states, *place, *end)
    elif owner is not None:
        name = "list_reminders_of_owner"
        sql, values = fitting(name, rest, tenant, owner, *states, *after, *end)
    else:
        sql, values = fitting("list_reminders", rest, tenant, *states, *after, *end)
    rows = await connection.fetch(sql, *values)
    if not rows:
        return [], None, False
    found = [known_columns(ReminderRow, row) for row in rows[:limit]]
    return found, rows[0]["now"], rows[0]["available"] > len(found)


async def pending_times(
    connection: Connection, sessions: Sequence[SessionRow]
) -> dict[SessionKey, datetime]:
    """When the soonest pending reminder of each of these sessions is due, of those that have one."""
    rows = await connection.fetch(
        query("pending_reminder_times"),
        [row.bucket for row in sessions],
        [row.session_key for row in sessions],
    )
    return {sessions[row["place"] - 1].key: row["due_time"] for row in rows}

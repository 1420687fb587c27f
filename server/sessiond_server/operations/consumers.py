"""Cursors: how far consumers have come in sessions, and which sessions wait for them.

A consumer looks at the sessions that took a new position since it last looked, and queues those in which
there is work. Positions are given after the commit of what was written, so it need never look back.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from sessiond_server.errors import ClaimLost, ConsumerNotFound, SeqOutOfRange, TooManyConsumers
from sessiond_server.operations import gate, reading
from sessiond_server.store import consumers
from sessiond_server.store.consumers import ConsumerKey, CursorRow, DueSession, Settled
from sessiond_server.store.database import Connection, Database
from sessiond_server.store.keys import SessionKey

DUE_PAGE = 100
"""How many of those that wait are looked at in one transaction: some are done, or written to again."""
ROUNDS = 10
"""How many transactions a claim takes at most."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A cursor to be set."""

    session_id: str
    key: SessionKey
    consumer_id: str
    seq: int
    token: str
    allow_decrease: bool
    most_consumers: int


async def set_cursor(database: Database, wanted: Setting) -> tuple[CursorRow, int]:
    """Set a cursor; as it stands, and the session's next seq."""

    async def work(connection: Connection) -> tuple[CursorRow, int]:
        key, consumer_id = wanted.key, wanted.consumer_id
        head = await gate.lock(connection, wanted.session_id, key)
        if wanted.seq > head.last_seq:
            raise SeqOutOfRange("seq", wanted.seq, head.first_seq, head.next_seq)
        row = await consumers.lock(connection, key, consumer_id)
        token = wanted.token
        if token and row is not None and row.done_token == token:
            return row, head.next_seq
        if token and (row is None or row.claim_token != token):
            raise ClaimLost(wanted.session_id)
        if row is None:
            if await consumers.count(connection, key) >= wanted.most_consumers:
                raise TooManyConsumers(wanted.most_consumers, wanted.session_id)
            queued = wanted.seq < head.last_seq
            row = await consumers.insert(connection, key, consumer_id, wanted.seq, queued=queued)
            return row, head.next_seq
        seq = wanted.seq if wanted.allow_decrease else max(row.seq, wanted.seq)
        queued = seq < head.last_seq
        row = await consumers.set_seq(connection, key, consumer_id, seq, token, queued=queued)
        return row, head.next_seq

    return await database.transact(work)


@dataclass(frozen=True, slots=True)
class Claiming:
    """Who claims, what, how much, and for how long."""

    tenant: str
    consumer_id: str
    owner: str
    holder: str
    idle_for: timedelta
    limit: int
    ttl: timedelta
    children: bool
    most_consumers: int


@dataclass(frozen=True, slots=True)
class Claimed:
    """A claim of a session."""

    due: DueSession
    token: str
    expire_time: datetime


@dataclass(frozen=True, slots=True)
class Claims:
    """What was claimed; whether there may be more; and whether that is for others to see, who look now."""

    sessions: list[Claimed]
    more: bool
    others_look: bool = False

    @property
    def any(self) -> bool:
        return bool(self.sessions)

    @property
    def unfinished(self) -> bool:
        return self.more and not self.others_look


async def claim(database: Database, wanted: Claiming) -> Claims:
    """Claim sessions, the longest due first."""
    found: list[Claimed] = []
    for _ in range(ROUNDS):
        got, full = await _claim_due(database, wanted, wanted.limit - len(found))
        found += got
        if len(found) >= wanted.limit:
            return Claims(found, more=True)
        if full:
            continue
        looked = await _look(database, wanted)
        if not looked.again:
            return Claims(found, looked.more, others_look=looked.more)
    return Claims(found, more=True)


class WaitedFor(NamedTuple):
    """Whose sessions a claim waits for, and how long nobody has written to these."""

    consumer: ConsumerKey
    children: bool
    idle_for: timedelta

    @classmethod
    def by(cls, wanted: Claiming) -> WaitedFor:
        key = ConsumerKey.of(wanted.tenant, wanted.owner, wanted.consumer_id)
        return cls(key, wanted.children, wanted.idle_for)


async def look(connection: Connection, wanted: WaitedFor) -> tuple[bool, float | None]:
    """Whether a claim may find something, and in how many seconds it may find something else."""
    key = wanted.consumer
    place = await consumers.read_consumer(connection, key)
    if place is None:
        return False, None  # it was deleted: whoever claims next begins anew
    position, now = place
    written = await consumers.written(connection, key, position)
    if any(it.wanted for it in written) or len(written) == consumers.PAGE:
        return True, None
    next_time = await consumers.next_time(connection, key, children=wanted.children)
    if next_time is None:
        return False, None
    seconds = (next_time - now).total_seconds()
    return seconds <= 0, max(0.0, seconds)


@dataclass(frozen=True, slots=True)
class Extending:
    """A claim that is to last longer, or is given up."""

    session_id: str
    key: SessionKey
    consumer_id: str
    token: str
    ttl: timedelta
    give_up: bool


async def extend(database: Database, wanted: Extending) -> datetime:
    """Let a claim last longer, or give it up; when it ends, or the session is due again."""

    async def work(connection: Connection) -> datetime:
        row = await consumers.lock(connection, wanted.key, wanted.consumer_id)
        if row is None or row.claim_token != wanted.token:
            await reading.head_of(connection, wanted.session_id, wanted.key)
            raise ClaimLost(wanted.session_id)
        token = "" if wanted.give_up else wanted.token
        return await consumers.extend(connection, row, wanted.ttl, token)

    return await database.transact(work)


async def forget(database: Database, key: ConsumerKey, *, allow_missing: bool) -> bool:
    """Forget a consumer that claims; false if there is none."""

    async def work(connection: Connection) -> bool:
        deleted = await consumers.delete_consumer(connection, key)
        if not deleted and not allow_missing:
            raise ConsumerNotFound(key.consumer_id, key.owner)
        return deleted

    return await database.transact(work)


async def _claim_due(
    database: Database, wanted: Claiming, limit: int
) -> tuple[list[Claimed], bool]:
    """Claim what is due, as far as nobody writes to it; and whether something else may be due."""

    async def work(connection: Connection) -> tuple[list[Claimed], bool]:
        due = await consumers.lock_due(
            connection,
            wanted.tenant,
            wanted.consumer_id,
            wanted.owner,
            max(limit, DUE_PAGE),
            children=wanted.children,
        )
        settled: list[Settled] = []
        claimed: list[Claimed] = []
        for session in due:
            it = _settled(session, wanted)
            if it.token and len(claimed) == limit:
                continue  # others may have it
            settled.append(it)
            if it.token:
                claimed.append(Claimed(session, it.token, it.ready_time))
        if settled:
            await consumers.settle(connection, wanted.consumer_id, wanted.holder, settled)
        return claimed, len(due) >= DUE_PAGE

    return await database.transact(work)


def _settled(session: DueSession, wanted: Claiming) -> Settled:
    place = (session.bucket, session.session_key)
    if session.next_seq - 1 <= session.seq:
        return Settled(*place, False, session.ready_time, "")
    idle_from = session.activity_time + wanted.idle_for
    if idle_from > session.now:
        return Settled(*place, True, idle_from, "")
    token = f"session-{secrets.token_urlsafe(18)}"
    return Settled(*place, True, session.now + wanted.ttl, token)


class _Looked(NamedTuple):
    """Whether it is worth to go on at once; and whether there may be more if not."""

    again: bool
    more: bool


async def _look(database: Database, wanted: Claiming) -> _Looked:
    """Queue sessions that were written to since the consumer last looked."""

    async def work(connection: Connection) -> _Looked:
        key = ConsumerKey.of(wanted.tenant, wanted.owner, wanted.consumer_id)
        if not await consumers.add_consumer(connection, key, wanted.most_consumers):
            raise TooManyConsumers(wanted.most_consumers)
        position = await consumers.lock_consumer(connection, key)
        if position is None:
            return _Looked(again=False, more=True)  # another call looks, and may find something
        written = await consumers.written(connection, key, position)
        keys = [SessionKey(it.bucket, it.session_key) for it in written if it.wanted]
        if keys:
            await consumers.queue(connection, keys, wanted.consumer_id, wanted.idle_for)
        end = written[-1].position if written else position
        await consumers.move_consumer(connection, key, end)
        return _Looked(again=bool(keys) or len(written) == consumers.PAGE, more=False)

    return await database.transact(work)

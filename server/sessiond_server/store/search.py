"""The search index: entries of messages, how far each session is indexed, and what a search finds."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg

from sessiond_server.sessions.passages import ENTRY_VERSION
from sessiond_server.store.database import Connection, known_columns
from sessiond_server.store.keys import SessionKey
from sessiond_server.store.sql import query


class Entry(NamedTuple):
    """An entry, in the order of the statement's parameters; `document` without its scope."""

    bucket: int
    session_key: UUID
    seq: int
    piece: int
    tenant: str
    owner: str
    source: str
    role: int
    create_time: datetime
    document: str


@dataclass(frozen=True, slots=True)
class ToIndex:
    """How a session and its entries stand."""

    bucket: int
    session_key: UUID
    incarnation: UUID
    tenant: str
    owner: str
    source: str
    title: str
    create_time: datetime
    first_seq: int
    next_seq: int
    indexed_seq: int
    entry_version: int
    change_no: int
    indexed_title: str | None

    @property
    def key(self) -> SessionKey:
        return SessionKey(self.bucket, self.session_key)

    @property
    def after(self) -> int:
        """The last seq whose entries are right."""
        indexed = self.indexed_seq if self.entry_version == ENTRY_VERSION else 0
        return max(indexed, self.first_seq - 1)

    @property
    def lags(self) -> bool:
        return (
            self.entry_version != ENTRY_VERSION
            or self.after < self.next_seq - 1
            or self.indexed_title != self.title
        )


class Progress(NamedTuple):
    """A locked row of `search_progress`."""

    indexed_seq: int
    entry_version: int
    change_no: int


def _hashed(*parts: str) -> str:
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=8).hexdigest()


def scope_of_tenant(tenant: str) -> str:
    return f"'=t{_hashed(tenant)}'"


def scope_of_owner(tenant: str, owner: str) -> str:
    return f"'=o{_hashed(tenant, owner)}'"


def scope_of_source(tenant: str, source: str) -> str:
    return f"'=u{_hashed(tenant, source)}'"


def scope_of_session(key: UUID) -> str:
    return f"'=s{key.hex}'"


def scope_of_role(role: int) -> str:
    return f"'=r{role}'"


def _scoped(entry: Entry) -> str:
    return " ".join(
        (
            entry.document,
            scope_of_tenant(entry.tenant),
            scope_of_owner(entry.tenant, entry.owner),
            scope_of_source(entry.tenant, entry.source),
            scope_of_session(entry.session_key),
            scope_of_role(entry.role),
        )
    )


def _columns(keys: Collection[SessionKey]) -> tuple[list[int], list[UUID]]:
    return [key.bucket for key in keys], [key.key for key in keys]


async def lock(
    connection: Connection, keys: Collection[SessionKey], *, changed: bool = False
) -> dict[SessionKey, Progress]:
    """Lock what is known of sessions' entries until the transaction ends. `changed` says that what
    another one has read of the sessions to make entries of it is no longer right."""
    rows = await connection.fetch(
        query("lock_search_progress"), *_columns(keys), ENTRY_VERSION, int(changed)
    )
    return {SessionKey(r[0], r[1]): Progress(r[2], r[3], r[4]) for r in rows}


async def to_index(connection: Connection, keys: Collection[SessionKey]) -> list[ToIndex]:
    """How sessions stand, of those that exist."""
    rows = await connection.fetch(query("sessions_to_index"), *_columns(keys))
    return [known_columns(ToIndex, row) for row in rows]


async def sweep(
    connection: Connection, after: SessionKey, limit: int
) -> tuple[list[SessionKey], SessionKey | None]:
    """Which of the next sessions in key order lag, and the last one looked at; `None` at the end."""
    rows = await connection.fetch(query("sweep_for_search"), *after, limit, ENTRY_VERSION)
    lagging = [SessionKey(r[0], r[1]) for r in rows if r["lagging"]]
    return lagging, SessionKey(rows[-1][0], rows[-1][1]) if rows else None


async def settled_time(connection: Connection) -> datetime:
    """Whatever was begun before it is committed or given up."""
    time: datetime = await connection.fetchval(query("oldest_transaction"))
    return time


async def forget(connection: Connection, ranges: Sequence[tuple[SessionKey, int, int]]) -> None:
    """Delete the entries of ranges of seqs."""
    keys = _columns([r[0] for r in ranges])
    await connection.execute(
        query("forget_entries"), *keys, [r[1] for r in ranges], [r[2] for r in ranges]
    )


async def write(connection: Connection, entries: Sequence[Entry]) -> None:
    """Add entries. Without positions in them, Postgres takes the words of the scope as they are."""
    if entries:
        scoped = (entry._replace(document=_scoped(entry)) for entry in entries)
        columns = [list(column) for column in zip(*scoped, strict=True)]
        await connection.execute(query("write_entries"), *columns)


async def forget_sessions(connection: Connection, keys: Collection[SessionKey]) -> None:
    """Forget sessions that are no more."""
    if keys:
        await connection.execute(query("forget_session_progress"), *_columns(keys))


async def advance(connection: Connection, reached: Sequence[tuple[SessionKey, int, str]]) -> None:
    """Note how far sessions are indexed, and with which titles."""
    keys = _columns([r[0] for r in reached])
    await connection.execute(
        query("advance_progress"),
        *keys,
        [r[1] for r in reached],
        [r[2] for r in reached],
        ENTRY_VERSION,
    )


async def indexed_through(connection: Connection, key: SessionKey) -> int | None:
    """Up to which seq a session is indexed; `None` if there is no session."""
    seq: int | None = await connection.fetchval(query("read_progress"), *key, ENTRY_VERSION)
    return seq


async def complete_time(connection: Connection) -> datetime | None:
    """Everything that was appended before is indexed; `None` before all was looked at once."""
    time: datetime | None = await connection.fetchval(query("read_complete_time"), ENTRY_VERSION)
    return time


async def set_complete_time(connection: Connection, time: datetime) -> None:
    await connection.execute(query("write_complete_time"), ENTRY_VERSION, time)


class Lag(NamedTuple):
    """Sessions that aren't indexed to their end, and their messages that aren't."""

    sessions: int
    messages: int


async def lag(connection: Connection, tenant: str) -> Lag:
    """How much of a tenant isn't indexed yet; it looks at all sessions."""
    row = await connection.fetchrow(query("search_lag"), tenant, ENTRY_VERSION)
    assert row is not None
    return Lag(row[0], row[1])


async def index_again(connection: Connection, keys: Collection[SessionKey]) -> None:
    """Have sessions indexed anew."""
    await connection.execute(query("forget_progress"), *_columns(keys))


async def sessions_after(
    connection: Connection, tenant: str, session_id: str, limit: int
) -> tuple[list[SessionKey], str]:
    """A page of all sessions by id, and the last one's."""
    rows = await connection.fetch(query("sessions_of_tenant"), tenant, session_id, limit)
    return [SessionKey(r[0], r[1]) for r in rows], rows[-1][2] if rows else ""


async def subtree(
    connection: Connection, tenant: str, key: SessionKey, limit: int
) -> list[SessionKey]:
    """A session and its descendants."""
    rows = await connection.fetch(query("subtree_keys"), *key, tenant, limit)
    return [SessionKey(r[0], r[1]) for r in rows]


@dataclass(frozen=True, slots=True)
class Filters:
    """What to look for, in the order of the statements' parameters; `None` is any."""

    tsquery: str
    rank_tsquery: str
    tenant: str
    owner: str | None
    sources: list[str] | None
    exclude_sources: list[str] | None
    roles: list[int] | None
    since: datetime | None
    until: datetime | None
    session_keys: list[UUID] | None
    include_rewound: bool

    @property
    def scoped(self) -> str:
        """The query within the narrowest scopes that are words of the index."""
        scopes = []
        if self.session_keys is not None and len(self.session_keys) <= _SCOPED_SESSIONS:
            scopes.append(" | ".join(scope_of_session(key) for key in self.session_keys))
        elif self.owner is not None:
            scopes.append(scope_of_owner(self.tenant, self.owner))
        else:
            scopes.append(scope_of_tenant(self.tenant))
        if self.sources is not None:
            scopes.append(" | ".join(scope_of_source(self.tenant, s) for s in self.sources))
        if self.roles is not None:
            scopes.append(" | ".join(scope_of_role(role) for role in self.roles))
        return " & ".join(f"({part})" for part in (*scopes, self.tsquery))


_SCOPED_SESSIONS = 64


class Place(NamedTuple):
    """Where an entry stands among all, the newest first."""

    create_time: datetime
    session_key: UUID
    seq: int


class Found(NamedTuple):
    """A message that was found."""

    key: SessionKey
    place: Place
    rank: float


async def _settings(connection: Connection, seconds: float, *, by_words: bool) -> None:
    milliseconds = str(round(seconds * 1000))
    on, off = ("off", "on") if by_words else ("on", "off")
    await connection.execute(query("search_settings"), milliseconds, on, off)


async def find(
    connection: Connection, filters: Filters, before: Place, limit: int, seconds: float
) -> list[Found]:
    """What there is, in no order; the newest aren't more likely to be in it when there is more than
    `limit`. In a transaction."""
    await _settings(connection, seconds, by_words=True)
    rows = await connection.fetch(query("search_all"), *_values(filters), *before, limit)
    return [_found(row) for row in rows]


async def find_newest(
    connection: Connection,
    filters: Filters,
    before: Place,
    limit: int,
    seconds: float,
    *,
    entries: int,
) -> tuple[list[Found], Place | None]:
    """What there is among so many of the newest entries, the newest first, and where older ones begin, if
    there may be some. In a transaction."""
    await _settings(connection, seconds, by_words=False)
    values = _values(filters)
    rows = await connection.fetch(query("search_newest"), *values, *before, limit, entries)
    found = [_found(row) for row in rows]
    if len(found) == limit:
        return found, found[-1].place
    last = await connection.fetchrow(
        query("newest_walked"), filters.tenant, filters.owner, *before, entries
    )
    return found, Place(*last) if last is not None else None


def _values(filters: Filters) -> list[object]:
    values = [getattr(filters, name) for name in Filters.__slots__]
    values[0] = filters.scoped
    return values


def _found(row: asyncpg.Record) -> Found:
    return Found(SessionKey(row[0], row[1]), Place(row[3], row[1], row[2]), row[4])


async def names(
    connection: Connection, tenant: str, keys: Collection[SessionKey]
) -> dict[SessionKey, tuple[str, str]]:
    """The ids and titles of a tenant's sessions."""
    rows = await connection.fetch(query("search_sessions"), *_columns(keys), tenant)
    return {SessionKey(r[0], r[1]): (r[2], r[3]) for r in rows}

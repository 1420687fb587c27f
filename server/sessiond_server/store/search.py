"""The search index: entries of messages, how far each session is indexed, and what a search finds."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from sessiond_server.sessions.filters import SessionFilter
from sessiond_server.sessions.passages import ENTRY_VERSION
from sessiond_server.store.database import Connection, known_columns
from sessiond_server.store.filters import add_template, fitting, take_template
from sessiond_server.store.keys import SessionKey
from sessiond_server.store.messages import Marks, StoredMessage
from sessiond_server.store.sql import QUERIES, query


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


def full_document(entry: Entry) -> str:
    """An entry's document with its scope."""
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
        scoped = (entry._replace(document=full_document(entry)) for entry in entries)
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


async def lag(connection: Connection, wanted: SessionFilter, sessions: int) -> Lag:
    """How much of the sessions that fit isn't indexed yet, of so many that it looks at."""
    text, values = fitting("search_lag", wanted, wanted.tenant, sessions, ENTRY_VERSION)
    row = await connection.fetchrow(text, *values)
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


async def family(connection: Connection, wanted: SessionFilter, limit: int) -> list[SessionKey]:
    """Sessions that fit a filter by parent or subtree."""
    text, values = fitting("keys_of_family", wanted, wanted.tenant, limit)
    return [SessionKey(r[0], r[1]) for r in await connection.fetch(text, *values)]


@dataclass(frozen=True, slots=True)
class Filters:
    """What to look for; `None` is any. All but `sessions` are in the order of the statements' parameters."""

    tsquery: str
    rank_tsquery: str
    tenant: str
    owner: str | None
    sources: list[str] | None
    exclude_sources: list[str] | None
    roles: list[int] | None
    start_time: datetime | None
    end_time: datetime | None
    session_keys: list[SessionKey] | None
    include_rewound: bool
    sessions: SessionFilter
    """What else must hold of the sessions, which their entries don't tell."""

    @classmethod
    def of(cls, wanted: SessionFilter, tsquery: str, rank_tsquery: str = "") -> Filters:
        """Everything in the sessions that fit."""
        told = SessionFilter(wanted.tenant)
        return cls(
            tsquery,
            rank_tsquery or tsquery,
            wanted.tenant,
            wanted.owner,
            list(wanted.sources) or None,
            list(wanted.exclude_sources) or None,
            None,
            None,
            None,
            None,
            include_rewound=False,
            sessions=replace(
                wanted,
                owner=told.owner,
                sources=told.sources,
                exclude_sources=told.exclude_sources,
            ),
        )

    @property
    def scoped(self) -> str:
        """The query within the narrowest scopes that are words of the index."""
        scopes = []
        if self.session_keys is not None and len(self.session_keys) <= _SCOPED_SESSIONS:
            scopes.append(" | ".join(scope_of_session(key.key) for key in self.session_keys))
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
_LEAST_OF_SESSION = 100
"""Entries looked at in each session for the newest."""


class Place(NamedTuple):
    """Where an entry stands among all, the newest first."""

    create_time: datetime
    session_key: UUID
    seq: int


FIRST = Place(datetime.max.replace(tzinfo=UTC), UUID(int=2**128 - 1), 2**62)


class Found(NamedTuple):
    """A message that was found."""

    key: SessionKey
    place: Place
    rank: float


@dataclass(frozen=True, slots=True)
class PageOf:
    """Which page: the newest or the best first, behind a rank and a place, and how many."""

    newest_first: bool
    after: tuple[float, Place] | None
    limit: int

    @property
    def older_than(self) -> Place:
        """What all of the page is older than."""
        return self.after[1] if self.after and self.newest_first else FIRST

    @property
    def values(self) -> list[object]:
        rank, place = self.after or (float("inf"), FIRST)
        return [
            self.newest_first,
            0.0 if self.after and self.newest_first else rank,
            *place,
            self.limit,
        ]


class Candidates(NamedTuple):
    """A page of what is found, and how many candidates there are for it."""

    page: list[Found]
    total: int


def _variant(entries: str, *, ordered: bool) -> str:
    order = "ORDER BY e.create_time DESC, e.session_key DESC, e.seq DESC" if ordered else ""
    text = _ENTRIES.replace(":entries", entries).replace(":order\n", f"{order}\n")
    return text.replace(":ordered", "true" if ordered else "false")


_ENTRIES = take_template("search_entries")
add_template("search_all", _variant("search_entry", ordered=False))
for _name, _part in (
    ("search_many", "many_entries"),
    ("search_newest", "newest_entries"),
    ("search_newest_of_sessions", "newest_entries_of_sessions"),
):
    add_template(_name, _variant(QUERIES.pop(_part), ordered=True))


async def _settings(connection: Connection, seconds: float, *, by_words: bool) -> None:
    milliseconds = str(round(seconds * 1000))
    on, off = ("off", "on") if by_words else ("on", "off")
    await connection.execute(query("search_settings"), milliseconds, on, off)


async def find(
    connection: Connection, filters: Filters, page: PageOf, candidates: int, seconds: float
) -> Candidates:
    """A page of what is found, unless there are `candidates` or more: then only that. In a transaction."""
    await _settings(connection, seconds, by_words=True)
    values = _page_values(filters, page, candidates)
    return await _read(connection, "search_all", filters, values)


async def find_many(
    connection: Connection,
    filters: Filters,
    page: PageOf,
    candidates: int,
    seconds: float,
    *,
    entries: int,
) -> Candidates:
    """A page of the newest of what is found, of so many entries at most as come first. In a transaction."""
    await _settings(connection, seconds, by_words=True)
    values = _page_values(filters, page, candidates)
    return await _read(connection, "search_many", filters, [*values, entries])


async def find_newest(
    connection: Connection,
    filters: Filters,
    page: PageOf,
    candidates: int,
    seconds: float,
    *,
    entries: int,
) -> tuple[Candidates, Place | None]:
    """A page of what is found among so many of the newest entries, and where older ones begin if there are
    some. In a transaction."""
    await _settings(connection, seconds, by_words=False)
    values = _page_values(filters, page, candidates)
    before = _before(filters, page)
    keys = filters.session_keys
    if keys is None:
        found = await _read(connection, "search_newest", filters, [*values, entries])
        scope = (query("newest_walked"), filters.tenant, filters.owner)
    else:
        entries = max(entries // len(keys), _LEAST_OF_SESSION)
        buckets = [key.bucket for key in keys]
        values += [entries, buckets]
        found = await _read(connection, "search_newest_of_sessions", filters, values)
        scope = (query("newest_walked_of_sessions"), *_columns(keys))  # type: ignore[assignment]
    last = await connection.fetchrow(*scope, *before, entries)
    if last is None or (
        filters.start_time is not None and last["create_time"] < filters.start_time
    ):
        return found, None
    return found, Place(*last)


def _before(filters: Filters, page: PageOf) -> Place:
    """What all candidates are older than."""
    if filters.end_time is None:
        return page.older_than
    return min(page.older_than, Place(filters.end_time, UUID(int=0), 0))


def _page_values(filters: Filters, page: PageOf, candidates: int) -> list[object]:
    return [*_values(filters), *_before(filters, page), candidates, *page.values]


def _values(filters: Filters) -> list[object]:
    values = {name: getattr(filters, name) for name in Filters.__slots__ if name != "sessions"}
    values["tsquery"] = filters.scoped
    if filters.session_keys is not None:
        values["session_keys"] = [key.key for key in filters.session_keys]
    return list(values.values())


async def _read(
    connection: Connection, name: str, filters: Filters, values: list[object]
) -> Candidates:
    text, parameters = fitting(name, filters.sessions, *values)
    rows = await connection.fetch(text, *parameters)
    found = [
        Found(SessionKey(r[1], r[2]), Place(r[4], r[2], r[3]), r[5])
        for r in rows
        if r[1] is not None
    ]
    return Candidates(found, rows[0][0])


async def sessions_with(
    connection: Connection, filters: Filters, seconds: float, *, entries: int
) -> list[SessionKey] | None:
    """Which sessions have a title or a message that is found; `None` if there are too many: so many entries
    or more. In a transaction, in which nothing is planned for bitmaps any more."""
    await _settings(connection, seconds, by_words=True)
    scope = (filters.scoped, filters.tenant, filters.owner)
    rows = await connection.fetch(query("sessions_with_text"), *scope, entries)
    await _settings(connection, seconds, by_words=False)
    if rows and rows[0]["entries"] >= entries:
        return None
    return [SessionKey(row[0], row[1]) for row in rows]


Spot = tuple[SessionKey, int]
"""A message: its session and its seq."""


async def messages_at(connection: Connection, spots: Sequence[Spot]) -> dict[Spot, StoredMessage]:
    """Messages, as far as they are there and not offloaded."""
    rows = await connection.fetch(query("search_messages_at"), *_spots(spots))
    return {(SessionKey(r[0], r[1]), r[2]): StoredMessage(*r[2:]) for r in rows}


async def marks_at(connection: Connection, spots: Sequence[Spot]) -> dict[SessionKey, Marks]:
    """What hides messages now."""
    found = {key: Marks(set(), {}, {}) for key, _ in spots}
    for bucket, key, seq, kind, summary_seq in await connection.fetch(
        query("search_marks"), *_spots(spots)
    ):
        marks = found[SessionKey(bucket, key)]
        if kind == 2:
            marks.rewound.add(seq)
        else:
            marks.compacted_by[seq] = summary_seq
    for marks in found.values():
        for seq in marks.rewound:  # no summary was ever made of what was rewound by then
            marks.compacted_by.pop(seq, None)
    return found


def _spots(spots: Sequence[Spot]) -> tuple[list[int], list[UUID], list[int]]:
    return (
        [key.bucket for key, _ in spots],
        [key.key for key, _ in spots],
        [seq for _, seq in spots],
    )


async def names(
    connection: Connection, tenant: str, keys: Collection[SessionKey]
) -> dict[SessionKey, tuple[str, str]]:
    """The ids and titles of a tenant's sessions."""
    rows = await connection.fetch(query("search_sessions"), *_columns(keys), tenant)
    return {SessionKey(r[0], r[1]): (r[2], r[3]) for r in rows}

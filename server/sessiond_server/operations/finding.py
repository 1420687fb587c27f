"""Finding sessions: by what a person typed, in lists, and the next title of a series."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import asyncpg

from sessiond_server.errors import SearchTooCostly, SessionAmbiguous, SessionNotFound
from sessiond_server.sessions import titles
from sessiond_server.sessions.filters import SessionFilter
from sessiond_server.sessions.queries import Query
from sessiond_server.store import lists, reminders, search, sessions
from sessiond_server.store.database import Connection, Database, SnapshotNeeded
from sessiond_server.store.keys import SessionKey, session_key
from sessiond_server.store.lists import Having, ListPlace, Order
from sessiond_server.store.sessions import SessionRow

_CANDIDATES = 20
_ENTRIES = 5000
"""Entries with a text from which the sessions to list are taken; of more each session is asked."""
_FULL_BYTES = 16 * 2**20
"""What a page's sessions may take in memory in full."""


async def resolve(
    connection: Connection, tenant: str, query: str, owner: str, *, exact_title: bool, full: bool
) -> SessionRow:
    """The session with this id, else with an id that begins so, else of this title: the newest of its
    series, or the one that has exactly it."""
    exact = await sessions.read(connection, session_key(tenant, query), full=full)
    if exact is not None and owner in ("", exact.owner):
        return exact
    ids = await sessions.by_prefix(connection, tenant, query, owner)
    if not ids:
        ids = await _by_title(connection, tenant, titles.clean(query), owner, exact_title)
    if not ids:
        raise SessionNotFound(query)
    if len(ids) > 1:
        raise SessionAmbiguous(query, ids[:_CANDIDATES], more=len(ids) > _CANDIDATES)
    row = await sessions.read(connection, session_key(tenant, ids[0]), full=full)
    if row is None:
        raise SessionNotFound(query)
    return row


class Batch(NamedTuple):
    """Sessions by their ids, the ids of which there is none, and those that would take too much memory."""

    rows: dict[str, SessionRow]
    missing: list[str]
    remaining: list[str]


async def batch(connection: Connection, keys: Mapping[str, SessionKey], *, full: bool) -> Batch:
    """Several sessions at once."""
    wanted = list(keys.values())
    read = await sessions.within(connection, wanted, _FULL_BYTES) if full else wanted
    there = {row.session_id: row for row in await sessions.read_all(connection, read, full=full)}
    ids = list(keys)[: len(read)]
    return Batch(
        {id: there[id] for id in ids if id in there},
        [id for id in ids if id not in there],
        list(keys)[len(read) :],
    )


async def _by_title(
    connection: Connection, tenant: str, title: str, owner: str, exact: bool
) -> list[str]:
    name, number = titles.series(title)
    if exact or number > 1:
        return await sessions.by_title(connection, tenant, name, number, owner)
    return await sessions.newest_by_title(connection, tenant, name, owner)


@dataclass(slots=True)
class Preview:
    """What a list shows of a session besides its facts: the beginnings of the messages among which its first
    and last texts are, each the best one first, how many children it has, and what it waits for."""

    opening: list[bytes]
    latest: list[bytes]
    children: int
    reminder_time: datetime | None = None
    """When its soonest pending reminder is due."""


@dataclass(frozen=True, slots=True)
class TextFilter:
    """What listed sessions have in their title or in a message, looked for in so many seconds."""

    query: Query
    seconds: float


@dataclass(frozen=True, slots=True)
class Listing:
    """What to list, in which order, from which place on, and whether in full. `owner` is whose children alone
    are counted."""

    filter: SessionFilter
    order: Order
    after: ListPlace
    limit: int
    owner: str | None
    text: TextFilter | None
    with_total: bool
    full: bool


@dataclass(frozen=True, slots=True)
class Listed:
    """A page of sessions, each with its place, whether there are more, and how many there are in all, and
    whether these may not be all."""

    rows: list[tuple[SessionRow, Preview, ListPlace]]
    more: bool
    total: tuple[int, bool]


async def list_page(database: Database, wanted: Listing, silent: sessions.Silent) -> Listed:
    """A page. Texts of sessions with offloaded messages are read from one snapshot, after all else."""
    async with database.connection() as connection:
        found = await _found(connection, wanted)
        rows = [row for row, _, _ in found.rows]
        texts: list[sessions.Beginning] | None
        try:
            texts = await sessions.previews(connection, rows, silent)
        except SnapshotNeeded:
            texts = None
    if texts is None:
        texts = await database.read_offloaded(
            lambda offloaded: sessions.previews(offloaded, rows, silent)
        )
    for text in texts:
        preview = found.rows[text.place - 1][1]
        if text.opening:
            preview.opening.insert(0, text.payload)
        else:
            preview.latest.append(text.payload)
    return found


async def _found(connection: Connection, wanted: Listing) -> Listed:
    """A page without texts. One of sessions in full is cut where these take more than `_FULL_BYTES`."""
    if wanted.text is None:
        places, total = await _places(connection, wanted, None)
    else:
        try:
            async with connection.transaction():
                having = await _having(connection, wanted.filter, wanted.text)
                places, total = await _places(connection, wanted, having)
        except asyncpg.QueryCanceledError as error:
            raise SearchTooCostly(wanted.text.seconds) from error
    by_key = dict(places[: wanted.limit])
    keys = list(by_key)
    if wanted.full:
        keys = await sessions.within(connection, keys, _FULL_BYTES)
    rows = await sessions.read_all(connection, keys, full=wanted.full)
    previews = await _facts(connection, rows, wanted)
    shown = zip(rows, previews, strict=True)
    return Listed(
        [(row, preview, by_key[row.key]) for row, preview in shown],
        len(places) > len(keys),
        total,
    )


async def _places(
    connection: Connection, wanted: Listing, having: Having
) -> tuple[list[tuple[SessionKey, ListPlace]], tuple[int, bool]]:
    places = await lists.list_page(
        connection, wanted.filter, wanted.order, wanted.after, wanted.limit + 1, having
    )
    if not wanted.with_total:
        return places, (0, False)
    return places, await lists.count(connection, wanted.filter, having)


async def _facts(connection: Connection, rows: list[SessionRow], wanted: Listing) -> list[Preview]:
    """What lists say of sessions besides their rows, as yet without texts."""
    ids = [row.session_id for row in rows]
    children = await lists.child_counts(connection, wanted.filter.tenant, wanted.owner, ids)
    previews = [Preview([], [], children.get(id, 0)) for id in ids]
    times = await reminders.pending_times(connection, rows)
    for row, preview in zip(rows, previews, strict=True):
        preview.reminder_time = times.get(row.key)
    return previews


async def _having(
    connection: Connection, wanted: SessionFilter, text: TextFilter
) -> list[SessionKey] | str:
    """The sessions with a text, or, where these are many, what finds it in each."""
    found = await search.sessions_with(
        connection,
        search.Filters.of(SessionFilter(wanted.tenant, wanted.owner), text.query.tsquery),
        text.seconds,
        entries=_ENTRIES,
    )
    return text.query.tsquery if found is None else found

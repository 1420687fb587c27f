"""Finding sessions: by what a person typed, in lists, and the next title of a lineage."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import asyncpg

from sessiond_server.errors import SearchTooCostly, SessionAmbiguous, SessionNotFound
from sessiond_server.sessions import titles
from sessiond_server.sessions.queries import Query
from sessiond_server.store import recalls, search, sessions
from sessiond_server.store.database import Connection
from sessiond_server.store.keys import SessionKey, session_key
from sessiond_server.store.sessions import ListFilters, ListPlace, Order, SessionRow

_CANDIDATES = 20
_ENTRIES = 5000
"""Entries with a text from which the sessions to list are taken; of more each session is asked."""
_DETAILS_BYTES = 16 * 2**20
"""What the prompts and the rest of a page's sessions may take in memory."""


async def resolve(connection: Connection, tenant: str, query: str, owner: str) -> SessionRow:
    """The session with this id, else with an id that begins so, else the newest of this title."""
    exact = await sessions.read(connection, session_key(tenant, query))
    if exact is not None and owner in ("", exact.owner):
        return exact
    ids = await sessions.by_prefix(connection, tenant, query, owner) if query.isascii() else []
    if not ids:
        title = titles.clean(query)
        ids = await sessions.by_title(connection, tenant, title, *titles.lineage(title), owner)
    if not ids:
        raise SessionNotFound(query)
    if len(ids) > 1:
        raise SessionAmbiguous(query, ids[:_CANDIDATES], more=len(ids) > _CANDIDATES)
    row = await sessions.read(connection, session_key(tenant, ids[0]))
    if row is None:
        raise SessionNotFound(query)
    return row


async def next_title(connection: Connection, tenant: str, title: str, owner: str) -> str:
    """The title after the newest of a lineage. A long name is shortened, and its lineage is then that of
    the shortened one."""
    name, _ = titles.lineage(title)
    number = await sessions.newest_number(connection, tenant, owner, name)
    while True:
        proposed = titles.numbered(name, number + 1)
        shortened, _ = titles.lineage(proposed)
        if shortened == name:
            return proposed
        newest = await sessions.newest_number(connection, tenant, owner, shortened)
        if newest <= number:
            return proposed
        number = newest


@dataclass(slots=True)
class Preview:
    """What a list shows of a session besides its facts: the beginnings of the messages among which its first
    and last texts are, each the best one first, and what it waits for."""

    opening: list[bytes]
    latest: list[bytes]
    recall_time: datetime | None = None
    """When its soonest pending recall is due."""


@dataclass(frozen=True, slots=True)
class TextFilter:
    """What listed sessions have in their title or in a message, looked for in so many seconds."""

    query: Query
    seconds: float


async def list_page(
    connection: Connection,
    filters: ListFilters,
    order: Order,
    after: ListPlace,
    limit: int,
    text: TextFilter | None = None,
) -> tuple[list[tuple[SessionRow, Preview, ListPlace]], bool]:
    """A page of sessions, each with its place, and whether there are more. It is cut where the sessions'
    details take more than `_DETAILS_BYTES`."""
    if text is None:
        places = await sessions.list_page(connection, filters, order, after, limit + 1)
    else:
        try:
            async with connection.transaction():
                having = await _having(connection, filters, text)
                places = await sessions.list_page(
                    connection, filters, order, after, limit + 1, having
                )
        except asyncpg.QueryCanceledError as error:
            raise SearchTooCostly(text.seconds) from error
    by_key = dict(places[:limit])
    keys = await sessions.within(connection, list(by_key), _DETAILS_BYTES)
    more = len(places) > len(keys)
    rows = await sessions.read_all(connection, keys)
    previews = [Preview([], []) for _ in rows]
    for place, opening, beginning in await sessions.previews(connection, rows):
        preview = previews[place - 1]
        if opening:
            preview.opening.insert(0, beginning)
        else:
            preview.latest.append(beginning)
    times = await recalls.pending_times(connection, rows)
    for row, preview in zip(rows, previews, strict=True):
        preview.recall_time = times.get(row.key)
    return [
        (row, preview, by_key[row.key]) for row, preview in zip(rows, previews, strict=True)
    ], more


async def _having(
    connection: Connection, filters: ListFilters, text: TextFilter
) -> list[SessionKey] | str:
    """The sessions with a text, or, where these are many, what finds it in each."""
    found = await search.sessions_with(
        connection,
        search.Filters.of(filters.tenant, filters.owner, text.query.tsquery),
        text.seconds,
        entries=_ENTRIES,
    )
    return text.query.tsquery if found is None else found

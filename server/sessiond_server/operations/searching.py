"""Finding messages: which, in what order, and what is shown of each."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import asyncpg

from sessiond_server.errors import SearchTooCostly, SessionNotFound, invalid
from sessiond_server.operations import reading
from sessiond_server.operations.indexing import Read
from sessiond_server.operations.reading import TRANSCRIPT, Reading
from sessiond_server.sessions import passages
from sessiond_server.sessions.filters import SessionFilter
from sessiond_server.sessions.passages import Searched, Snippet
from sessiond_server.sessions.queries import Query
from sessiond_server.store import messages, search
from sessiond_server.store.database import Connection, Database, SnapshotNeeded
from sessiond_server.store.keys import SessionKey
from sessiond_server.store.messages import Filters as MessageFilters
from sessiond_server.store.messages import Marks, StoredMessage
from sessiond_server.store.search import Filters, Found, PageOf, Place, Spot

RANKED = 2000
"""Messages that are ranked at most; of more, the newest are."""
_WALKED = 50_000
"""Entries looked at for the newest, when more than these are found."""
_FAMILY = 10_000
"""Sessions of a parent or a subtree at most."""
_REINDEXED = 1000
"""Sessions marked in one transaction."""


@dataclass(frozen=True, slots=True)
class Search:
    """What to look for. See `SearchMessagesRequest`."""

    query: Query
    sessions: SessionFilter
    session_id: str
    """The session to search in; or none."""
    key: SessionKey | None
    filters: Filters
    """Without the sessions of a family, which are looked up first."""
    page: PageOf
    around: int
    context: tuple[int, int]
    timeout: float


@dataclass(frozen=True, slots=True)
class Hit:
    """A message that was found, with what is shown of it."""

    session_id: str
    title: str
    found: Found
    message: StoredMessage
    offloaded: bool
    searched: Searched
    marks: Marks
    snippet: Snippet
    before: list[StoredMessage]
    after: list[StoredMessage]


@dataclass(frozen=True, slots=True)
class Hits:
    """A page of hits."""

    hits: list[Hit]
    following: tuple[float, Place] | None
    only_newest: bool
    indexed_through: int
    complete_time: datetime | None


async def search_messages(database: Database, wanted: Search, read: Read) -> Hits:
    """A page of what is found."""
    async with database.connection() as connection:
        through = 0
        if wanted.key is not None:
            indexed = await search.indexed_through(connection, wanted.key)
            if indexed is None:
                raise SessionNotFound(wanted.session_id)
            through = indexed
        complete = await search.complete_time(connection)
        filters = await _within(connection, wanted)
        if filters.session_keys == []:
            return Hits([], None, False, through, complete)
        try:
            page, following, cut = await _page(connection, replace(wanted, filters=filters))
        except asyncpg.QueryCanceledError as error:
            raise SearchTooCostly(wanted.timeout) from error
        hits: list[Hit] | None
        try:
            hits = await _shown(connection, wanted, page, read)
        except SnapshotNeeded:
            hits = None
    if hits is None:
        hits = await database.read_offloaded(
            lambda offloaded: _shown(offloaded, wanted, page, read)
        )
    return Hits(hits, following, cut, through, complete)


async def _within(connection: Connection, wanted: Search) -> Filters:
    """The filters with the sessions that are meant."""
    if wanted.key is not None:
        return replace(wanted.filters, session_keys=[wanted.key])
    sessions = wanted.sessions
    if not (sessions.parent_id or sessions.subtree_of):
        return wanted.filters
    keys = await search.family(connection, sessions, _FAMILY + 1)
    if len(keys) > _FAMILY:
        field = "subtree_of" if sessions.subtree_of else "parent_id"
        raise invalid(f"filter.{field}", f"has more than {_FAMILY} sessions")
    everything = SessionFilter(sessions.tenant)
    return replace(wanted.filters, session_keys=keys, sessions=everything)


async def _page(
    connection: Connection, wanted: Search
) -> tuple[list[Found], tuple[float, Place] | None, bool]:
    """The messages of a page in order, where the next one begins, and whether only the newest of all that
    there is were ranked."""
    size = wanted.page.limit
    asked = replace(wanted.page, limit=size + 1)
    async with connection.transaction():
        found, count = await search.find(
            connection, wanted.filters, asked, RANKED + 1, wanted.timeout
        )
        if count <= RANKED:
            return found[:size], _last(found, size), False
        most = size + 1 if asked.newest_first else RANKED
        (found, count), older = await search.find_newest(
            connection, wanted.filters, asked, most, wanted.timeout, entries=_WALKED
        )
        if count <= size and not asked.newest_first:
            found, count = await search.find_many(
                connection, wanted.filters, asked, RANKED, wanted.timeout, entries=_WALKED
            )
    if not asked.newest_first:
        return found[:size], _last(found, size), True
    # All is known down to where the walk ended, or, if that is newer, the last one that was looked for.
    ends = [older] if older is not None else []
    if count == most:
        ends.append(found[-1].place)
    if not ends:
        return found, None, True
    found = [f for f in found if f.place >= max(ends)]
    if len(found) > size:
        return found[:size], _last(found, size), True
    return found, (0.0, max(ends)), True


def _last(found: Sequence[Found], size: int) -> tuple[float, Place] | None:
    """Where a page ends behind which there is more."""
    return (found[size - 1].rank, found[size - 1].place) if len(found) > size else None


async def _shown(
    connection: Connection, wanted: Search, page: Sequence[Found], read: Read
) -> list[Hit]:
    """The hits of what was found and is still there."""
    names = await search.names(connection, wanted.sessions.tenant, {found.key for found in page})
    spots = [(found.key, found.place.seq) for found in page if found.key in names]
    hot = await search.messages_at(connection, spots)
    stored = dict(hot)
    for key, seqs in _missing(spots, hot).items():
        for message in await _stored(connection, key, seqs):
            stored[key, message.seq] = message
    marks = await search.marks_at(connection, spots)
    hits = []
    for found in page:
        spot = (found.key, found.place.seq)
        if spot in stored:
            session_id, title = names[found.key]
            searched = read(stored[spot].payload)
            hits.append(
                Hit(
                    session_id,
                    title,
                    found,
                    stored[spot],
                    spot not in hot,
                    searched,
                    marks[found.key],
                    passages.snippet(searched.passages, wanted.query, wanted.around),
                    *await _context(connection, wanted, session_id, *spot),
                )
            )
    return hits


def _missing(spots: Sequence[Spot], stored: Collection[Spot]) -> dict[SessionKey, list[int]]:
    missing: dict[SessionKey, list[int]] = {}
    for key, seq in spots:
        if (key, seq) not in stored:
            missing.setdefault(key, []).append(seq)
    return missing


async def _stored(
    connection: Connection, key: SessionKey, seqs: Sequence[int]
) -> list[StoredMessage]:
    """Messages that may be offloaded."""
    page = await messages.page(
        connection,
        key,
        [(seq, seq) for seq in sorted(seqs)],
        MessageFilters(),
        limit=len(seqs),
        max_bytes=2**62,
        descending=False,
    )
    return page.messages


async def _context(
    connection: Connection, wanted: Search, session_id: str, key: SessionKey, seq: int
) -> tuple[list[StoredMessage], list[StoredMessage]]:
    """The messages of the transcript before and after one."""
    count_before, count_after = wanted.context
    around = Reading(
        session_id=session_id,
        key=key,
        view=TRANSCRIPT,
        filters=MessageFilters(transcript=True),
        descending=True,
        position=seq - 1,
        limit=count_before,
        max_bytes=2**62,
    )
    before = (await reading.page(connection, around)).messages if count_before else []
    around = replace(around, descending=False, position=seq + 1, limit=count_after)
    after = (await reading.page(connection, around)).messages if count_after else []
    return before[::-1], after


async def index_again(
    database: Database,
    tenant: str,
    keys: Sequence[SessionKey] | None,
    wake: Callable[[Collection[SessionKey]], None],
) -> int:
    """Have some sessions of a tenant, or all, indexed anew; how many there are."""
    count, after = 0, ""
    while True:
        if keys is None:
            async with database.connection() as connection:
                page, after = await search.sessions_after(connection, tenant, after, _REINDEXED)
        else:
            page = list(keys)

        async def mark(connection: Connection, page: Sequence[SessionKey] = page) -> int:
            there = await search.names(connection, tenant, page)
            await search.index_again(connection, list(there))
            return len(there)

        count += await database.transact(mark)
        wake(page)
        if keys is not None or len(page) < _REINDEXED:
            return count

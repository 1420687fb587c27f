"""Streams of sessions: what they read from the store, and how it is encoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from sessiond.v1 import feed_service_pb2 as rpc
from sessiond_server.errors import PageTokenInvalid, ResumeTokenInvalid
from sessiond_server.feed.session_stream import Listed, Standing
from sessiond_server.feed.session_tails import Entry, Page
from sessiond_server.rpc import page_tokens
from sessiond_server.rpc.messages_out import as_field
from sessiond_server.rpc.sessions_io import session_out
from sessiond_server.rpc.times import timestamp
from sessiond_server.sessions.session_filters import SessionFacts
from sessiond_server.store import lists, sessions, settling
from sessiond_server.store.database import Connection, Database
from sessiond_server.store.keys import session_key
from sessiond_server.store.lists import ListFilters, ListPlace, Scope
from sessiond_server.store.sessions import SessionRow
from sessiond_server.store.settling import Change, State

_CHANGES = rpc.WatchSessionsResponse.DESCRIPTOR.fields_by_name["changes"].number
_FIRST_PLACE = ListPlace(True, datetime.max.replace(tzinfo=UTC), UUID(int=2**128 - 1))
_PAGE_DETAILS = 16 * 2**20
"""What the prompts and the rest of a page's sessions may take in memory."""
_STATES = [1, 2, 3]


class SessionSource:
    """The store as streams of sessions see it: each page is read from one snapshot."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def history(self) -> State:
        async with self._database.connection() as connection:
            return await settling.state(connection)

    async def state(self) -> tuple[int, int]:
        found = await self.history()
        return found.position, found.time

    async def last_position(self, tenant: str, owner: str | None) -> int:
        async with self._database.connection() as connection:
            return await settling.last_position(connection, tenant, owner)

    async def advanced(self, positions: Mapping[str, int]) -> list[str]:
        async with self._database.connection() as connection:
            return await settling.tenants_with_changes(connection, positions)

    async def changes(self, tenant: str, position: int) -> Page:
        """All that changed in a tenant behind a position."""
        async with self._database.snapshot() as connection:
            found = await settling.changes(connection, tenant, None, position)
            return await _page(connection, found, found)

    async def changes_of(self, wanted: SessionFacts, position: int) -> Page:
        async with self._database.snapshot() as connection:
            found = await settling.changes(connection, wanted.tenant, wanted.owner, position)
            return await _page(connection, found, [it for it in found if wanted.fits(it)])

    async def of_subtree(self, wanted: SessionFacts, entries: Sequence[Entry]) -> set[UUID]:
        async with self._database.connection() as connection:
            return await settling.of_subtree(
                connection,
                wanted.tenant,
                wanted.subtree_of,
                [(it.facts.parent_id, it.facts.incarnation) for it in entries],
            )

    async def list(
        self, wanted: SessionFacts, position: int, place: ListPlace | None
    ) -> Listed[ListPlace]:
        root = session_key(wanted.tenant, wanted.subtree_of) if wanted.subtree_of else None
        async with self._database.snapshot() as connection:
            found = await lists.list_page(
                connection,
                _list_filters(wanted, position),
                "listed_time",
                place or _FIRST_PLACE,
                lists.MOST_ROWS,
                Scope(root),
            )
            places = dict(found)
            keys = await sessions.within(connection, list(places), _PAGE_DETAILS)
            rows = await sessions.read_all(connection, keys)
        more = len(found) == lists.MOST_ROWS or len(keys) < len(found)
        fitting = [(_session(row), places[row.key]) for row in rows if wanted.fits(row)]
        return Listed(fitting, places[keys[-1]] if more else None)


def _list_filters(wanted: SessionFacts, position: int) -> ListFilters:
    agents = sorted(wanted.agents)
    return ListFilters(
        tenant=wanted.tenant,
        owner=wanted.owner,
        sources=sorted(wanted.sources) or None,
        exclude_sources=sorted(wanted.exclude_sources) or None,
        agent=agents[0] if len(agents) == 1 else None,
        parent_id=wanted.parent_id or None,
        subtree_of=wanted.subtree_of or None,
        states=_STATES,
        labels_json=None,
        idle_since=None,
        include_children=wanted.with_subagents,
        settled_until=position,
    )


async def _page(connection: Connection, found: list[Change], fitting: list[Change]) -> Page:
    """What fits, with the sessions as they are in the snapshot; as much of it as one page takes."""
    alive = [it.key for it in fitting if it.delete_time is None]
    kept = await sessions.within(connection, alive, _PAGE_DETAILS)
    rows = {row.key: row for row in await sessions.read_all(connection, kept)}
    entries: list[Entry] = []
    for change in fitting:
        if change.delete_time is not None:
            entries.append(Entry(change, _tombstone(change)))
        elif change.key in rows:
            entries.append(Entry(change, _session(rows[change.key])))
        else:
            return Page(entries, entries[-1].facts.position, more=True)
    return Page(entries, found[-1].position if found else 0, len(found) >= settling.PAGE)


def _session(row: SessionRow) -> bytes:
    change = rpc.SessionChange(session=session_out(row, full=False))
    return as_field(_CHANGES, change.SerializeToString())


def _tombstone(change: Change) -> bytes:
    assert change.delete_time is not None
    gone = rpc.SessionTombstone(id=change.session_id, delete_time=timestamp(change.delete_time))
    return as_field(_CHANGES, rpc.SessionChange(deleted=gone).SerializeToString())


@dataclass(frozen=True, slots=True)
class SessionFrames:
    """The frames of one stream. Its tokens are bound to what it follows, and hold no position but of sessions
    that it follows: positions are times, at which something happened."""

    history: UUID
    bound_to: bytes

    def frame(
        self, bodies: list[bytes], standing: Standing[ListPlace], *, caught_up: bool
    ) -> bytes:
        rest = rpc.WatchSessionsResponse(
            resume_token=token(standing, self.history, self.bound_to), caught_up=caught_up
        )
        return b"".join([*bodies, rest.SerializeToString()])

    def goodbye(self) -> bytes:
        return rpc.WatchSessionsResponse(goodbye=rpc.Goodbye()).SerializeToString()


def token(standing: Standing[ListPlace], history: UUID, bound_to: bytes) -> str:
    place = standing.place
    return page_tokens.encode(
        [
            history.hex,
            standing.position,
            standing.time,
            standing.listing,
            "" if place is None else place.time.isoformat(),
            "" if place is None else str(place.session_key),
            place is not None and place.pinned,
        ],
        bound_to,
    )


def resumed(text: str, bound_to: bytes) -> tuple[UUID, Standing[ListPlace]]:
    """The history of a token, and how far it says that its stream had come. Raises `ResumeTokenInvalid`."""
    try:
        found = page_tokens.decode(text, bound_to, str, int, int, bool, str, str, bool)
        history, position, time, listing, listed_time, key, pinned = found
        place = None
        if listed_time:
            moment = datetime.fromisoformat(str(listed_time))
            if moment.tzinfo != UTC:
                raise ResumeTokenInvalid("resume_token")
            place = ListPlace(bool(pinned), moment, UUID(str(key)))
        return UUID(str(history)), Standing(
            int(position or 0), int(time or 0), place, bool(listing)
        )
    except (PageTokenInvalid, ValueError) as error:
        raise ResumeTokenInvalid("resume_token") from error

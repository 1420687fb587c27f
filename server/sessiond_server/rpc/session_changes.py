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
from sessiond_server.rpc import feed_frames, page_tokens
from sessiond_server.rpc.guards_io import version_out
from sessiond_server.rpc.messages_out import as_field
from sessiond_server.rpc.sessions_io import session_out
from sessiond_server.rpc.times import timestamp
from sessiond_server.sessions.filters import SessionFilter
from sessiond_server.store import lists, sessions, settling
from sessiond_server.store.database import Connection, Database
from sessiond_server.store.lists import ListPlace
from sessiond_server.store.sessions import SessionRow
from sessiond_server.store.settling import Change, State

_CHANGES = rpc.WatchSessionsResponse.DESCRIPTOR.fields_by_name["changes"].number
_FIRST_PLACE = ListPlace(True, datetime.max.replace(tzinfo=UTC), UUID(int=2**128 - 1))


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

    async def changes_of(self, wanted: SessionFilter, position: int) -> Page:
        async with self._database.snapshot() as connection:
            found = await settling.changes(connection, wanted.tenant, wanted.owner, position)
            return await _page(connection, found, [it for it in found if wanted.may_fit(it)])

    async def of_subtree(self, wanted: SessionFilter, entries: Sequence[Entry]) -> set[UUID]:
        async with self._database.connection() as connection:
            return await settling.of_subtree(
                connection,
                wanted.tenant,
                wanted.subtree_of,
                [it.facts for it in entries],
            )

    async def list(
        self, wanted: SessionFilter, position: int, place: ListPlace | None
    ) -> Listed[ListPlace]:
        async with self._database.snapshot() as connection:
            found = await lists.list_page(
                connection,
                wanted,
                "listed_time",
                place or _FIRST_PLACE,
                lists.MOST_ROWS,
                None,
                settled_until=position,
            )
            places = dict(found)
            rows = await sessions.read_all(connection, list(places))
        more = len(found) == lists.MOST_ROWS
        return Listed(
            [(_session(row), places[row.key]) for row in rows], found[-1][1] if more else None
        )


async def _page(connection: Connection, found: list[Change], fitting: list[Change]) -> Page:
    """What fits, with the sessions as they are in the snapshot."""
    alive = [it.key for it in fitting if it.delete_time is None]
    rows = {row.key: row for row in await sessions.read_all(connection, alive)}
    entries = [
        Entry(it, _tombstone(it) if it.delete_time is not None else _session(rows[it.key]))
        for it in fitting
    ]
    return Page(entries, found[-1].position if found else 0, len(found) >= settling.PAGE)


def _session(row: SessionRow) -> bytes:
    change = rpc.SessionChange(session=session_out(row), version=version_out(row.version))
    return as_field(_CHANGES, change.SerializeToString())


def _tombstone(change: Change) -> bytes:
    assert change.delete_time is not None
    gone = rpc.SessionTombstone(
        id=change.session_id,
        delete_time=timestamp(change.delete_time),
        incarnation=str(change.incarnation),
    )
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
        return rpc.WatchSessionsResponse(goodbye=feed_frames.stopping()).SerializeToString()


def goodbye_of_key() -> bytes:
    """The last frame of a stream whose API key isn't good any more."""
    return rpc.WatchSessionsResponse(goodbye=feed_frames.REVOKED).SerializeToString()


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

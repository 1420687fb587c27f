"""Exporting sessions: which ones, and what each is when its turn comes."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from sessiond_server.errors import SessionNotFound
from sessiond_server.sessions.filters import SessionFilter
from sessiond_server.sessions.setups import Setup
from sessiond_server.sessions.transfers import Kept, Reminder, Turns, TurnsPlace
from sessiond_server.store import heads, journal, sessions, setups, transfers
from sessiond_server.store.database import Connection, Database
from sessiond_server.store.keys import session_key
from sessiond_server.store.sessions import SessionRow
from sessiond_server.store.transfers import Records


@dataclass(frozen=True, slots=True)
class Selection:
    """Which sessions to export, of these ids or of any. To a caller that is bound to an owner, others aren't
    there."""

    filter: SessionFilter
    bound_to: str | None
    ids: list[str] | None
    continuations: bool


async def select(database: Database, wanted: Selection, after: TurnsPlace | None) -> Turns:
    """The sessions, behind a place to which an export has come. Raises `SessionNotFound` at the beginning."""
    async with database.connection() as connection:
        ids = wanted.ids
        if ids is not None:
            if after is None:
                await _check_there(connection, wanted, ids)
            if wanted.continuations:
                ids = await transfers.continuations(connection, wanted.filter.tenant, ids)
        place = None if after is None else after[:2]
        found = await transfers.selection(connection, wanted.filter, ids, place)
    return Turns(found, after)


async def _check_there(connection: Connection, wanted: Selection, ids: Sequence[str]) -> None:
    seen = SessionFilter(wanted.filter.tenant, wanted.bound_to)
    found = await transfers.selection(connection, seen, ids)
    there = {it.session_id for it in found}
    for session_id in ids:
        if session_id not in there:
            raise SessionNotFound(session_id)


class Exported(NamedTuple):
    """A session as it stood when it was looked at: what can change later, in as little memory as may be. The
    rest is read in pages."""

    row: SessionRow
    next_change: int
    records: Records
    kept: list[Kept]
    reminders: list[Reminder]
    """Without their details, which never change."""
    seen: array[int]
    """The request ids that it had seen; see `transfers.seen_marks`."""
    next_seq: int
    first_setup: Setup
    """What it ran with at its first message; its row says what it runs with now."""
    setup_places: list[int]
    """From which seqs on it ran with something else."""


async def look(database: Database, wanted: Selection, session_id: str) -> Exported | None:
    """A session that was selected; `None` if it is gone, or doesn't fit any more: its id may be that of
    another one. What comes from which session isn't looked at again."""
    key = session_key(wanted.filter.tenant, session_id)
    still = replace(wanted.filter, subtree_of="")
    async with database.snapshot() as connection:
        row = await sessions.read(connection, key, full=True)
        head = await heads.read(connection, key)
        if row is None or head is None or not await transfers.fits(connection, still, key):
            return None
        return Exported(
            row,
            head.next_change,
            await transfers.records(connection, key),
            await transfers.kept(connection, key),
            await transfers.reminders(connection, key),
            await transfers.seen_marks(connection, key),
            (await journal.total(connection, key)).next_seq,
            await setups.as_of(connection, key, row.first_seq),
            await setups.places(connection, key, row.first_seq),
        )

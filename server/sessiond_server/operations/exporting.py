"""Exporting sessions: which ones, and what each is when its turn comes."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sessiond_server.errors import SessionNotFound
from sessiond_server.sessions.setups import Setup
from sessiond_server.sessions.transfers import Kept, Reminder, parents_first
from sessiond_server.store import heads, journal, sessions, setups, transfers
from sessiond_server.store.database import Connection, Database
from sessiond_server.store.keys import session_key
from sessiond_server.store.sessions import SessionRow
from sessiond_server.store.transfers import Records


@dataclass(frozen=True, slots=True)
class Selection:
    """Which sessions to export; `None` is any. To a caller that is bound to an owner, others aren't there."""

    tenant: str
    bound_to: str | None
    ids: list[str] | None
    owner: str | None
    sources: list[str] | None
    subtree_of: str | None
    continuations: bool

    def takes(self, row: SessionRow) -> bool:
        """Whether a session is wanted: its id may have become that of another one since."""
        return (
            self.bound_to in (None, row.owner)
            and self.owner in (None, row.owner)
            and (self.sources is None or row.source in self.sources)
        )


async def select(database: Database, wanted: Selection) -> list[str]:
    """The ids, parents first. Raises `SessionNotFound`."""
    async with database.connection() as connection:
        ids = wanted.ids
        if ids is not None:
            await _check_there(connection, wanted, ids)
            if wanted.continuations:
                ids = await transfers.continuations(connection, wanted.tenant, ids)
        if wanted.subtree_of is not None:
            await _check_there(connection, wanted, [wanted.subtree_of])
            tree = await transfers.subtree(connection, wanted.tenant, wanted.subtree_of)
            ids = tree if ids is None else sorted(set(ids) & set(tree))
        return parents_first(
            await transfers.selection(connection, wanted.tenant, ids, wanted.owner, wanted.sources)
        )


async def _check_there(connection: Connection, wanted: Selection, ids: Sequence[str]) -> None:
    found = await transfers.selection(connection, wanted.tenant, ids, wanted.bound_to, None)
    there = {row[0] for row in found}
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
    """A session that was selected; `None` if it is gone, or another one that isn't wanted."""
    key = session_key(wanted.tenant, session_id)
    async with database.snapshot() as connection:
        row = await sessions.read(connection, key, full=True)
        head = await heads.read(connection, key)
        if row is None or head is None or not wanted.takes(row):
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

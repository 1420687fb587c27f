"""The positions of changed sessions: giving them, and reading what changed behind one.

Whatever changes a session marks its head as unsettled, in its transaction. Positions are given after the
commit, by the settling job. They grow like the clock, in microseconds, and are seen in their order.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sessiond_server.store.database import Connection
from sessiond_server.store.keys import SessionKey
from sessiond_server.store.sql import query

BATCH = 500
"""How many sessions, and deletions, one statement settles at most: the limit in its text."""
PAGE = 250
"""How many changed sessions one statement reads at most: the limit in its text."""
_START = SessionKey(-1, UUID(int=0))


class Unsettled(NamedTuple):
    """A session that changed, the version of its head as it was seen, and whether it was given a position."""

    key: SessionKey
    version: str
    settled: bool


class Settled(NamedTuple):
    """What one statement came to: the sessions it looked at, and how many deletions it settled."""

    sessions: list[Unsettled]
    deletions: int

    @property
    def more(self) -> bool:
        return len(self.sessions) >= BATCH or self.deletions >= BATCH

    @property
    def last(self) -> SessionKey:
        """Where the next statement begins."""
        return self.sessions[-1].key if self.sessions else _START

    @property
    def changes(self) -> int:
        return self.deletions + sum(it.settled for it in self.sessions)


async def settle(connection: Connection, after: SessionKey, rest: int) -> Settled:
    """Give positions to sessions that changed and weren't settled in the last `rest` microseconds."""
    rows = await connection.fetch(query("give_positions"), *after, rest)
    return Settled(
        [
            Unsettled(SessionKey(row["bucket"], row["session_key"]), row["version"], row["settled"])
            for row in rows
            if row["bucket"] is not None
        ],
        rows[0]["stones"] if rows else 0,
    )


async def clear(connection: Connection, settled: Sequence[Unsettled]) -> None:
    """Take the marks off sessions that haven't changed since they were looked at."""
    await connection.execute(
        query("clear_unsettled"),
        [it.key.bucket for it in settled],
        [it.key.key for it in settled],
        [it.version for it in settled],
    )


async def mark(connection: Connection, keys: Collection[SessionKey]) -> None:
    """Mark locked sessions that the transaction changes otherwise than by their heads."""
    await connection.execute(
        query("mark_unsettled"), [key.bucket for key in keys], [key.key for key in keys]
    )


async def sweep(connection: Connection, age: int) -> int:
    """Forget deletions that are older than `age` microseconds, 1000 at most; how many."""
    return len(await connection.fetch(query("sweep_tombstones"), age))


class State(NamedTuple):
    """Which history this is, the last position that was given, and the time in microseconds."""

    history: UUID
    position: int
    time: int


async def state(connection: Connection) -> State:
    row = await connection.fetchrow(query("feed_state"))
    assert row is not None
    return State(*row)


async def last_position(connection: Connection, tenant: str, owner: str | None) -> int:
    """The last position of a tenant's sessions, or of an owner's."""
    if owner is None:
        position: int = await connection.fetchval(query("last_position"), tenant)
    else:
        position = await connection.fetchval(query("last_position_of_owner"), tenant, owner)
    return position


class Change(NamedTuple):
    """A session that changed, or was deleted, with the facts of it that never change."""

    position: int
    bucket: int
    session_key: UUID
    session_id: str
    incarnation: UUID
    owner: str
    source: str
    agent: str
    parent_id: str | None
    parent_kind: int
    delete_time: datetime | None

    @property
    def key(self) -> SessionKey:
        return SessionKey(self.bucket, self.session_key)


async def changes(
    connection: Connection, tenant: str, owner: str | None, position: int
) -> list[Change]:
    """The next page of what changed behind a position, in a tenant or of an owner's."""
    if owner is None:
        rows = await connection.fetch(query("changed_sessions"), tenant, position)
    else:
        rows = await connection.fetch(query("changed_sessions_of_owner"), tenant, position, owner)
    return [Change(*row) for row in rows]


async def tenants_with_changes(connection: Connection, positions: Mapping[str, int]) -> list[str]:
    """Which tenants have changes behind a position of each."""
    rows = await connection.fetch(
        query("tenants_with_changes"), list(positions), list(positions.values())
    )
    return [row[0] for row in rows]


async def of_subtree(
    connection: Connection, tenant: str, root: str, found: Sequence[tuple[str | None, UUID]]
) -> set[UUID]:
    """The incarnations of those sessions, given with their parents, that come from a session."""
    children = [(parent, incarnation) for parent, incarnation in found if parent is not None]
    rows = await connection.fetch(
        query("from_subtree"), tenant, root, [parent for parent, _ in children]
    )
    return {children[row[0] - 1][1] for row in rows}

"""The positions of changed sessions: giving them, and reading what changed behind one.

Whatever changes a session writes to its head and marks it as unsettled, in its transaction. Positions are
given after the commit, by the settling job. They grow like the clock, in microseconds, and are seen in order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol
from uuid import UUID

from sessiond_server.store.database import Connection
from sessiond_server.store.keys import SessionKey
from sessiond_server.store.sql import query

BATCH = 500
"""How many sessions, and deletions, one statement settles at most: the limit in its text."""
PAGE = 250
"""How many changed sessions one statement reads at most: the limit in its text."""


class Quiet(NamedTuple):
    """Sessions that haven't changed since they were settled, and the versions of their heads."""

    buckets: list[int]
    session_keys: list[UUID]
    versions: list[str]


class Settled(NamedTuple):
    """What one statement came to: how much it settled, and how many sessions it looked at."""

    deletions: int
    sessions: int
    looked_at: int
    last: SessionKey
    """Where the next statement begins."""
    quiet: Quiet | None

    @property
    def more(self) -> bool:
        return self.looked_at >= BATCH or self.deletions >= BATCH


async def settle(connection: Connection, after: SessionKey, rest: int) -> Settled:
    """Give positions to sessions that changed and weren't settled in the last `rest` microseconds."""
    row = await connection.fetchrow(query("give_positions"), *after, rest)
    assert row is not None
    deletions, sessions, looked_at, bucket, key, *quiet = row
    last = after if bucket is None else SessionKey(bucket, key)
    found = None if quiet[0] is None else Quiet(*quiet)
    return Settled(deletions, sessions, looked_at, last, found)


async def clear(connection: Connection, quiet: Quiet) -> None:
    """Take the marks off sessions that haven't changed since they were settled."""
    await connection.execute(query("clear_unsettled"), *quiet)


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


class Origin(Protocol):
    """A session, or a deleted one, and where it comes from."""

    @property
    def session_id(self) -> str: ...
    @property
    def incarnation(self) -> UUID: ...
    @property
    def parent_id(self) -> str | None: ...


async def of_subtree(
    connection: Connection, tenant: str, root: str, found: Sequence[Origin]
) -> set[UUID]:
    """The incarnations of those that are a session, or come from it."""
    children = [it for it in found if it.parent_id is not None and it.session_id != root]
    rows = await connection.fetch(
        query("from_subtree"), tenant, root, [it.parent_id for it in children]
    )
    own = {it.incarnation for it in found if it.session_id == root}
    return own | {children[row[0] - 1].incarnation for row in rows}

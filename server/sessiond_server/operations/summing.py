"""Summing up usage: of a session, a session with all that comes from it, or sessions that fit a filter."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sessiond_server.errors import SessionNotFound
from sessiond_server.store import heads, usage
from sessiond_server.store.database import Connection
from sessiond_server.store.usage import (
    Grouping,
    GroupKey,
    OfSession,
    Scope,
    Sums,
    Turn,
    TurnUsage,
)

_ONE_GROUP = 1


@dataclass(frozen=True, slots=True)
class Summed:
    """A page of groups with the total of all."""

    total: Sums
    groups: list[tuple[GroupKey, Sums]]
    turns: list[TurnUsage]
    more: bool


async def _check_scope(connection: Connection, scope: Scope) -> None:
    if isinstance(scope, OfSession) and await heads.read(connection, scope.key) is None:
        raise SessionNotFound(scope.session_id)


async def _total(connection: Connection, scope: Scope, by: Grouping) -> Sums:
    whole = replace(by, by=frozenset())
    found = await usage.groups(connection, scope, whole, None, _ONE_GROUP)
    return found[0][1] if found else {}


async def total(connection: Connection, scope: Scope, by: Grouping) -> Summed:
    """The total alone."""
    await _check_scope(connection, scope)
    return Summed(await _total(connection, scope, by), [], [], more=False)


async def by_group(
    connection: Connection, scope: Scope, by: Grouping, after: GroupKey | None, limit: int
) -> Summed:
    """A page of groups."""
    await _check_scope(connection, scope)
    found = await usage.groups(connection, scope, by, after, limit + 1)
    sums = await _total(connection, scope, by)
    return Summed(sums, found[:limit], [], more=len(found) > limit)


async def by_turn(
    connection: Connection, scope: OfSession, by: Grouping, after: Turn, limit: int
) -> Summed:
    """A page of a session's turns."""
    await _check_scope(connection, scope)
    days = (by.from_day, by.to_day)
    found, more = await usage.turn_page(connection, scope.key, days, after, limit)
    return Summed(await _total(connection, scope, by), [], found, more)

"""The ledger: what sessions used, in sums by day and model, by turns, and of the tenant."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, NamedTuple, TypeVar

import asyncpg

from sessiond_server.sessions.filters import SessionFilter
from sessiond_server.sessions.usage import Amounts, Changes, TurnKey, TurnSum
from sessiond_server.store import filters
from sessiond_server.store.database import Connection
from sessiond_server.store.keys import SessionKey
from sessiond_server.store.sql import QUERIES, query

TooLarge = asyncpg.NumericValueOutOfRangeError
"""Raised when a sum would be more than the database's integers hold."""

_Key = TypeVar("_Key", bound=tuple[Any, ...])


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


async def add(connection: Connection, changes: Mapping[SessionKey, Changes]) -> None:
    """Write what records of sessions change; the caller holds their heads' locks."""
    for key, it in changes.items():
        if it.forgotten_turns:
            await connection.execute(query("forget_turns"), *key, list(it.forgotten_turns))
    turns = [
        (*key, *turn_key, of.time, *of.amounts)
        for key, it in changes.items()
        for turn_key, of in it.turns.items()
    ]
    if turns:
        await connection.execute(query("add_usage_of_turns"), *_columns(turns))
    sums = [
        (*key, *sum_key, *amounts)
        for key, it in changes.items()
        for sum_key, amounts in it.sums.items()
    ]
    if sums:
        await connection.execute(query("add_usage"), *_columns(sums))


async def turns(
    connection: Connection, key: SessionKey, indexes: Collection[int]
) -> dict[TurnKey, TurnSum]:
    """What is recorded of turns."""
    rows = await connection.fetch(query("usage_of_turns"), *key, list(indexes))
    return {TurnKey(*row[:4]): TurnSum(row[4], Amounts(*row[5:])) for row in rows}


async def inherit(connection: Connection, heir: SessionKey, gone: Sequence[SessionKey]) -> None:
    """Leave the sums of sessions that are about to be deleted to another one; all are locked."""
    buckets, uuids = [key.bucket for key in gone], [key.key for key in gone]
    await connection.execute(query("inherit_usage"), *heir, buckets, uuids)


async def leave(connection: Connection, gone: Sequence[SessionKey]) -> None:
    """Keep what sessions used themselves that are about to be deleted and are locked."""
    keys = [key.bucket for key in gone], [key.key for key in gone]
    await connection.execute(query("leave_usage"), *keys)


async def billing(
    connection: Connection, keys: Iterable[SessionKey]
) -> dict[SessionKey, tuple[str, ...]]:
    """How the usage of sessions is paid for, the first model first, where anything is known of it."""
    rows = await connection.fetch(query("read_billing"), *_columns(list(keys)))
    return {SessionKey(*row[:2]): tuple(row[2:]) for row in rows}


async def store_billing(connection: Connection, key: SessionKey, facts: Iterable[str]) -> None:
    await connection.execute(query("store_billing"), *key, *facts)


class GroupKey(NamedTuple):
    """What a group is of; empty where it isn't summed up by that."""

    session_id: str = ""
    owner: str = ""
    source: str = ""
    agent: str = ""
    day: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class Grouping:
    """By what to sum up, of the fields of `GroupKey`, and on which days."""

    by: frozenset[str]
    from_day: date
    to_day: date


@dataclass(frozen=True, slots=True)
class OfSession:
    """What a session used, with or without what comes from it, of an owner's sessions if one is named."""

    session_id: str
    key: SessionKey
    subtree: bool
    tenant: str
    owner: str | None


Scope = OfSession | SessionFilter
"""Whose usage: a session's, or that of the sessions that fit."""

Sums = Mapping[str, Amounts]
"""What was used by currency, '' without costs."""

_SUMS = ", ".join(f"u.{name}" for name in ("day", "model", "currency", *Amounts._fields))
_KNOWN_OF_DELETED = frozenset(
    {"owner", "sources", "source", "exclude_sources", "agents", "agent", "no_subagents"}
)
"""Conditions on what is known of sessions that are deleted."""


def _compose() -> None:
    groups = QUERIES.pop("usage_groups")
    for name in ("used_by_session", "used_by_subtree", "used_by_tenant"):
        QUERIES[name] = groups.replace(":used", QUERIES.pop(name))
    some, deleted = (
        filters.take_template(name).replace(":sums", _SUMS)
        for name in ("used_by_some", "used_by_deleted")
    )
    filters.add_template("used_by_some", groups.replace(":used", some))
    both = groups.replace(":used", f"{some} UNION ALL {deleted}")
    filters.add_template("used_by_some_and_deleted", both, _KNOWN_OF_DELETED)


_compose()


async def groups(
    connection: Connection, scope: Scope, by: Grouping, after: GroupKey | None, limit: int
) -> list[tuple[GroupKey, Sums]]:
    """The next groups behind a place."""
    place = after or (None,) * len(GroupKey._fields)
    grouped = (name in by.by for name in GroupKey._fields)
    values = [*grouped, by.from_day, by.to_day, *place, limit]
    if isinstance(scope, OfSession):
        values += scope.key
        name = query("used_by_subtree" if scope.subtree else "used_by_session")
        values += [scope.tenant, scope.owner] if scope.subtree else []
    elif scope == SessionFilter(scope.tenant) and by.by <= {"day", "model"}:
        name = query("used_by_tenant")
        values.append(scope.tenant)
    else:
        template = "used_by_some_and_deleted" if scope.fits_deleted else "used_by_some"
        name, values = filters.fitting(template, scope, *values, scope.tenant)
    rows = await connection.fetch(name, *values)
    return _by_currency((GroupKey(*row[:6]), row[6], Amounts(*row[7:19])) for row in rows)


def _by_currency(rows: Iterable[tuple[_Key, str, Amounts]]) -> list[tuple[_Key, Sums]]:
    found: dict[_Key, dict[str, Amounts]] = {}
    for key, currency, amounts in rows:
        found.setdefault(key, {})[currency] = amounts
    return list(found.items())


class Turn(NamedTuple):
    """A model of a turn."""

    turn_index: int
    model: str


class TurnUsage(NamedTuple):
    """What was used in a turn, and when it was last recorded."""

    turn: Turn
    time: datetime
    sums: Sums


async def turn_page(
    connection: Connection,
    key: SessionKey,
    days: tuple[date, date],
    after: Turn,
    limit: int,
) -> tuple[list[TurnUsage], bool]:
    """The next turns behind a place, and whether there may be more."""
    rows = await connection.fetch(query("usage_by_turn"), *key, *days, *after, limit + 1, limit + 1)
    times: dict[Turn, datetime] = {}
    for row in rows:
        it = Turn(row[0], row[1])
        times[it] = max(row[3], times.get(it, row[3]))
    sums = _by_currency((Turn(row[0], row[1]), row[2], Amounts(*row[5:17])) for row in rows)
    found = [TurnUsage(it, times[it], of_it) for it, of_it in sums]
    more = len(found) > limit or sum(row["row_count"] for row in rows) > limit
    return found[:limit], more

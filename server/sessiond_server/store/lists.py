"""Lists of sessions, each by the index that serves its filters.

A list's text is put together from blocks of `queries/list.sql`: those of the filters that are given. Their
parameters have names there, and numbers in the text.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, Literal, NamedTuple
from uuid import UUID

from sessiond_server.store.database import Connection
from sessiond_server.store.keys import SessionKey
from sessiond_server.store.sql import QUERIES, query

LOOKED_AT = 200_000
"""Sessions that a count looks at."""
Order = Literal["listed_time", "create_time"]


@dataclass(frozen=True, slots=True)
class ListFilters:
    """What to list; `None` is any. See `ListSessionsRequest`."""

    tenant: str
    owner: str | None
    sources: list[str] | None
    exclude_sources: list[str] | None
    agent: str | None
    parent_id: str | None
    subtree_of: str | None
    states: list[int]
    labels_json: str | None
    idle_since: datetime | None
    include_children: bool
    settled_until: int | None = None
    """The last position of the sessions that are listed."""


class ListPlace(NamedTuple):
    """The last row of a page."""

    pinned: bool
    time: datetime
    session_key: UUID


_TOP = (datetime.max.replace(tzinfo=UTC), UUID(int=2**128 - 1))
_FILTERS = {
    name.removeprefix("filter_"): QUERIES.pop(name)
    for name in list(QUERIES)
    if name.startswith("filter_")
}
_TEXTS = {
    name: QUERIES.pop(name) for name in ("list_sessions", "list_sessions_merged", "count_listed")
}
_NARROW = frozenset({"owner", "source", "agent", "parent_id", "root"})
"""Filters that an index begins with."""
_COMMENT = re.compile(r"--.*")
MOST_ROWS = 201
_ROWS = (11, 51, MOST_ROWS)
"""Limits of the texts; those of pages are rounded up."""
_PARAMETER = re.compile(r"(?<!:):([a-z_]+)")


@cache
def _numbered(
    name: str, order: Order, filters: frozenset[str], column: str, rows: int = 0
) -> _Query:
    """A list's text with the blocks of its filters, and its parameters in the order of their numbers."""
    text = _TEXTS[name].replace(":filters", _clauses(filters))
    text = text.replace(":narrow", _clauses(filters & _NARROW))
    text = _COMMENT.sub("", text).replace(":order_time", order).replace(":column", column)
    text = text.replace(":rows", str(rows)).replace(
        ":cast", "smallint" if column == "state" else "text"
    )
    names: list[str] = []

    def number(found: re.Match[str]) -> str:
        if found[1] not in names:
            names.append(found[1])
        return f"${names.index(found[1]) + 1}"

    return _Query(_PARAMETER.sub(number, text), names)


class _Query(NamedTuple):
    text: str
    names: list[str]

    def values(self, given: dict[str, Any]) -> list[Any]:
        return [given[name] for name in self.names]


def _clauses(filters: Collection[str]) -> str:
    return " ".join(f"AND {_FILTERS[name]}" for name in sorted(filters))


@dataclass(frozen=True, slots=True)
class _Plan:
    """Which filters a list has, and whether it is merged from the lists of several values of a column."""

    values: dict[str, Any]
    column: str
    merged: list[str]

    def query(self, order: Order, rows: int, rest: dict[str, Any]) -> tuple[str, list[Any]]:
        name = "list_sessions_merged" if self.column else "list_sessions"
        rows = next(it for it in _ROWS if it >= rows)
        found = _numbered(name, order, self._filters(), self.column, rows)
        given = {**self.values, **rest, "values": self.merged}
        return found.text, found.values(given)

    def count(self) -> tuple[str, list[Any]]:
        names = self._filters()
        if self.column:
            names |= {f"{self.column}s"}
        found = _numbered("count_listed", "listed_time", names, "")
        given = {**self.values, "most": LOOKED_AT}
        return found.text, found.values(given)

    def _filters(self) -> frozenset[str]:
        merged = f"{self.column}s"
        return frozenset(name for name in self.values if name in _FILTERS and name != merged)


@dataclass(frozen=True, slots=True)
class Scope:
    """What a list is about besides its filters: where the session is stored whose descendants are listed, and
    the sessions to list from, or what finds those with a text."""

    subtree: SessionKey | None = None
    having: Sequence[SessionKey] | str | None = None


async def _plan(connection: Connection, filters: ListFilters, order: Order, scope: Scope) -> _Plan:
    values: dict[str, Any] = {
        "tenant": filters.tenant,
        "owner": filters.owner,
        "exclude_sources": filters.exclude_sources,
        "agent": filters.agent,
        "parent_id": filters.parent_id,
        "labels": filters.labels_json,
        "idle_since": filters.idle_since,
        "states": sorted(set(filters.states)),
        "no_children": None if filters.include_children else True,
        "settled_until": filters.settled_until,
    }
    sources = sorted(set(filters.sources or ()))
    values["source" if len(sources) == 1 else "sources"] = (
        sources[0] if len(sources) == 1 else sources or None
    )
    if isinstance(scope.having, str):
        values["text"] = scope.having
    elif scope.having is not None:
        values["keys"] = True
        values["key_buckets"] = [key.bucket for key in scope.having]
        values["key_uuids"] = [key.key for key in scope.having]
    if scope.subtree is not None:
        root = await connection.fetchval(query("root_of"), *scope.subtree) == filters.subtree_of
        values["root" if root else "subtree_of"] = filters.subtree_of
    given = {name: value for name, value in values.items() if value is not None}
    return _Plan(given, *_merging(given, order))


def _merging(given: dict[str, Any], order: Order) -> tuple[str, list[str]]:
    """The column whose values have lists of their own, unless another filter has a better index."""
    if order != "listed_time" or given.keys() & (_NARROW | {"subtree_of", "keys"}):
        return "", []
    if "sources" in given:
        return "source", given["sources"]
    if "no_children" in given:
        return "state", [str(state) for state in given["states"]]
    return "", []


async def list_page(
    connection: Connection,
    filters: ListFilters,
    order: Order,
    after: ListPlace,
    limit: int,
    scope: Scope,
) -> list[tuple[SessionKey, ListPlace]]:
    """The keys of a page, each with its place: pinned ones first."""
    plan = await _plan(connection, filters, order, scope)
    found: list[tuple[SessionKey, ListPlace]] = []
    start = after[1:]
    for pinned in (True, False) if after.pinned else (False,):
        rest = {
            "pinned": pinned,
            "after_time": start[0],
            "after_key": start[1],
        }
        text, values = plan.query(order, limit - len(found), rest)
        rows = (await connection.fetch(text, *values))[: limit - len(found)]
        found += [(SessionKey(r[0], r[1]), ListPlace(r[2], r[3], r[1])) for r in rows]
        if len(found) == limit:
            break
        start = _TOP
    return found


async def count(connection: Connection, filters: ListFilters, scope: Scope) -> tuple[int, bool]:
    """How many sessions a list holds; whether there may be more, as not all were looked at."""
    plan = await _plan(connection, filters, "listed_time", scope)
    text, values = plan.count()
    row = await connection.fetchrow(text, *values)
    assert row is not None
    return row[0], row[1] >= LOOKED_AT


async def child_counts(
    connection: Connection, tenant: str, owner: str | None, parents: Sequence[str]
) -> dict[str, int]:
    """How many children sessions have, up to 1000; those without any are left out."""
    rows = await connection.fetch(query("child_counts"), tenant, list(parents), owner)
    return {row[0]: row[1] for row in rows}


def _variants() -> dict[str, str]:
    """Lists of each filter and of all, for the test that prepares every query."""
    found = {}
    everything = frozenset(_FILTERS)
    for order in ("listed_time", "create_time"):
        for name in ("list_sessions", "count_listed"):
            for filters in (frozenset(), *(frozenset({it}) for it in everything), everything):
                key = f"{name}_{order}_{'_'.join(sorted(filters)) or 'plain'}"
                found[key] = _numbered(name, order, filters, "").text
        for column in ("source", "state"):
            merged = _numbered("list_sessions_merged", order, everything, column)
            found[f"list_sessions_by_{column}_{order}"] = merged.text
    return found


QUERIES.update(_variants())

"""Lists of sessions, each by the index that serves its filter.

A list's text is put together from the conditions of its filter and from blocks of `queries/list.sql`. Their
parameters have names there, and numbers in the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, Literal, NamedTuple
from uuid import UUID

from sessiond_server.sessions.filters import SessionFilter
from sessiond_server.store import filters
from sessiond_server.store.database import Connection
from sessiond_server.store.keys import SessionKey
from sessiond_server.store.sql import QUERIES, query

LOOKED_AT = 200_000
"""Sessions that a count looks at."""
Order = Literal["listed_time", "create_time"]


class ListPlace(NamedTuple):
    """The last row of a page."""

    pinned: bool
    time: datetime
    session_key: UUID


TOP = (datetime.max.replace(tzinfo=UTC), UUID(int=2**128 - 1))
"""What every list begins behind."""
_TEXTS = {
    name: filters.uncommented(QUERIES.pop(name))
    for name in ("list_sessions", "list_sessions_merged", "count_listed")
}
_CONDITIONS = filters.CONDITIONS | filters.take_conditions("listing_")
_NARROW = frozenset({"owner", "source", "agent", "parent_id", "root", "itself"})
"""Conditions that an index begins with."""
_PLACED: dict[Order, tuple[str, ...]] = {
    "listed_time": ("created_from", "active_from", "active_before"),
    "create_time": ("active_before",),
}
"""Ends of ranges of time that tell something of the place in a list."""
MOST_ROWS = 201
_ROWS = (11, 51, MOST_ROWS)
"""Limits of the texts; those of pages are rounded up."""


class _Query(NamedTuple):
    text: str
    names: list[str]

    def values(self, given: dict[str, Any]) -> list[Any]:
        return [given[name] for name in self.names]


@cache
def _numbered(
    name: str, order: Order, conditions: frozenset[str], column: str, rows: int = 0
) -> _Query:
    """A list's text with its conditions, and its parameters in the order of their numbers."""

    def clauses(names: frozenset[str]) -> str:
        return " ".join(f"AND {_CONDITIONS[name]}" for name in sorted(names))

    text = _TEXTS[name].replace(":conditions", clauses(conditions))
    text = text.replace(":narrow", clauses(conditions & _NARROW))
    text = text.replace(":order_time", order).replace(":column", column)
    text = text.replace(":rows", str(rows)).replace(
        ":cast", "smallint" if column == "slot" else "text"
    )
    return _Query(*filters.numbered(text))


@dataclass(frozen=True, slots=True)
class Plan:
    """The conditions of a list, and whether it is merged from the lists of several values of a column."""

    given: dict[str, Any]
    conditions: frozenset[str]
    column: str
    merged: list[str]

    def page(
        self, order: Order, rows: int, *, pinned: bool, after: tuple[datetime, UUID]
    ) -> tuple[str, list[Any]]:
        """What reads a page behind a place, of pinned sessions or of others."""
        name = "list_sessions_merged" if self.column else "list_sessions"
        rows = next(it for it in _ROWS if it >= rows)
        placed = {f"placed_{it}" for it in _PLACED[order] if it in self.conditions}
        conditions = self.conditions - {f"{self.column}s"} | placed
        found = _numbered(name, order, conditions, self.column, rows)
        rest = {"pinned": pinned, "after_time": after[0], "after_key": after[1]}
        return found.text, found.values({**self.given, **rest, "values": self.merged})

    def count(self) -> tuple[str, list[Any]]:
        """What counts the sessions on all pages."""
        found = _numbered("count_listed", "listed_time", self.conditions, "")
        return found.text, found.values({**self.given, "most": LOOKED_AT})


Having = Sequence[SessionKey] | str | None
"""The sessions to list from, or what finds those with a text."""


async def plans(
    connection: Connection,
    wanted: SessionFilter,
    order: Order,
    having: Having,
    settled_until: int | None = None,
) -> list[Plan]:
    """The lists that make up a list: a whole tree is its root and the others."""
    given: dict[str, Any] = filters.parameters(wanted)
    if settled_until is not None:
        given["settled_until"] = settled_until
    conditions = frozenset(given)
    if isinstance(having, str):
        given["text"] = having
        conditions |= {"text"}
    elif having is not None:
        given["key_buckets"] = [key.bucket for key in having]
        given["key_uuids"] = [key.key for key in having]
        conditions |= {"keys"}
    column, merged = _merging(given, conditions, order)
    given["tenant"] = wanted.tenant
    parts = [conditions]
    if wanted.subtree_of and await _is_root(connection, wanted):
        rest = conditions - {"subtree_of"}
        parts = [rest | {"itself"}, rest | {"root"}]
    return [Plan(given, part, column, merged) for part in parts]


async def _is_root(connection: Connection, wanted: SessionFilter) -> bool:
    root = await connection.fetchval(query("root_of"), wanted.tenant, wanted.subtree_of)
    return bool(root == wanted.subtree_of)


def _merging(
    given: dict[str, Any], conditions: frozenset[str], order: Order
) -> tuple[str, list[str]]:
    """The column whose values have lists of their own, unless another condition has a better index."""
    if order != "listed_time" or conditions & (_NARROW | {"subtree_of", "keys"}):
        return "", []
    for column in ("source", "agent"):
        if f"{column}s" in conditions:
            return column, given[f"{column}s"]
    if {"no_subagents", "slots"} <= conditions:
        return "slot", [str(slot) for slot in given["slots"]]
    return "", []


async def list_page(
    connection: Connection,
    wanted: SessionFilter,
    order: Order,
    after: ListPlace,
    limit: int,
    having: Having,
    settled_until: int | None = None,
) -> list[tuple[SessionKey, ListPlace]]:
    """The keys of a page, each with its place: pinned ones first. With `settled_until` of those that haven't
    a later position."""
    lists = await plans(connection, wanted, order, having, settled_until)
    found: list[tuple[SessionKey, ListPlace]] = []
    start = after[1:]
    for pinned in (True, False) if after.pinned else (False,):
        rows: list[Any] = []
        for plan in lists:
            text, values = plan.page(order, limit - len(found), pinned=pinned, after=start)
            rows += await connection.fetch(text, *values)
        rows.sort(key=lambda row: (row[3], row[1]), reverse=True)
        rows = rows[: limit - len(found)]
        found += [(SessionKey(r[0], r[1]), ListPlace(r[2], r[3], r[1])) for r in rows]
        if len(found) == limit:
            break
        start = TOP
    return found


async def count(connection: Connection, wanted: SessionFilter, having: Having) -> tuple[int, bool]:
    """How many sessions a list holds; whether there may be more, as not all were looked at."""
    fitting, partial = 0, False
    for plan in await plans(connection, wanted, "listed_time", having):
        text, values = plan.count()
        row = await connection.fetchrow(text, *values)
        assert row is not None
        fitting += row[0]
        partial |= row[1] >= LOOKED_AT
    return fitting, partial


async def child_counts(
    connection: Connection, tenant: str, owner: str | None, parents: Sequence[str]
) -> dict[str, int]:
    """How many children sessions have, up to 1000; those without any are left out."""
    rows = await connection.fetch(query("child_counts"), tenant, list(parents), owner)
    return {row[0]: row[1] for row in rows}


def _variants() -> dict[str, str]:
    """Lists by each condition and by all, for the test that prepares every query."""
    found = {}
    everything = frozenset(_CONDITIONS)
    for order in _PLACED:
        for name in ("list_sessions", "count_listed"):
            for names in (frozenset[str](), *(frozenset({it}) for it in everything), everything):
                key = f"{name}_{order}_{'_'.join(sorted(names)) or 'plain'}"
                found[key] = _numbered(name, order, names, "").text
        for column in ("source", "agent", "slot"):
            merged = _numbered("list_sessions_merged", order, everything, column)
            found[f"list_sessions_by_{column}_{order}"] = merged.text
    return found


QUERIES.update(_variants())

"""Filters of sessions as conditions of SQL: `queries/filter.sql` has one for each field.

A query about sessions `s` that says `:fits` gets the conditions of the fields that are given. Their
parameters are numbered behind its own. One about rows of a session, `e`, says `:fits_of_e`.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from sessiond_server.sessions.filters import ACTIVE, ENDED, SessionFilter
from sessiond_server.store.sql import QUERIES

_COMMENT = re.compile(r"--.*")


def uncommented(text: str) -> str:
    """A text without comments, in which a colon begins no parameter."""
    return _COMMENT.sub("", text).strip()


def take_conditions(prefix: str) -> dict[str, str]:
    """The blocks whose names begin so, which are no queries, by the rest of their names."""
    names = [name for name in QUERIES if name.startswith(prefix)]
    return {name.removeprefix(prefix): uncommented(QUERIES.pop(name)) for name in names}


CONDITIONS = take_conditions("filter_")
_TEMPLATES: dict[str, str] = {}
_NAMED = re.compile(r"(?<!:):([a-z_]+)")
_OF_ROW = re.compile(r":fits_of_([a-z])\b")
_BY_KEY = """AND EXISTS (
    SELECT
    FROM session AS s
    WHERE s.bucket = {row}.bucket AND s.session_key = {row}.session_key {clauses}
    OFFSET 0
)"""
"""Row by row, and after all other conditions: a join might be planned to begin with the sessions."""
_NUMBERED = re.compile(r"\$(\d+)")
_SLOTS = {1: (ACTIVE, False), 2: (ENDED, False), 3: (ACTIVE, True), 4: (ENDED, True)}
"""The state of each slot, and whether the sessions there are archived."""


def slots(wanted: SessionFilter) -> list[int] | None:
    """The slots that fit; `None` if all do."""
    found = [
        slot
        for slot, (state, archived) in _SLOTS.items()
        if (not wanted.states or state in wanted.states) and wanted.archived in (None, archived)
    ]
    return None if len(found) == len(_SLOTS) else found


def parameters(wanted: SessionFilter) -> dict[str, Any]:
    """The names of the conditions that are given, with their parameters. One of several values is a condition
    of its own."""
    found = {
        "owner": wanted.owner,
        "exclude_sources": sorted(set(wanted.exclude_sources)) or None,
        "slots": slots(wanted),
        "labels": wanted.labels_json or None,
        "parent_id": wanted.parent_id or None,
        "subtree_of": wanted.subtree_of or None,
        "no_subagents": None if wanted.subagents else True,
        "created_from": wanted.create_time.start,
        "created_before": wanted.create_time.end,
        "active_from": wanted.last_activity_time.start,
        "active_before": wanted.last_activity_time.end,
        "ended_from": wanted.end_time.start,
        "ended_before": wanted.end_time.end,
    }
    for one, several in (("source", wanted.sources), ("agent", wanted.agents)):
        values = sorted(set(several))
        found[one if len(values) == 1 else f"{one}s"] = (
            values[0] if len(values) == 1 else values or None
        )
    return {name: value for name, value in found.items() if value is not None}


def numbered(text: str, before: int = 0) -> tuple[str, list[str]]:
    """A text with numbers for the names of its parameters, behind so many that have theirs, and the names."""
    names: list[str] = []

    def number(found: re.Match[str]) -> str:
        if found[1] not in names:
            names.append(found[1])
        return f"${before + names.index(found[1]) + 1}"

    return _NAMED.sub(number, text), names


@cache
def _fitting(text: str, conditions: frozenset[str]) -> tuple[str, list[str]]:
    before = max(int(found) for found in _NUMBERED.findall(text))
    clauses = " ".join(f"AND {CONDITIONS[it]}" for it in sorted(conditions))
    by_key = _BY_KEY if clauses else ""
    text = _OF_ROW.sub(lambda it: by_key.format(row=it[1], clauses=clauses), text)
    return numbered(text.replace(":fits", clauses), before)


def fitting(name: str, wanted: SessionFilter, *values: object) -> tuple[str, list[object]]:
    """A query's text with the filter's conditions, and its parameters behind the given ones."""
    conditions = parameters(wanted)
    given = {**conditions, "tenant": wanted.tenant}
    text, names = _fitting(_TEMPLATES[name], frozenset(conditions))
    return text, [*values, *(given[name] for name in names)]


def add_template(name: str, text: str, conditions: frozenset[str] = frozenset(CONDITIONS)) -> None:
    """Make a text known that says `:fits` for these conditions. Without any and with all it is one of the
    queries, for the test that prepares every one."""
    _TEMPLATES[name] = text = uncommented(text)
    QUERIES[f"{name}_of_all"] = _fitting(text, frozenset())[0]
    QUERIES[f"{name}_of_some"] = _fitting(text, conditions)[0]


def take_template(name: str) -> str:
    """A text that is only a part of such ones."""
    del QUERIES[f"{name}_of_all"], QUERIES[f"{name}_of_some"]
    return _TEMPLATES.pop(name)


for _name in [name for name, text in QUERIES.items() if ":fits" in text]:
    add_template(_name, QUERIES.pop(_name))

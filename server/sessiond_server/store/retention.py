"""Sessions that fit a rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sessiond_server.sessions.retention import Cutoffs, Rule
from sessiond_server.store.database import Connection
from sessiond_server.store.filters import fitting
from sessiond_server.store.keys import SessionKey
from sessiond_server.store.sql import query

LOOKED_AT = 20_000
"""Sessions that one look goes through at most; a number in its text, as in those of lists."""


class PrunePlace(NamedTuple):
    """How far a rule's look over all sessions has come: those not pinned come first, then by age."""

    pinned: bool
    time: datetime
    session_key: UUID


@dataclass(frozen=True, slots=True)
class Candidate:
    """A session that fits a rule, and which version of it does."""

    key: SessionKey
    session_id: str
    incarnation: UUID
    fact_changes: int
    next_seq: int
    next_change: int
    place: PrunePlace


async def candidates(
    connection: Connection,
    rule: Rule,
    cutoffs: Cutoffs,
    after: PrunePlace,
    limit: int,
) -> tuple[list[Candidate], PrunePlace | None]:
    """The next sessions that fit a rule, and where to look on, if there are more to look at among the
    pinned ones, or among the others."""
    times = (cutoffs.created, cutoffs.active, cutoffs.ended)
    given = (rule.sessions.tenant, *after, *times, limit)
    text, values = fitting("prune_candidates", rule.sessions, *given)
    rows = await connection.fetch(text, *values)
    found = [
        Candidate(
            SessionKey(row["bucket"], row["session_key"]),
            row["session_id"],
            row["incarnation"],
            row["fact_changes"],
            row["next_seq"],
            row["next_change"],
            PrunePlace(after.pinned, row["create_time"], row["session_key"]),
        )
        for row in rows
        if row["session_key"] is not None
    ]
    if len(found) == limit:
        return found, found[-1].place
    if rows and rows[0]["looked"] == LOOKED_AT:
        return found, PrunePlace(after.pinned, rows[0]["last_time"], rows[0]["last_key"])
    return found, None


class InUse(NamedTuple):
    """What keeps sessions from going."""

    pinned: bool
    written_to: bool
    activity_time: datetime | None


async def in_use(connection: Connection, keys: Sequence[SessionKey]) -> InUse:
    """Pins, living writer leases and the last activity among sessions."""
    row = await connection.fetchrow(
        query("in_use"), [key.bucket for key in keys], [key.key for key in keys]
    )
    assert row is not None
    return InUse(*row)

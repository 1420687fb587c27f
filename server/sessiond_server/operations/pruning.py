"""Deleting the sessions that fit a rule, each in a transaction of its own, or saying which would go."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

import structlog

from sessiond_server import failing
from sessiond_server.operations import ending
from sessiond_server.operations.ending import Deleted, Family
from sessiond_server.sessions.retention import Rule, cutoffs
from sessiond_server.store import heads, retention, sessions
from sessiond_server.store.database import Connection, Database
from sessiond_server.store.keys import SessionKey
from sessiond_server.store.retention import Candidate, PrunePlace
from sessiond_server.store.sessions import SessionRow

log = structlog.get_logger(__name__)

DELETED, WOULD_BE_DELETED, KEPT_IN_USE, KEPT_FOR_DESCENDANT = 1, 2, 3, 4
"""Values of `sessiond.v1.PruneOutcome`."""
FIRST = PrunePlace(False, datetime.min.replace(tzinfo=UTC), UUID(int=0))
_FIRST_PINNED = FIRST._replace(pinned=True)
_SECONDS = 10.0
"""How long a page of deletions may take; then it is cut."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """A session that fitted a rule, and what became of it and of its family."""

    row: SessionRow
    outcome: int
    gone: Deleted


Record = Callable[[Connection, Pruned], Awaitable[None]]
"""Keeps what became of a session, in the transaction in which that happens. May raise `Stopped`."""


class Stopped(Exception):
    """The rule doesn't hold any more: the session stays, and so do all others."""


@dataclass(frozen=True, slots=True)
class Pruning:
    """One page of a rule's work."""

    rule: Rule
    dry_run: bool
    limit: int
    record: Record | None = None
    policy: str = ""
    """Whose rule it is. Nobody waits for an answer then, so a session that can't be deleted is left out."""


@dataclass(slots=True)
class Done:
    """What deletions did to sessions that were selected with them: no reason to keep one."""

    gone: set[SessionKey] = field(default_factory=set)
    """Went, or would go, with another one."""
    moved: Counter[SessionKey] = field(default_factory=Counter)
    """How often each was revised, and told so, its tree having another root."""

    def add(self, family: Family, outcome: Deleted) -> None:
        self.gone.update(family.going)
        self.moved.update(outcome.moved)

    def version(self, selected: Candidate) -> tuple[int, int, int]:
        """How a session stands if nobody else changed it."""
        moves = self.moved[selected.key]
        return (
            selected.fact_changes + moves,
            selected.next_seq,
            selected.next_change + moves,
        )


@dataclass(frozen=True, slots=True)
class Selection:
    """The sessions that fit a rule at a moment, and where to look on for more."""

    now: datetime
    candidates: list[Candidate]
    following: PrunePlace | None


async def select(connection: Connection, pruning: Pruning, after: PrunePlace) -> Selection:
    """The next sessions that fit the rule."""
    now = await heads.now(connection)
    found, following = await retention.candidates(
        connection,
        pruning.rule,
        cutoffs(pruning.rule, now),
        after,
        pruning.limit,
    )
    if following is None and pruning.rule.include_pinned and not after.pinned:
        following = _FIRST_PINNED
    return Selection(now, found, following)


async def page(
    database: Database, pruning: Pruning, after: PrunePlace
) -> tuple[list[Pruned], PrunePlace | None]:
    """Go on with a rule's work; what became of which sessions, and where to go on then."""
    async with database.connection() as connection:
        selection = await select(connection, pruning, after)
    until = asyncio.get_running_loop().time() + _SECONDS
    found: list[Pruned] = []
    done = Done()
    for candidate in selection.candidates:
        if candidate.key in done.gone:
            continue
        pruned = await _prune_if_possible(database, pruning, candidate, selection.now, done)
        if pruned is not None:
            found.append(pruned)
        if asyncio.get_running_loop().time() > until:
            return found, candidate.place
    return found, selection.following


async def _prune_if_possible(
    database: Database,
    pruning: Pruning,
    candidate: Candidate,
    selected: datetime,
    done: Done,
) -> Pruned | None:
    try:
        return await prune(database, pruning, candidate, selected, done)
    except Stopped:
        raise
    except Exception as error:
        if not pruning.policy:
            raise
        facts = {"session_id": candidate.session_id, "policy": pruning.policy}
        await failing.skip("session not pruned", error, **facts)
        return None


async def prune(
    database: Database,
    pruning: Pruning,
    candidate: Candidate,
    selected: datetime,
    done: Done,
) -> Pruned | None:
    """Delete a session if it is still as it was when it was selected; `None` if there is none any more.
    `done` learns what that does to others."""

    async def work(connection: Connection) -> tuple[Pruned, Family | None] | None:
        head = await _head(connection, candidate.key, lock=not pruning.dry_run)
        row = await sessions.read(connection, candidate.key) if head else None
        if head is None or row is None or row.incarnation != candidate.incarnation:
            return None
        version = (row.fact_changes, head.next_seq, head.next_change)
        same = version == done.version(candidate)
        pruned, family = Pruned(row, KEPT_IN_USE, Deleted()), None
        if same and head.writer_expire_time <= await heads.now(connection):
            pruned, family = await _with_family(connection, pruning, row, selected)
        if pruning.record is not None:
            await pruning.record(connection, pruned)
        return pruned, family

    found = await database.transact(work)
    if found is None:
        return None
    pruned, family = found
    if family is not None:
        done.add(family, pruned.gone)
    if pruned.outcome == DELETED:
        log.info(
            "session pruned",
            session_id=candidate.session_id,
            policy=pruning.policy or None,
            sessions=pruned.gone.sessions,
            messages=pruned.gone.messages,
        )
    return pruned


async def _head(connection: Connection, key: SessionKey, *, lock: bool) -> heads.Head | None:
    return await (heads.lock(connection, key) if lock else heads.read(connection, key))


async def _with_family(
    connection: Connection, pruning: Pruning, row: SessionRow, selected: datetime
) -> tuple[Pruned, Family | None]:
    family = await ending.family(connection, row, lock=not pruning.dry_run)
    use = await retention.in_use(connection, family.going[1:])
    latest = cutoffs(pruning.rule, selected).active or selected
    if (
        (use.pinned and not pruning.rule.include_pinned)
        or use.written_to
        or (use.activity_time is not None and use.activity_time > latest)
    ):
        return Pruned(row, KEPT_FOR_DESCENDANT, Deleted()), None
    if not pruning.dry_run:
        return Pruned(row, DELETED, await ending.remove(connection, family)), family
    messages = await sessions.message_total(connection, family.going)
    would = Deleted(len(family.going), messages, len(family.staying))
    return Pruned(row, WOULD_BE_DELETED, would), family

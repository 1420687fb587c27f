"""The end of sessions: ending, reopening, deleting with what belongs to them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sessiond_server.errors import EtagMismatch, SessionNotFound
from sessiond_server.operations import gate
from sessiond_server.sessions.guards import Guard, Version
from sessiond_server.store import changes, heads, sessions, usage
from sessiond_server.store.database import Connection, Database
from sessiond_server.store.heads import ACTIVE, ENDED
from sessiond_server.store.keys import SessionKey, session_key
from sessiond_server.store.sessions import EPHEMERAL, SUBAGENT, Child, SessionRow
from sessiond_server.store.touched import touch


@dataclass(frozen=True, slots=True)
class Deleted:
    """What a deletion took with it, and how many children stay without a parent."""

    sessions: int = 0
    messages: int = 0
    detached: int = 0
    moved: tuple[SessionKey, ...] = ()
    """The sessions of the trees whose roots these children are now: each is revised once."""
    version: Version | None = None
    """How far the session had come that was to be deleted; `None` if there was none."""


async def read(
    connection: Connection, session_id: str, key: SessionKey, *, full: bool = False
) -> SessionRow:
    row = await sessions.read(connection, key, full=full)
    if row is None:
        raise SessionNotFound(session_id)
    return row


@dataclass(frozen=True, slots=True)
class Ended:
    """How a session stands, or stood when it was deleted, and whether it stood so before."""

    row: SessionRow
    replayed: bool
    deleted: bool = False


async def end(
    database: Database, session_id: str, key: SessionKey, reason: str, guard: Guard
) -> Ended:
    """End a session; an ephemeral one is deleted."""

    async def work(connection: Connection) -> Ended:
        head = await gate.lock(connection, session_id, key)
        row = await read(connection, session_id, key)
        ephemeral = row.parent_kind == SUBAGENT and row.lifecycle == EPHEMERAL
        replayed = row.state == ENDED and not ephemeral
        if not replayed:
            await gate.check_guard(connection, session_id, head, guard)
        if row.state != ENDED:
            before = replace(row)
            row.state, row.end_reason = ENDED, reason
            row.end_time = await heads.now(connection)
            await _store(connection, row, before)
            row = await read(connection, session_id, key)
        if ephemeral:
            await _delete_tree(connection, row)
        return Ended(row, replayed, deleted=ephemeral)

    return await database.transact(work)


async def reopen(database: Database, session_id: str, key: SessionKey, guard: Guard) -> Ended:
    """Make a session active again and forget its end."""

    async def work(connection: Connection) -> Ended:
        head = await gate.lock(connection, session_id, key)
        row = await read(connection, session_id, key)
        replayed = row.state == ACTIVE
        if not replayed:
            await gate.check_guard(connection, session_id, head, guard)
            before = replace(row)
            row.state, row.end_reason, row.end_time = ACTIVE, "", None
            await _store(connection, row, before)
        return Ended(await read(connection, session_id, key), replayed)

    return await database.transact(work)


async def _store(connection: Connection, row: SessionRow, before: SessionRow) -> None:
    await sessions.update(connection, row)
    await heads.set_state(connection, row.key, row.state)
    await changes.record_facts(connection, row.key, row.differing(before))


async def delete(
    database: Database,
    session_id: str,
    key: SessionKey,
    guard: Guard,
    *,
    etag: str,
    allow_missing: bool,
) -> Deleted:
    """Delete a session and the descendants that go with it, for good (P11)."""

    async def work(connection: Connection) -> Deleted:
        head = await heads.lock(connection, key)
        if head is None:
            if allow_missing:
                return Deleted()
            raise SessionNotFound(session_id)
        row = await read(connection, session_id, key)
        if etag and etag != row.etag:
            raise EtagMismatch(row.etag)
        await gate.check_guard(connection, session_id, head, guard)
        return replace(await _delete_tree(connection, row), version=head.version)

    return await database.transact(work)


@dataclass(frozen=True, slots=True)
class Family:
    """What a deletion takes with it, the session itself first, and the children that stay."""

    tenant: str
    going: list[SessionKey]
    staying: list[Child]


async def _locked_children(connection: Connection, tenant: str, parents: list[str]) -> list[Child]:
    """The children as they are once they are locked: meanwhile one may have gone, or its id may have
    become that of a stranger."""
    children = await sessions.children(connection, tenant, parents)
    while True:
        await heads.lock_all(connection, [child.key for child in children])
        now = await sessions.children(connection, tenant, parents)
        if {child.incarnation for child in now} <= {child.incarnation for child in children}:
            return now
        children = now


async def family(connection: Connection, row: SessionRow, *, lock: bool = True) -> Family:
    """Who goes with a session. Lock before looking for children: who creates one locks its parent too."""
    found = Family(row.tenant, [row.key], [])
    generation = [row.session_id]
    children_of = _locked_children if lock else sessions.children
    while generation:
        children = await children_of(connection, row.tenant, generation)
        found.staying.extend(child for child in children if not child.goes_with_parent)
        leaving = [child for child in children if child.goes_with_parent]
        found.going.extend(child.key for child in leaving)
        generation = [child.session_id for child in leaving]
    return found


async def _lock_descendants(connection: Connection, tenant: str, parents: list[str]) -> None:
    """Lock what comes from locked sessions: who creates a child copies its parent's root."""
    while parents:
        children = await _locked_children(connection, tenant, parents)
        parents = [child.session_id for child in children]


async def remove(connection: Connection, gone: Family) -> Deleted:
    """Delete a locked family with all that belongs to it."""
    moved: list[SessionKey] = []
    if gone.staying:
        ids = [child.session_id for child in gone.staying]
        await _lock_descendants(connection, gone.tenant, ids)
        found = await sessions.detach(connection, gone.tenant, ids)
        await changes.record_facts_of(connection, {it.key: it.fields for it in found})
        moved = [it.key for it in found]
    # The parent may be about to go too, but only when it has its children's locks, and so sees this.
    heir = await sessions.parent(connection, gone.going[0])
    if heir is not None:
        await usage.inherit(connection, session_key(gone.tenant, heir), gone.going)
    await usage.leave(connection, gone.going)
    messages = await sessions.delete(connection, gone.going)
    touch(*gone.going)
    return Deleted(len(gone.going), messages, len(gone.staying), tuple(moved))


async def _delete_tree(connection: Connection, row: SessionRow) -> Deleted:
    return await remove(connection, await family(connection, row))

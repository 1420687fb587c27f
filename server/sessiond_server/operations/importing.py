"""Importing sessions: one piece of one session at a time, each in a transaction."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID, uuid4

from sessiond_server.errors import ImportConflict, invalid
from sessiond_server.operations import ending, gate, offloading
from sessiond_server.operations.creating import NewSession
from sessiond_server.operations.import_log import Counts, LogImport
from sessiond_server.sessions.setups import NOTHING, Setup
from sessiond_server.sessions.transfers import Item
from sessiond_server.store import changes, heads, sessions, setups, transfers
from sessiond_server.store.database import Connection, Database
from sessiond_server.store.heads import Head
from sessiond_server.store.keys import session_key
from sessiond_server.store.sessions import SUBAGENT, SessionInsert, SessionRow
from sessiond_server.store.touched import touch
from sessiond_server.store.transfers import Origin


@dataclass(frozen=True, slots=True)
class Wanted:
    """A session to be imported; checked already."""

    new: NewSession
    origin: Origin


@dataclass(frozen=True, slots=True)
class End:
    """Where a session's records end, and what it runs with there, if they said so after its beginning."""

    next_seq: int
    next_change: int
    setup: Setup | None = None
    revision: int = 0
    """0 if it isn't given."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What a piece came to; `incarnation` is that of the session in the store."""

    incarnation: UUID
    created: bool = False
    facts_differ: bool = False
    parent_missing: bool = False
    counts: Counts = field(default_factory=Counts)


async def apply(
    database: Database,
    wanted: Wanted,
    items: Sequence[Item],
    *,
    incarnation: UUID | None,
    end: End | None,
) -> Applied:
    """Import a piece of a session, which is made by the first one. `incarnation` is what the piece before
    came to. Raises `ImportConflict`, `InvalidFields` and `WriterLeaseHeld`."""

    async def work(connection: Connection) -> Applied:
        session_id, key = wanted.new.session_id, wanted.new.key
        begun, head = await _begin(connection, wanted)
        if incarnation not in (None, begun.incarnation):
            raise ImportConflict(session_id, None, "was deleted meanwhile and made again")
        if items:
            gate.check_writer(session_id, head, "", await heads.now(connection))
        log = LogImport(connection, wanted.new.tenant, session_id, key, head)
        if items:
            await log.add(items)
        differ = begun.facts_differ or log.setup_differs
        if end is not None:
            await _finish(connection, wanted, log, end)
            setup = end.setup or wanted.new.setup
            differ |= setup != await setups.as_of(connection, key, None)
        touch(key)
        return replace(begun, counts=log.counts, facts_differ=differ)

    return await offloading.transact(database, wanted.new.session_id, wanted.new.key, work)


async def _begin(connection: Connection, wanted: Wanted) -> tuple[Applied, Head]:
    """Find the session, or make it, and lock it: only then it stays the one that it is."""
    session_id, key = wanted.new.session_id, wanted.new.key
    head = await heads.lock(connection, key)
    if head is None:
        made = await _create(connection, wanted)
        return made, await gate.lock(connection, session_id, key)
    row = await ending.read(connection, session_id, key, full=True)
    if row.create_time != wanted.origin.create_time:
        raise ImportConflict(session_id, None, "was created at another time in the store")
    return Applied(row.incarnation, facts_differ=_differs(row, wanted)), head


async def _create(connection: Connection, wanted: Wanted) -> Applied:
    new = wanted.new
    parent = await _lock_parent(connection, new)
    missing = parent is None and new.parent_id is not None
    row = _insert(new, parent)
    await transfers.insert_session(connection, row, wanted.origin)
    if row.title:
        await sessions.add_title(connection, row, row.title)
    if new.setup != NOTHING:
        await setups.put(connection, new.tenant, new.key, wanted.origin.first_seq, new.setup)
    if parent is not None and not await transfers.child_is_told(
        connection, parent.key, new.session_id
    ):
        await changes.record(
            connection,
            parent.key,
            changes.CHILD,
            child_id=new.session_id,
            child_kind=new.parent_kind,
        )
    return Applied(
        row.incarnation,
        created=True,
        parent_missing=missing,
    )


async def _lock_parent(connection: Connection, new: NewSession) -> SessionRow | None:
    if new.parent_id is None:
        return None
    key = session_key(new.tenant, new.parent_id)
    if await heads.lock(connection, key) is None:
        return None
    return await sessions.read(connection, key)


def _insert(new: NewSession, parent: SessionRow | None) -> SessionInsert:
    orphan = parent is None
    depth = 0 if parent is None else parent.spawn_depth + (new.parent_kind == SUBAGENT)
    return SessionInsert(
        *new.key,
        tenant=new.tenant,
        session_id=new.session_id,
        incarnation=uuid4(),
        owner=new.owner,
        source=new.source,
        agent=new.agent,
        title=new.title,
        title_source=new.title_source,
        pinned=new.pinned,
        archived=new.archived,
        labels_json=new.labels_json,
        metadata=new.metadata,
        parent_id=None if orphan else new.parent_id,
        parent_kind=0 if orphan else new.parent_kind,
        spawn_tool_call_id=new.spawn_tool_call_id,
        fork_seq=0 if orphan else new.fork_seq,
        root_id=new.session_id if parent is None else parent.root_id,
        spawn_depth=depth,
        lifecycle=new.lifecycle,
        turn_index=new.turn_index,
        create_request_id=new.request_id,
    )


def _differs(row: SessionRow, wanted: Wanted) -> bool:
    """Whether somebody changed the facts of a session since, or it lost its parent."""
    new, origin = wanted.new, wanted.origin
    same_labels = json.loads(row.labels_json) == json.loads(new.labels_json)
    return (
        not (same_labels and (row.metadata or b"") == new.metadata)
        or any(
            getattr(row, name) != getattr(new, name)
            for name in (
                *(
                    "owner",
                    "source",
                    "agent",
                    "title",
                    "title_source",
                    "pinned",
                    "archived",
                    "parent_id",
                ),
                *("parent_kind", "lifecycle", "turn_index"),
            )
        )
        or (row.state, row.end_reason, row.end_time)
        != (
            origin.state,
            origin.end_reason,
            origin.end_time,
        )
    )


async def _finish(connection: Connection, wanted: Wanted, log: LogImport, end: End) -> None:
    if log.next_seq < end.next_seq:
        raise invalid(
            "records.end.next_seq",
            f"in session {wanted.new.session_id}: is {end.next_seq}, but the next message would be"
            f" {log.next_seq}",
        )
    if end.next_change > log.next_change:
        await transfers.set_next_change(connection, wanted.new.key, end.next_change)
    if end.revision:
        changes_before = end.revision - end.next_seq
        await transfers.restore_context_changes(connection, wanted.new.key, changes_before)
    await transfers.finish(connection, wanted.new.key, wanted.origin.activity_time)

"""Rewinds: hiding what came after a seq, bringing it back, and clearing everything for good."""

from __future__ import annotations

from dataclasses import dataclass

from sessiond_server.errors import (
    NothingToRewind,
    RewindNotFound,
    RewindNotRevertible,
    SeqOutOfRange,
)
from sessiond_server.operations import attaching, gate, hiding, offloading
from sessiond_server.sessions.guards import By, Guard, Version
from sessiond_server.sessions.visibility import PartialOverlap, Rewind, rewound_spans, segments
from sessiond_server.store import attachments, changes, contexts, heads, sessions
from sessiond_server.store.contexts import RewindRow
from sessiond_server.store.database import Connection, Database
from sessiond_server.store.heads import Head
from sessiond_server.store.keys import SessionKey


@dataclass(frozen=True, slots=True)
class Rewound:
    """A rewind, how far the session has come, and whether the rewind stood so before."""

    row: RewindRow
    version: Version
    replayed: bool = False


async def rewind(
    database: Database, session_id: str, key: SessionKey, after_seq: int, guard: Guard, by: By
) -> Rewound:
    """Hide everything after a seq."""

    async def work(connection: Connection) -> Rewound:
        head = await gate.lock(connection, session_id, key)
        _, rewinds = await contexts.history(connection, key)
        same = _same(rewinds, after_seq, head)
        if same is not None:
            row = await read(connection, key, same.rewind_id)
            return Rewound(row, head.version, replayed=True)
        await gate.check_change(connection, session_id, head, guard)
        if after_seq > head.last_seq:
            raise SeqOutOfRange("after_seq", after_seq, head.first_seq, head.next_seq)
        if not segments(rewound_spans(rewinds), max(after_seq + 1, head.first_seq), head.last_seq):
            raise NothingToRewind(after_seq, head.next_seq)
        offloading.check_restored(head, after_seq + 1)
        new = Rewind(head.next_change, after_seq, head.last_seq, head.next_seq)
        await contexts.insert_rewind(connection, key, new, by)
        await hiding.derive(connection, key, head, rewound_changed=True)
        await changes.record(connection, key, changes.REWOUND, reference=new.rewind_id)
        version = await heads.context_changed(connection, key)
        return Rewound(await read(connection, key, new.rewind_id), version)

    return await offloading.transact(database, session_id, key, work)


def _same(rewinds: list[Rewind], after_seq: int, head: Head) -> Rewind | None:
    """The rewind that a retry means: the same one, since which nothing came."""
    for rewind in reversed(rewinds):
        if (
            rewind.after_seq == after_seq
            and rewind.to_seq == head.last_seq
            and rewind.revert_effective_seq is None
        ):
            return rewind
    return None


async def read(connection: Connection, key: SessionKey, rewind_id: int | None) -> RewindRow:
    """A rewind; `None` is the newest that isn't reverted. Raises `RewindNotFound`."""
    row = await contexts.read_rewind(connection, key, rewind_id)
    if row is None:
        raise RewindNotFound(rewind_id)
    return row


async def revert(
    database: Database, session_id: str, key: SessionKey, rewind_id: int | None, guard: Guard
) -> Rewound:
    """Bring back what a rewind hid; `None` is the newest that isn't reverted."""

    async def work(connection: Connection) -> Rewound:
        head = await gate.lock(connection, session_id, key)
        row = await read(connection, key, rewind_id)
        if row.revert_time is not None:
            return Rewound(row, head.version, replayed=True)
        await gate.check_change(connection, session_id, head, guard)
        offloading.check_restored(head, row.after_seq + 1)
        await contexts.revert_rewind(connection, key, row.rewind_id, head.next_seq)
        try:
            await hiding.derive(connection, key, head, rewound_changed=True)
        except PartialOverlap as overlap:
            raise RewindNotRevertible(row.rewind_id, overlap.summary_seq) from overlap
        obstacle = await contexts.revert_obstacle(connection, key, row.after_seq, row.to_seq)
        if obstacle is not None:
            raise RewindNotRevertible(row.rewind_id, obstacle)
        await changes.record(connection, key, changes.REWIND_REVERTED, reference=row.rewind_id)
        version = await heads.context_changed(connection, key)
        return Rewound(await read(connection, key, row.rewind_id), version)

    return await offloading.transact(database, session_id, key, work)


@dataclass(frozen=True, slots=True)
class Cleared:
    """How many messages and attachments are gone, and how far the session has come."""

    messages: int
    attachments: int
    version: Version


async def clear(
    database: Database, session_id: str, key: SessionKey, guard: Guard, *, delete_attachments: bool
) -> Cleared:
    """Remove all messages for good, and attachments if wanted."""

    async def work(connection: Connection) -> Cleared:
        head = await gate.lock(connection, session_id, key)
        await gate.check_change(connection, session_id, head, guard)
        removed = 0
        if delete_attachments:
            await changes.record_deleted_attachments(connection, key, attaching.DELETED)
            removed = await attachments.delete_all(connection, [key])
        await sessions.clear(connection, key, keep_changes=changes.KEPT)
        await changes.record(connection, key, changes.CLEARED, reference=head.next_seq)
        version = await heads.context_changed(connection, key)
        return Cleared(head.message_count, removed, version)

    return await database.transact(work)

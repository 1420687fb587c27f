"""Rewinds: hiding what came after a seq, bringing it back, and clearing everything for good."""

from __future__ import annotations

from sessiond_server.errors import (
    NothingToRewind,
    RewindNotFound,
    RewindNotRevertible,
    SeqOutOfRange,
)
from sessiond_server.operations import gate, hiding, offloading
from sessiond_server.sessions.visibility import PartialOverlap, Rewind, rewound_spans, segments
from sessiond_server.store import attachments, changes, contexts, heads, sessions
from sessiond_server.store.contexts import RewindRow
from sessiond_server.store.database import Connection, Database
from sessiond_server.store.heads import Head
from sessiond_server.store.keys import SessionKey


async def rewind(
    database: Database,
    session_id: str,
    key: SessionKey,
    after_seq: int,
    *,
    expected_next_seq: int,
    writer_token: str,
    author: str,
) -> RewindRow:
    """Hide everything after a seq; the record."""

    async def work(connection: Connection) -> RewindRow:
        head = await gate.lock_for_change(
            connection,
            session_id,
            key,
            writer_token=writer_token,
            expected_next_seq=expected_next_seq,
        )
        if after_seq > head.last_seq:
            raise SeqOutOfRange("after_seq", after_seq, head.first_seq, head.next_seq)
        _, rewinds = await contexts.history(connection, key)
        if not segments(rewound_spans(rewinds), max(after_seq + 1, head.first_seq), head.last_seq):
            return await _same(connection, key, rewinds, after_seq, head)
        offloading.check_restored(head, after_seq + 1)
        new = Rewind(head.next_change, after_seq, head.last_seq, head.next_seq)
        await contexts.insert_rewind(connection, key, new, author)
        await hiding.derive(connection, key, head, rewound_changed=True)
        await heads.touch(connection, key)
        await changes.record(connection, key, changes.REWOUND, reference=new.rewind_id)
        return await _read(connection, key, new.rewind_id)

    return await offloading.transact(database, session_id, key, work)


async def _same(
    connection: Connection, key: SessionKey, rewinds: list[Rewind], after_seq: int, head: Head
) -> RewindRow:
    """The rewind that a retry means: the same one, since which nothing came."""
    for rewind in reversed(rewinds):
        if (
            rewind.after_seq == after_seq
            and rewind.to_seq == head.last_seq
            and rewind.revert_effective_seq is None
        ):
            return await _read(connection, key, rewind.rewind_id)
    raise NothingToRewind(after_seq, head.next_seq)


async def _read(connection: Connection, key: SessionKey, rewind_id: int) -> RewindRow:
    row = await contexts.read_rewind(connection, key, rewind_id)
    if row is None:
        raise RewindNotFound(rewind_id)
    return row


async def revert(
    database: Database,
    session_id: str,
    key: SessionKey,
    rewind_id: int,
    *,
    expected_next_seq: int,
    writer_token: str,
) -> RewindRow:
    """Bring back what a rewind hid; its record."""

    async def work(connection: Connection) -> RewindRow:
        await gate.lock(connection, session_id, key)
        row = await _read(connection, key, rewind_id)
        if row.revert_time is not None:
            return row
        head = await gate.lock_for_change(
            connection,
            session_id,
            key,
            writer_token=writer_token,
            expected_next_seq=expected_next_seq,
        )
        offloading.check_restored(head, row.after_seq + 1)
        await contexts.revert_rewind(connection, key, row.rewind_id, head.next_seq)
        try:
            await hiding.derive(connection, key, head, rewound_changed=True)
        except PartialOverlap as overlap:
            raise RewindNotRevertible(row.rewind_id, overlap.summary_seq) from overlap
        obstacle = await contexts.revert_obstacle(connection, key, row.after_seq, row.to_seq)
        if obstacle is not None:
            raise RewindNotRevertible(row.rewind_id, obstacle)
        await heads.touch(connection, key)
        await changes.record(connection, key, changes.REWIND_REVERTED, reference=row.rewind_id)
        return await _read(connection, key, row.rewind_id)

    return await offloading.transact(database, session_id, key, work)


async def clear(
    database: Database,
    session_id: str,
    key: SessionKey,
    *,
    expected_next_seq: int,
    writer_token: str,
    delete_attachments: bool,
) -> tuple[Head, int]:
    """Remove all messages for good, and attachments if wanted; the head as it was before, and how many
    attachments."""

    async def work(connection: Connection) -> tuple[Head, int]:
        head = await gate.lock_for_change(
            connection,
            session_id,
            key,
            writer_token=writer_token,
            expected_next_seq=expected_next_seq,
        )
        removed = await attachments.delete_all(connection, [key] if delete_attachments else [])
        await sessions.clear(connection, key, keep_changes=changes.KEPT)
        await heads.touch(connection, key)
        await changes.record(connection, key, changes.CLEARED, reference=head.next_seq)
        return head, removed

    return await database.transact(work)

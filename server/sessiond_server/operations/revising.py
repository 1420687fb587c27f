"""Late changes of messages: flags and facts. The earlier version stays for contexts of the past."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sessiond_server.errors import MessageNotFound, invalid
from sessiond_server.operations import gate
from sessiond_server.sessions import visibility
from sessiond_server.sessions.guards import Guard, Version
from sessiond_server.store import changes as changes_log
from sessiond_server.store import contexts, heads, messages, offload, offloaded
from sessiond_server.store.crossing import Row, column
from sessiond_server.store.database import Connection, Database
from sessiond_server.store.heads import Head
from sessiond_server.store.keys import SessionKey
from sessiond_server.store.messages import Marks, Revision, StoredMessage
from sessiond_server.store.segments import FullMessage

_SEGMENTS = 32
"""How many segments one call may rewrite: each takes some milliseconds under the lock."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change of one message: from its stored payload to its new version."""

    seq: int
    revise: Callable[[int, bytes], Revision]


@dataclass(frozen=True, slots=True)
class Updated:
    """What a call came to: the new versions of messages, and whether they were so before."""

    messages: list[StoredMessage]
    marks: Marks
    version: Version
    replayed: bool


async def update(
    database: Database,
    session_id: str,
    key: SessionKey,
    changes: Sequence[Change],
    guard: Guard,
    *,
    max_bytes: int,
) -> Updated:
    """Change messages, all or none; the new versions in the order of the changes."""

    async def work(connection: Connection) -> Updated:
        head = await gate.lock(connection, session_id, key)
        current = await _current(connection, head, [change.seq for change in changes], max_bytes)
        missing = next((change.seq for change in changes if change.seq not in current), None)
        if missing is not None:
            await gate.check_change(connection, session_id, head, guard)
            raise MessageNotFound(missing, head.first_seq, head.next_seq)
        revisions = [
            change.revise(change.seq, column(current[change.seq], "payload")) for change in changes
        ]
        changed = [r for r in revisions if r.payload != column(current[r.seq], "payload")]
        version = head.version
        if changed:
            await gate.check_change(connection, session_id, head, guard)
            version = await _change(connection, head, current, changed)
        stored = [_stored(revision, current[revision.seq]) for revision in revisions]
        marks = await messages.marks(connection, key, stored)
        return Updated(stored, marks, version, replayed=not changed)

    return await database.transact(work)


async def _change(
    connection: Connection,
    head: Head,
    current: Mapping[int, Row],
    changed: Sequence[Revision],
) -> Version:
    """Store new versions; the session's version then."""
    await _revise(connection, head, current, changed)
    await _recount(connection, head.key)
    await changes_log.record(
        connection, head.key, changes_log.UPDATED, seqs=sorted(r.seq for r in changed)
    )
    return await heads.context_changed(connection, head.key)


async def _current(
    connection: Connection, head: Head, seqs: Sequence[int], max_bytes: int
) -> Mapping[int, Row]:
    """The current versions by seq."""
    below = [seq for seq in seqs if seq < head.offloaded_before_seq]
    found: dict[int, Row] = {}
    if below:
        count = await offloaded.segment_count(connection, head.key, below)
        if count > _SEGMENTS:
            raise invalid(
                "updates", f"are of offloaded messages in {count} segments, more than {_SEGMENTS}"
            )
        there = await offloaded.by_seqs(connection, head.key, below)
        found |= {seq: there[seq] for seq in below if seq in there}
    size = sum(len(column(row, "payload")) for row in found.values())
    size += await messages.size(connection, head.key, seqs)
    if size > max_bytes:
        raise invalid("updates", f"are of messages of {size} bytes, more than {max_bytes}")
    return found | await messages.to_update(connection, head.key, seqs)


async def _revise(
    connection: Connection, head: Head, current: Mapping[int, Row], changed: Sequence[Revision]
) -> None:
    numbers = {"change_no": head.next_change, "effective_seq": head.next_seq}
    in_table = [r for r in changed if r.seq >= head.offloaded_before_seq]
    await messages.revise(connection, head.key, in_table, **numbers)
    old = {seq: row for seq, row in current.items() if isinstance(row, FullMessage)}
    in_segments = [r for r in changed if r.seq in old]
    await offload.revise(connection, head.key, old, in_segments, **numbers)


def _stored(revision: Revision, current: Row) -> StoredMessage:
    return StoredMessage(
        revision.seq, column(current, "create_time"), column(current, "summary"), revision.payload
    )


async def _recount(connection: Connection, key: SessionKey) -> None:
    context = await contexts.context_map(connection, key)
    assert context is not None
    pieces = visibility.segments(context.spans, context.first_seq, context.next_seq - 1)
    count, tokens = await contexts.totals(connection, key, pieces, border=context.border)
    await contexts.set_counters(connection, key, count, tokens)

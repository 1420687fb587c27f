"""Late changes of messages: flags and facts. The earlier version stays for contexts of the past."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import asyncpg

from sessiond_server.errors import MessageNotFound, invalid
from sessiond_server.operations import gate, indexing
from sessiond_server.operations.indexing import Read
from sessiond_server.sessions.visibility import segments
from sessiond_server.store import changes as changes_log
from sessiond_server.store import contexts, heads, messages
from sessiond_server.store.database import Connection, Database
from sessiond_server.store.keys import SessionKey
from sessiond_server.store.messages import Marks, Revision, StoredMessage


@dataclass(frozen=True, slots=True)
class Change:
    """A change of one message: from its stored payload to its new version."""

    seq: int
    revise: Callable[[int, bytes], Revision]


async def update(
    database: Database,
    session_id: str,
    key: SessionKey,
    changes: Sequence[Change],
    *,
    writer_token: str,
    max_bytes: int,
    read: Read,
) -> tuple[list[StoredMessage], Marks]:
    """Change messages, all or none; the new versions in the order of the changes. `read` tells what of them
    is searched."""

    async def work(connection: Connection) -> tuple[list[StoredMessage], Marks]:
        head = await gate.lock_for_change(connection, session_id, key, writer_token=writer_token)
        seqs = [change.seq for change in changes]
        if (size := await messages.size(connection, key, seqs)) > max_bytes:
            raise invalid("updates", f"are of messages of {size} bytes, more than {max_bytes}")
        current = await messages.to_update(connection, key, seqs)
        for change in changes:
            if change.seq not in current:
                raise MessageNotFound(change.seq, head.first_seq, head.next_seq)
        revisions = [
            change.revise(change.seq, current[change.seq]["payload"]) for change in changes
        ]
        changed = [r for r in revisions if r.payload != current[r.seq]["payload"]]
        if changed:
            await messages.revise(
                connection,
                key,
                changed,
                change_no=head.next_change,
                effective_seq=head.next_seq,
            )
            versions = [(_current(current[r.seq]), _stored(r, current[r.seq])) for r in changed]
            await indexing.revised(connection, key, versions, read)
            await _recount(connection, key)
            await changes_log.record(
                connection, key, changes_log.UPDATED, seqs=sorted(r.seq for r in changed)
            )
            await heads.touch(connection, key)
        stored = [_stored(revision, current[revision.seq]) for revision in revisions]
        return stored, await messages.marks(connection, key, stored)

    return await database.transact(work)


def _current(row: asyncpg.Record) -> StoredMessage:
    return StoredMessage(row["seq"], row["create_time"], row["note"], row["payload"])


def _stored(revision: Revision, current: asyncpg.Record) -> StoredMessage:
    return StoredMessage(revision.seq, current["create_time"], current["note"], revision.payload)


async def _recount(connection: Connection, key: SessionKey) -> None:
    context = await contexts.context_map(connection, key)
    assert context is not None
    pieces = segments(context.spans, context.first_seq, context.next_seq - 1)
    count, tokens = await contexts.totals(connection, key, pieces)
    await contexts.set_counters(connection, key, count, tokens)

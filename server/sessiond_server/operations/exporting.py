"""Exporting sessions: which ones, and the log of each as an order of things that happened."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import asyncpg

from sessiond_server.errors import AttachmentNotFound, SessionNotFound
from sessiond_server.operations import attaching
from sessiond_server.sessions.transfers import (
    Change,
    Compaction,
    Kept,
    LogRecord,
    Recall,
    Revert,
    Rewind,
    Undo,
    parents_first,
)
from sessiond_server.store import attachments, changes, heads, session_logs, sessions, transfers
from sessiond_server.store.attachments import AttachmentRow
from sessiond_server.store.database import Connection, Database
from sessiond_server.store.keys import SessionKey, session_key
from sessiond_server.store.messages import StoredMessage
from sessiond_server.store.sessions import SessionRow
from sessiond_server.store.transfers import Records, Seqs

_PAGE = 1000
_FILES = 100
_REVISIONS = 16
_NEVER = math.inf


@dataclass(frozen=True, slots=True)
class Selection:
    """Which sessions to export; `None` is any. To a caller that is bound to an owner, others aren't there."""

    tenant: str
    bound_to: str | None
    ids: list[str] | None
    owner: str | None
    sources: list[str] | None
    subtree_of: str | None
    lineage: bool


async def select(database: Database, wanted: Selection) -> list[str]:
    """The ids, parents first. Raises `SessionNotFound`."""
    async with database.connection() as connection:
        ids = wanted.ids
        if ids is not None:
            await _check_there(connection, wanted, ids)
            if wanted.lineage:
                ids = await transfers.lineage(connection, wanted.tenant, ids)
        if wanted.subtree_of is not None:
            await _check_there(connection, wanted, [wanted.subtree_of])
            tree = await transfers.subtree(connection, wanted.tenant, wanted.subtree_of)
            ids = tree if ids is None else sorted(set(ids) & set(tree))
        return parents_first(
            await transfers.selection(connection, wanted.tenant, ids, wanted.owner, wanted.sources)
        )


async def _check_there(connection: Connection, wanted: Selection, ids: Sequence[str]) -> None:
    found = await transfers.selection(connection, wanted.tenant, ids, wanted.bound_to, None)
    there = {row[0] for row in found}
    for session_id in ids:
        if session_id not in there:
            raise SessionNotFound(session_id)


class Exported(NamedTuple):
    """A session as it stood when it was looked at."""

    row: SessionRow
    next_change: int
    records: Records
    kept: list[Kept]


class Revised(NamedTuple):
    """That a change replaced versions of messages, which are read when it is their turn."""

    change_no: int


class Gone(Exception):
    """The session was deleted or cleared while it was read."""


class ExportedFile(NamedTuple):
    """An attachment with the first of its bytes."""

    row: AttachmentRow
    chunk: bytes


class FileChunk(NamedTuple):
    """More of its bytes, or that it was deleted meanwhile."""

    chunk: bytes
    gone: bool = False


Event = Compaction | Revert | Rewind | Undo | Change
Happened = Event | StoredMessage | Revised | Kept | ExportedFile | FileChunk


async def look(database: Database, tenant: str, session_id: str) -> Exported | None:
    """A session and what happened in it besides messages; `None` if it is gone."""
    key = session_key(tenant, session_id)
    async with database.snapshot() as connection:
        row = await sessions.read(connection, key)
        head = await heads.read(connection, key)
        if row is None or head is None:
            return None
        records = await transfers.records(connection, key, head.next_seq, head.next_change)
        kept = await transfers.kept(connection, key)
        return Exported(row, head.next_change, records, kept)


async def log(
    database: Database, found: Exported, max_bytes: int
) -> AsyncIterator[Happened | tuple[int, int, int, bytes]]:
    """What happened, in order; versions that were replaced as (seq, change, effective seq, payload).
    Nothing is held between the pages. Raises `Gone`."""
    seq = found.row.first_seq
    for place, thing in _places(found.records):
        async for message in _messages(database, found, seq, place, max_bytes):
            yield message
        seq = max(seq, place + 1)
        if isinstance(thing, Revised):
            async for revision in _revisions(database, found.row.key, thing.change_no):
                yield revision
        else:
            yield thing
    async for message in _messages(database, found, seq, found.row.next_seq - 1, max_bytes):
        yield message
    for kept in found.kept:
        yield kept
    async for piece in _files(database, found):
        yield piece
    async for record in _beside(database, found.row.key, max_bytes):
        yield record
    if not await _still_there(database, found):
        raise Gone


async def _files(database: Database, found: Exported) -> AsyncIterator[ExportedFile | FileChunk]:
    """The attachments by name; nothing is held between their blocks."""
    after, more = "", True
    while more:
        async with database.connection() as connection:
            rows, more = await attachments.list_page(
                connection, found.row.key, after=after, limit=_FILES
            )
        for row in rows:
            begun = False
            try:
                async for block in attaching.blocks(
                    database, found.row.session_id, row, 0, row.size
                ):
                    yield FileChunk(block) if begun else ExportedFile(row, block)
                    begun = True
            except AttachmentNotFound:
                if begun:
                    yield FileChunk(b"", gone=True)
            else:
                if not begun:
                    yield ExportedFile(row, b"")
            after = row.name


async def _messages(
    database: Database, found: Exported, low: int, high: int, max_bytes: int
) -> AsyncIterator[StoredMessage]:
    while low <= high:
        seqs = Seqs(low, high, found.next_change)
        page = await database.read(
            partial(
                transfers.messages, key=found.row.key, seqs=seqs, limit=_PAGE, max_bytes=max_bytes
            )
        )
        if not page or page[0].seq != low:
            raise Gone
        for message in page:
            yield message
        low = page[-1].seq + 1


async def _revisions(
    database: Database, key: SessionKey, change_no: int
) -> AsyncIterator[tuple[int, int, int, bytes]]:
    after = 0
    while True:
        async with database.connection() as connection:
            page = await transfers.revisions(connection, key, change_no, after, _REVISIONS)
        for revision in page:
            yield revision
        if len(page) < _REVISIONS:
            return
        after = page[-1][0]


async def _beside(
    database: Database, key: SessionKey, max_bytes: int
) -> AsyncIterator[LogRecord | Recall]:
    """What may be a lot: records of the session's log, and recalls."""
    after, more = 0, True
    while more:
        async with database.connection() as connection:
            records, more = await session_logs.page(
                connection,
                key,
                (after + 1, 2**62),
                None,
                limit=_PAGE,
                max_bytes=max_bytes,
                descending=False,
            )
        for record in records:
            yield LogRecord(*record)
            after = record.log_seq
    recall_id = ""
    while True:
        async with database.connection() as connection:
            page = await transfers.recalls(connection, key, recall_id, _REVISIONS)
        for recall in page:
            yield recall
            recall_id = recall.recall_id
        if len(page) < _REVISIONS:
            return


async def _still_there(database: Database, found: Exported) -> bool:
    async with database.connection() as connection:
        row = await sessions.read(connection, found.row.key)
    return (
        row is not None
        and row.incarnation == found.row.incarnation
        and row.first_seq == found.row.first_seq
    )


_Place = tuple[float, float, int]


def _places(found: Records) -> Iterator[tuple[int, Revised | transfers.Record]]:
    """Everything but messages in the order in which it happened, each with the last seq of then. A change
    stands behind what it tells of; a fork's records have none."""
    places: list[tuple[_Place, Revised | transfers.Record]] = []
    told = {(c.kind, c.reference): c.change_no for c in found.changes}
    for change_no, effective_seq in found.revised:
        places.append(((effective_seq - 1, change_no, 0), Revised(change_no)))
    for row in found.compactions:
        places.append(((row["note_seq"], row["change_no"], 0), _compaction(row)))
        if row["revert_time"] is not None:
            number = told.get((changes.REVERTED, row["note_seq"]), _NEVER)
            revert = Revert(row["note_seq"], row["revert_effective_seq"], row["revert_time"])
            places.append(((revert.effective_seq - 1, number, 0), revert))
    for row in found.rewinds:
        places.append(((row["effective_seq"] - 1, row["rewind_id"], 0), _rewind(row)))
        if row["undo_time"] is not None:
            number = told.get((changes.UNDONE, row["rewind_id"]), _NEVER)
            undo = Undo(row["rewind_id"], row["undo_effective_seq"], row["undo_time"])
            places.append(((undo.effective_seq - 1, number, 0), undo))
    places += [((c.after_seq, c.change_no, 1), c) for c in found.changes]
    places.sort(key=lambda place: place[0])
    return ((int(place[0]), thing) for place, thing in places)


def _compaction(row: asyncpg.Record) -> Compaction:
    return Compaction(*(row[name] for name in Compaction._fields))


def _rewind(row: asyncpg.Record) -> Rewind:
    return Rewind(*(row[name] for name in Rewind._fields))

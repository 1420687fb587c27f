"""The log of a session that is exported, and what belongs to it: as an order of things that happened, read in
pages."""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from operator import itemgetter
from typing import NamedTuple, TypeVar

import asyncpg

from sessiond_server.errors import AttachmentNotFound
from sessiond_server.operations import attaching
from sessiond_server.operations.exporting import Exported
from sessiond_server.sessions.transfers import (
    Change,
    Compaction,
    CompactionRevert,
    JournalRecord,
    Kept,
    Reminder,
    Rewind,
    RewindRevert,
    SeenRequest,
    SetupChange,
)
from sessiond_server.store import attachments, changes, journal, setups, transfers
from sessiond_server.store.attachments import AttachmentRow
from sessiond_server.store.database import Connection, Database
from sessiond_server.store.messages import StoredMessage
from sessiond_server.store.transfers import Records, Seqs

_PAGE = 1000
_CHANGES = 100
_FILES = 25
_REVISIONS = 16
_REMINDERS = 16
_NEVER = math.inf

Result = TypeVar("Result")


class Revised(NamedTuple):
    """That a change replaced versions of messages, which are read when it is their turn."""

    change_no: int


class NewSetup(NamedTuple):
    """That the session ran with something else from a seq on, which is read when it is its turn."""

    effective_seq: int


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


Version = tuple[int, int, int, bytes]
"""A version that was replaced: seq, change, effective seq, payload."""
Event = Compaction | CompactionRevert | Rewind | RewindRevert | Change
Happened = Event | SetupChange | StoredMessage | Version | Kept | ExportedFile | FileChunk

_Place = tuple[float, float, int]
_Placed = tuple[_Place, Revised | NewSetup | Event]


class LogExport:
    """Reads a session as it stood when it was looked at. Nothing is held between the pages, so each of them
    is followed by a look whether it was still that session."""

    def __init__(self, database: Database, found: Exported, max_bytes: int) -> None:
        self._database = database
        self._found = found
        self._key = found.row.key
        self._max_bytes = max_bytes

    async def happened(self) -> AsyncIterator[Happened]:
        """Everything in its order. Raises `Gone`."""
        seq, last = self._found.row.first_seq, self._found.row.next_seq - 1
        async for (after, *_), thing in self._order():
            place = int(after)
            async for message in self._messages(seq, place):
                yield message
            seq = max(seq, place + 1)
            if isinstance(thing, Revised):
                async for version in self._versions(thing.change_no):
                    yield version
            elif isinstance(thing, NewSetup):
                yield await self._setup(thing.effective_seq)
            else:
                yield thing
        async for message in self._messages(seq, last):
            yield message
        async for it in self._beside():
            yield it

    async def _beside(self) -> AsyncIterator[Kept | ExportedFile | FileChunk]:
        """What has no place in the order."""
        for kept in self._found.kept:
            yield kept
        async for request in self._requests():
            yield request
        async for piece in self._files():
            yield piece
        async for record in self._journal():
            yield record
        async for reminder in self._reminders():
            yield reminder
        await self._read(_nothing)

    async def _read(self, work: Callable[[Connection], Awaitable[Result]]) -> Result:
        """What `work` reads of the session. Raises `Gone` if that may have been another one."""

        async def checked(connection: Connection) -> Result:
            result = await work(connection)
            row, next_change = self._found.row, self._found.next_change
            if not await transfers.stands(connection, self._key, row.incarnation, next_change):
                raise Gone
            return result

        return await self._database.read(checked)

    async def _order(self) -> AsyncIterator[_Placed]:
        """Everything but messages."""
        records = self._found.records
        others = heapq.merge(
            _setups(self._found), _revised(records), _hiding(records), key=itemgetter(0)
        )
        other = next(others, None)
        async for change in self._changes():
            place = (change.after_seq, change.change_no, 1)
            while other is not None and other[0] < place:
                yield other
                other = next(others, None)
            yield place, change
        while other is not None:
            yield other
            other = next(others, None)

    async def _changes(self) -> AsyncIterator[Change]:
        after, before = 0, self._found.next_change
        while page := await self._read(
            partial(transfers.changes, key=self._key, after=after, before=before, limit=_CHANGES)
        ):
            for change in page:
                yield change
            after = page[-1].change_no

    async def _messages(self, low: int, high: int) -> AsyncIterator[StoredMessage]:
        while low <= high:
            seqs = Seqs(low, high, self._found.next_change)
            page = await self._read(
                partial(
                    transfers.messages,
                    key=self._key,
                    seqs=seqs,
                    limit=_PAGE,
                    max_bytes=self._max_bytes,
                )
            )
            if not page or page[0].seq != low:
                raise Gone
            for message in page:
                yield message
            low = page[-1].seq + 1

    async def _versions(self, change_no: int) -> AsyncIterator[Version]:
        after = 0
        while page := await self._read(
            partial(
                transfers.revisions,
                key=self._key,
                change_no=change_no,
                after_seq=after,
                limit=_REVISIONS,
            )
        ):
            for version in page:
                yield version
            after = page[-1][0]

    async def _setup(self, effective_seq: int) -> SetupChange:
        """Only the last one can have been replaced since."""
        if effective_seq == self._found.setup_places[-1]:
            return SetupChange(effective_seq, self._found.row.setup)
        found = await self._read(partial(setups.at, key=self._key, effective_seq=effective_seq))
        if found is None:
            raise Gone
        return SetupChange(effective_seq, found)

    async def _requests(self) -> AsyncIterator[SeenRequest]:
        seen = self._found.seen
        after = (0, "")
        while page := await self._read(
            partial(transfers.requests, key=self._key, after=after, limit=_PAGE)
        ):
            for request, mark in page:
                place = bisect_left(seen, mark)
                if place < len(seen) and seen[place] == mark:
                    yield request
            after = page[-1][0][:2]

    async def _files(self) -> AsyncIterator[ExportedFile | FileChunk]:
        """The attachments as they are now: to keep an older state of them would be to keep bytes. By id,
        so that one that is renamed meanwhile isn't left out."""
        after, more = "", True
        while more:
            rows, more = await self._read(
                partial(attachments.by_id, key=self._key, after=after, limit=_FILES)
            )
            for row in rows:
                async for piece in self._file(row):
                    yield piece
                after = row.attachment_id

    async def _file(self, row: AttachmentRow) -> AsyncIterator[ExportedFile | FileChunk]:
        blocks = attaching.blocks(self._database, self._found.row.session_id, row, 0, row.size)
        begun = False
        try:
            async for block in blocks:
                yield FileChunk(block) if begun else ExportedFile(row, block)
                begun = True
        except AttachmentNotFound:
            if begun:
                yield FileChunk(b"", gone=True)
        else:
            if not begun:
                yield ExportedFile(row, b"")

    async def _journal(self) -> AsyncIterator[JournalRecord]:
        after, last, more = 0, self._found.next_seq - 1, True
        while more:
            page, more = await self._read(
                partial(
                    journal.page,
                    key=self._key,
                    between=(after + 1, last),
                    kinds=None,
                    limit=_PAGE,
                    max_bytes=self._max_bytes,
                    descending=False,
                )
            )
            for record in page:
                yield JournalRecord(*record)
                after = record.seq

    async def _reminders(self) -> AsyncIterator[Reminder]:
        for start in range(0, len(self._found.reminders), _REMINDERS):
            reminders = self._found.reminders[start : start + _REMINDERS]
            ids = [reminder.reminder_id for reminder in reminders]
            details = await self._read(
                partial(transfers.reminder_details, key=self._key, reminder_ids=ids)
            )
            for reminder in reminders:
                yield reminder._replace(details=details[reminder.reminder_id])


async def _nothing(_: Connection) -> None:
    """To look whether the session is still there."""


def _setups(found: Exported) -> Iterator[_Placed]:
    for seq in found.setup_places:
        yield (seq - 1, _NEVER, 1), NewSetup(seq)


def _revised(found: Records) -> Iterator[_Placed]:
    for change_no, effective_seq in zip(*found.revised, strict=True):
        yield (effective_seq - 1, change_no, 0), Revised(change_no)


def _hiding(found: Records) -> list[_Placed]:
    """Each with the last seq of then, and the number of the change that tells of it; a fork's records have
    none."""
    places: list[_Placed] = []
    for row in found.compactions:
        places.append(((row["summary_seq"], row["change_no"], 0), _compaction(row)))
        if row["revert_time"] is not None:
            number = found.told.get((changes.REVERTED, row["summary_seq"]), _NEVER)
            revert = CompactionRevert(
                row["summary_seq"], row["revert_effective_seq"], row["revert_time"]
            )
            places.append(((revert.effective_seq - 1, number, 0), revert))
    for row in found.rewinds:
        places.append(((row["effective_seq"] - 1, row["rewind_id"], 0), _rewind(row)))
        if row["revert_time"] is not None:
            number = found.told.get((changes.REWIND_REVERTED, row["rewind_id"]), _NEVER)
            effective_seq = row["revert_effective_seq"]
            back = RewindRevert(row["rewind_id"], effective_seq, row["revert_time"])
            places.append(((effective_seq - 1, number, 0), back))
    return sorted(places, key=itemgetter(0))


def _compaction(row: asyncpg.Record) -> Compaction:
    return Compaction(*(row[name] for name in Compaction._fields))


def _rewind(row: asyncpg.Record) -> Rewind:
    return Rewind(*(row[name] for name in Rewind._fields))

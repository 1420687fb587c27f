"""Appending an agent's own records to a session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sessiond_server.errors import JournalFull, RequestIdReused
from sessiond_server.operations import gate
from sessiond_server.store import journal, requests
from sessiond_server.store.database import Connection, Database
from sessiond_server.store.journal import NewRecord
from sessiond_server.store.keys import SessionKey


@dataclass(frozen=True, slots=True)
class JournalAppend:
    """The records of one call; `digest` is that of all of them."""

    session_id: str
    key: SessionKey
    records: Sequence[NewRecord]
    request_id: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class Room:
    """What a session's log may hold."""

    records: int
    bytes: int


async def append(database: Database, wanted: JournalAppend, room: Room) -> tuple[int, bool]:
    """Append records; the number of the first, and whether that had been done before."""

    async def work(connection: Connection) -> tuple[int, bool]:
        await gate.lock(connection, wanted.session_id, wanted.key)
        done = await _done_before(connection, wanted)
        if done is not None:
            return done, True
        total = await journal.total(connection, wanted.key)
        if total.records + len(wanted.records) > room.records:
            raise JournalFull(wanted.session_id, f"{room.records} records")
        if total.bytes + sum(len(it.content) for it in wanted.records) > room.bytes:
            raise JournalFull(wanted.session_id, f"{room.bytes} bytes")
        first = total.next_seq
        await journal.append(connection, wanted.key, first, wanted.records)
        if wanted.request_id:
            seen = [(wanted.request_id, wanted.digest)]
            await requests.note(connection, wanted.key, requests.JOURNAL, seen, result=first)
        return first, False

    return await database.transact(work)


async def _done_before(connection: Connection, wanted: JournalAppend) -> int | None:
    """The first record's number if the request was done before."""
    if not wanted.request_id:
        return None
    ids = [wanted.request_id]
    seen = await requests.seen(connection, wanted.key, requests.JOURNAL, ids)
    known = seen.get(wanted.request_id)
    if known is None:
        return None
    if known.digest != wanted.digest:
        raise RequestIdReused(wanted.request_id)
    return known.result

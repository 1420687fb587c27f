"""An agent's own records of a session."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sessiond_server.store.database import Connection
from sessiond_server.store.keys import SessionKey
from sessiond_server.store.sql import query


class NewRecord(NamedTuple):
    """A record to be appended."""

    kind: str
    turn_index: int
    content: bytes
    origin_time: datetime | None


class StoredRecord(NamedTuple):
    """A record as it is stored."""

    seq: int
    kind: str
    turn_index: int
    content: bytes
    origin_time: datetime | None
    create_time: datetime


class Total(NamedTuple):
    """What a session holds, and the number of its next record."""

    next_seq: int = 1
    records: int = 0
    bytes: int = 0


async def total(connection: Connection, key: SessionKey) -> Total:
    row = await connection.fetchrow(query("journal_total"), *key)
    return Total() if row is None else Total(*row)


async def append(
    connection: Connection, key: SessionKey, first: int, records: Sequence[NewRecord]
) -> None:
    """Append records with the numbers from `first` on; the caller holds the head's lock."""
    columns = [list(column) for column in zip(*records, strict=True)]
    size = sum(len(record.content) for record in records)
    await connection.execute(query("append_journal"), *key, first, *columns, size)


async def page(
    connection: Connection,
    key: SessionKey,
    between: tuple[int, int],
    kinds: list[str] | None,
    *,
    limit: int,
    max_bytes: int,
    descending: bool,
) -> tuple[list[StoredRecord], bool]:
    """The first records between two numbers, and whether there are more."""
    name = "list_journal_descending" if descending else "list_journal_ascending"
    rows = await connection.fetch(query(name), *key, *between, kinds, limit + 1, max_bytes)
    found = [StoredRecord(*row[:6]) for row in rows[:limit]]
    return found, bool(rows) and rows[0]["available"] > len(found)

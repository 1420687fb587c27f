"""One reading of messages on both sides of the offload border: what lies below it comes from segments, the
rest from the table, in the order that the caller gives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import asyncpg

from sessiond_server.sessions.visibility import Segment
from sessiond_server.store import offloaded
from sessiond_server.store.database import Connection, SnapshotNeeded
from sessiond_server.store.keys import SessionKey
from sessiond_server.store.segments import FullMessage
from sessiond_server.store.sql import query

ROW_BYTES = 64
"""What a message is counted for besides its payload, here and in the queries."""

Piece = tuple[int, Segment]
"""A piece of what is read, with its number."""
Row = asyncpg.Record | FullMessage
"""A message; both have their columns as `seq` …, see `column`."""
Hot = Callable[[list[Segment], int, int], Awaitable[list[asyncpg.Record]]]
"""Reads pieces from the table: so many messages at most, and so many bytes. Each row has its piece's number,
from 1 on, as `segment`, and perhaps, as `available`, how many there were within the first limit."""


class Found(NamedTuple):
    """A message, and the number of its piece."""

    piece: int
    row: Row


async def border_of(connection: Connection, key: SessionKey, known: int | None) -> int:
    """Where the border is, for a reading from one state; 0 where it isn't known and will be checked."""
    if known is not None or not connection.is_in_transaction():
        return known or 0
    return await connection.fetchval(query("read_border"), *key) or 0


def check(connection: Connection, pieces: Sequence[Segment], border: int) -> None:
    """Raises `SnapshotNeeded` where offloaded messages would be read from changing states."""
    if not connection.is_in_transaction() and any(piece.low < border for piece in pieces):
        raise SnapshotNeeded


def runs(
    pieces: Sequence[Segment], border: int, *, descending: bool
) -> list[tuple[bool, list[Piece]]]:
    """The pieces in their order, cut at the border, together as far as they lie on the same side: whether
    below it, and the pieces."""
    found: list[tuple[bool, list[Piece]]] = []
    for number, piece in enumerate(pieces):
        sides = [
            (True, piece._replace(high=min(piece.high, border - 1))),
            (False, piece._replace(low=max(piece.low, border))),
        ]
        for below, part in reversed(sides) if descending else sides:
            if part.low > part.high:
                continue
            if not found or found[-1][0] != below:
                found.append((below, []))
            found[-1][1].append((number, part))
    return found


class Reading(NamedTuple):
    """What is read of pieces, apart from how much of it."""

    connection: Connection
    key: SessionKey
    pieces: Sequence[Segment]
    keep: Callable[[FullMessage, Segment], bool]
    """Decides on an offloaded message of a piece."""
    hot: Hot
    descending: bool = False
    roles: Sequence[int] | None = None
    kinds: Sequence[int] | None = None
    as_of_seq: int = 0

    async def page(
        self, border: int, limit: int, max_bytes: int = 2**62
    ) -> tuple[list[Found], bool]:
        """So many messages at most, and whether there are more. A first one comes whatever its size."""
        found: list[Found] = []
        size = 0
        for below, run in runs(self.pieces, border, descending=self.descending):
            if below:
                async for number, message in self._offloaded(run):
                    size += len(message.payload) + ROW_BYTES
                    if len(found) == limit or (found and size > max_bytes):
                        return found, True
                    found.append(Found(number, message))
                continue
            rows = await self.hot(
                [part for _, part in run], limit + 1 - len(found), max_bytes - size
            )
            for row in rows:
                size += len(row.get("payload", b"")) + ROW_BYTES
                if len(found) == limit or (found and size > max_bytes):
                    return found, True
                found.append(Found(run[row["segment"] - 1][0], row))
            if rows and rows[0].get("available", 0) > len(rows):
                return found, True
        return found, False

    async def _offloaded(self, run: list[Piece]) -> AsyncIterator[tuple[int, FullMessage]]:
        for number, part in run:
            found = offloaded.pieces(
                self.connection,
                self.key,
                part.low,
                part.high,
                descending=self.descending,
                roles=self.roles,
                kinds=self.kinds,
            )
            async for messages in found:
                if self.as_of_seq:
                    messages = await offloaded.as_of(
                        self.connection, self.key, messages, self.as_of_seq
                    )
                for message in messages:
                    if self.keep(message, self.pieces[number]):
                        yield number, message


def column(row: Row, name: str) -> Any:
    """A column of a message from either side."""
    return getattr(row, name) if isinstance(row, FullMessage) else row[name]

"""Drafts on their way between replicas: pieces in a table without a write-ahead log."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from sessiond_server.store import heads, offloaded
from sessiond_server.store.database import Connection, Database
from sessiond_server.store.keys import SessionKey
from sessiond_server.store.sql import query


class Piece(NamedTuple):
    """A piece of a draft, in the order of the statement's columns."""

    draft_id: UUID
    piece_no: int
    client_id: str
    whole: bool
    """Whether it stands for all before it."""
    content: bytes
    ended: int
    """How the draft ended with it; 0 if it goes on."""
    age: float = 0.0
    """Seconds since it was stored."""


class DraftTable:
    """The pieces, as `feed.drafts.DraftStore`. Any call may be refused with `DatabaseUnavailable` or
    `ReadQueueFull`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert(self, key: SessionKey, piece: Piece) -> None:
        async with self._database.connection() as connection:
            await connection.execute(query("insert_draft_piece"), *key, *piece[:6])

    async def news(self, key: SessionKey, known: Mapping[UUID, int]) -> list[Piece]:
        """The pieces of a session's drafts behind those that are known."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                query("draft_pieces"), *key, list(known.keys()), list(known.values())
            )
        return [Piece(*row) for row in rows]

    async def recent(self, age: timedelta) -> set[SessionKey]:
        """The sessions with pieces that aren't older."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(query("recent_drafts"), age)
        return {SessionKey(*row) for row in rows}

    async def forget(self, key: SessionKey, draft_id: UUID) -> None:
        async with self._database.connection() as connection:
            await connection.execute(query("forget_draft"), *key, draft_id)

    async def forget_old(self, age: timedelta) -> None:
        async with self._database.connection() as connection:
            await connection.execute(query("forget_old_drafts"), age)

    async def appended(self, key: SessionKey, client_ids: Collection[str]) -> set[str]:
        """Which of these client ids a session has."""

        async def work(connection: Connection) -> set[str]:
            rows = await connection.fetch(query("appended_among"), *key, list(client_ids))
            found = {row[0] for row in rows}
            left = [client_id for client_id in client_ids if client_id not in found]
            head = await heads.read(connection, key) if left else None
            if head is None or not head.has_offloaded:
                return found
            return found | set(await offloaded.by_client_ids(connection, key, head.first_seq, left))

        return await self._database.read(work)

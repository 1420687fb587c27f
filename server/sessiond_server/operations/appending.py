"""What becomes of an append that isn't simply new: replay, conflict, or a session to be made first."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping

from sessiond_server.errors import (
    ClientIdReused,
    PartialReplay,
    SessionExists,
    SessionNotFound,
    WriterLeaseLost,
    invalid,
)
from sessiond_server.operations import creating, gate
from sessiond_server.operations.recording import TOO_LARGE, Recording
from sessiond_server.sessions.guards import Guard
from sessiond_server.store import appends, heads, sessions
from sessiond_server.store.appends import Ack, Append, Known, MessageRow
from sessiond_server.store.database import Connection, Database
from sessiond_server.store.heads import Head
from sessiond_server.store.usage import TooLarge


class Appending:
    """The careful way to append: one at a time, under the session's lock."""

    def __init__(self, database: Database, recording: Recording, *, max_spawn_depth: int) -> None:
        self._database = database
        self._recording = recording
        self._turns = asyncio.Semaphore(max(1, database.connections // 2))
        self._max_spawn_depth = max_spawn_depth

    async def resolve(self, append: Append) -> Ack:
        """Append, or say exactly why not."""
        async with self._turns:  # appends that wait for locks leave connections to everybody else
            try:
                return await self._database.transact(
                    lambda connection: self._resolve(connection, append)
                )
            except TooLarge as error:
                raise invalid("usage", TOO_LARGE) from error

    async def _resolve(self, connection: Connection, append: Append) -> Ack:
        head, made = await self._locked(connection, append)
        known = await appends.known(connection, head, append.rows)
        new = unknown_rows(append, known)
        there = [row.client_id in known for row in append.rows] if known else []
        if not new:
            seqs = [known[row.client_id].seq for row in append.rows]
            return Ack(seqs, head.version, True, offloaded=head.has_offloaded, known=there)
        gate.check_open(append.session_id, head)
        now = await heads.now(connection)
        token = append.guard.writer_token
        gate.check_writer(append.session_id, head, token, now)
        gate.check_expected(head, append.guard)
        rest = Append(append.session_id, append.key, new, Guard(writer_token=token))
        stored = await appends.store(connection, [rest], looked=True)
        if not stored:
            raise WriterLeaseLost(append.session_id)  # it ended since the look above
        if append.usage is not None:
            await self._recording.count(
                connection, append.key, [append.usage], now, appended_seq=stored[0].first_seq
            )
        following = itertools.count(stored[0].first_seq)
        seqs = [
            known[row.client_id].seq if row.client_id in known else next(following)
            for row in append.rows
        ]
        return Ack(seqs, stored[0].version, False, head.has_offloaded, there, session_created=made)

    async def _locked(self, connection: Connection, append: Append) -> tuple[Head, bool]:
        """The locked session, and whether this made it, since it was missing and that is wanted."""
        creation, made = append.creation, False
        head = await heads.lock(connection, append.key)
        if not isinstance(creation, creating.NewSession):
            if head is None:
                raise SessionNotFound(append.session_id)
            return head, False
        if head is None:
            made = await creating.create_missing(
                connection, creation, max_spawn_depth=self._max_spawn_depth
            )
            head = await heads.lock(connection, append.key)
        row = None if head is None else await sessions.read(connection, append.key)
        if head is None or row is None:
            raise SessionExists(append.session_id)  # somebody else's
        if not made:
            creating.check_same(creation, row)
        return head, made


def unknown_rows(append: Append, known: Mapping[str, Known]) -> list[MessageRow]:
    """The messages that are new (P4). Raises `ClientIdReused` and `PartialReplay`."""
    rows, on_known = append.rows, append.on_known
    there = [row for row in rows if row.client_id in known]
    if on_known != appends.SKIP_ANY_CONTENT:
        for row in there:
            if not known[row.client_id].says(row):
                raise ClientIdReused(row.client_id, known[row.client_id].seq)
    if there and len(there) < len(rows) and on_known == appends.REFUSE:
        first = there[0].client_id
        sent = rows if append.places is None else [rows[place] for place in append.places]
        count = sum(row.client_id in known for row in sent)
        raise PartialReplay(count, len(sent), first, known[first].seq)
    return [row for row in rows if row.client_id not in known]

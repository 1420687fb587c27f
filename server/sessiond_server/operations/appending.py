"""What becomes of an append that isn't simply new: replay, conflict, or a session to be made first."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence

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
        head = await self._locked(connection, append)
        known = await appends.known(connection, head, append.rows)
        new = unknown_rows(append.rows, known, skip_known=append.skip_known)
        if not new:
            seqs = [known[row.client_id].seq for row in append.rows]
            return Ack(seqs, head.version, replayed=True, offloaded=head.has_offloaded)
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
        return Ack(seqs, stored[0].version, replayed=False, offloaded=head.has_offloaded)

    async def _locked(self, connection: Connection, append: Append) -> Head:
        """The locked session, made if it is missing and that is wanted."""
        creation, made = append.creation, False
        head = await heads.lock(connection, append.key)
        if not isinstance(creation, creating.NewSession):
            if head is None:
                raise SessionNotFound(append.session_id)
            return head
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
        return head


def unknown_rows(
    rows: Sequence[MessageRow], known: Mapping[str, Known], *, skip_known: bool
) -> list[MessageRow]:
    """The messages that are new (P4). Raises `ClientIdReused` and `PartialReplay`."""
    for row in rows:
        stored = known.get(row.client_id)
        if stored is not None and not stored.same:
            raise ClientIdReused(row.client_id, stored.seq)
    new = [row for row in rows if row.client_id not in known]
    if new and len(new) < len(rows) and not skip_known:
        first = next(row.client_id for row in rows if row.client_id in known)
        raise PartialReplay(len(rows) - len(new), len(rows), first, known[first].seq)
    return new

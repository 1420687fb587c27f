"""Recording usage: which records are new, and what they change of the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from sessiond_server.errors import RequestIdReused, invalid
from sessiond_server.operations import gate
from sessiond_server.operations.ending import read
from sessiond_server.sessions import usage as rules
from sessiond_server.sessions.usage import Record
from sessiond_server.store import changes, heads, requests, sessions, setups, usage
from sessiond_server.store.database import Connection, Database
from sessiond_server.store.keys import SessionKey
from sessiond_server.store.sessions import SessionRow

TOO_LARGE = "the sum would be 2^63 or more"


class Recording:
    """Records usage."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(
        self, session_id: str, key: SessionKey, records: Sequence[Record]
    ) -> tuple[SessionRow, int]:
        """Count records, all or none; the session, and how many had been counted before."""

        async def work(connection: Connection) -> tuple[SessionRow, int]:
            await gate.lock(connection, session_id, key)
            now = await heads.now(connection)
            replayed = await self.count(connection, key, records, now)
            if replayed < len(records):
                new = len(records) - replayed
                await changes.record(connection, key, changes.USAGE, reference=new)
            return await read(connection, session_id, key), replayed

        try:
            return await self._database.transact(work)
        except usage.TooLarge as error:
            raise invalid("records", TOO_LARGE) from error

    async def count(
        self,
        connection: Connection,
        key: SessionKey,
        records: Sequence[Record],
        now: datetime,
        *,
        appended_seq: int = 0,
    ) -> int:
        """Count records in a transaction that has locked the session, and that appended messages from a seq
        on if one is given; how many were counted before."""
        new = await _unseen(connection, key, records)
        if not new:
            return len(records)
        set_turns = {it.turn_index for it in new if it.set_turn and it.turn_index is not None}
        stored = await usage.turns(connection, key, set_turns) if set_turns else {}
        await usage.add(connection, {key: rules.changes(new, stored, now)})
        await self._fill_in(connection, {key: new}, {key: appended_seq})
        return len(records) - len(new)

    async def count_added(
        self, connection: Connection, records: Iterable[tuple[SessionKey, Record, int]]
    ) -> None:
        """Count records that add, of sessions to which the transaction appended, each from a seq on."""
        by_session = dict[SessionKey, list[Record]]()
        seqs = dict[SessionKey, int]()
        for key, record, seq in records:
            assert record.adds
            by_session.setdefault(key, []).append(record)
            if record.model:
                seqs[key] = min(seq, seqs.get(key, seq))
        now = await heads.now(connection)
        found = {key: rules.changes(of_it, {}, now) for key, of_it in by_session.items()}
        await usage.add(connection, found)
        await self._fill_in(connection, by_session, seqs)

    async def _fill_in(
        self,
        connection: Connection,
        records: Mapping[SessionKey, Sequence[Record]],
        appended: Mapping[SessionKey, int],
    ) -> None:
        """Keep what records say of models and billing, and from which appended seq on, if they came with
        messages."""
        saying = {
            key: of_it
            for key, of_it in records.items()
            if any(it.model or any(it.billing) for it in of_it)
        }
        if not saying:
            return
        known = await usage.billing(connection, saying)
        for key, of_it in saying.items():
            before = known.get(key)
            facts = rules.filled(before, of_it)
            if facts == before:
                continue
            await usage.store_billing(connection, key, facts)
            if facts[0] and not (before and before[0]):
                await _name_model(connection, key, facts[0], appended.get(key, 0))


async def _name_model(
    connection: Connection, key: SessionKey, model: str, appended_seq: int
) -> None:
    """Fill in the model of a session that has none: it holds from the next message on, or from those on that
    came with it."""
    row = await read(connection, "", key, full=True)
    if row.model:
        return
    setup = row.setup._replace(model=model)
    await setups.put(connection, row.tenant, key, appended_seq or row.next_seq, setup)
    if not appended_seq:
        await heads.count_context_changes(connection, key, 1)
    await sessions.revise(connection, key)
    await changes.record_facts(connection, key, ["model"])


async def _unseen(
    connection: Connection, key: SessionKey, records: Sequence[Record]
) -> list[Record]:
    """The records without a request id that was counted before; their ids are noted."""
    ids = [it.request_id for it in records if it.request_id]
    if not ids:
        return list(records)
    known = {
        request_id: it.digest
        for request_id, it in (await requests.seen(connection, key, requests.USAGE, ids)).items()
    }
    new, noted = list[Record](), dict[str, bytes]()
    for record in records:
        digest = known.get(record.request_id, noted.get(record.request_id))
        if not record.request_id or digest is None:
            new.append(record)
            noted[record.request_id] = record.digest
        elif digest != record.digest:
            raise RequestIdReused(record.request_id)
    noted.pop("", None)
    if noted:
        await requests.note(connection, key, requests.USAGE, list(noted.items()))
    return new

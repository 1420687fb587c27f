"""ImportSessions: records in, gathered into pieces that are stored each in a transaction, progress out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import UUID

import grpc

from sessiond.v1 import transfer_service_pb2 as rpc
from sessiond_server.errors import Refused, invalid
from sessiond_server.operations import importing
from sessiond_server.operations.importing import Applied, End, Wanted
from sessiond_server.operations.importing_files import FileImport
from sessiond_server.rpc import limits, streams, transfer_in
from sessiond_server.rpc.errors import in_stream
from sessiond_server.rpc.policies import code_of
from sessiond_server.sessions.setups import Setup
from sessiond_server.sessions.transfers import Item, Message, SetupChange
from sessiond_server.store.database import Database

_PIECE_RECORDS, _PIECE_BYTES = 500, 2**20
_WHOLE_BYTES = 16 * 2**20
_PASSING = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED}


class _Session:
    """A session whose records come."""

    def __init__(self, session_id: str, wanted: Wanted | None) -> None:
        self.wanted = wanted
        self.outcome = rpc.ImportOutcome(session_id=session_id)
        self.items: list[Item] = []
        self.bytes = 0
        self.messages = 0
        self.incarnation: UUID | None = None
        self.file: FileImport | None = None
        """An attachment whose bytes haven't all come."""
        self.file_records = 0
        self._run = 0
        self.setup: Setup | None = None
        """What the session runs with, as far as records have said so."""

    @property
    def failed(self) -> bool:
        return self.outcome.HasField("error")

    def fits(self, item: Item) -> bool:
        """Whether an item must be stored together with those before it: a summary with its compaction,
        and messages of one append."""
        if not self.items:
            return True
        last = self.items[-1]
        small = len(self.items) < _PIECE_RECORDS and self.bytes < _PIECE_BYTES
        if small or (isinstance(last, Message) and last.summary):
            return True
        together = (
            isinstance(last, Message)
            and isinstance(item, Message)
            and last.create_time == item.create_time
        )
        return together and self.bytes < _WHOLE_BYTES

    def add(self, item: Item, size: int) -> None:
        if isinstance(item, Message):
            last = self.items[-1] if self.items else None
            same = isinstance(last, Message) and last.create_time == item.create_time
            self._run = self._run + 1 if same else 1
            if self._run > limits.CALL_MESSAGES:
                raise invalid(
                    "records.message.create_time",
                    f"more than {limits.CALL_MESSAGES} messages have the time of {item.seq}",
                )
            self.messages += 1
        elif isinstance(item, SetupChange):
            self.setup = item.setup
        self.items.append(item)
        self.bytes += size

    def note(self, applied: Applied) -> None:
        """Count what a piece came to."""
        first = self.incarnation is None
        self.incarnation = applied.incarnation
        self.items, self.bytes = [], 0
        outcome, counts = self.outcome, applied.counts
        outcome.messages_added += counts.messages_added
        outcome.messages_known += counts.messages_known
        outcome.records_added += counts.records_added
        outcome.records_known += counts.records_known
        outcome.facts_differ |= applied.facts_differ
        if first:
            outcome.created = applied.created
            outcome.parent_missing = applied.parent_missing


class ImportStream:
    """One call. A session's refusal is its outcome; what isn't a session's is raised."""

    def __init__(
        self, database: Database, tenant: str, timeout: float, closing: asyncio.Event
    ) -> None:
        self._database = database
        self._tenant = tenant
        self._timeout = timeout
        self._closing = closing
        self._session: _Session | None = None
        self._count = 0
        self._stored = False
        self._outcomes: list[rpc.ImportOutcome] = []

    async def answers(
        self, requests: AsyncIterator[rpc.ImportSessionsRequest]
    ) -> AsyncIterator[rpc.ImportSessionsResponse]:
        try:
            while (request := await self._next(requests)) is not None:
                if not 1 <= len(request.records) <= limits.TRANSFER_RECORDS:
                    raise invalid("records", f"must have 1 to {limits.TRANSFER_RECORDS}")
                for place, record in enumerate(request.records):
                    await self._take(record, f"records[{place}]")
                    self._count += 1
                if self._outcomes or self._stored:
                    yield self._answer()
            if self._session is not None:
                raise invalid("records", f"end within session {self._session.outcome.session_id!r}")
        finally:
            if self._session is not None:
                await self._forget_file(self._session)

    async def _next(
        self, requests: AsyncIterator[rpc.ImportSessionsRequest]
    ) -> rpc.ImportSessionsRequest | None:
        try:
            return await streams.following(requests, self._timeout, self._closing)
        except TimeoutError as error:
            raise invalid("records", f"nothing came for {self._timeout:g} s") from error

    def _answer(self) -> rpc.ImportSessionsResponse:
        waiting = 0
        if self._session is not None:
            waiting = len(self._session.items) + self._session.file_records
        answer = rpc.ImportSessionsResponse(
            record_count=self._count - waiting, outcomes=self._outcomes
        )
        self._outcomes, self._stored = [], False
        return answer

    async def _take(self, record: rpc.TransferRecord, where: str) -> None:
        kind = record.WhichOneof("record")
        if kind == "session":
            self._begin(record.session, f"{where}.session")
            return
        session = self._session
        if session is None:
            raise invalid(where, "must be the beginning of a session")
        if kind is None:
            raise invalid(where, "must hold a record")
        try:
            if session.file is not None and kind != "chunk":
                raise invalid(where, "must be the next bytes of the attachment before it")
            if kind in ("attachment", "chunk"):
                if not session.failed:
                    await self._take_file(session, record, f"{where}.{kind}")
            elif kind == "end":
                if not session.failed:
                    end = transfer_in.end(record.end, f"{where}.end", session.messages)
                    await self._store(session, replace(end, setup=session.setup))
            elif not session.failed:
                item = transfer_in.item(record, where)
                if not session.fits(item):
                    await self._store(session, None)
                session.add(item, record.ByteSize())
        except Refused as error:
            await self._forget_file(session)
            self._fail(session, error)
        if kind == "end":
            self._finish(session)

    def _begin(self, record: rpc.TransferSession, where: str) -> None:
        if self._session is not None:
            raise invalid(where, f"{self._session.outcome.session_id!r} hasn't ended")
        session_id = record.session.id[: limits.SESSION_ID_BYTES]
        try:
            wanted = transfer_in.session(record, where, tenant=self._tenant)
        except Refused as error:
            self._session = _Session(session_id, None)
            self._fail(self._session, error)
        else:
            self._session = _Session(session_id, wanted)

    async def _take_file(self, session: _Session, record: rpc.TransferRecord, where: str) -> None:
        """The beginning of an attachment, or more of its bytes."""
        if record.WhichOneof("record") == "attachment":
            if session.items or session.incarnation is None:
                await self._store(session, None)
            session.file = transfer_in.attachment(
                record.attachment, where, session.outcome.session_id, self._database
            )
            await session.file.begin()
            data = transfer_in.chunk(record.attachment, where)
        else:
            data = transfer_in.chunk(record.chunk, where)
        if session.file is None:
            raise invalid(where, "must follow an attachment")
        if record.chunk.gone:
            await self._forget_file(session)
        elif await session.file.add(data):
            session.outcome.records_known += session.file.known
            session.outcome.records_added += not session.file.known
            session.file, session.file_records = None, 0
            self._stored = True
        else:
            session.file_records += 1

    async def _forget_file(self, session: _Session) -> None:
        if session.file is not None:
            file, session.file = session.file, None
            session.file_records = 0
            await file.close()

    async def _store(self, session: _Session, end: End | None) -> None:
        assert session.wanted is not None
        applied = await importing.apply(
            self._database,
            session.wanted,
            session.items,
            incarnation=session.incarnation,
            end=end,
        )
        session.note(applied)
        self._stored = True

    def _fail(self, session: _Session, error: Refused) -> None:
        if code_of(error.reason) in _PASSING:
            raise error
        session.items, session.bytes = [], 0
        session.outcome.error.CopyFrom(in_stream(error))

    def _finish(self, session: _Session) -> None:
        self._outcomes.append(session.outcome)
        self._session = None

"""JournalService: check, translate, call, translate back."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from sessiond.v1 import journal_pb2 as pb
from sessiond.v1 import journal_service_pb2 as rpc
from sessiond.v1.sort_order_pb2 import SORT_ORDER_DESCENDING, SortOrder
from sessiond_server.operations import journal, reading
from sessiond_server.operations.journal import JournalAppend, Room
from sessiond_server.rpc import access, checks, limits, page_tokens
from sessiond_server.rpc.checks import Checks
from sessiond_server.rpc.registry import Context
from sessiond_server.rpc.times import optional_timestamp, timestamp
from sessiond_server.store import journal as store
from sessiond_server.store.database import Database
from sessiond_server.store.journal import NewRecord, StoredRecord

_ROOM = Room(limits.JOURNAL_RECORDS, limits.JOURNAL_BYTES)


@dataclass(slots=True)
class JournalServicer:
    """Session logs over gRPC."""

    database: Database

    async def AppendJournal(
        self, request: rpc.AppendJournalRequest, _: Context
    ) -> rpc.AppendJournalResponse:
        wanted = _append(request)
        first, replayed = await journal.append(self.database, wanted, _ROOM)
        last = first + len(wanted.records) - 1
        return rpc.AppendJournalResponse(first_seq=first, last_seq=last, replayed=replayed)

    async def ListJournal(
        self, request: rpc.ListJournalRequest, _: Context
    ) -> rpc.ListJournalResponse:
        session_id = checks.session_id(request.session_id)
        size = checks.page_size(request, limits.RECORD_PAGE)
        with Checks() as check:
            check.count("kinds", len(request.kinds), limits.JOURNAL_KINDS)
            for place, kind in enumerate(request.kinds[: limits.JOURNAL_KINDS]):
                check.text(f"kinds[{place}]", kind)
            check.enum("order", request.order, SortOrder.values())
        call = page_tokens.call_of("ListJournal", request)
        descending = request.order == SORT_ORDER_DESCENDING
        between = (1, limits.MAX_SEQ)
        if request.page_token:
            place = int(page_tokens.decode(request.page_token, call, int)[0] or 0)
            between = (1, place - 1) if descending else (place + 1, limits.MAX_SEQ)
        key = access.key_of(session_id)
        async with self.database.connection() as connection:
            await reading.head_of(connection, session_id, key)
            found, more = await store.page(
                connection,
                key,
                between,
                list(request.kinds) or None,
                limit=size,
                max_bytes=limits.PAGE_BYTES,
                descending=descending,
            )
        token = page_tokens.encode([found[-1].seq], call) if more else ""
        return rpc.ListJournalResponse(
            records=[_record_out(it) for it in found], next_page_token=token
        )


def _append(request: rpc.AppendJournalRequest) -> JournalAppend:
    session_id = checks.session_id(request.session_id)
    with Checks() as check:
        check.count("records", len(request.records), limits.CALL_MESSAGES, least=1)
        check.request_id("request_id", request.request_id)
        for place, record in enumerate(request.records[: limits.CALL_MESSAGES]):
            where = f"records[{place}]"
            check.text(f"{where}.kind", record.kind)
            check.not_negative(f"{where}.turn_index", record.turn_index)
            check.size(f"{where}.content", len(record.content), limits.JOURNAL_RECORD_BYTES)
            if record.HasField("origin_time"):
                check.timestamp(f"{where}.origin_time", record.origin_time)
        size = sum(record.ByteSize() for record in request.records)
        check.size("records", size, limits.CALL_BYTES)
    digest = hashlib.blake2b(digest_size=16)
    for record in request.records:
        record.ClearField("seq")
        record.ClearField("create_time")
        encoded = record.SerializeToString(deterministic=True)
        digest.update(len(encoded).to_bytes(4) + encoded)
    return JournalAppend(
        session_id,
        access.key_of(session_id),
        [_record_in(record) for record in request.records],
        request.request_id,
        digest.digest(),
    )


def _record_in(record: pb.JournalRecord) -> NewRecord:
    time = checks.moment(record.origin_time) if record.HasField("origin_time") else None
    return NewRecord(record.kind, record.turn_index, record.content, time)


def _record_out(record: StoredRecord) -> pb.JournalRecord:
    return pb.JournalRecord(
        seq=record.seq,
        kind=record.kind,
        content=record.content,
        turn_index=record.turn_index,
        origin_time=optional_timestamp(record.origin_time),
        create_time=timestamp(record.create_time),
    )

"""TransferService: check, translate, call, translate back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from sessiond.v1 import transfer_service_pb2 as rpc
from sessiond_server.errors import PageTokenInvalid, PermissionDenied, ResumeTokenInvalid
from sessiond_server.operations import exporting
from sessiond_server.operations.export_log import Gone, LogExport
from sessiond_server.operations.exporting import Exported, Selection
from sessiond_server.rpc import access, limits, page_tokens, transfer_out
from sessiond_server.rpc.checks import Checks, is_session_id
from sessiond_server.rpc.import_stream import ImportStream
from sessiond_server.rpc.registry import Context
from sessiond_server.rpc.session_filters import filter_in
from sessiond_server.rpc.streams import Slots
from sessiond_server.sessions.transfers import Change, JournalRecord, TurnsPlace
from sessiond_server.store.database import Database
from sessiond_server.store.messages import StoredMessage

_PIECE_BYTES = 2**20
_KINDS = frozenset(rpc.TransferChangeKind.values())


class TransferServicer:
    """Exports and imports over gRPC."""

    def __init__(self, database: Database, *, imports: int, import_timeout: float) -> None:
        self._database = database
        self._imports = Slots(imports)
        self._import_timeout = import_timeout
        self._closing = asyncio.Event()

    def close_streams(self) -> None:
        """End imports when they wait for their next request, and those that still come."""
        self._closing.set()

    async def ExportSessions(
        self, request: rpc.ExportSessionsRequest, _: Context
    ) -> AsyncIterator[rpc.ExportSessionsResponse]:
        wanted, call = _selection(request), _call(request)
        after = _place(request.resume_token, call) if request.resume_token else None
        turns = await exporting.select(self._database, wanted, after)
        answer, size = rpc.ExportSessionsResponse(), 0
        for turn in turns:
            found = await exporting.look(self._database, wanted, turn.session_id)
            if found is None:
                continue
            async for record in self._records(found):
                weight = record.ByteSize() + 8
                full = len(answer.records) == limits.TRANSFER_RECORDS
                if answer.records and (full or size + weight > _PIECE_BYTES):
                    yield answer
                    answer, size = rpc.ExportSessionsResponse(), 0
                answer.records.append(record)
                size += weight
            if found.row.create_time != turn.create_time:
                turns.anew(turn.session_id)
            answer.resume_token = _token(turns.place, call)
        if answer.records:
            yield answer

    async def _records(self, found: Exported) -> AsyncIterator[rpc.TransferRecord]:
        yield transfer_out.session(found)
        count = 0
        try:
            async for happened in LogExport(self._database, found, _PIECE_BYTES).happened():
                if isinstance(happened, Change) and happened.kind not in _KINDS:
                    continue
                if isinstance(happened, JournalRecord) and not access.may(access.ADMIN):
                    continue
                count += isinstance(happened, StoredMessage)
                yield transfer_out.item(happened)
        except Gone:
            yield transfer_out.end(found, count, gone=True)
        else:
            yield transfer_out.end(found, count, gone=False)

    async def ImportSessions(
        self, requests: AsyncIterator[rpc.ImportSessionsRequest], _: Context
    ) -> AsyncIterator[rpc.ImportSessionsResponse]:
        if access.owner() is not None:
            raise PermissionDenied("An import needs an API key that is bound to no owner.", "admin")
        with self._imports.one():
            stream = ImportStream(
                self._database, access.tenant(), self._import_timeout, self._closing
            )
            async for answer in stream.answers(requests):
                yield answer


def _selection(request: rpc.ExportSessionsRequest) -> Selection:
    with Checks() as check:
        check.count("session_ids", len(request.session_ids), limits.TRANSFER_IDS)
        for place, session_id in enumerate(request.session_ids[: limits.TRANSFER_IDS]):
            check.session_id(f"session_ids[{place}]", session_id)
        named = bool(request.session_ids)
        wanted = filter_in(request.filter, "filter", check, named=named)
        if request.continuations and not named:
            check.wrong("continuations", "needs session_ids")
    ids = list(request.session_ids) or None
    return Selection(wanted, access.owner(), ids, request.continuations)


def _call(request: rpc.ExportSessionsRequest) -> bytes:
    """What a resume token is bound to: all that says which sessions."""
    bound = rpc.ExportSessionsRequest()
    bound.CopyFrom(request)
    bound.ClearField("resume_token")
    return b"ExportSessions\0" + bound.SerializeToString(deterministic=True)


def _token(place: TurnsPlace, call: bytes) -> str:
    ahead = "\n".join(place.ahead)
    return page_tokens.encode([place.create_time.isoformat(), place.session_id, ahead], call)


def _place(token: str, call: bytes) -> TurnsPlace:
    try:
        time, session_id, ahead = map(str, page_tokens.decode(token, call, str, str, str))
        moment = datetime.fromisoformat(time)
    except (PageTokenInvalid, ValueError) as error:
        raise ResumeTokenInvalid("resume_token") from error
    ids = ahead.split("\n") if ahead else []
    named = [session_id, *ids] if session_id else ids
    if moment.tzinfo != UTC or not all(map(is_session_id, named)):
        raise ResumeTokenInvalid("resume_token")
    return TurnsPlace(moment, session_id, tuple(ids))

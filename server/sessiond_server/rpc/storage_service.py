"""StorageService: check, translate, call, translate back."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from sessiond.v1 import storage_pb2
from sessiond.v1 import storage_service_pb2 as rpc
from sessiond_server.errors import SearchDisabled
from sessiond_server.operations import offloading, reading, searching
from sessiond_server.rpc import access, checks, limits, page_tokens
from sessiond_server.rpc.checks import Checks
from sessiond_server.rpc.registry import Context
from sessiond_server.rpc.times import timestamp
from sessiond_server.store import offload
from sessiond_server.store.database import Database
from sessiond_server.store.keys import SessionKey
from sessiond_server.store.offload import OffloadRow


@dataclass(slots=True)
class StorageServicer:
    """Where messages are stored and how they are indexed, over gRPC. `wake` tells the indexer of sessions;
    there is none where search is off."""

    database: Database
    segment_messages: int
    wake: Callable[[Collection[SessionKey]], None] | None

    async def OffloadMessages(
        self, request: rpc.OffloadMessagesRequest, _: Context
    ) -> rpc.OffloadMessagesResponse:
        session_id = checks.session_id(request.session_id)
        with Checks() as check:
            check.chosen("which", request, "all")
            if request.HasField("before_seq"):
                check.seq("before_seq", request.before_seq, least=1)
            check.not_negative("keep_recent_messages", request.keep_recent_messages)
            check.text("author", request.author)
        moved = await offloading.offload_messages(
            self.database,
            session_id,
            access.key_of(session_id),
            before_seq=request.before_seq if request.HasField("before_seq") else None,
            keep_recent=request.keep_recent_messages,
            by=access.by(request.author),
            segment_messages=self.segment_messages,
        )
        return rpc.OffloadMessagesResponse(
            offloaded_before_seq=moved.border, message_count=moved.messages, more=moved.more
        )

    async def RestoreMessages(
        self, request: rpc.RestoreMessagesRequest, _: Context
    ) -> rpc.RestoreMessagesResponse:
        session_id = checks.session_id(request.session_id)
        with Checks() as check:
            check.chosen("which", request, "all")
            if request.HasField("from_seq"):
                check.seq("from_seq", request.from_seq, least=1)
            check.text("author", request.author)
        moved = await offloading.restore_messages(
            self.database,
            session_id,
            access.key_of(session_id),
            from_seq=request.from_seq,
            by=access.by(request.author),
        )
        return rpc.RestoreMessagesResponse(
            offloaded_before_seq=moved.border, message_count=moved.messages, more=moved.more
        )

    async def ListOffloads(
        self, request: rpc.ListOffloadsRequest, _: Context
    ) -> rpc.ListOffloadsResponse:
        session_id = checks.session_id(request.session_id)
        size = checks.page_size(request, limits.RECORD_PAGE)
        call = page_tokens.call_of("ListOffloads", request)
        before = page_tokens.before(request.page_token, call)
        key = access.key_of(session_id)
        async with self.database.connection() as connection:
            await reading.head_of(connection, session_id, key)
            rows = await offload.list_records(connection, key, before, size + 1)
        return rpc.ListOffloadsResponse(
            offloads=[offload_out(row) for row in rows[:size]],
            next_page_token=page_tokens.encode([rows[size - 1].offload_id], call)
            if len(rows) > size
            else "",
        )

    async def ReindexSessions(
        self, request: rpc.ReindexSessionsRequest, _: Context
    ) -> rpc.ReindexSessionsResponse:
        ids = list(dict.fromkeys(request.session_ids))
        with Checks() as check:
            check.count("session_ids", len(request.session_ids), limits.REINDEXED)
            for place, session_id in enumerate(ids[: limits.REINDEXED]):
                check.session_id(f"session_ids[{place}]", session_id)
            if bool(ids) == request.all:
                check.wrong("session_ids", "must be given, or else all must be set")
        if self.wake is None:
            raise SearchDisabled
        keys = None if request.all else [access.key_of(session_id) for session_id in ids]
        count = await searching.index_again(self.database, access.tenant(), keys, self.wake)
        return rpc.ReindexSessionsResponse(session_count=count)


def offload_out(row: OffloadRow) -> storage_pb2.Offload:
    return storage_pb2.Offload(
        id=row.offload_id,
        restored=row.restored,
        from_seq=row.from_seq,
        to_seq=row.to_seq,
        message_bytes=row.message_bytes,
        stored_bytes=row.stored_bytes,
        author=row.author,
        actor=row.actor,
        create_time=timestamp(row.create_time),
    )

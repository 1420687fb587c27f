"""ContextService: check, translate, call, translate back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from sessiond.v1 import context_service_pb2 as rpc
from sessiond.v1 import message_pb2 as pb
from sessiond.v1 import session_pb2
from sessiond_server.operations import archiving, compacting, context, reading, writers
from sessiond_server.operations.context import Selection, Wanted
from sessiond_server.rpc import access, checks, limits, messages_in, messages_out, page_tokens
from sessiond_server.rpc.checks import Checks
from sessiond_server.rpc.registry import Context
from sessiond_server.rpc.times import optional_timestamp, timestamp
from sessiond_server.sessions.planning import Goal
from sessiond_server.store import archive, contexts
from sessiond_server.store.appends import MessageRow
from sessiond_server.store.archive import ArchiveRow
from sessiond_server.store.contexts import CompactionRow
from sessiond_server.store.database import Database

_MESSAGES_FIELD = rpc.GetContextResponse.DESCRIPTOR.fields_by_name["messages"].number


@dataclass(slots=True)
class ContextServicer:
    """Contexts, compactions and leases over gRPC."""

    database: Database
    segment_messages: int

    async def GetContext(self, request: rpc.GetContextRequest, _: Context) -> AsyncIterator[bytes]:
        session_id = checks.session_id(request.session_id)
        with Checks() as check:
            check.seq("as_of_seq", request.as_of_seq)
            check.not_negative("max_tokens", request.max_tokens)
            check.not_negative("max_messages", request.max_messages)
        wanted = Wanted(
            session_id,
            access.key_of(session_id),
            request.as_of_seq,
            request.max_tokens,
            request.max_messages,
        )
        async with self.database.snapshot() as connection:
            selection = await context.select(connection, wanted)
            answer = rpc.GetContextResponse(totals=_totals(selection))
            last = answer.SerializeToString()
            budget = limits.PAGE_BYTES - len(last)
            found = context.pages(connection, wanted, selection, budget)
            async for messages, marks, more in found:
                last = messages_out.with_messages(answer, _MESSAGES_FIELD, messages, marks)
                if more:  # the last piece leaves when the connection is free again
                    yield last
                answer = rpc.GetContextResponse()
        yield last

    async def PlanCompaction(
        self, request: rpc.PlanCompactionRequest, _: Context
    ) -> rpc.PlanCompactionResponse:
        session_id = checks.session_id(request.session_id)
        goal = _goal(request)
        lease = None
        if request.acquire_lease:
            given = request.HasField("lease_ttl")
            default = limits.COMPACTION_LEASE_SECONDS
            ttl = checks.lease_ttl(request.lease_ttl, given, default, "lease_ttl")
            lease = (request.lease_holder, ttl)
        key = access.key_of(session_id)
        planned = await compacting.plan(self.database, session_id, key, goal, lease)
        answer = rpc.PlanCompactionResponse(
            nothing_to_compact=planned.nothing,  # type: ignore[arg-type]
            lease_token=planned.lease_token,
            lease_expire_time=optional_timestamp(planned.lease_expire_time),
        )
        if planned.plan_range is not None:
            answer.plan.from_seq, answer.plan.to_seq = planned.plan_range
            answer.plan.message_count = planned.message_count
            answer.plan.token_count = planned.token_count
            answer.plan.reaches_goal = planned.reaches_goal
            answer.plan.next_seq = planned.next_seq
        return answer

    async def CompactSession(
        self, request: rpc.CompactSessionRequest, _: Context
    ) -> rpc.CompactSessionResponse:
        session_id = checks.session_id(request.session_id)
        row, replayed, next_seq = await compacting.compact(
            self.database, _compact(request, session_id)
        )
        return rpc.CompactSessionResponse(
            compaction=compaction_out(row), replayed=replayed, next_seq=next_seq
        )

    async def RevertCompaction(
        self, request: rpc.RevertCompactionRequest, _: Context
    ) -> rpc.RevertCompactionResponse:
        session_id = checks.session_id(request.session_id)
        with Checks() as check:
            check.seq("note_seq", request.note_seq, least=1)
            check.seq("expected_next_seq", request.expected_next_seq)
            check.text("writer_token", request.writer_token)
        row = await compacting.revert(
            self.database,
            session_id,
            access.key_of(session_id),
            request.note_seq,
            expected_next_seq=request.expected_next_seq,
            writer_token=request.writer_token,
        )
        return rpc.RevertCompactionResponse(compaction=compaction_out(row))

    async def ListCompactions(
        self, request: rpc.ListCompactionsRequest, _: Context
    ) -> rpc.ListCompactionsResponse:
        session_id = checks.session_id(request.session_id)
        size = checks.page_size(request, limits.RECORD_PAGE)
        call = page_tokens.call_of("ListCompactions", request)
        before = page_tokens.before(request.page_token, call)
        key = access.key_of(session_id)
        async with self.database.connection() as connection:
            await reading.head_of(connection, session_id, key)
            rows = await contexts.list_compactions(connection, key, before, size + 1)
        return rpc.ListCompactionsResponse(
            compactions=[compaction_out(row) for row in rows[:size]],
            next_page_token=page_tokens.encode([rows[size - 1].note_seq], call)
            if len(rows) > size
            else "",
        )

    async def ArchiveMessages(
        self, request: rpc.ArchiveMessagesRequest, _: Context
    ) -> rpc.ArchiveMessagesResponse:
        session_id = checks.session_id(request.session_id)
        with Checks() as check:
            check.seq("before_seq", request.before_seq)
            check.not_negative("keep_recent_messages", request.keep_recent_messages)
            check.text("author", request.author)
        moved = await archiving.archive_messages(
            self.database,
            session_id,
            access.key_of(session_id),
            before_seq=request.before_seq,
            keep_recent=request.keep_recent_messages,
            author=request.author,
            segment_messages=self.segment_messages,
        )
        return rpc.ArchiveMessagesResponse(
            archived_before_seq=moved.border, message_count=moved.messages, more=moved.more
        )

    async def RestoreMessages(
        self, request: rpc.RestoreMessagesRequest, _: Context
    ) -> rpc.RestoreMessagesResponse:
        session_id = checks.session_id(request.session_id)
        with Checks() as check:
            check.seq("from_seq", request.from_seq)
            check.text("author", request.author)
        moved = await archiving.restore_messages(
            self.database,
            session_id,
            access.key_of(session_id),
            from_seq=request.from_seq,
            author=request.author,
        )
        return rpc.RestoreMessagesResponse(
            archived_before_seq=moved.border, message_count=moved.messages, more=moved.more
        )

    async def ListArchives(
        self, request: rpc.ListArchivesRequest, _: Context
    ) -> rpc.ListArchivesResponse:
        session_id = checks.session_id(request.session_id)
        size = checks.page_size(request, limits.RECORD_PAGE)
        call = page_tokens.call_of("ListArchives", request)
        before = page_tokens.before(request.page_token, call)
        key = access.key_of(session_id)
        async with self.database.connection() as connection:
            await reading.head_of(connection, session_id, key)
            rows = await archive.list_records(connection, key, before, size + 1)
        return rpc.ListArchivesResponse(
            archives=[archive_out(row) for row in rows[:size]],
            next_page_token=page_tokens.encode([rows[size - 1].archive_id], call)
            if len(rows) > size
            else "",
        )

    async def ReleaseLease(
        self, request: rpc.ReleaseLeaseRequest, _: Context
    ) -> rpc.ReleaseLeaseResponse:
        session_id = checks.session_id(request.session_id)
        with Checks() as check:
            check.required("lease_token", request.lease_token)
        key = access.key_of(session_id)
        await compacting.release_lease(self.database, session_id, key, request.lease_token)
        return rpc.ReleaseLeaseResponse()

    async def AcquireWriter(
        self, request: rpc.AcquireWriterRequest, _: Context
    ) -> rpc.AcquireWriterResponse:
        session_id = checks.session_id(request.session_id)
        with Checks() as check:
            check.required("holder", request.holder)
        ttl = checks.lease_ttl(
            request.ttl, request.HasField("ttl"), limits.WRITER_LEASE_SECONDS, "ttl"
        )
        key = access.key_of(session_id)
        lease = await writers.acquire(self.database, session_id, key, request.holder, ttl)
        return rpc.AcquireWriterResponse(
            writer_token=lease.token,
            epoch=lease.epoch,
            expire_time=timestamp(lease.expire_time),
            next_seq=lease.next_seq,
        )

    async def RenewWriter(
        self, request: rpc.RenewWriterRequest, _: Context
    ) -> rpc.RenewWriterResponse:
        session_id = checks.session_id(request.session_id)
        with Checks() as check:
            check.required("writer_token", request.writer_token)
        ttl = checks.lease_ttl(
            request.ttl, request.HasField("ttl"), limits.WRITER_LEASE_SECONDS, "ttl"
        )
        key = access.key_of(session_id)
        expire_time = await writers.renew(self.database, session_id, key, request.writer_token, ttl)
        return rpc.RenewWriterResponse(expire_time=timestamp(expire_time))

    async def ReleaseWriter(
        self, request: rpc.ReleaseWriterRequest, _: Context
    ) -> rpc.ReleaseWriterResponse:
        session_id = checks.session_id(request.session_id)
        with Checks() as check:
            check.required("writer_token", request.writer_token)
        key = access.key_of(session_id)
        await writers.release(self.database, session_id, key, request.writer_token)
        return rpc.ReleaseWriterResponse()


def _totals(selection: Selection) -> rpc.ContextTotals:
    return rpc.ContextTotals(
        message_count=selection.message_count,
        token_count=selection.token_count,
        omitted_message_count=selection.omitted,
        as_of_seq=selection.as_of_seq,
        next_seq=selection.next_seq,
        system_prompt=session_pb2.Session.FromString(selection.details).system_prompt,
    )


def _goal(request: rpc.PlanCompactionRequest) -> Goal:
    kind = request.WhichOneof("goal")
    default, most = limits.KEEP_RECENT
    with Checks() as check:
        check.not_negative("max_context_tokens", request.max_context_tokens)
        check.not_negative("max_context_messages", request.max_context_messages)
        check.not_negative("note_token_count", request.note_token_count)
        check.not_negative("keep_recent_messages", request.keep_recent_messages)
        if request.keep_recent_messages > most:
            check.wrong("keep_recent_messages", f"must be at most {most}")
        if request.acquire_lease:
            check.required("lease_holder", request.lease_holder)
    return Goal(
        request.max_context_tokens if kind == "max_context_tokens" else None,
        request.max_context_messages if kind == "max_context_messages" else None,
        request.note_token_count,
        request.keep_recent_messages or default,
    )


def _note(note: pb.Message, check: Checks) -> MessageRow:
    note.role = note.role or pb.ROLE_SYSTEM
    note.kind = note.kind or pb.MESSAGE_KIND_NOTE
    if not note.HasField("in_transcript"):
        note.in_transcript = False
    messages_in.check(note, "note", check)
    if note.tool_calls:
        check.wrong("note.tool_calls", "must be empty: a note can't call tools")
    if note.tool_call_id:
        check.wrong("note.tool_call_id", "must be empty: a note isn't a tool's result")
    row = messages_in.row(note)
    check.size("note", len(row.payload), limits.CALL_BYTES)
    return row


def _compact(request: rpc.CompactSessionRequest, session_id: str) -> compacting.Compact:
    with Checks() as check:
        check.seq("from_seq", request.from_seq, least=1)
        check.seq("to_seq", request.to_seq, least=1)
        if request.from_seq > request.to_seq:
            check.wrong("to_seq", "must not be before from_seq")
        note = _note(request.note, check)
        check.not_negative("tokens_before", request.tokens_before)
        check.not_negative("tokens_after", request.tokens_after)
        check.text("author", request.author)
        check.text("model", request.model)
        check.text("lease_token", request.lease_token)
        check.text("writer_token", request.writer_token)
        check.seq("expected_next_seq", request.expected_next_seq)
    return compacting.Compact(
        session_id=session_id,
        key=access.key_of(session_id),
        from_seq=request.from_seq,
        to_seq=request.to_seq,
        note=note,
        tokens_before=request.tokens_before,
        tokens_after=request.tokens_after,
        author=request.author,
        model=request.model,
        lease_token=request.lease_token,
        expected_next_seq=request.expected_next_seq,
        writer_token=request.writer_token,
    )


def archive_out(row: ArchiveRow) -> rpc.Archive:
    return rpc.Archive(
        archive_id=row.archive_id,
        restored=row.restored,
        from_seq=row.from_seq,
        to_seq=row.to_seq,
        message_bytes=row.message_bytes,
        stored_bytes=row.stored_bytes,
        author=row.author,
        create_time=timestamp(row.create_time),
    )


def compaction_out(row: CompactionRow) -> rpc.Compaction:
    return rpc.Compaction(
        note_seq=row.note_seq,
        from_seq=row.from_seq,
        to_seq=row.to_seq,
        message_count=row.message_count,
        tokens_before=row.tokens_before,
        tokens_after=row.tokens_after,
        author=row.author,
        model=row.model,
        round_index=row.round_index,
        create_time=timestamp(row.create_time),
        revert_time=optional_timestamp(row.revert_time),
        in_context=row.in_context,
    )

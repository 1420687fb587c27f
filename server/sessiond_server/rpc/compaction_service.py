"""CompactionService: check, translate, call, translate back."""

from __future__ import annotations

from dataclasses import dataclass

from sessiond.v1 import compaction_pb2, message_pb2
from sessiond.v1 import compaction_service_pb2 as rpc
from sessiond_server.operations import compacting, reading
from sessiond_server.rpc import access, checks, limits, messages_in, page_tokens, parts_in
from sessiond_server.rpc.checks import Checks
from sessiond_server.rpc.registry import Context
from sessiond_server.rpc.times import optional_timestamp, timestamp
from sessiond_server.sessions.planning import Goal
from sessiond_server.store import contexts
from sessiond_server.store.appends import MessageRow
from sessiond_server.store.contexts import CompactionRow
from sessiond_server.store.database import Database


@dataclass(slots=True)
class CompactionServicer:
    """Compactions and their leases over gRPC."""

    database: Database

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
            lease = (request.holder, ttl)
        key = access.key_of(session_id)
        planned = await compacting.plan(self.database, session_id, key, goal, lease)
        answer = rpc.PlanCompactionResponse(
            nothing_to_compact=planned.nothing,  # type: ignore[arg-type]
            lease_token=planned.lease_token,
            expire_time=optional_timestamp(planned.expire_time),
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
            check.seq("compaction_id", request.compaction_id, least=1)
            check.seq("expected_next_seq", request.expected_next_seq)
            check.text("writer_token", request.writer_token)
        row = await compacting.revert(
            self.database,
            session_id,
            access.key_of(session_id),
            request.compaction_id,
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
            next_page_token=page_tokens.encode([rows[size - 1].summary_seq], call)
            if len(rows) > size
            else "",
        )

    async def ReleaseCompactionLease(
        self, request: rpc.ReleaseCompactionLeaseRequest, _: Context
    ) -> rpc.ReleaseCompactionLeaseResponse:
        session_id = checks.session_id(request.session_id)
        with Checks() as check:
            check.required("lease_token", request.lease_token)
        key = access.key_of(session_id)
        await compacting.release_compaction_lease(
            self.database, session_id, key, request.lease_token
        )
        return rpc.ReleaseCompactionLeaseResponse()


def _goal(request: rpc.PlanCompactionRequest) -> Goal:
    kind = request.WhichOneof("goal")
    default, most = limits.KEEP_RECENT
    with Checks() as check:
        check.not_negative("max_context_tokens", request.max_context_tokens)
        check.not_negative("max_context_messages", request.max_context_messages)
        check.not_negative("summary_token_count", request.summary_token_count)
        check.not_negative("keep_recent_messages", request.keep_recent_messages)
        if request.keep_recent_messages > most:
            check.wrong("keep_recent_messages", f"must be at most {most}")
        if request.acquire_lease:
            check.required("holder", request.holder)
    return Goal(
        request.max_context_tokens if kind == "max_context_tokens" else None,
        request.max_context_messages if kind == "max_context_messages" else None,
        request.summary_token_count,
        request.keep_recent_messages or default,
    )


def _summary(summary: message_pb2.Message, check: Checks) -> MessageRow:
    summary.role = summary.role or message_pb2.ROLE_SYSTEM
    summary.kind = summary.kind or message_pb2.MESSAGE_KIND_SUMMARY
    summary.hidden_from_people = True
    row = messages_in.row(summary, "summary", check)
    parts_in.without_tools(summary, "summary", "a summary", check)
    check.size("summary", len(row.payload), limits.CALL_BYTES)
    return row


def _compact(request: rpc.CompactSessionRequest, session_id: str) -> compacting.Compact:
    with Checks() as check:
        check.seq("from_seq", request.from_seq, least=1)
        check.seq("to_seq", request.to_seq, least=1)
        if request.from_seq > request.to_seq:
            check.wrong("to_seq", "must not be before from_seq")
        summary = _summary(request.summary, check)
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
        summary=summary,
        tokens_before=request.tokens_before,
        tokens_after=request.tokens_after,
        author=request.author,
        model=request.model,
        lease_token=request.lease_token,
        expected_next_seq=request.expected_next_seq,
        writer_token=request.writer_token,
    )


def compaction_out(row: CompactionRow) -> compaction_pb2.Compaction:
    return compaction_pb2.Compaction(
        id=row.summary_seq,
        from_seq=row.from_seq,
        to_seq=row.to_seq,
        message_count=row.message_count,
        tokens_before=row.tokens_before,
        tokens_after=row.tokens_after,
        author=row.author,
        model=row.model,
        turn_index=row.turn_index,
        create_time=timestamp(row.create_time),
        revert_time=optional_timestamp(row.revert_time),
        in_context=row.in_context,
    )

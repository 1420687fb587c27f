"""CompactionService: check, translate, call, translate back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sessiond.v1 import compaction_pb2, message_pb2
from sessiond.v1 import compaction_service_pb2 as rpc
from sessiond_server.operations import compacting, reading
from sessiond_server.operations.compacting import CompactionLease
from sessiond_server.rpc import access, checks, limits, messages_in, page_tokens, parts_in
from sessiond_server.rpc.checks import Checks
from sessiond_server.rpc.guards_io import version_out
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
            lease = (request.holder, _lease_ttl(request))
        key = access.key_of(session_id)
        planned = await compacting.plan(self.database, session_id, key, goal, lease)
        answer = rpc.PlanCompactionResponse(version=version_out(planned.version))
        if planned.lease is not None:
            answer.lease.CopyFrom(_lease_out(planned.lease))
        if planned.plan_range is None:
            answer.nothing = planned.nothing  # type: ignore[assignment]
        else:
            answer.plan.from_seq, answer.plan.to_seq = planned.plan_range
            answer.plan.message_count = planned.message_count
            answer.plan.token_count = planned.token_count
            answer.plan.reaches_goal = planned.reaches_goal
        return answer

    async def CompactSession(
        self, request: rpc.CompactSessionRequest, _: Context
    ) -> rpc.CompactSessionResponse:
        session_id = checks.session_id(request.session_id)
        done = await compacting.compact(self.database, _compact(request, session_id))
        return rpc.CompactSessionResponse(
            compaction=compaction_out(done.row),
            version=version_out(done.version),
            replayed=done.replayed,
        )

    async def RevertCompaction(
        self, request: rpc.RevertCompactionRequest, _: Context
    ) -> rpc.RevertCompactionResponse:
        session_id = checks.session_id(request.session_id)
        with Checks() as check:
            check.seq("compaction_id", request.compaction_id, least=1)
            guard = check.guard(request)
        key = access.key_of(session_id)
        done = await compacting.revert(self.database, session_id, key, request.compaction_id, guard)
        return rpc.RevertCompactionResponse(
            compaction=compaction_out(done.row),
            version=version_out(done.version),
            replayed=done.replayed,
        )

    async def GetCompaction(
        self, request: rpc.GetCompactionRequest, _: Context
    ) -> rpc.GetCompactionResponse:
        session_id = checks.session_id(request.session_id)
        with Checks() as check:
            check.seq("compaction_id", request.compaction_id, least=1)
        key = access.key_of(session_id)
        async with self.database.connection() as connection:
            await reading.head_of(connection, session_id, key)
            row = await compacting.read(connection, key, request.compaction_id)
        return rpc.GetCompactionResponse(compaction=compaction_out(row))

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

    async def RenewCompactionLease(
        self, request: rpc.RenewCompactionLeaseRequest, _: Context
    ) -> rpc.RenewCompactionLeaseResponse:
        session_id = checks.session_id(request.session_id)
        with Checks() as check:
            check.required("lease_token", request.lease_token)
        lease = await compacting.renew_lease(
            self.database,
            session_id,
            access.key_of(session_id),
            request.lease_token,
            _lease_ttl(request),
        )
        return rpc.RenewCompactionLeaseResponse(lease=_lease_out(lease))

    async def ReleaseCompactionLease(
        self, request: rpc.ReleaseCompactionLeaseRequest, _: Context
    ) -> rpc.ReleaseCompactionLeaseResponse:
        session_id = checks.session_id(request.session_id)
        with Checks() as check:
            check.required("lease_token", request.lease_token)
        key = access.key_of(session_id)
        await compacting.release_lease(self.database, session_id, key, request.lease_token)
        return rpc.ReleaseCompactionLeaseResponse()


def _lease_ttl(request: rpc.PlanCompactionRequest | rpc.RenewCompactionLeaseRequest) -> timedelta:
    given = request.HasField("lease_ttl")
    default = limits.COMPACTION_LEASE_SECONDS
    return checks.lease_ttl(request.lease_ttl, given, default, "lease_ttl")


def _lease_out(lease: CompactionLease) -> rpc.CompactionLease:
    return rpc.CompactionLease(
        token=lease.token, holder=lease.holder, expire_time=timestamp(lease.expire_time)
    )


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
        guard = check.guard(request)
    return compacting.Compact(
        session_id=session_id,
        key=access.key_of(session_id),
        from_seq=request.from_seq,
        to_seq=request.to_seq,
        summary=summary,
        tokens_before=request.tokens_before,
        tokens_after=request.tokens_after,
        by=access.by(request.author),
        model=request.model,
        lease_token=request.lease_token,
        guard=guard,
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
        actor=row.actor,
        model=row.model,
        turn_index=row.turn_index,
        create_time=timestamp(row.create_time),
        revert_time=optional_timestamp(row.revert_time),
        in_context=row.in_context,
    )

"""RetentionService: check, translate, call, translate back."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from sessiond.v1 import retention_pb2 as pb
from sessiond.v1 import retention_service_pb2 as rpc
from sessiond_server.errors import PageTokenInvalid
from sessiond_server.operations import policies as operations
from sessiond_server.operations import pruning
from sessiond_server.operations.pruning import FIRST, Pruning
from sessiond_server.rpc import access, checks, limits, page_tokens, retention_io
from sessiond_server.rpc.checks import Checks
from sessiond_server.rpc.registry import Context
from sessiond_server.store import policies
from sessiond_server.store.database import Database

_NEWEST = UUID(int=2**128 - 1)


@dataclass(slots=True)
class RetentionServicer:
    """What the service does by itself, over gRPC."""

    database: Database

    async def SetRetentionPolicy(
        self, request: rpc.SetRetentionPolicyRequest, _: Context
    ) -> rpc.SetRetentionPolicyResponse:
        policy = request.policy
        with Checks() as check:
            check.policy_id("policy.id", policy.id)
            rule = retention_io.rule_in(policy.rule, "policy.rule", check)
            times = (rule.older_than, rule.idle_for, rule.ended_for)
            given = [it for it in times if it is not None]
            if given and not any(given):
                check.wrong("policy.rule", "must have a time that is longer than nothing")
            check.text("policy.etag", policy.etag)
        row, created = await operations.put(
            self.database,
            access.tenant(),
            policy.id,
            policy.rule.SerializeToString(deterministic=True),
            dry_run=policy.dry_run,
            etag=policy.etag,
        )
        return rpc.SetRetentionPolicyResponse(policy=retention_io.policy_out(row), created=created)

    async def GetRetentionPolicy(
        self, request: rpc.GetRetentionPolicyRequest, _: Context
    ) -> rpc.GetRetentionPolicyResponse:
        with Checks() as check:
            check.policy_id("policy_id", request.policy_id)
        row = await operations.get(self.database, access.tenant(), request.policy_id)
        return rpc.GetRetentionPolicyResponse(policy=retention_io.policy_out(row))

    async def ListRetentionPolicies(
        self, request: rpc.ListRetentionPoliciesRequest, _: Context
    ) -> rpc.ListRetentionPoliciesResponse:
        size = checks.page_size(request, limits.RECORD_PAGE)
        call = page_tokens.call_of("ListRetentionPolicies", request)
        after = ""
        if request.page_token:
            after = str(page_tokens.decode(request.page_token, call, str)[0])
        async with self.database.connection() as connection:
            rows = await policies.page(connection, access.tenant(), after, size + 1)
        answer, used = rpc.ListRetentionPoliciesResponse(), 0
        for row in rows:
            policy = retention_io.policy_out(row)
            used += policy.ByteSize() + 16
            if answer.policies and (len(answer.policies) == size or used > limits.PAGE_BYTES):
                answer.next_page_token = page_tokens.encode([answer.policies[-1].id], call)
                break
            answer.policies.append(policy)
        return answer

    async def DeleteRetentionPolicy(
        self, request: rpc.DeleteRetentionPolicyRequest, _: Context
    ) -> rpc.DeleteRetentionPolicyResponse:
        with Checks() as check:
            check.policy_id("policy_id", request.policy_id)
            check.text("etag", request.etag)
        deleted = await operations.delete(
            self.database,
            access.tenant(),
            request.policy_id,
            etag=request.etag,
            allow_missing=request.allow_missing,
        )
        return rpc.DeleteRetentionPolicyResponse(deleted=deleted)

    async def ListRetentionReports(
        self, request: rpc.ListRetentionReportsRequest, _: Context
    ) -> rpc.ListRetentionReportsResponse:
        size = checks.page_size(request, limits.REPORT_PAGE)
        with Checks() as check:
            if request.policy_id:
                check.policy_id("policy_id", request.policy_id)
        call = page_tokens.call_of("ListRetentionReports", request)
        before = _report(request.page_token, call) if request.page_token else _NEWEST
        async with self.database.connection() as connection:
            rows = await policies.reports(
                connection, access.tenant(), request.policy_id or None, before, size + 1
            )
            ids = [row.report_id for row in rows[:size]]
            sessions = await policies.reported(connection, access.tenant(), ids)
        reports = {row.report_id: retention_io.report_out(row) for row in rows}
        for session in sessions:
            reports[session.report_id].sessions.append(retention_io.reported_out(session))
        return _page(list(reports.values()), size, call)

    async def PruneSessions(
        self, request: rpc.PruneSessionsRequest, _: Context
    ) -> rpc.PruneSessionsResponse:
        size = checks.page_size(request, limits.PRUNE_PAGE)
        with Checks() as check:
            rule = retention_io.rule_in(request.rule, "rule", check)
        call = page_tokens.call_of("PruneSessions", request)
        after = retention_io.place(request.page_token, call) if request.page_token else FIRST
        wanted = Pruning(rule, not request.force, size)
        found, following = await pruning.page(self.database, wanted, after)
        sessions, messages = retention_io.totals(found)
        return rpc.PruneSessionsResponse(
            sessions=[retention_io.pruned_out(pruned) for pruned in found],
            next_page_token=retention_io.token(following, call),
            session_count=sessions,
            message_count=messages,
        )


def _page(
    reports: list[pb.RetentionReport], size: int, call: bytes
) -> rpc.ListRetentionReportsResponse:
    answer, used = rpc.ListRetentionReportsResponse(), 0
    for report in reports:
        used += report.ByteSize() + 16
        if answer.reports and (len(answer.reports) == size or used > limits.PAGE_BYTES):
            answer.next_page_token = page_tokens.encode([answer.reports[-1].id], call)
            break
        answer.reports.append(report)
    return answer


def _report(token: str, call: bytes) -> UUID:
    try:
        return UUID(str(page_tokens.decode(token, call, str)[0]))
    except ValueError as error:
        raise PageTokenInvalid from error

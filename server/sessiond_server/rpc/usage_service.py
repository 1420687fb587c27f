"""UsageService: check, translate, call, translate back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from sessiond.v1 import usage_service_pb2 as rpc
from sessiond_server.operations import summing
from sessiond_server.operations.recording import Recording
from sessiond_server.operations.summing import Summed
from sessiond_server.rpc import access, checks, limits, page_tokens, usage_io
from sessiond_server.rpc.checks import Checks
from sessiond_server.rpc.registry import Context
from sessiond_server.rpc.times import timestamp
from sessiond_server.store.database import Connection, Database
from sessiond_server.store.usage import Grouping, GroupKey, Scope, Sums, Turn, TurnUsage

_BY_SESSION = frozenset({rpc.USAGE_GROUPING_SESSION})
_BY_DAY = frozenset({rpc.USAGE_GROUPING_DAY, rpc.USAGE_GROUPING_DAY_AND_MODEL})
_BY_MODEL = frozenset({rpc.USAGE_GROUPING_MODEL, rpc.USAGE_GROUPING_DAY_AND_MODEL})


@dataclass(slots=True)
class UsageServicer:
    """Usage over gRPC."""

    database: Database
    recording: Recording

    async def RecordUsage(
        self, request: rpc.RecordUsageRequest, _: Context
    ) -> rpc.RecordUsageResponse:
        session_id = checks.session_id(request.session_id)
        with Checks() as check:
            check.count("records", len(request.records), limits.USAGE_RECORDS, least=1)
            found = [
                usage_io.record_in(record, f"records[{place}]", check)
                for place, record in enumerate(request.records[: limits.USAGE_RECORDS])
            ]
        row, replayed = await self.recording.record(
            session_id,
            access.key_of(session_id),
            [record for record in found if record is not None],
        )
        usage = usage_io.session_usage(row)
        return rpc.RecordUsageResponse(usage=usage, replayed_count=replayed)

    async def GetUsage(self, request: rpc.GetUsageRequest, _: Context) -> rpc.GetUsageResponse:
        size = checks.page_size(request, limits.RECORD_PAGE)
        scope, by = _checked(request)
        call = page_tokens.call_of("GetUsage", request)
        async with self.database.snapshot() as connection:
            found = await _summed(connection, request, scope, by, size, call)
        answer = rpc.GetUsageResponse(total=usage_io.usage_out(found.total))
        answer.groups.extend(_group(key, sums) for key, sums in found.groups)
        answer.groups.extend(_turn(it) for it in found.turns)
        if found.more:
            last = found.turns[-1].turn if found.turns else found.groups[-1][0]
            answer.next_page_token = page_tokens.encode(list(last), call)
        return answer


def _checked(request: rpc.GetUsageRequest) -> tuple[Scope, Grouping]:
    by_turn = request.group_by == rpc.USAGE_GROUPING_TURN
    with Checks() as check:
        if request.session_id:
            check.session_id("session_id", request.session_id)
        check.enum("group_by", request.group_by, rpc.UsageGrouping.values())
        if not request.session_id and (by_turn or request.group_by in _BY_SESSION):
            check.wrong("session_id", "is required for groups by turn or session")
        if not request.session_id and request.include_descendants:
            check.wrong("session_id", "is required to include descendants")
        if by_turn and request.include_descendants:
            check.wrong("include_descendants", "must be false for groups by turn")
        grouping = Grouping(
            request.group_by in _BY_SESSION,
            request.group_by in _BY_DAY,
            request.group_by in _BY_MODEL,
            check.day("from_day", request.from_day, date.min),
            check.day("to_day", request.to_day, date.max),
        )
        if grouping.from_day > grouping.to_day:
            check.wrong("to_day", "must not be before from_day")
    key = access.key_of(request.session_id) if request.session_id else None
    scope = Scope(
        access.tenant(), access.owner(), request.session_id, key, request.include_descendants
    )
    return scope, grouping


async def _summed(
    connection: Connection,
    request: rpc.GetUsageRequest,
    scope: Scope,
    by: Grouping,
    size: int,
    call: bytes,
) -> Summed:
    token = request.page_token
    if request.group_by == rpc.USAGE_GROUPING_TURN:
        after = Turn(-1, "")
        if token:
            index, model = page_tokens.decode(token, call, int, str)
            after = Turn(int(index or 0), str(model))
        return await summing.by_turn(connection, scope, by, after, size)
    place = None
    if token:
        place = GroupKey(*map(str, page_tokens.decode(token, call, str, str, str)))
    if request.group_by == rpc.USAGE_GROUPING_UNSPECIFIED:
        return await summing.total(connection, scope, by)
    return await summing.by_group(connection, scope, by, place, size)


def _group(key: GroupKey, sums: Sums) -> rpc.UsageGroup:
    return rpc.UsageGroup(
        session_id=key.session_id, day=key.day, model=key.model, usage=usage_io.usage_out(sums)
    )


def _turn(it: TurnUsage) -> rpc.UsageGroup:
    return rpc.UsageGroup(
        model=it.turn.model,
        turn_index=it.turn.turn_index,
        usage=usage_io.usage_out(it.sums),
        time=timestamp(it.time),
    )

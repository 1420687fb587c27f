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
from sessiond_server.rpc.session_filters import filter_in
from sessiond_server.rpc.times import timestamp
from sessiond_server.sessions.filters import SessionFilter
from sessiond_server.store.database import Connection, Database
from sessiond_server.store.usage import (
    Grouping,
    GroupKey,
    OfSession,
    Scope,
    Sums,
    Turn,
    TurnUsage,
)

_GROUPS: dict[int, frozenset[str]] = {
    rpc.USAGE_GROUPING_UNSPECIFIED: frozenset(),
    rpc.USAGE_GROUPING_TURN: frozenset(),
    rpc.USAGE_GROUPING_MODEL: frozenset({"model"}),
    rpc.USAGE_GROUPING_DAY: frozenset({"day"}),
    rpc.USAGE_GROUPING_DAY_AND_MODEL: frozenset({"day", "model"}),
    rpc.USAGE_GROUPING_SESSION: frozenset({"session_id"}),
    rpc.USAGE_GROUPING_OWNER: frozenset({"owner"}),
    rpc.USAGE_GROUPING_AGENT: frozenset({"agent"}),
    rpc.USAGE_GROUPING_SOURCE: frozenset({"source"}),
}


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
    with Checks() as check:
        scope = _scope(request, check)
        check.enum("group_by", request.group_by, _GROUPS)
        by_turn = request.group_by == rpc.USAGE_GROUPING_TURN
        if by_turn and request.WhichOneof("scope") != "session_id":
            check.wrong("session_id", "is required for groups by turn")
        grouping = Grouping(
            _GROUPS.get(request.group_by, frozenset()),
            check.day("from_day", request.from_day, date.min),
            check.day("to_day", request.to_day, date.max),
        )
        if grouping.from_day > grouping.to_day:
            check.wrong("to_day", "must not be before from_day")
    return scope, grouping


def _scope(request: rpc.GetUsageRequest, check: Checks) -> Scope:
    kind = request.WhichOneof("scope")
    if kind in (None, "sessions"):
        if kind is None:
            check.wrong("scope", "is required: one of session_id, subtree_of, sessions")
            return SessionFilter(access.tenant())
        return filter_in(request.sessions, "sessions", check)
    named = request.subtree_of if kind == "subtree_of" else request.session_id
    check.session_id(kind, named)
    key = access.key_of(named)
    return OfSession(named, key, kind == "subtree_of", access.tenant(), access.owner())


async def _summed(
    connection: Connection,
    request: rpc.GetUsageRequest,
    scope: Scope,
    by: Grouping,
    size: int,
    call: bytes,
) -> Summed:
    token = request.page_token
    if request.group_by == rpc.USAGE_GROUPING_TURN and isinstance(scope, OfSession):
        after = Turn(-1, "")
        if token:
            index, model = page_tokens.decode(token, call, int, str)
            after = Turn(int(index or 0), str(model))
        return await summing.by_turn(connection, scope, by, after, size)
    place = None
    if token:
        kinds = [str] * len(GroupKey._fields)
        place = GroupKey(*map(str, page_tokens.decode(token, call, *kinds)))
    if request.group_by == rpc.USAGE_GROUPING_UNSPECIFIED:
        return await summing.total(connection, scope, by)
    return await summing.by_group(connection, scope, by, place, size)


def _group(key: GroupKey, sums: Sums) -> rpc.UsageGroup:
    return rpc.UsageGroup(**key._asdict(), usage=usage_io.usage_out(sums))


def _turn(it: TurnUsage) -> rpc.UsageGroup:
    return rpc.UsageGroup(
        model=it.turn.model,
        turn_index=it.turn.turn_index,
        usage=usage_io.usage_out(it.sums),
        time=timestamp(it.time),
    )

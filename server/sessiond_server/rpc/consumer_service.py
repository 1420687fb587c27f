"""ConsumerService: check, translate, call, translate back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sessiond.v1 import consumer_service_pb2 as rpc
from sessiond_server.operations import consumers, reading
from sessiond_server.operations.consumers import (
    Claimed,
    Claiming,
    Claims,
    Extending,
    Setting,
    WaitedFor,
)
from sessiond_server.operations.due import DueAlarm
from sessiond_server.rpc import access, checks, limits, page_tokens
from sessiond_server.rpc.checks import Checks
from sessiond_server.rpc.registry import Context
from sessiond_server.rpc.session_filters import filter_in
from sessiond_server.rpc.times import optional_timestamp, timestamp
from sessiond_server.rpc.waiting import until_found
from sessiond_server.store import consumers as stored
from sessiond_server.store.consumers import ConsumerKey, ConsumerRow, CursorRow
from sessiond_server.store.database import Database

_SERVES = frozenset({"owner", "include_subagents", "whole_tenant"})


@dataclass(slots=True)
class ConsumerServicer:
    """Cursors over gRPC."""

    database: Database
    alarm: DueAlarm[WaitedFor]

    @classmethod
    def on(cls, database: Database, *, most_waiting: int) -> ConsumerServicer:
        """A servicer with an alarm of its own."""

        async def look(wanted: WaitedFor) -> tuple[bool, float | None]:
            async with database.connection() as connection:
                return await consumers.look(connection, wanted)

        return cls(database, DueAlarm(look, limit=most_waiting))

    def close_streams(self) -> None:
        """Let no call wait any more."""
        self.alarm.close()

    def _news(self, consumer_id: str) -> None:
        """A session may be due sooner for a consumer."""
        tenant = access.tenant()

        def concerns(waited: WaitedFor) -> bool:
            return waited.consumer.tenant == tenant and waited.consumer.consumer_id == consumer_id

        self.alarm.news(concerns)

    async def SetCursor(self, request: rpc.SetCursorRequest, _: Context) -> rpc.SetCursorResponse:
        session_id = _named(request.session_id, request.consumer_id)
        with Checks() as check:
            check.seq("seq", request.seq)
            check.text("claim_token", request.claim_token)
        setting = Setting(
            session_id,
            access.key_of(session_id),
            request.consumer_id,
            request.seq,
            request.claim_token,
            request.allow_decrease,
            limits.CONSUMERS,
        )
        row, next_seq = await consumers.set_cursor(self.database, setting)
        if row.queued:
            self._news(row.consumer_id)
        return rpc.SetCursorResponse(cursor=_cursor(row, next_seq))

    async def GetCursor(self, request: rpc.GetCursorRequest, _: Context) -> rpc.GetCursorResponse:
        session_id = _named(request.session_id, request.consumer_id)
        key = access.key_of(session_id)
        async with self.database.connection() as connection:
            head = await reading.head_of(connection, session_id, key)
            row = await stored.read(connection, key, request.consumer_id)
        if row is not None:
            return rpc.GetCursorResponse(cursor=_cursor(row, head.next_seq))
        return rpc.GetCursorResponse(
            cursor=rpc.Cursor(
                session_id=session_id, consumer_id=request.consumer_id, next_seq=head.next_seq
            )
        )

    async def ListCursors(
        self, request: rpc.ListCursorsRequest, _: Context
    ) -> rpc.ListCursorsResponse:
        session_id = checks.session_id(request.session_id)
        size = checks.page_size(request, limits.RECORD_PAGE)
        call = page_tokens.call_of("ListCursors", request)
        after = page_tokens.after_text(request.page_token, call)
        key = access.key_of(session_id)
        async with self.database.connection() as connection:
            head = await reading.head_of(connection, session_id, key)
            rows = await stored.page(connection, key, after, size + 1)
        more = len(rows) > size
        return rpc.ListCursorsResponse(
            cursors=[_cursor(row, head.next_seq) for row in rows[:size]],
            next_page_token=page_tokens.encode([rows[size - 1].consumer_id], call) if more else "",
        )

    async def ClaimSessions(
        self, request: rpc.ClaimSessionsRequest, context: Context
    ) -> rpc.ClaimSessionsResponse:
        wanted, wait = _claiming(request)

        async def claim() -> Claims:
            return await consumers.claim(self.database, wanted)

        found = await until_found(claim, self.alarm, WaitedFor.by(wanted), wait, context)
        return rpc.ClaimSessionsResponse(sessions=map(_claimed, found.sessions), more=found.more)

    async def ExtendSessionClaim(
        self, request: rpc.ExtendSessionClaimRequest, _: Context
    ) -> rpc.ExtendSessionClaimResponse:
        session_id = _named(request.session_id, request.consumer_id)
        with Checks() as check:
            check.required("claim_token", request.claim_token)
        given = request.HasField("lease_ttl")
        default = 0 if request.give_up else limits.SESSION_CLAIM_SECONDS
        extending = Extending(
            session_id,
            access.key_of(session_id),
            request.consumer_id,
            request.claim_token,
            checks.lease_ttl(request.lease_ttl, given, default, "lease_ttl"),
            request.give_up,
        )
        expire_time = await consumers.extend(self.database, extending)
        self._news(request.consumer_id)
        return rpc.ExtendSessionClaimResponse(expire_time=timestamp(expire_time))

    async def ListConsumers(
        self, request: rpc.ListConsumersRequest, _: Context
    ) -> rpc.ListConsumersResponse:
        size = checks.page_size(request, limits.RECORD_PAGE)
        with Checks() as check:
            check.text("owner", request.owner)
        call = page_tokens.call_of("ListConsumers", request)
        consumer_id, _space, owner = page_tokens.after_text(request.page_token, call).partition(" ")
        wanted = request.owner if request.HasField("owner") else None
        async with self.database.connection() as connection:
            rows = await stored.consumers(
                connection, access.tenant(), wanted, (owner, consumer_id), size + 1
            )
        token = ""
        if len(rows) > size:
            last = rows[size - 1]
            token = page_tokens.encode([f"{last.consumer_id} {last.owner}"], call)
        return rpc.ListConsumersResponse(
            consumers=map(_consumer, rows[:size]), next_page_token=token
        )

    async def DeleteConsumer(
        self, request: rpc.DeleteConsumerRequest, _: Context
    ) -> rpc.DeleteConsumerResponse:
        with Checks() as check:
            check.consumer_id("consumer_id", request.consumer_id)
            check.given("owner", request, "empty for the one of all sessions")
            check.text("owner", request.owner)
        key = ConsumerKey.of(access.tenant(), request.owner, request.consumer_id)
        deleted = await consumers.forget(self.database, key, allow_missing=request.allow_missing)
        return rpc.DeleteConsumerResponse(deleted=deleted)


def _named(session_id: str, consumer_id: str) -> str:
    with Checks() as check:
        check.session_id("session_id", session_id)
        check.consumer_id("consumer_id", consumer_id)
    return session_id


def _claiming(request: rpc.ClaimSessionsRequest) -> tuple[Claiming, float]:
    """What to claim, and how many seconds to wait for it."""
    idle_for, wait = timedelta(seconds=limits.IDLE_SECONDS), timedelta()
    with Checks() as check:
        check.consumer_id("consumer_id", request.consumer_id)
        check.text("holder", request.holder)
        wanted = filter_in(request.filter, "filter", check, serves=_SERVES)
        if wanted.owner == "":
            check.wrong(
                "filter.owner", "must not be empty: consumers are an owner's or the tenant's"
            )
        check.not_negative("max_count", request.max_count)
        if request.HasField("idle_for"):
            idle_for = check.span("idle_for", request.idle_for, limits.IDLE_SPAN_SECONDS)
        if request.HasField("wait"):
            wait = check.span("wait", request.wait, limits.WAIT_SECONDS)
    default = limits.SESSION_CLAIM_SECONDS
    ttl = checks.lease_ttl(request.lease_ttl, request.HasField("lease_ttl"), default, "lease_ttl")
    one, most = limits.CLAIMS
    claiming = Claiming(
        tenant=wanted.tenant,
        consumer_id=request.consumer_id,
        owner=wanted.owner or "",
        holder=request.holder,
        idle_for=idle_for,
        limit=min(request.max_count or one, most),
        ttl=ttl,
        children=wanted.subagents,
        most_consumers=limits.CONSUMERS,
    )
    return claiming, wait.total_seconds()


def _consumer(row: ConsumerRow) -> rpc.Consumer:
    return rpc.Consumer(id=row.consumer_id, owner=row.owner, scan_time=timestamp(row.scan_time))


def _cursor(row: CursorRow, next_seq: int) -> rpc.Cursor:
    claimed = row.claim_expire_time > row.now
    return rpc.Cursor(
        session_id=row.session_id,
        consumer_id=row.consumer_id,
        seq=row.seq,
        next_seq=next_seq,
        update_time=optional_timestamp(row.update_time),
        holder=row.claim_holder if claimed else "",
        expire_time=timestamp(row.claim_expire_time) if claimed else None,
    )


def _claimed(claimed: Claimed) -> rpc.ClaimedSession:
    due = claimed.due
    return rpc.ClaimedSession(
        session_id=due.session_id,
        cursor_seq=due.seq,
        next_seq=due.next_seq,
        claim_token=claimed.token,
        expire_time=timestamp(claimed.expire_time),
        attempt=due.claim_count + 1,
        owner=due.owner,
        source=due.source,
        agent=due.agent,
        title=due.title,
        last_activity_time=timestamp(due.activity_time),
    )

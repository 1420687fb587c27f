"""WatermarkService: check, translate, call, translate back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sessiond.v1 import watermark_service_pb2 as rpc
from sessiond_server.operations import reading, watermarks
from sessiond_server.operations.watermarks import Claimed, Claiming, Setting
from sessiond_server.rpc import access, checks, limits, page_tokens
from sessiond_server.rpc.checks import Checks
from sessiond_server.rpc.registry import Context
from sessiond_server.rpc.times import optional_timestamp, timestamp
from sessiond_server.store import watermarks as stored
from sessiond_server.store.database import Database
from sessiond_server.store.watermarks import ConsumerKey, ConsumerRow, WatermarkRow


@dataclass(slots=True)
class WatermarkServicer:
    """Watermarks over gRPC."""

    database: Database

    async def SetWatermark(
        self, request: rpc.SetWatermarkRequest, _: Context
    ) -> rpc.SetWatermarkResponse:
        session_id = _named(request.session_id, request.consumer)
        with Checks() as check:
            check.seq("seq", request.seq)
            check.text("claim_token", request.claim_token)
        setting = Setting(
            session_id,
            access.key_of(session_id),
            request.consumer,
            request.seq,
            request.claim_token,
            request.allow_decrease,
            limits.CONSUMERS,
        )
        row, next_seq = await watermarks.set_watermark(self.database, setting)
        return rpc.SetWatermarkResponse(watermark=_watermark(row, next_seq))

    async def GetWatermark(
        self, request: rpc.GetWatermarkRequest, _: Context
    ) -> rpc.GetWatermarkResponse:
        session_id = _named(request.session_id, request.consumer)
        key = access.key_of(session_id)
        async with self.database.connection() as connection:
            head = await reading.head_of(connection, session_id, key)
            row = await stored.read(connection, key, request.consumer)
        if row is not None:
            return rpc.GetWatermarkResponse(watermark=_watermark(row, head.next_seq))
        return rpc.GetWatermarkResponse(
            watermark=rpc.Watermark(
                session_id=session_id, consumer=request.consumer, next_seq=head.next_seq
            )
        )

    async def ListWatermarks(
        self, request: rpc.ListWatermarksRequest, _: Context
    ) -> rpc.ListWatermarksResponse:
        session_id = checks.session_id(request.session_id)
        size = checks.page_size(request, limits.RECORD_PAGE)
        call = page_tokens.call_of("ListWatermarks", request)
        after = page_tokens.after_text(request.page_token, call)
        key = access.key_of(session_id)
        async with self.database.connection() as connection:
            head = await reading.head_of(connection, session_id, key)
            rows = await stored.page(connection, key, after, size + 1)
        more = len(rows) > size
        return rpc.ListWatermarksResponse(
            watermarks=[_watermark(row, head.next_seq) for row in rows[:size]],
            next_page_token=page_tokens.encode([rows[size - 1].consumer], call) if more else "",
        )

    async def ClaimStaleSessions(
        self, request: rpc.ClaimStaleSessionsRequest, _: Context
    ) -> rpc.ClaimStaleSessionsResponse:
        claims, more = await watermarks.claim(self.database, _claiming(request))
        return rpc.ClaimStaleSessionsResponse(sessions=map(_stale, claims), more=more)

    async def ListConsumers(
        self, request: rpc.ListConsumersRequest, _: Context
    ) -> rpc.ListConsumersResponse:
        size = checks.page_size(request, limits.RECORD_PAGE)
        with Checks() as check:
            check.text("owner", request.owner)
        call = page_tokens.call_of("ListConsumers", request)
        consumer, _space, owner = page_tokens.after_text(request.page_token, call).partition(" ")
        async with self.database.connection() as connection:
            rows = await stored.consumers(
                connection, access.tenant(), request.owner, (owner, consumer), size + 1
            )
        token = ""
        if len(rows) > size:
            last = rows[size - 1]
            token = page_tokens.encode([f"{last.consumer} {last.owner}"], call)
        return rpc.ListConsumersResponse(
            consumers=map(_consumer, rows[:size]), next_page_token=token
        )

    async def DeleteConsumer(
        self, request: rpc.DeleteConsumerRequest, _: Context
    ) -> rpc.DeleteConsumerResponse:
        with Checks() as check:
            check.consumer("consumer", request.consumer)
            check.text("owner", request.owner)
        key = ConsumerKey.of(access.tenant(), request.owner, request.consumer)
        return rpc.DeleteConsumerResponse(deleted=await watermarks.forget(self.database, key))


def _named(session_id: str, consumer: str) -> str:
    with Checks() as check:
        check.session_id("session_id", session_id)
        check.consumer("consumer", consumer)
    return session_id


def _claiming(request: rpc.ClaimStaleSessionsRequest) -> Claiming:
    idle_for = timedelta(seconds=limits.IDLE_SECONDS)
    with Checks() as check:
        check.consumer("consumer", request.consumer)
        check.text("worker", request.worker)
        check.text("owner", request.owner)
        check.not_negative("max_count", request.max_count)
        if request.HasField("idle_for"):
            idle_for = check.span("idle_for", request.idle_for, limits.IDLE_SPAN_SECONDS)
    default = limits.STALE_LEASE_SECONDS
    ttl = checks.lease_ttl(request.lease_ttl, request.HasField("lease_ttl"), default, "lease_ttl")
    one, most = limits.CLAIMS
    return Claiming(
        tenant=access.tenant(),
        consumer=request.consumer,
        owner=request.owner,
        worker=request.worker,
        idle_for=idle_for,
        limit=min(request.max_count or one, most),
        ttl=ttl,
        children=request.include_children,
        most_consumers=limits.CONSUMERS,
    )


def _consumer(row: ConsumerRow) -> rpc.Consumer:
    return rpc.Consumer(
        consumer=row.consumer, owner=row.owner, scan_time=timestamp(row.scanned_time)
    )


def _watermark(row: WatermarkRow, next_seq: int) -> rpc.Watermark:
    claimed = bool(row.claim_token) and row.ready_time > row.now
    return rpc.Watermark(
        session_id=row.session_id,
        consumer=row.consumer,
        seq=row.seq,
        next_seq=next_seq,
        update_time=optional_timestamp(row.update_time),
        worker=row.claim_worker if claimed else "",
        lease_expire_time=timestamp(row.ready_time) if claimed else None,
    )


def _stale(claimed: Claimed) -> rpc.StaleSession:
    due = claimed.due
    return rpc.StaleSession(
        session_id=due.session_id,
        watermark_seq=due.seq,
        next_seq=due.next_seq,
        claim_token=claimed.token,
        expire_time=timestamp(claimed.expire_time),
        attempt=due.claim_count + 1,
        owner=due.owner,
        source=due.source,
        profile=due.profile,
        title=due.title,
        last_activity_time=timestamp(due.activity_time),
    )

"""WriterService: check, translate, call, translate back."""

from __future__ import annotations

from dataclasses import dataclass

from sessiond.v1 import writer_service_pb2 as rpc
from sessiond_server.operations import writers
from sessiond_server.rpc import access, checks, limits
from sessiond_server.rpc.checks import Checks
from sessiond_server.rpc.guards_io import version_out
from sessiond_server.rpc.registry import Context
from sessiond_server.rpc.times import timestamp
from sessiond_server.store.database import Database


@dataclass(slots=True)
class WriterServicer:
    """Writer leases over gRPC."""

    database: Database

    async def AcquireWriter(
        self, request: rpc.AcquireWriterRequest, _: Context
    ) -> rpc.AcquireWriterResponse:
        session_id = checks.session_id(request.session_id)
        with Checks() as check:
            check.required("holder", request.holder)
        ttl = checks.lease_ttl(
            request.lease_ttl,
            request.HasField("lease_ttl"),
            limits.WRITER_LEASE_SECONDS,
            "lease_ttl",
        )
        key = access.key_of(session_id)
        lease = await writers.acquire(self.database, session_id, key, request.holder, ttl)
        return rpc.AcquireWriterResponse(
            writer_token=lease.token,
            epoch=lease.epoch,
            expire_time=timestamp(lease.expire_time),
            version=version_out(lease.version),
        )

    async def RenewWriter(
        self, request: rpc.RenewWriterRequest, _: Context
    ) -> rpc.RenewWriterResponse:
        session_id = checks.session_id(request.session_id)
        with Checks() as check:
            check.required("writer_token", request.writer_token)
        ttl = checks.lease_ttl(
            request.lease_ttl,
            request.HasField("lease_ttl"),
            limits.WRITER_LEASE_SECONDS,
            "lease_ttl",
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

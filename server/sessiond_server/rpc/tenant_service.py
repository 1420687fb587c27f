"""TenantService: check, translate, call, translate back."""

from __future__ import annotations

from dataclasses import dataclass, field

from sessiond.v1 import tenant_service_pb2 as rpc
from sessiond_server.operations.stats import Counting
from sessiond_server.rpc import access, stats_io
from sessiond_server.rpc.checks import Checks
from sessiond_server.rpc.registry import Context
from sessiond_server.store.database import Database


@dataclass(slots=True)
class TenantServicer:
    """Counts of a tenant over gRPC."""

    database: Database
    _counting: Counting = field(init=False)

    def __post_init__(self) -> None:
        self._counting = Counting(self.database)

    async def GetTenantStats(
        self, request: rpc.GetTenantStatsRequest, _: Context
    ) -> rpc.GetTenantStatsResponse:
        with Checks() as check:
            check.text("owner", request.owner)
        found = await self._counting.stats(access.tenant(), request.owner or None)
        return stats_io.stats_out(found)

"""TenantService: check, translate, call, translate back."""

from __future__ import annotations

from dataclasses import dataclass, field

from sessiond.v1 import tenant_service_pb2 as rpc
from sessiond_server.operations.stats import Counting
from sessiond_server.rpc import stats_io
from sessiond_server.rpc.checks import Checks
from sessiond_server.rpc.registry import Context
from sessiond_server.rpc.session_filters import filter_in
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
            wanted = filter_in(request.filter, "filter", check)
        return stats_io.stats_out(await self._counting.stats(wanted))

"""The calls of TenantService."""

from __future__ import annotations

from sessiond import v1
from sessiond._calls import Service, unary, whole

_rpc = Service("sessiond.v1.TenantService").rpc


@unary(_rpc("GetTenantStats", v1.GetTenantStatsRequest, v1.GetTenantStatsResponse), whole)
def get_tenant_stats(owner: str = "") -> v1.GetTenantStatsRequest:
    """Counts the sessions, by state and source, and what they hold, in messages, calls and bytes.

    Args:
        owner: Only this owner's sessions.
    """
    return v1.GetTenantStatsRequest(owner=owner)

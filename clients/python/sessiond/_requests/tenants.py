"""The calls of TenantService."""

from __future__ import annotations

from sessiond import v1
from sessiond._calls import Service, unary, whole

_rpc = Service("sessiond.v1.TenantService").rpc


@unary(_rpc("GetTenantStats", v1.GetTenantStatsRequest, v1.GetTenantStatsResponse), whole)
def get_tenant_stats(filter: v1.SessionFilter | None = None) -> v1.GetTenantStatsRequest:
    """Counts sessions, by state and source, and what they hold, in messages, calls and bytes.

    Args:
        filter: Which sessions: a `session_filter`. Required, but with an API key that is bound to an owner.
    """
    return v1.GetTenantStatsRequest(filter=filter)

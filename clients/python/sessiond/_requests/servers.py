"""The calls of ServerService."""

from __future__ import annotations

from sessiond import v1
from sessiond._calls import Service, unary, whole

_rpc = Service("sessiond.v1.ServerService").rpc


@unary(_rpc("GetServerInfo", v1.GetServerInfoRequest, v1.GetServerInfoResponse), whole)
def get_server_info() -> v1.GetServerInfoRequest:
    """Tells the server's version, what is switched on, and the limits that are set. Needs no API key."""
    return v1.GetServerInfoRequest()

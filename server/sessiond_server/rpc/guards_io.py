"""How far sessions have come, on the way out."""

from __future__ import annotations

from sessiond.v1.guard_pb2 import SessionVersion
from sessiond_server.sessions.guards import Version


def version_out(version: Version) -> SessionVersion:
    return SessionVersion(
        next_seq=version.next_seq,
        revision=version.revision,
        context_token_count=version.context_token_count,
    )

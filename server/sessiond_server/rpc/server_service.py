"""ServerService: what the server is, and how it is set."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version

from sessiond.v1 import server_service_pb2 as rpc
from sessiond_server.config import Settings
from sessiond_server.rpc.registry import Context

LIMITS = (
    "append_queue_messages",
    "read_queue",
    "lock_timeout",
    "max_spawn_depth",
    "search_timeout",
    "feed_watches",
    "feed_watches_per_connection",
    "feed_buffer_bytes",
    "feed_heartbeat",
    "feed_write_timeout",
    "feed_session_days",
    "feed_drafts",
    "draft_expiry",
    "attachment_bytes",
    "session_attachments",
    "session_attachment_bytes",
    "session_uploads",
    "attachment_upload_expiry",
    "attachment_uploads",
    "attachment_downloads",
    "attachment_timeout",
    "imports",
    "import_timeout",
)
"""The settings that a client can run into."""


@dataclass(slots=True)
class ServerServicer:
    """The server over gRPC."""

    settings: Settings

    async def GetServerInfo(
        self, request: rpc.GetServerInfoRequest, _: Context
    ) -> rpc.GetServerInfoResponse:
        del request
        settings = self.settings
        return rpc.GetServerInfoResponse(
            version=version("sessiond-server"),
            features={
                "auth": settings.auth == "keys",
                "search": settings.search,
                "attachment_executables": settings.attachment_executables,
            },
            limits={name: getattr(settings, name) for name in LIMITS},
        )

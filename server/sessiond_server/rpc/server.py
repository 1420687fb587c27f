"""The gRPC server: its services, its options, its addresses."""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from sessiond.v1 import (
    api_key_service_pb2,
    attachment_service_pb2,
    compaction_service_pb2,
    consumer_service_pb2,
    context_service_pb2,
    feed_service_pb2,
    journal_service_pb2,
    message_service_pb2,
    reminder_service_pb2,
    retention_service_pb2,
    search_service_pb2,
    server_service_pb2,
    session_service_pb2,
    storage_service_pb2,
    tenant_service_pb2,
    transfer_service_pb2,
    usage_service_pb2,
    writer_service_pb2,
)
from sessiond_server.config import SettingsError
from sessiond_server.rpc import limits
from sessiond_server.rpc.access import Access
from sessiond_server.rpc.api_key_service import ApiKeyServicer
from sessiond_server.rpc.attachment_service import AttachmentServicer
from sessiond_server.rpc.compaction_service import CompactionServicer
from sessiond_server.rpc.consumer_service import ConsumerServicer
from sessiond_server.rpc.context_service import ContextServicer
from sessiond_server.rpc.feed_service import FeedServicer
from sessiond_server.rpc.journal_service import JournalServicer
from sessiond_server.rpc.message_service import MessageServicer
from sessiond_server.rpc.registry import Wall
from sessiond_server.rpc.reminder_service import ReminderServicer
from sessiond_server.rpc.retention_service import RetentionServicer
from sessiond_server.rpc.search_service import SearchServicer
from sessiond_server.rpc.server_service import ServerServicer
from sessiond_server.rpc.session_service import SessionServicer
from sessiond_server.rpc.storage_service import StorageServicer
from sessiond_server.rpc.tenant_service import TenantServicer
from sessiond_server.rpc.transfer_service import TransferServicer
from sessiond_server.rpc.usage_service import UsageServicer
from sessiond_server.rpc.writer_service import WriterServicer

_OPTIONS: list[tuple[str, int]] = [
    ("grpc.max_receive_message_length", limits.RECEIVE_BYTES),
    ("grpc.so_reuseport", 0),  # a second server on the port is an error, not a silent share
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
]

_LAST_BYTES = 0.5
"""Seconds in which the last answers leave."""

SERVICES = {
    session_service_pb2.DESCRIPTOR.services_by_name["SessionService"],
    message_service_pb2.DESCRIPTOR.services_by_name["MessageService"],
    context_service_pb2.DESCRIPTOR.services_by_name["ContextService"],
    compaction_service_pb2.DESCRIPTOR.services_by_name["CompactionService"],
    writer_service_pb2.DESCRIPTOR.services_by_name["WriterService"],
    search_service_pb2.DESCRIPTOR.services_by_name["SearchService"],
    feed_service_pb2.DESCRIPTOR.services_by_name["FeedService"],
    attachment_service_pb2.DESCRIPTOR.services_by_name["AttachmentService"],
    usage_service_pb2.DESCRIPTOR.services_by_name["UsageService"],
    transfer_service_pb2.DESCRIPTOR.services_by_name["TransferService"],
    reminder_service_pb2.DESCRIPTOR.services_by_name["ReminderService"],
    consumer_service_pb2.DESCRIPTOR.services_by_name["ConsumerService"],
    journal_service_pb2.DESCRIPTOR.services_by_name["JournalService"],
    retention_service_pb2.DESCRIPTOR.services_by_name["RetentionService"],
    storage_service_pb2.DESCRIPTOR.services_by_name["StorageService"],
    tenant_service_pb2.DESCRIPTOR.services_by_name["TenantService"],
    api_key_service_pb2.DESCRIPTOR.services_by_name["ApiKeyService"],
    server_service_pb2.DESCRIPTOR.services_by_name["ServerService"],
}


@dataclass(slots=True)
class RpcServer:
    """The server, from its making to its stop. `addresses` are those that it really has."""

    sessions: SessionServicer
    messages: MessageServicer
    contexts: ContextServicer
    compactions: CompactionServicer
    writers: WriterServicer
    search: SearchServicer
    feeds: FeedServicer
    attachments: AttachmentServicer
    usage: UsageServicer
    transfers: TransferServicer
    reminders: ReminderServicer
    consumers: ConsumerServicer
    journal: JournalServicer
    retention: RetentionServicer
    storage: StorageServicer
    tenants: TenantServicer
    api_keys: ApiKeyServicer
    server: ServerServicer
    access: Access | None = None
    addresses: list[str] = field(default_factory=list)
    _server: grpc.aio.Server = field(init=False)
    _health: health.aio.HealthServicer = field(init=False)
    _locks: list[int] = field(default_factory=list)
    _wall: Wall = field(init=False)

    def __post_init__(self) -> None:
        self._wall = Wall(self.access)
        self._server = grpc.aio.server(options=_OPTIONS)
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        servicers = {
            "SessionService": self.sessions,
            "MessageService": self.messages,
            "ContextService": self.contexts,
            "CompactionService": self.compactions,
            "WriterService": self.writers,
            "SearchService": self.search,
            "FeedService": self.feeds,
            "AttachmentService": self.attachments,
            "UsageService": self.usage,
            "TransferService": self.transfers,
            "ReminderService": self.reminders,
            "ConsumerService": self.consumers,
            "JournalService": self.journal,
            "RetentionService": self.retention,
            "StorageService": self.storage,
            "TenantService": self.tenants,
            "ApiKeyService": self.api_keys,
            "ServerService": self.server,
        }
        self._server.add_generic_rpc_handlers(
            tuple(self._wall.handlers(s, servicers[s.name]) for s in SERVICES)
        )
        names = [*(service.full_name for service in SERVICES), health.SERVICE_NAME]
        reflection.enable_server_reflection([*names, reflection.SERVICE_NAME], self._server)

    def listen(self, address: str, unix_mode: int) -> None:
        """Take an address. Raises `SettingsError` when it can't be had."""
        if address.startswith("unix:"):
            self._listen_unix(Path(address.removeprefix("unix:").removeprefix("//")), unix_mode)
            return
        host = address.rpartition(":")[0]
        try:
            port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise SettingsError(
                f"can't listen on {address}: it is in use or not this machine's"
            ) from error
        self.addresses.append(f"{host}:{port}")

    def _listen_unix(self, path: Path, mode: int) -> None:
        """A second server would silently steal the path, so a lock beside it is held."""
        try:
            lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._locks.append(lock)
            if path.exists() and not path.is_socket():
                raise SettingsError(f"can't listen on {path}: it is there and isn't a socket")
            self._server.add_insecure_port(f"unix:{path}")
            path.chmod(mode)
        except BlockingIOError as error:
            raise SettingsError(f"can't listen on {path}: another server does") from error
        except (OSError, RuntimeError) as error:
            raise SettingsError(f"can't listen on {path}: {error}") from error
        self.addresses.append(f"unix:{path}")

    async def start(self) -> None:
        await self._server.start()
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)

    async def _set_health(self, status: int) -> None:
        for name in ("", *(service.full_name for service in SERVICES)):
            await self._health.set(name, status)

    async def not_serving(self) -> None:
        """Tell load balancers to go elsewhere."""
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)

    async def stop(self, grace: float) -> None:
        """Refuse new calls, give those under way `grace` seconds, and end."""
        self.messages.close_streams()
        self.feeds.close_streams()
        self.attachments.close_streams()
        self.transfers.close_streams()
        self.reminders.close_streams()
        self.consumers.close_streams()
        await self._wall.close(grace)
        await self._server.stop(_LAST_BYTES)  # which ends the watches of health as well
        for lock in self._locks:
            os.close(lock)

"""Removing what uploads have left behind whose server died, or which nobody goes on with."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from sessiond_server.operations import attaching
from sessiond_server.store import attachments
from sessiond_server.store.database import Connection, Database

log = structlog.get_logger(__name__)

_AT_ONCE = 4


@dataclass
class UploadSweep:
    """Gives up uploads that have had no sign of life for too long, with their chunks."""

    database: Database
    every: float
    name: str = "attachment_uploads"

    async def run(self) -> None:
        while count := await self.database.transact(_sweep):
            log.info("uploads swept", count=count)


async def _sweep(connection: Connection) -> int:
    uploads = await attachments.expired_uploads(connection, _AT_ONCE)
    for upload in uploads:
        await attaching.give_up(connection, upload)
    return len(uploads)

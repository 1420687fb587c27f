"""The job that follows retention policies."""

from __future__ import annotations

from dataclasses import dataclass

from sessiond_server.operations import policies
from sessiond_server.store.database import Database


@dataclass
class RetentionJob:
    """Deletes what policies say, a session per transaction, and reports it there. Run twice at once, each
    session is deleted and reported by one of them."""

    database: Database
    decode: policies.Decode
    every: float
    name: str = "retention"

    async def run(self) -> None:
        await policies.follow_all(self.database, self.decode)

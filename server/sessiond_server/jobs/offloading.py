"""Offloads what the settings say, session after session."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sessiond_server import failing
from sessiond_server.config import Settings
from sessiond_server.errors import SessionNotFound
from sessiond_server.jobs.runner import Job
from sessiond_server.operations import offloading
from sessiond_server.sessions.guards import By
from sessiond_server.store import heads, messages, offload
from sessiond_server.store.database import Database
from sessiond_server.store.keys import SessionKey
from sessiond_server.store.offload import Due, Policy

AUTHOR = "policy"
_SESSIONS = 1000
"""How many sessions one statement looks at."""


def offload_jobs(settings: Settings, database: Database) -> list[Job]:
    """The job, if the settings want anything offloaded."""
    job = OffloadJob(
        database,
        settings.offload_interval,
        timedelta(days=settings.offload_ended_days),
        timedelta(days=settings.offload_age_days),
        settings.offload_keep_messages,
        settings.offload_segment_messages,
    )
    return [job] if job.ended_for or job.age or job.keep else []


@dataclass(slots=True)
class OffloadJob:
    """Looks at all sessions in turn; one that can't be offloaded keeps no other from it. Two of these at once
    are harmless: each move is decided under the session's lock."""

    database: Database
    every: float
    ended_for: timedelta
    age: timedelta
    keep: int
    segment_messages: int
    name: str = "offload"

    async def run(self) -> None:
        place: SessionKey | None = SessionKey(-1, UUID(int=0))
        while place is not None:
            async with self.database.connection() as connection:
                policy = self._policy(await heads.now(connection))
                found, place = await offload.due(connection, policy, place, _SESSIONS)
            for due in found:
                try:
                    await self._offload(due, policy)
                except SessionNotFound:
                    continue  # deleted since
                except Exception as error:
                    await failing.skip("session not offloaded", error, session_id=due.session_id)

    def _policy(self, now: datetime) -> Policy:
        return Policy(
            now - self.ended_for if self.ended_for else None,
            now - self.age if self.age else None,
            self.keep or None,
            self.segment_messages,
        )

    async def _offload(self, due: Due, policy: Policy) -> None:
        before_seq = due.before_seq
        if before_seq is None:
            before_seq = await self._first_younger(due, policy)
        while True:
            moved = await offloading.offload_messages(
                self.database,
                due.session_id,
                due.key,
                before_seq=before_seq,
                keep_recent=0,
                by=By(AUTHOR),
                segment_messages=self.segment_messages,
            )
            if not moved.more:
                return

    async def _first_younger(self, due: Due, policy: Policy) -> int:
        async with self.database.snapshot() as connection:
            head = await heads.read(connection, due.key)
            if head is None or policy.older_than is None:
                raise SessionNotFound(due.session_id)
            return await messages.seq_at_time(connection, due.key, head, policy.older_than)

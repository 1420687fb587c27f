"""Retention policies: keeping them, and following them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID, uuid4

import structlog
import uuid_utils

from sessiond_server import failing
from sessiond_server.errors import (
    EtagMismatch,
    RetentionPolicyNotFound,
    TooManyRetentionPolicies,
)
from sessiond_server.operations import pruning
from sessiond_server.operations.pruning import FIRST, Pruned, Pruning, Stopped
from sessiond_server.sessions.retention import Rule
from sessiond_server.store import policies
from sessiond_server.store.database import Connection, Database
from sessiond_server.store.policies import PolicyRow, ReportedSession
from sessiond_server.store.retention import PrunePlace

log = structlog.get_logger(__name__)

POLICIES = 100
_REPORT_SESSIONS = 100
_REPORTS = 1000


async def put(
    database: Database, tenant: str, policy_id: str, rule: bytes, *, dry_run: bool, etag: str
) -> tuple[PolicyRow, bool]:
    """Make or replace a policy; the policy, and whether there was none."""

    async def work(connection: Connection) -> tuple[PolicyRow, bool]:
        stored = await policies.lock(connection, tenant, policy_id)
        if etag and etag != (stored.etag if stored else ""):
            raise EtagMismatch(stored.etag if stored else "")
        if stored is None and await policies.count(connection, tenant) >= POLICIES:
            raise TooManyRetentionPolicies(POLICIES)
        row = await policies.put(connection, tenant, policy_id, uuid4(), rule, dry_run)
        return row, stored is None

    return await database.transact(work)


async def get(database: Database, tenant: str, policy_id: str) -> PolicyRow:
    """One policy."""
    async with database.connection() as connection:
        row = await policies.read(connection, tenant, policy_id)
    if row is None:
        raise RetentionPolicyNotFound(policy_id)
    return row


async def delete(
    database: Database, tenant: str, policy_id: str, *, etag: str, allow_missing: bool
) -> bool:
    """End a policy: nothing more is deleted by it once this returns. False if there is none."""

    async def work(connection: Connection) -> bool:
        stored = await policies.lock(connection, tenant, policy_id)
        if stored is None:
            if allow_missing:
                return False
            raise RetentionPolicyNotFound(policy_id)
        if etag and etag != stored.etag:
            raise EtagMismatch(stored.etag)
        await policies.delete(connection, tenant, policy_id)
        return True

    return await database.transact(work)


class _PolicyChanged(Stopped):
    """The policy that is followed was changed or deleted meanwhile."""


@dataclass
class _Report:
    """Takes down what becomes of sessions, in the transaction in which it happens."""

    policy: PolicyRow
    report_id: UUID
    items: int = 0

    async def record(self, connection: Connection, pruned: Pruned) -> None:
        if not await policies.hold(connection, self.policy):
            raise _PolicyChanged
        self.items += 1
        row, gone = pruned.row, pruned.gone
        session = ReportedSession(
            report_id=self.report_id,
            item_no=self.items,
            session_id=row.session_id,
            outcome=pruned.outcome,
            session_count=gone.sessions,
            message_count=gone.messages,
            detached_count=gone.detached,
            state=row.state,
            source=row.source,
            create_time=row.create_time,
            activity_time=row.activity_time,
            end_time=row.end_time,
        )
        await policies.report(connection, self.policy, session)


async def follow(database: Database, policy: PolicyRow, rule: Rule) -> None:
    """Go through all sessions that fit a policy, until it is changed."""
    place: PrunePlace | None = FIRST
    try:
        while place is not None:
            report = _Report(policy, UUID(bytes=uuid_utils.uuid7().bytes))
            wanted = Pruning(
                rule,
                policy.dry_run,
                _REPORT_SESSIONS,
                report.record,
                policy.policy_id,
            )
            found, place = await pruning.page(database, wanted, place)
            _tell(policy, report, found)
    except _PolicyChanged:
        log.info("retention policy changed while it was followed", policy=policy.policy_id)
        return
    async with database.connection() as connection:
        await policies.drop_reports(connection, policy, _REPORTS)


def _tell(policy: PolicyRow, report: _Report, found: list[Pruned]) -> None:
    if not found:
        return
    log.info(
        "retention",
        policy=policy.policy_id,
        dry_run=policy.dry_run,
        report_id=str(report.report_id),
        sessions=sum(it.gone.sessions for it in found),
        messages=sum(it.gone.messages for it in found),
        kept=sum(not it.gone.sessions for it in found),
    )


Decode = Callable[[str, bytes], Rule]
"""Makes a rule of its tenant and of how it is stored."""


async def follow_all(database: Database, decode: Decode) -> None:
    """Follow the policies of all tenants. One that fails keeps no other from it, now or the next time."""
    async with database.connection() as connection:
        found = await policies.every(connection)
    for policy in found:
        try:
            await follow(database, policy, decode(policy.tenant, policy.rule))
        except Exception as error:
            facts = {"tenant": policy.tenant, "policy": policy.policy_id}
            await failing.skip("retention policy not followed", error, **facts)
        async with database.connection() as connection:
            await policies.was_run(connection, policy)

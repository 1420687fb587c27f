"""Retention policies, and the reports of what they did. They belong to a tenant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sessiond_server.store.database import Connection, known_columns
from sessiond_server.store.keys import owner_bucket
from sessiond_server.store.sql import query


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """A row of `retention_policy`; its version changes with every change."""

    tenant: str
    policy_id: str
    version: UUID
    rule: bytes
    dry_run: bool
    create_time: datetime
    update_time: datetime
    last_run_time: datetime | None

    @property
    def etag(self) -> str:
        return self.version.hex


@dataclass(frozen=True, slots=True)
class ReportRow:
    """A row of `retention_report`."""

    report_id: UUID
    policy_id: str
    rule: bytes
    dry_run: bool
    start_time: datetime
    end_time: datetime
    session_count: int
    message_count: int
    kept_count: int


@dataclass(frozen=True, slots=True)
class ReportedSession:
    """A row of `retention_report_session`."""

    report_id: UUID
    item_no: int
    session_id: str
    outcome: int
    session_count: int
    message_count: int
    detached_count: int
    state: int
    source: str
    create_time: datetime
    activity_time: datetime
    end_time: datetime | None


def _place(tenant: str) -> tuple[int, str]:
    return owner_bucket(tenant, ""), tenant


async def count(connection: Connection, tenant: str) -> int:
    number: int = await connection.fetchval(query("count_policies"), *_place(tenant))
    return number


async def read(connection: Connection, tenant: str, policy_id: str) -> PolicyRow | None:
    """A policy; `None` if there is none of this id."""
    row = await connection.fetchrow(query("read_policy"), *_place(tenant), policy_id)
    return None if row is None else known_columns(PolicyRow, row)


async def lock(connection: Connection, tenant: str, policy_id: str) -> PolicyRow | None:
    """A policy that is about to be changed; `None` if there is none of this id."""
    row = await connection.fetchrow(query("lock_policy"), *_place(tenant), policy_id)
    return None if row is None else known_columns(PolicyRow, row)


async def put(
    connection: Connection, tenant: str, policy_id: str, version: UUID, rule: bytes, dry_run: bool
) -> PolicyRow:
    """Make a policy, or replace the one of its id."""
    row = await connection.fetchrow(
        query("set_policy"), *_place(tenant), policy_id, version, rule, dry_run
    )
    assert row is not None
    return known_columns(PolicyRow, row)


async def delete(connection: Connection, tenant: str, policy_id: str) -> None:
    await connection.execute(query("delete_policy"), *_place(tenant), policy_id)


async def page(connection: Connection, tenant: str, after: str, limit: int) -> list[PolicyRow]:
    """The policies that follow an id."""
    rows = await connection.fetch(query("list_policies"), *_place(tenant), after, limit)
    return [known_columns(PolicyRow, row) for row in rows]


async def every(connection: Connection) -> list[PolicyRow]:
    """The policies of all tenants, those first that weren't followed for longest."""
    rows = await connection.fetch(query("all_policies"))
    return [known_columns(PolicyRow, row) for row in rows]


async def hold(connection: Connection, policy: PolicyRow) -> bool:
    """Keep a policy from being changed until the transaction ends; false if it was changed already."""
    place = (*_place(policy.tenant), policy.policy_id, policy.version)
    return await connection.fetchval(query("hold_policy"), *place) is not None


async def was_run(connection: Connection, policy: PolicyRow) -> None:
    place = (*_place(policy.tenant), policy.policy_id, policy.version)
    await connection.execute(query("policy_was_run"), *place)


async def report(connection: Connection, policy: PolicyRow, session: ReportedSession) -> None:
    """Put a session into a report, which is made with its first."""
    await connection.execute(
        query("report_session"),
        *_place(policy.tenant),
        session.report_id,
        policy.policy_id,
        policy.rule,
        policy.dry_run,
        *(getattr(session, name) for name in ReportedSession.__slots__[1:]),
    )


async def reports(
    connection: Connection, tenant: str, policy_id: str | None, before: UUID, limit: int
) -> list[ReportRow]:
    """Reports older than one, the newest first."""
    rows = await connection.fetch(query("list_reports"), *_place(tenant), policy_id, before, limit)
    return [known_columns(ReportRow, row) for row in rows]


async def reported(
    connection: Connection, tenant: str, reports: Sequence[UUID]
) -> list[ReportedSession]:
    """The sessions of reports, in their order."""
    rows = await connection.fetch(query("report_sessions"), *_place(tenant), list(reports))
    return [known_columns(ReportedSession, row) for row in rows]


async def drop_reports(connection: Connection, policy: PolicyRow, keep: int) -> None:
    """Forget all but the newest reports of a policy."""
    await connection.execute(query("drop_reports"), *_place(policy.tenant), policy.policy_id, keep)

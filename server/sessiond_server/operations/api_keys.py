"""API keys over the API: a key gives away at most what it has itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sessiond_server.errors import (
    ApiKeyNotFound,
    CredentialsInvalid,
    PermissionDenied,
    RequestIdReused,
    invalid,
)
from sessiond_server.store import api_keys
from sessiond_server.store.api_keys import Grant, KeyRow
from sessiond_server.store.database import Connection, Database


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose key makes the call."""

    tenant: str
    key_id: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """A key to make."""

    name: str
    grant: Grant
    expire_time: datetime | None
    request_id: str


@dataclass(frozen=True, slots=True)
class Made:
    """A key that was made, and itself; empty if the request had made it before."""

    row: KeyRow
    secret: str


async def create(database: Database, caller: Caller, wanted: Wanted, most: timedelta) -> Made:
    """Make a key that lasts for `most` at most, unless its request made it before."""

    async def work(connection: Connection) -> Made:
        maker = await _still_good(connection, caller)
        if wanted.request_id:
            known = await api_keys.of_request(connection, caller.tenant, wanted.request_id)
            if known is not None:
                return _replay(known, wanted)
        _check_time(wanted, most)
        _check_may(maker, wanted)
        made = await api_keys.create(
            connection,
            wanted.name,
            wanted.grant,
            wanted.expire_time,
            creator=caller.key_id,
            request_id=wanted.request_id,
        )
        if made is not None:
            return Made(*made)
        known = await api_keys.of_request(connection, caller.tenant, wanted.request_id)
        if known is None:  # it was made, and revoked, by others meanwhile
            raise RequestIdReused(wanted.request_id)
        return _replay(known, wanted)

    return await database.transact(work)


async def _still_good(connection: Connection, caller: Caller) -> KeyRow:
    """The caller's key, which the wall may have looked for some seconds ago."""
    found = await api_keys.hold(connection, caller.tenant, caller.key_id)
    if found is None:
        raise CredentialsInvalid
    return found


def _replay(known: KeyRow, wanted: Wanted) -> Made:
    same = (known.name, known.grant, known.expire_time) == (
        wanted.name,
        wanted.grant,
        wanted.expire_time,
    )
    if not same:
        raise RequestIdReused(wanted.request_id)
    return Made(known, "")


def _check_time(wanted: Wanted, most: timedelta) -> None:
    now = datetime.now(UTC)
    if wanted.expire_time is not None and not now < wanted.expire_time <= now + most:
        raise invalid(
            "api_key.expire_time", f"must be in the future, and at most {most.days} days ahead"
        )


def _check_may(maker: KeyRow, wanted: Wanted) -> None:
    """Raises `PermissionDenied` if the key would do more than the one that makes it."""
    for permission in sorted(wanted.grant.permissions - maker.grant.permissions):
        raise PermissionDenied(
            f"The API key lacks the permission {permission!r}, and can't give it.", permission
        )
    if maker.owner is not None and wanted.grant.owner != maker.owner:
        raise PermissionDenied("The API key is bound to an owner.", "owner")
    ends = maker.expire_time
    if ends is not None and (wanted.expire_time is None or wanted.expire_time > ends):
        raise PermissionDenied(
            "The API key expires, and can't make one that lasts longer.", "expire_time"
        )


async def get(database: Database, tenant: str, key_id: str) -> KeyRow:
    """One key."""
    async with database.connection() as connection:
        found = await api_keys.read(connection, tenant, key_id)
    if found is None:
        raise ApiKeyNotFound(key_id)
    return found


async def revoke(database: Database, caller: Caller, key_id: str, *, allow_missing: bool) -> bool:
    """End a key; whether there was one."""

    async def work(connection: Connection) -> bool:
        if await api_keys.read(connection, caller.tenant, caller.key_id) is None:
            raise CredentialsInvalid
        revoked = await api_keys.revoke(connection, key_id, caller.tenant)
        if not revoked and not allow_missing:
            raise ApiKeyNotFound(key_id)
        return revoked

    return await database.transact(work)

"""API keys: made, found and revoked. A key is `sk_<key id>_<secret>`; only a hash of its secret is kept."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg

from sessiond_server.store.database import Connection
from sessiond_server.store.keys import SessionKey
from sessiond_server.store.sql import query

_PREFIX = "sk"
_ID_BYTES, _SECRET_BYTES = 8, 32


@dataclass(frozen=True, slots=True)
class Grant:
    """What a key allows: in which tenant, on whose sessions (`None`: everybody's), and what."""

    tenant: str
    owner: str | None
    permissions: frozenset[str]


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key in a list."""

    key_id: str
    name: str
    tenant: str
    owner: str | None
    permissions: list[str]
    create_time: datetime
    expire_time: datetime | None


def _hash(secret: str) -> bytes:
    """A secret has 256 random bits: what makes hashes of passwords slow isn't needed."""
    return hashlib.sha256(secret.encode()).digest()


async def create(
    connection: Connection, name: str, grant: Grant, expire_time: datetime | None
) -> str:
    """Make a key; the only time that it can be seen."""
    key_id, secret = secrets.token_hex(_ID_BYTES), secrets.token_hex(_SECRET_BYTES)
    await connection.execute(
        query("insert_api_key"),
        key_id,
        _hash(secret),
        name,
        grant.tenant,
        grant.owner,
        sorted(grant.permissions),
        expire_time,
    )
    return f"{_PREFIX}_{key_id}_{secret}"


async def find(connection: Connection, key: str) -> Grant | None:
    """What a key allows; `None` if it is none, was revoked or has expired."""
    prefix, _, rest = key.partition("_")
    key_id, _, secret = rest.partition("_")
    if prefix != _PREFIX or not key_id.isalnum() or not key_id.isascii():
        return None
    row = await connection.fetchrow(query("find_api_key"), key_id)
    if row is None or not hmac.compare_digest(row["secret_hash"], _hash(secret)):
        return None
    return Grant(row["tenant"], row["owner"], frozenset(row["permissions"]))


def id_of(key: str) -> str:
    """The id of a key, which isn't secret; empty for no key."""
    return key.partition("_")[2].partition("_")[0]


async def list_all(connection: Connection) -> list[KeyRow]:
    rows: Sequence[asyncpg.Record] = await connection.fetch(query("list_api_keys"))
    return [KeyRow(**dict(row)) for row in rows]


async def revoke(connection: Connection, key_id: str) -> bool:
    """Whether there was such a key."""
    return await connection.fetchval(query("delete_api_key"), key_id) is not None


class Owned(NamedTuple):
    """Whose a session is, and which creation of it."""

    owner: str
    incarnation: UUID


async def session_owners(connection: Connection, keys: Collection[SessionKey]) -> dict[str, Owned]:
    """Whose sessions these are, by the ids of those that exist."""
    rows = await connection.fetch(
        query("session_owners"), [key.bucket for key in keys], [key.key for key in keys]
    )
    return {row[0]: Owned(row[1], row[2]) for row in rows}

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
    """A key without its secret."""

    key_id: str
    name: str
    tenant: str
    owner: str | None
    permissions: list[str]
    create_time: datetime
    expire_time: datetime | None
    creator: str
    """The id of the key that made it; empty if it was made on the server's host."""

    @property
    def grant(self) -> Grant:
        return Grant(self.tenant, self.owner, frozenset(self.permissions))


def _hash(secret: str) -> bytes:
    """A secret has 256 random bits: what makes hashes of passwords slow isn't needed."""
    return hashlib.sha256(secret.encode()).digest()


async def create(
    connection: Connection,
    name: str,
    grant: Grant,
    expire_time: datetime | None,
    *,
    creator: str = "",
    request_id: str = "",
) -> tuple[KeyRow, str] | None:
    """Make a key: what is kept of it, and itself, the only time that it can be seen. `None` if the request
    made one before."""
    key_id, secret = secrets.token_hex(_ID_BYTES), secrets.token_hex(_SECRET_BYTES)
    row = await connection.fetchrow(
        query("insert_api_key"),
        key_id,
        _hash(secret),
        name,
        grant.tenant,
        grant.owner,
        sorted(grant.permissions),
        expire_time,
        creator,
        request_id or None,
    )
    return None if row is None else (_row(row), f"{_PREFIX}_{key_id}_{secret}")


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


def _row(row: asyncpg.Record) -> KeyRow:
    return KeyRow(**dict(row))


async def hold(connection: Connection, tenant: str, key_id: str) -> KeyRow | None:
    """A key that is good, and isn't revoked until the transaction ends; `None` if it isn't any more."""
    row = await connection.fetchrow(query("hold_api_key"), key_id, tenant)
    return None if row is None else _row(row)


async def read(connection: Connection, tenant: str, key_id: str) -> KeyRow | None:
    row = await connection.fetchrow(query("read_api_key"), key_id, tenant)
    return None if row is None else _row(row)


async def of_request(connection: Connection, tenant: str, request_id: str) -> KeyRow | None:
    """The key that a request made."""
    row = await connection.fetchrow(query("api_key_of_request"), tenant, request_id)
    return None if row is None else _row(row)


async def page(
    connection: Connection, tenant: str, before: tuple[datetime, str], limit: int
) -> list[KeyRow]:
    """The keys of a tenant behind a place, the newest first."""
    rows = await connection.fetch(query("page_api_keys"), tenant, *before, limit)
    return [_row(row) for row in rows]


async def list_all(connection: Connection) -> list[KeyRow]:
    rows: Sequence[asyncpg.Record] = await connection.fetch(query("list_api_keys"))
    return [_row(row) for row in rows]


async def revoke(connection: Connection, key_id: str, tenant: str | None = None) -> bool:
    """Whether there was such a key, in a tenant if one is given."""
    return await connection.fetchval(query("delete_api_key"), key_id, tenant) is not None


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

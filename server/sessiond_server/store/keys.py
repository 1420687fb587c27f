"""Where a session is stored: derived from its tenant and id, so that no lookup stands before an append."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import NamedTuple
from uuid import UUID

BUCKETS = 1024
"""How many buckets there are. Part of the schema: it can't change once sessions are stored."""

DEFAULT_TENANT = "default"


class SessionKey(NamedTuple):
    """The first two columns of every key."""

    bucket: int
    key: UUID


class OwnersKey(SessionKey):
    """A key for somebody who is bound to an owner: when the head is locked, a session of another owner, who
    may have made it a moment ago, is as if it weren't there (P12). It equals the bare key."""

    owner: str


@lru_cache(maxsize=65536)
def session_key(tenant: str, session_id: str) -> SessionKey:
    """The key of a session, existing or not."""
    digest = hashlib.blake2b(f"{tenant}\0{session_id}".encode(), digest_size=18).digest()
    return SessionKey(int.from_bytes(digest[:2]) % BUCKETS, UUID(bytes=digest[2:]))


def owners_key(tenant: str, session_id: str, owner: str) -> OwnersKey:
    """The key of a session if it is this owner's."""
    key = OwnersKey(*session_key(tenant, session_id))
    key.owner = owner
    return key


def owner_of(key: SessionKey) -> str | None:
    """Whose session is meant; `None` is anybody's."""
    return key.owner if isinstance(key, OwnersKey) else None


def owner_bucket(tenant: str, owner: str) -> int:
    """The bucket of what belongs to an owner rather than to a session."""
    digest = hashlib.blake2b(f"{tenant}\0{owner}".encode(), digest_size=2).digest()
    return int.from_bytes(digest) % BUCKETS


def titles_lock(tenant: str, owner: str, root: str) -> int:
    """The number of the lock on the titles of an owner's sessions that begin so."""
    digest = hashlib.blake2b(f"titles\0{tenant}\0{owner}\0{root}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)


def content_bucket(tenant: str, sha256: bytes) -> int:
    """The bucket of bytes that a tenant's sessions share."""
    digest = hashlib.blake2b(f"{tenant}\0".encode() + sha256, digest_size=2).digest()
    return int.from_bytes(digest) % BUCKETS


def chunk_bucket(content_id: UUID) -> int:
    """The bucket of the chunks of a content, whose id is random."""
    return content_id.int % BUCKETS

"""What sessions run with, and since when; the texts of it, which sessions of a tenant share."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from uuid import UUID

from sessiond_server.sessions.setups import NOTHING, Setup
from sessiond_server.store.database import Connection
from sessiond_server.store.keys import SessionKey, chunk_bucket
from sessiond_server.store.sql import query


async def as_of(connection: Connection, key: SessionKey, seq: int | None) -> Setup:
    """What held right after a message was committed, or what holds now."""
    row = await connection.fetchrow(query("setup_as_of"), *key, seq)
    return NOTHING if row is None else Setup(*row)


async def at(connection: Connection, key: SessionKey, effective_seq: int) -> Setup | None:
    """What holds from this very seq on."""
    row = await connection.fetchrow(query("setup_at"), *key, effective_seq)
    return None if row is None else Setup(*row)


async def put(
    connection: Connection, tenant: str, key: SessionKey, effective_seq: int, setup: Setup
) -> None:
    """Let a setup hold from a seq on, the next one of the session or its last; the caller holds the head's
    lock."""
    texts = {_text_id(tenant, text): text for text in (setup.system_prompt, setup.config) if text}
    row = await connection.fetchrow(query("replaced_texts"), *key, effective_seq)
    replaced = {id for id in row or () if id is not None} - texts.keys()
    for id in sorted(
        texts.keys() | replaced
    ):  # in one order, or two of these could block each other
        if id in texts:
            await _hold(connection, id, texts[id])
        else:
            await connection.execute(query("lock_text"), chunk_bucket(id), id)
    ids = (_text_id(tenant, text) if text else None for text in (setup.system_prompt, setup.config))
    await connection.execute(query("put_setup"), *key, effective_seq, *ids, setup.model)
    for id in replaced:
        await connection.execute(query("drop_text"), chunk_bucket(id), id)


async def copy(
    connection: Connection, source: SessionKey, target: SessionKey, at_seq: int | None
) -> None:
    """Give a fork what held in the other session, which is locked, so that its texts stay."""
    await connection.execute(query("copy_setups"), *source, *target, at_seq)


async def texts(connection: Connection, keys: Sequence[SessionKey]) -> list[UUID]:
    """The texts of sessions, to `release` when the sessions are gone."""
    rows = await connection.fetch(
        query("setup_texts"), [key.bucket for key in keys], [key.key for key in keys]
    )
    return [row[0] for row in rows]


async def release(connection: Connection, ids: Sequence[UUID]) -> None:
    """Delete those of the texts that nobody has any more."""
    for id in sorted(ids):
        await connection.execute(query("lock_text"), chunk_bucket(id), id)
        await connection.execute(query("drop_text"), chunk_bucket(id), id)


async def places(connection: Connection, key: SessionKey, first_seq: int) -> list[int]:
    """From which seqs on setups held, but for what held at the first message."""
    return [row[0] for row in await connection.fetch(query("setup_places"), *key, first_seq)]


async def _hold(connection: Connection, id: UUID, text: bytes) -> None:
    """Have a text, and keep others from deleting it until the transaction ends."""
    bucket = chunk_bucket(id)
    while not await connection.fetchval(query("hold_text"), bucket, id):
        await connection.execute(query("add_text"), bucket, id, text)


def _text_id(tenant: str, text: bytes) -> UUID:
    digest = hashlib.blake2b(tenant.encode() + b"\0" + text, digest_size=16).digest()
    return UUID(bytes=digest)

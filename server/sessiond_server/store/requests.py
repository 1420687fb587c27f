"""The request ids that a session has seen, so that requests are safe to repeat (P4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sessiond_server.store.database import Connection
from sessiond_server.store.keys import SessionKey
from sessiond_server.store.sql import query

USAGE, JOURNAL = 1, 2
"""What a request id is of."""


class Seen(NamedTuple):
    """A request that was done: a digest of what was asked for, and what came of it."""

    digest: bytes
    result: int


async def seen(
    connection: Connection, key: SessionKey, kind: int, request_ids: Sequence[str]
) -> dict[str, Seen]:
    """Which of these the session has seen."""
    rows = await connection.fetch(query("seen_requests"), *key, kind, list(request_ids))
    return {row[0]: Seen(row[1], row[2]) for row in rows}


async def note(
    connection: Connection,
    key: SessionKey,
    kind: int,
    requests: Sequence[tuple[str, bytes]],
    *,
    result: int = 0,
) -> None:
    """Note requests that are new, with their digests; the caller holds the head's lock."""
    ids, digests = [it[0] for it in requests], [it[1] for it in requests]
    await connection.execute(query("note_requests"), *key, kind, ids, digests, result)

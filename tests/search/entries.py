"""Whether the entries of a database are those of its messages, no more and no less."""

from __future__ import annotations

import asyncio
import time

from sessiond_server.operations import indexing
from sessiond_server.rpc import passages_in
from sessiond_server.store import search
from sessiond_server.store.database import Connection
from sessiond_server.store.keys import SessionKey
from sessiond_server.store.messages import StoredMessage

_WRONG = """
SELECT seq, piece, document FROM search_entry WHERE bucket = $1 AND session_key = $2 AND seq > 0
EXCEPT
SELECT seq, piece, document::tsvector
FROM unnest($3::bigint[], $4::smallint[], $5::text[]) AS e (seq, piece, document)
"""
_STRAYS = """
SELECT count(*) FROM {} AS e
WHERE NOT EXISTS (SELECT FROM session AS s WHERE s.bucket = e.bucket AND s.session_key = e.session_key)
"""


async def check(connection: Connection) -> None:
    """Every message has its entries, as they are made of what it says now, and nothing else has any."""
    for table in ("search_entry", "search_progress"):
        assert await connection.fetchval(_STRAYS.format(table)) == 0
    keys = [
        SessionKey(*row)
        for row in await connection.fetch("SELECT bucket, session_key FROM session")
    ]
    for session in await search.to_index(connection, keys):
        assert not session.lags
        rows = await connection.fetch(
            "SELECT seq, create_time, summary, payload FROM message WHERE bucket = $1 AND session_key = $2",
            *session.key,
        )
        expected = [
            entry
            for row in rows
            for entry in indexing.entries(session, StoredMessage(*row), passages_in.searched)
        ]
        columns = (
            [e.seq for e in expected],
            [e.piece for e in expected],
            [search.full_document(e) for e in expected],
        )
        assert await connection.fetch(_WRONG, *session.key, *columns) == []
        count = (
            "SELECT count(*) FROM search_entry WHERE bucket = $1 AND session_key = $2 AND seq > 0"
        )
        assert await connection.fetchval(count, *session.key) == len(expected)


async def settled(connection: Connection, seconds: float = 60) -> None:
    """Wait until nothing lags."""
    until = time.monotonic() + seconds
    while await lagging(connection):
        assert time.monotonic() < until
        await asyncio.sleep(0.05)


async def lagging(connection: Connection) -> int:
    keys = [
        SessionKey(*row)
        for row in await connection.fetch("SELECT bucket, session_key FROM session")
    ]
    return sum(session.lags for session in await search.to_index(connection, keys))

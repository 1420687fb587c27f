"""One append on its way to the log, and the statement that stores many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

import asyncpg

from sessiond_server.store.database import Connection
from sessiond_server.store.keys import SessionKey
from sessiond_server.store.sql import query

CALL_ID_SEPARATOR = "\x1f"
"""Joins the ids of a message's tool calls in a parameter; ids hold no control characters."""


class MessageRow(NamedTuple):
    """A message as the statement takes it, in the order of its parameters."""

    client_id: str
    fingerprint: bytes
    role: int
    kind: int
    in_context: bool
    in_transcript: bool
    token_count: int
    tool_call_ids: str | None
    tool_call_id: str | None
    payload: bytes


class Ack(NamedTuple):
    """What an append came to: the seqs of its messages, and whether they were there before."""

    seqs: Sequence[int]
    next_seq: int
    replayed: bool


@dataclass(slots=True, eq=False)
class Append:
    """The messages of one call, and who waits for the answer."""

    session_id: str
    key: SessionKey
    rows: list[MessageRow]
    expected_next_seq: int = 0
    writer_token: str = ""
    skip_known: bool = False
    creation: object | None = None
    bytes: int = 0
    answer: asyncio.Future[Ack] = field(default_factory=lambda: _future())


def _future() -> asyncio.Future[Ack]:
    return asyncio.get_running_loop().create_future()


async def store(
    connection: Connection, appends: Sequence[Append], *, note: bool = False
) -> dict[tuple[UUID, str], int]:
    """Store the appends that are entirely new and allowed; the seq of each stored message by session key
    and client id. An append that isn't among them was left out whole.

    Raises asyncpg's `UniqueViolationError` when a duplicate committed while this waited: do it again.
    """
    rows: list[MessageRow] = []
    call_numbers: list[int] = []
    for number, append in enumerate(appends, start=1):
        rows += append.rows
        call_numbers += [number] * len(append.rows)
    stored = await connection.fetch(
        query("append_messages"),
        [append.key.bucket for append in appends],
        [append.key.key for append in appends],
        [append.expected_next_seq for append in appends],
        [append.writer_token for append in appends],
        call_numbers,
        *zip(*rows, strict=True),
        note,
    )
    return {(row[0], row[1]): row[2] for row in stored}


class Known(NamedTuple):
    """A message that is stored under a client id."""

    seq: int
    fingerprint: bytes
    note: bool


async def known(
    connection: Connection, key: SessionKey, client_ids: Sequence[str]
) -> dict[str, Known]:
    """Which of the client ids the session has."""
    rows: list[asyncpg.Record] = await connection.fetch(
        query("known_messages"), key.bucket, key.key, client_ids
    )
    return {row[0]: Known(row[1], row[2], row[3]) for row in rows}

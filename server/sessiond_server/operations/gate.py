"""Who may change a session now: its state, its leases, and what the caller expects of it."""

from __future__ import annotations

from datetime import datetime

from sessiond_server.errors import (
    CompactionLeaseHeld,
    CompactionLeaseLost,
    NextSeqMismatch,
    SessionEnded,
    SessionNotFound,
    WriterLeaseHeld,
    WriterLeaseLost,
)
from sessiond_server.store import heads
from sessiond_server.store.database import Connection
from sessiond_server.store.heads import ENDED, Head
from sessiond_server.store.keys import SessionKey


async def lock(connection: Connection, session_id: str, key: SessionKey) -> Head:
    """The locked head of a session that exists."""
    head = await heads.lock(connection, key)
    if head is None:
        raise SessionNotFound(session_id)
    return head


async def read(connection: Connection, session_id: str, key: SessionKey) -> Head:
    """The head of a session that exists, as it is in this snapshot."""
    head = await heads.read(connection, key)
    if head is None:
        raise SessionNotFound(session_id)
    return head


async def lock_for_change(
    connection: Connection,
    session_id: str,
    key: SessionKey,
    *,
    writer_token: str = "",
    expected_next_seq: int = 0,
) -> Head:
    """The locked head of a session that the caller may change (P5)."""
    head = await lock(connection, session_id, key)
    check_open(session_id, head)
    check_writer(session_id, head, writer_token, await heads.now(connection))
    check_next_seq(head, expected_next_seq)
    return head


def check_open(session_id: str, head: Head) -> None:
    check_state(session_id, head.state)


def check_state(session_id: str, state: int) -> None:
    if state == ENDED:
        raise SessionEnded(session_id)


def check_next_seq(head: Head, expected: int) -> None:
    if expected not in (0, head.next_seq):
        raise NextSeqMismatch(expected, head.next_seq)


def check_writer(session_id: str, head: Head, token: str, now: datetime) -> None:
    """A token must be that of the living lease; without one there must be no living lease."""
    living = head.writer_expire_time > now
    if token and not (living and token == head.writer_token):
        raise WriterLeaseLost(session_id)
    if not token and living:
        raise WriterLeaseHeld(session_id, head.writer_holder, head.writer_expire_time, now)


def check_compactor(session_id: str, head: Head, token: str, now: datetime) -> None:
    """The same of the compaction lease."""
    living = head.compactor_expire_time > now
    if token and not (living and token == head.compactor_token):
        raise CompactionLeaseLost(session_id)
    if not token and living:
        raise CompactionLeaseHeld(
            session_id, head.compactor_holder, head.compactor_expire_time, now
        )

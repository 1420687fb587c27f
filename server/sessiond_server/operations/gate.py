"""Who may change a session now: its state, its leases, and what the caller expects of it."""

from __future__ import annotations

from datetime import datetime

from sessiond_server.errors import (
    CompactionLeaseHeld,
    CompactionLeaseLost,
    NextSeqMismatch,
    RevisionMismatch,
    SessionEnded,
    SessionNotFound,
    WriterLeaseHeld,
    WriterLeaseLost,
)
from sessiond_server.sessions.guards import UNGUARDED, Guard
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


async def check_change(connection: Connection, session_id: str, head: Head, guard: Guard) -> None:
    """Whether the caller may change the messages of a session that is locked (P5)."""
    check_open(session_id, head)
    check_writer(session_id, head, guard.writer_token, await heads.now(connection))
    check_expected(head, guard)


async def check_guard(connection: Connection, session_id: str, head: Head, guard: Guard) -> None:
    """Whether a guard holds of a session that is locked, where no writer token is needed."""
    if guard == UNGUARDED:
        return
    if guard.writer_token:
        check_writer(session_id, head, guard.writer_token, await heads.now(connection))
    check_expected(head, guard)


def check_open(session_id: str, head: Head) -> None:
    check_state(session_id, head.state)


def check_state(session_id: str, state: int) -> None:
    if state == ENDED:
        raise SessionEnded(session_id)


def check_expected(head: Head, guard: Guard) -> None:
    check_next_seq(head, guard.expected_next_seq)
    if guard.expected_revision not in (0, head.version.revision):
        raise RevisionMismatch(guard.expected_revision, head.version.revision, head.next_seq)


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

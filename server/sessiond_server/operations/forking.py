"""Forks: a new session with the same history up to a seq."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sessiond_server.errors import SeqOutOfRange
from sessiond_server.operations import creating, gate, hiding
from sessiond_server.operations.creating import NewSession
from sessiond_server.operations.ending import read
from sessiond_server.sessions.setups import Setup
from sessiond_server.store import heads, offload, offloaded, sessions, setups
from sessiond_server.store.database import Connection, Database
from sessiond_server.store.heads import Head
from sessiond_server.store.keys import SessionKey
from sessiond_server.store.sessions import SessionRow


@dataclass(frozen=True, slots=True)
class Fork:
    """What to fork, where, and how the new session follows from the forked one."""

    session_id: str
    key: SessionKey
    at_seq: int
    expected_next_seq: int
    describe: Callable[[SessionRow, Setup, int], NewSession]
    """Makes the new session from the forked one, what that ran with, and the last seq that both have."""


async def fork(
    database: Database, wanted: Fork, *, max_spawn_depth: int
) -> tuple[SessionRow, bool]:
    """Fork a session; the new one, and whether this made it."""

    async def work(connection: Connection) -> tuple[SessionRow, bool]:
        head = await gate.lock(connection, wanted.session_id, wanted.key)
        source = await read(connection, wanted.session_id, wanted.key, full=True)
        setup = await setups.as_of(connection, wanted.key, wanted.at_seq or None)
        new = wanted.describe(source, setup, wanted.at_seq or head.last_seq)
        if await sessions.creation_request(connection, new.key) is not None:
            await creating.check_same_request(connection, new)
            return await read(connection, new.session_id, new.key), False
        gate.check_next_seq(head, wanted.expected_next_seq)
        if wanted.at_seq and not head.first_seq <= wanted.at_seq <= head.last_seq:
            raise SeqOutOfRange("at_seq", wanted.at_seq, head.first_seq, head.next_seq)
        made = await creating.create_missing(connection, new, max_spawn_depth=max_spawn_depth)
        if made:
            await _copy(connection, wanted, new, head)
            if new.setup != setup:
                next_seq = new.fork_seq + 1
                await setups.put(connection, new.tenant, new.key, next_seq, new.setup)
            await _count_setup(connection, new)
        else:
            await creating.check_same_request(connection, new)
        return await read(connection, new.session_id, new.key), made

    return await database.transact(work)


async def _count_setup(connection: Connection, new: NewSession) -> None:
    """Count what the fork runs with as a change of its context, if that is other than at its last message: so
    does an import of it."""
    head = await gate.lock(connection, new.session_id, new.key)
    if head.next_seq > head.first_seq and await setups.at(connection, new.key, head.next_seq):
        await heads.count_context_changes(connection, new.key, 1)


async def _copy(connection: Connection, wanted: Fork, new: NewSession, source: Head) -> None:
    copied = await _copy_offloaded(connection, wanted, new.key, source)
    await sessions.copy_history(connection, wanted.key, new.key, wanted.at_seq or None, copied)
    head = await gate.lock(connection, new.session_id, new.key)
    await hiding.derive(connection, new.key, head, rewound_changed=True)


async def _copy_offloaded(
    connection: Connection, wanted: Fork, target: SessionKey, source: Head
) -> tuple[int, int]:
    """Copy what is offloaded of a locked session, as it was then, out of the segments; how many messages and
    tool calls. The fork is offloaded in its turn, since other calls may be open in it."""
    if not source.has_offloaded:
        return 0, 0
    last = source.offloaded_before_seq - 1
    if wanted.at_seq:
        last = min(last, wanted.at_seq)
    count = calls = 0
    async for messages in offloaded.pieces(connection, wanted.key, source.first_seq, last):
        if wanted.at_seq:
            messages = await offloaded.as_of(connection, wanted.key, messages, wanted.at_seq)
        await offload.insert_messages(connection, target, messages)
        count += len(messages)
        calls += sum(len(message.tool_call_ids or ()) for message in messages)
    return count, calls

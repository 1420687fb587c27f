"""Whole sessions on their way out of a store and into one."""

from __future__ import annotations

from array import array
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg

from sessiond_server.sessions import contents
from sessiond_server.sessions.filters import SessionFilter
from sessiond_server.sessions.transfers import (
    BillingFacts,
    Change,
    Compaction,
    CompactionRevert,
    JournalRecord,
    Kept,
    Mark,
    Message,
    Reminder,
    Revision,
    Rewind,
    RewindRevert,
    SeenRequest,
    Selected,
    UsageSum,
    UsageTurn,
)
from sessiond_server.sessions.usage import Amounts
from sessiond_server.store import changes as changes_log
from sessiond_server.store import crossing, offloaded, usage
from sessiond_server.store.crossing import ROW_BYTES
from sessiond_server.store.database import Connection
from sessiond_server.store.filters import fitting
from sessiond_server.store.keys import SessionKey
from sessiond_server.store.messages import StoredMessage
from sessiond_server.store.sessions import SessionInsert
from sessiond_server.store.sql import query

_PREFETCH = 1000


async def selection(
    connection: Connection,
    wanted: SessionFilter,
    ids: Sequence[str] | None,
    after: tuple[datetime, str] | None = None,
) -> list[Selected]:
    """Sessions that fit, the oldest first; of these ids, or of any, behind a place."""
    given = None if ids is None else list(ids)
    place = after or (None, "")
    text, values = fitting("transfer_selection", wanted, wanted.tenant, given, *place)
    return [Selected(*row) for row in await connection.fetch(text, *values)]


async def fits(connection: Connection, wanted: SessionFilter, key: SessionKey) -> bool:
    """Whether a session fits."""
    text, values = fitting("transfer_fits", wanted, *key)
    return bool(await connection.fetchval(text, *values))


async def continuations(connection: Connection, tenant: str, ids: Sequence[str]) -> list[str]:
    rows = await connection.fetch(query("transfer_continuations"), tenant, list(ids))
    return [row[0] for row in rows]


class Seqs(NamedTuple):
    """A stretch of a log, as it was before a change."""

    low: int
    high: int
    before_change: int


async def messages(
    connection: Connection, key: SessionKey, seqs: Seqs, *, limit: int, max_bytes: int
) -> list[StoredMessage]:
    """The first messages of a stretch; those that are offloaded apart from the others."""
    rows = await connection.fetch(query("transfer_messages"), *key, *seqs, limit, max_bytes)
    if rows and rows[0]["seq"] == seqs.low:
        return [StoredMessage(*row) for row in rows]
    found: list[StoredMessage] = []
    async for messages in offloaded.pieces(connection, key, seqs.low, seqs.high):
        ends = messages[0].seq, messages[-1].seq
        versions = await connection.fetch(
            query("versions_before_change"), *key, *ends, seqs.before_change
        )
        payloads = {row["seq"]: row["payload"] for row in versions}
        for m in messages:
            payload = payloads.get(m.seq, m.payload)
            max_bytes -= len(payload) + ROW_BYTES
            if len(found) == limit or (found and max_bytes < 0):
                return found
            found.append(StoredMessage(m.seq, m.create_time, m.summary, payload))
    return found


async def revisions(
    connection: Connection, key: SessionKey, change_no: int, after_seq: int, limit: int
) -> list[tuple[int, int, int, bytes]]:
    """(seq, change, effective seq, payload) of versions that a change replaced."""
    rows = await connection.fetch(query("transfer_revisions"), *key, change_no, after_seq, limit)
    return [tuple(row) for row in rows]


class Records(NamedTuple):
    """What happened in a session that later changes touch, or that only few of its changes are."""

    revised: tuple[array[int], array[int]]
    """The changes that replaced versions, and the effective seq of each."""
    compactions: list[asyncpg.Record]
    rewinds: list[asyncpg.Record]
    told: dict[tuple[int, int], int]
    """The changes that tell of a revert, by their kind and what they tell of."""


async def records(connection: Connection, key: SessionKey) -> Records:
    """What happened so far, in a snapshot."""
    revised = array("q"), array("q")
    async for row in connection.cursor(query("transfer_revision_places"), *key, prefetch=_PREFETCH):
        revised[0].append(row[0])
        revised[1].append(row[1])
    kinds = [changes_log.REVERTED, changes_log.REWIND_REVERTED]
    told = await connection.fetch(query("transfer_told"), *key, kinds)
    return Records(
        revised,
        await connection.fetch(query("transfer_compactions"), *key),
        await connection.fetch(query("transfer_rewinds"), *key),
        {(row[0], row[1]): row[2] for row in told},
    )


async def changes(
    connection: Connection, key: SessionKey, after: int, before: int, limit: int
) -> list[Change]:
    """The first entries of the feed between two numbers."""
    rows = await connection.fetch(query("transfer_changes"), *key, after, before, limit)
    return [Change(*row) for row in rows]


async def stands(
    connection: Connection, key: SessionKey, incarnation: UUID, next_change: int
) -> bool:
    """Whether it is still that session, and wasn't cleared since its next change had a number."""
    found = await connection.fetchval(
        query("session_stands"), *key, incarnation, changes_log.CLEARED, next_change
    )
    return bool(found)


class Origin(NamedTuple):
    """The facts of a session that only an import may say, in the order of the statement's parameters."""

    state: int
    end_reason: str
    create_time: datetime
    update_time: datetime
    activity_time: datetime
    end_time: datetime | None
    first_seq: int


async def insert_session(connection: Connection, new: SessionInsert, origin: Origin) -> None:
    """Store a session as it was. Raises asyncpg's `UniqueViolationError` if somebody else just made it."""
    values = [getattr(new, name) for name in SessionInsert.__slots__]
    await connection.execute(
        query("import_session"), *values[:12], *origin[:2], *values[12:], *origin[2:]
    )


async def child_is_told(connection: Connection, parent: SessionKey, child_id: str) -> bool:
    return bool(await connection.fetchval(query("child_is_told"), *parent, child_id))


async def equal_messages(
    connection: Connection, key: SessionKey, messages: Sequence[Message]
) -> set[int]:
    """The seqs of those that the session has with these contents, be it before later updates."""
    rows = await connection.fetch(
        query("equal_messages"), *key, [m.seq for m in messages], [m.payload for m in messages]
    )
    equal = {row[0] for row in rows}
    rest = {m.seq: m.payload for m in messages if m.seq not in equal}
    if rest:
        async for seq, payload in _versions(connection, key, rest):
            if seq not in equal and contents.same(payload, rest[seq]):
                equal.add(seq)
    return equal


async def _versions(
    connection: Connection, key: SessionKey, sent: Mapping[int, bytes]
) -> AsyncIterator[tuple[int, bytes]]:
    """What these messages, by seq, are and were, offloaded ones too, where it may say what is sent."""
    border = await crossing.border_of(connection, key, None)
    below = [seq for seq in sent if seq < border]
    if below:
        for seq, message in (await offloaded.by_seqs(connection, key, below)).items():
            yield seq, message.payload
    lengths = [len(payload) for payload in sent.values()]
    arguments = *key, list(sent), lengths, contents.SPELLING_BYTES
    async for row in connection.cursor(query("versions_of_messages"), *arguments, prefetch=8):
        yield row[0], row[1]


async def last_time(connection: Connection, key: SessionKey, seq: int) -> datetime | None:
    time: datetime | None = await connection.fetchval(query("last_message_time"), *key, seq)
    if time is None:
        found = await offloaded.by_seqs(connection, key, [seq])
        return found[seq].create_time if seq in found else None
    return time


async def known_revisions(
    connection: Connection, key: SessionKey, found: Sequence[Revision]
) -> dict[tuple[int, int], bool]:
    """Those that are there by seq and change, and whether with this content."""
    rows = await connection.fetch(
        query("known_revisions"),
        *key,
        [r.seq for r in found],
        [r.change_no for r in found],
        [r.payload for r in found],
        contents.SPELLING_BYTES,
    )
    sent = {(r.seq, r.change_no): r.payload for r in found}
    return {
        (seq, change_no): other is None or contents.same(other, sent[seq, change_no])
        for seq, change_no, other in rows
    }


async def known_changes(
    connection: Connection, key: SessionKey, numbers: Sequence[int]
) -> dict[int, Change]:
    rows = await connection.fetch(query("known_changes"), *key, list(numbers))
    return {row[0]: Change(*row) for row in rows}


async def add_messages(connection: Connection, key: SessionKey, new: Sequence[Message]) -> None:
    await connection.execute(query("import_messages"), *key, *map(list, zip(*new, strict=True)))


async def add_revisions(connection: Connection, key: SessionKey, new: Sequence[Revision]) -> None:
    await connection.execute(query("import_revisions"), *key, *map(list, zip(*new, strict=True)))


Record = Compaction | CompactionRevert | Rewind | RewindRevert | Change
_STATEMENTS: dict[type[Any], str] = {
    Compaction: "import_compaction",
    CompactionRevert: "import_compaction_revert",
    Rewind: "import_rewind",
    RewindRevert: "import_rewind_revert",
    Change: "import_changes",
}


async def add_record(connection: Connection, key: SessionKey, record: Record) -> None:
    await connection.execute(query(_STATEMENTS[type(record)]), *key, *record)


async def set_next_change(connection: Connection, key: SessionKey, number: int) -> None:
    await connection.execute(query("set_next_change"), *key, number)


async def restore_context_changes(connection: Connection, key: SessionKey, count: int) -> None:
    """Let at least so many changes of the context have been: a revision never goes back."""
    await connection.execute(query("restore_context_changes"), *key, count)


async def finish(connection: Connection, key: SessionKey, activity_time: datetime) -> None:
    await connection.execute(query("finish_import"), *key, activity_time)


async def kept(connection: Connection, key: SessionKey) -> list[Kept]:
    """What a session has beside its log, but what may be a lot."""
    sums = await connection.fetch(query("transfer_usage"), *key)
    turns = await connection.fetch(query("transfer_usage_turns"), *key)
    billing = (await usage.billing(connection, [key])).get(key)
    marks = await connection.fetch(query("transfer_marks"), *key)
    return [
        *(UsageSum._make([*row[:4], Amounts(*row[4:])]) for row in sums),
        *(UsageTurn._make([*row[:5], Amounts(*row[5:])]) for row in turns),
        *([] if billing is None else [BillingFacts(billing)]),
        *(Mark(*row) for row in marks),
    ]


async def seen_marks(connection: Connection, key: SessionKey) -> array[int]:
    """A hash of each request id that a session has seen, in order: 8 bytes, where the id would take hundreds.
    Nothing else tells later which ids there were in a snapshot."""
    rows = connection.cursor(query("transfer_seen"), *key, prefetch=_PREFETCH)
    return array("q", [row[0] async for row in rows])


async def requests(
    connection: Connection, key: SessionKey, after: tuple[int, str], limit: int
) -> list[tuple[SeenRequest, int]]:
    """Request ids behind one of a kind, each with its hash."""
    rows = await connection.fetch(query("transfer_requests"), *key, *after, limit)
    return [(SeenRequest(*row[:4]), row[4]) for row in rows]


async def reminders(connection: Connection, key: SessionKey) -> list[Reminder]:
    """A session's reminders without their details."""
    return [Reminder(*row) for row in await connection.fetch(query("transfer_reminders"), *key)]


async def reminder_details(
    connection: Connection, key: SessionKey, reminder_ids: Sequence[str]
) -> dict[str, bytes]:
    rows = await connection.fetch(query("transfer_reminder_details"), *key, list(reminder_ids))
    return {row[0]: row[1] for row in rows}


_KEPT: dict[type[Any], str] = {
    UsageSum: "import_usage_sum",
    UsageTurn: "import_usage_turn",
    BillingFacts: "import_billing",
    SeenRequest: "import_request",
    JournalRecord: "import_journal_record",
    Mark: "import_mark",
    Reminder: "import_reminder",
}


async def keep(connection: Connection, key: SessionKey, item: Kept) -> bool:
    """Add something unless it is there; whether it wasn't."""
    *plain, last = item
    values = [*plain, *last] if isinstance(last, tuple) else [*plain, last]
    return bool(await connection.fetchval(query(_KEPT[type(item)]), *key, *values))

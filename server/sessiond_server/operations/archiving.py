"""Archiving: moving the beginning of a log into segments, and back. It changes nothing that anybody reads."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar
from uuid import UUID

from sessiond_server.operations import gate
from sessiond_server.sessions.visibility import rewound_spans
from sessiond_server.store import archive, changes, contexts, segments
from sessiond_server.store.archive import Segment
from sessiond_server.store.database import Connection, Database
from sessiond_server.store.heads import Head
from sessiond_server.store.keys import SessionKey
from sessiond_server.store.segments import FullMessage

Result = TypeVar("Result")

_SEGMENTS = 8
"""How many segments a transaction makes, or takes apart."""
_GROUP = 32
"""How many at most, where the border can't stand between them."""
_TRIES = 3
"""How often segments are made beside the lock before they are made under it."""
_SECONDS = 10.0
"""After which a call begins no further transaction."""


@dataclass(frozen=True, slots=True)
class Moved:
    """What a call came to: where the border is, how many messages it moved, whether it left some for the next
    call."""

    border: int
    messages: int
    more: bool


class _Wanted(NamedTuple):
    """What to archive; see `archive_messages`."""

    session_id: str
    key: SessionKey
    before_seq: int
    keep_recent: int
    author: str
    segment_messages: int


@dataclass(frozen=True, slots=True)
class _Prepared:
    """Segments that are ready to take the place of their messages, if the session is still what it was."""

    incarnation: UUID
    next_change: int
    first_hot_seq: int
    segments: list[Segment]

    def fits(self, incarnation: UUID, head: Head) -> bool:
        return (self.incarnation, self.next_change, self.first_hot_seq) == (
            incarnation,
            head.next_change,
            head.first_hot_seq,
        )


async def archive_messages(
    database: Database,
    session_id: str,
    key: SessionKey,
    *,
    before_seq: int,
    keep_recent: int,
    author: str,
    segment_messages: int = segments.MESSAGES,
) -> Moved:
    """Archive what lies before a seq (0 is everything) and isn't among the newest messages: up to the last
    place before which every tool call is answered."""

    wanted = _Wanted(session_id, key, before_seq, keep_recent, author, segment_messages)

    async def step() -> tuple[Head, int, bool]:
        return await _archive_some(database, wanted)

    return await _repeatedly(step)


async def restore_messages(
    database: Database, session_id: str, key: SessionKey, *, from_seq: int, author: str
) -> Moved:
    """Take messages from a seq on (0 is all) out of the archive, and those before them as far as tool calls
    or their segment bind them together."""

    async def step() -> tuple[Head, int, bool]:
        return await database.transact(
            lambda connection: _restore_some(connection, session_id, key, from_seq, author)
        )

    return await _repeatedly(step)


async def _repeatedly(step: Callable[[], Awaitable[tuple[Head, int, bool]]]) -> Moved:
    """Transaction after transaction, until nothing is left to do or it has taken long."""
    loop = asyncio.get_running_loop()
    end = loop.time() + _SECONDS
    moved = 0
    while True:
        head, count, more = await step()
        moved += count
        if not more or loop.time() > end:
            return Moved(head.archived_before_seq if head.has_archive else 0, moved, more)


async def _archive_some(database: Database, wanted: _Wanted) -> tuple[Head, int, bool]:
    """One transaction's worth: the head then, how many messages it moved, and whether more are left."""
    for _ in range(_TRIES):
        async with database.snapshot() as connection:
            prepared = await _prepare(connection, wanted)
        if not prepared.segments:
            return await _standing(database, wanted)

        async def store(connection: Connection, prepared: _Prepared = prepared) -> Head | None:
            head = await gate.lock(connection, wanted.session_id, wanted.key)
            facts = await archive.facts(connection, wanted.key)
            if facts is None or not prepared.fits(facts[1], head):
                return None
            return await _store(connection, head, prepared.segments, wanted.author)

        stored = await database.transact(store)
        if stored is not None:
            return stored, _count(prepared.segments), True

    async def at_once(connection: Connection) -> tuple[Head, int, bool]:
        head = await gate.lock(connection, wanted.session_id, wanted.key)
        prepared = await _prepare(connection, wanted)
        if not prepared.segments:
            return head, 0, False
        stored = await _store(connection, head, prepared.segments, wanted.author)
        return stored, _count(prepared.segments), True

    return await database.transact(at_once)


def _count(made: list[Segment]) -> int:
    return sum(len(segment.messages) for segment in made)


async def _standing(database: Database, wanted: _Wanted) -> tuple[Head, int, bool]:
    async def work(connection: Connection) -> Head:
        return await gate.lock(connection, wanted.session_id, wanted.key)

    return await database.transact(work), 0, False


async def _prepare(connection: Connection, wanted: _Wanted) -> _Prepared:
    """Make segments, from one state of the session."""
    key = wanted.key
    head = await gate.read(connection, wanted.session_id, key)
    facts = await archive.facts(connection, key)
    assert facts is not None
    tenant, incarnation = facts
    end = min(wanted.before_seq or head.next_seq, head.next_seq - wanted.keep_recent)
    _, rewinds = await contexts.history(connection, key)
    rewound = [(span.from_seq, span.to_seq) for span in rewound_spans(rewinds)]
    found: list[_Piece] = []
    place = head.first_hot_seq
    waiting: set[str] = set()
    while place < end and _room(found):
        messages = await archive.next_messages(connection, key, place, end, wanted.segment_messages)
        hidden = [span for span in rewound if span[1] >= place and span[0] <= messages[-1].seq]
        ends = list(segments.settled_ends(messages, hidden, waiting))
        size = segments.cut(ends)
        found.append(_Piece(messages[:size], ends[:size]))
        if found[-1].settled:
            waiting.clear()
        place += size
    while found and not found[-1].settled:
        size = found[-1].last_settled
        last = found.pop()
        if size:
            found.append(_Piece(last.messages[:size], last.ends[:size]))
    made = []
    for piece in found:
        first = piece.messages[0]
        opening = archive.common_opening(tenant, first) if first.seq == head.first_seq else None
        made.append(await archive.compressed(piece.messages, opening, settled=piece.settled))
    return _Prepared(incarnation, head.next_change, head.first_hot_seq, made)


class _Piece(NamedTuple):
    """What becomes a segment, and behind which of its messages the border may stand."""

    messages: list[FullMessage]
    ends: list[bool]

    @property
    def settled(self) -> bool:
        return self.ends[-1]

    @property
    def last_settled(self) -> int:
        return segments.last_settled(self.ends)


def _room(found: list[_Piece]) -> bool:
    """Whether more fits a transaction: many only as long as there is no place for the border."""
    return len(found) < (_SEGMENTS if any(piece.settled for piece in found) else _GROUP)


async def _store(connection: Connection, head: Head, made: list[Segment], author: str) -> Head:
    """Put segments in the place of their messages; the head then."""
    key = head.key
    for segment in made:
        await archive.insert(connection, head, segment)
    first, end = made[0].first_seq, made[-1].end
    deleted = await archive.delete_messages(connection, key, first, end)
    if deleted != end - first:
        raise RuntimeError(f"{deleted} messages were there of {first} to {end - 1}")
    await archive.set_border(connection, key, end)
    sizes = (
        sum(len(message.payload) for segment in made for message in segment.messages),
        sum(len(segment.content) for segment in made),
    )
    await archive.record(
        connection, head, restored=False, seqs=(first, end - 1), sizes=sizes, author=author
    )
    await changes.record(connection, key, changes.ARCHIVED, reference=head.next_change)
    return head.with_border(end)


async def _restore_some(
    connection: Connection, session_id: str, key: SessionKey, from_seq: int, author: str
) -> tuple[Head, int, bool]:
    """Restore the last segments, down to a place where the border may stand."""
    head = await gate.lock(connection, session_id, key)
    if not head.has_archive or max(from_seq, head.first_seq) >= head.archived_before_seq:
        return head, 0, False
    last = await archive.last_segments(connection, key, _GROUP + 1)
    count = 0
    for place, segment in enumerate(last, start=1):
        if place == len(last) or last[place].settled:
            count = place
            if segment.first_seq <= from_seq or place >= _SEGMENTS:
                break
    restored = last[:count]
    border = restored[-1].first_seq
    for segment in restored:
        await archive.insert_messages(connection, key, segment.messages)
    await archive.delete_segments(connection, key, border)
    left = border if border > head.first_seq else 0
    await archive.set_border(connection, key, left)
    found = [message for segment in restored for message in segment.messages]
    sizes = sum(len(m.payload) for m in found), sum(s.stored_bytes for s in restored)
    seqs = border, head.archived_before_seq - 1
    await archive.record(connection, head, restored=True, seqs=seqs, sizes=sizes, author=author)
    await changes.record(connection, key, changes.ARCHIVED, reference=head.next_change)
    after = head.with_border(left)
    return after, len(found), after.has_archive and from_seq < border


class StillArchived(Exception):
    """What an operation changes has to be restored first: from this seq on."""

    def __init__(self, from_seq: int) -> None:
        super().__init__(from_seq)
        self.from_seq = from_seq


def check_restored(head: Head, from_seq: int) -> None:
    """Raises `StillArchived`, for `transact`, if messages from a seq on are in segments."""
    if head.has_archive and from_seq < head.archived_before_seq:
        raise StillArchived(from_seq)


async def transact(
    database: Database,
    session_id: str,
    key: SessionKey,
    work: Callable[[Connection], Awaitable[Result]],
) -> Result:
    """Do `work` in a transaction, after restoring the messages that it needs in the table. That takes
    transactions of its own, each of bounded size, and changes nothing that can be read."""
    while True:
        try:
            return await database.transact(work)
        except StillArchived as needed:
            moved = Moved(0, 0, more=True)
            while moved.more:
                moved = await restore_messages(
                    database, session_id, key, from_seq=needed.from_seq, author=""
                )

"""Offloading: moving the beginning of a log into segments, and back. It changes nothing that can be read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar
from uuid import UUID

from sessiond_server.operations import gate
from sessiond_server.sessions.guards import By
from sessiond_server.sessions.visibility import rewound_spans
from sessiond_server.store import changes, contexts, offload, segments
from sessiond_server.store.database import Connection, Database
from sessiond_server.store.heads import Head
from sessiond_server.store.keys import SessionKey
from sessiond_server.store.offload import Segment, SegmentPlace
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
    """What to offload; see `offload_messages`."""

    session_id: str
    key: SessionKey
    before_seq: int | None
    keep_recent: int
    by: By
    segment_messages: int


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


@dataclass(frozen=True, slots=True)
class _Found:
    """What to make segments of, as of one state of the session."""

    head: Head
    tenant: str
    incarnation: UUID
    pieces: list[_Piece]

    @property
    def count(self) -> int:
        return sum(len(piece.messages) for piece in self.pieces)

    def fits(self, incarnation: UUID, head: Head) -> bool:
        """Whether the session is still what it was."""
        then = self.head
        return (self.incarnation, then.next_change, then.first_hot_seq) == (
            incarnation,
            head.next_change,
            head.first_hot_seq,
        )


async def offload_messages(
    database: Database,
    session_id: str,
    key: SessionKey,
    *,
    before_seq: int | None,
    keep_recent: int,
    by: By,
    segment_messages: int = segments.MESSAGES,
) -> Moved:
    """Offload what lies before a seq (`None` is everything) and isn't among the newest messages: up to the
    last place before which every tool call is answered."""

    wanted = _Wanted(session_id, key, before_seq, keep_recent, by, segment_messages)

    async def step() -> tuple[Head, int, bool]:
        return await _offload_some(database, wanted)

    return await _repeatedly(step)


async def restore_messages(
    database: Database, session_id: str, key: SessionKey, *, from_seq: int, by: By
) -> Moved:
    """Take messages from a seq on (0 is all) out of the segments, and those before them as far as tool calls
    or their segment bind them together."""

    async def step() -> tuple[Head, int, bool]:
        return await database.transact(
            lambda connection: _restore_some(connection, session_id, key, from_seq, by)
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
            return Moved(head.offloaded_before_seq if head.has_offloaded else 0, moved, more)


async def _offload_some(database: Database, wanted: _Wanted) -> tuple[Head, int, bool]:
    """One transaction's worth: the head then, how many messages it moved, and whether more are left."""
    for _ in range(_TRIES):
        async with database.snapshot() as connection:
            found = await _find(connection, wanted, _SEGMENTS)
        if not found.pieces:
            return found.head, 0, False
        stored = await _replace(database, wanted, found, await _made(found, segments.SMALLEST))
        if stored is not None:
            return stored, found.count, True
    return await _offload_under_lock(database, wanted)


async def _replace(
    database: Database, wanted: _Wanted, found: _Found, made: list[Segment]
) -> Head | None:
    """Store what was made beside the lock; `None` if it doesn't fit any more."""

    async def store(connection: Connection) -> Head | None:
        head = await gate.lock(connection, wanted.session_id, wanted.key)
        facts = await offload.facts(connection, wanted.key)
        if facts is None or not found.fits(facts[1], head):
            return None
        return await _store(connection, head, made, wanted.by)

    return await database.transact(store)


async def _offload_under_lock(database: Database, wanted: _Wanted) -> tuple[Head, int, bool]:
    """As little as can be, and quickly, since whoever writes to the session waits."""

    async def work(connection: Connection) -> tuple[Head, int, bool]:
        head = await gate.lock(connection, wanted.session_id, wanted.key)
        found = await _find(connection, wanted, 1)
        if not found.pieces:
            return head, 0, False
        made = await _made(found, segments.QUICK)
        return await _store(connection, head, made, wanted.by), found.count, True

    return await database.transact(work)


async def _find(connection: Connection, wanted: _Wanted, most: int) -> _Found:
    """What to make segments of: `most` of them, or more if the border can't stand behind any of these."""
    key = wanted.key
    head = await gate.read(connection, wanted.session_id, key)
    facts = await offload.facts(connection, key)
    assert facts is not None
    last = head.next_seq if wanted.before_seq is None else wanted.before_seq
    end = min(last, head.next_seq - wanted.keep_recent)
    _, rewinds = await contexts.history(connection, key)
    rewound = [(span.from_seq, span.to_seq) for span in rewound_spans(rewinds)]
    found: list[_Piece] = []
    place = head.first_hot_seq
    waiting: set[str] = set()
    while place < end and _room(found, most):
        messages = await offload.next_messages(connection, key, place, end, wanted.segment_messages)
        hidden = [span for span in rewound if span[1] >= place and span[0] <= messages[-1].seq]
        ends = list(segments.settled_ends(messages, hidden, waiting))
        size = segments.cut(ends)
        found.append(_Piece(messages[:size], ends[:size]))
        if found[-1].settled:
            waiting.clear()
        place += size
    return _Found(head, *facts, _up_to_settled(found))


def _room(found: list[_Piece], most: int) -> bool:
    """Whether more fits a transaction: many only as long as there is no place for the border."""
    return len(found) < (most if any(piece.settled for piece in found) else _GROUP)


def _up_to_settled(found: list[_Piece]) -> list[_Piece]:
    """What lies before the last place for the border."""
    kept = list(found)
    while kept and not kept[-1].settled:
        last = kept.pop()
        if size := last.last_settled:
            kept.append(_Piece(last.messages[:size], last.ends[:size]))
    return kept


async def _made(found: _Found, level: int) -> list[Segment]:
    """The segments."""
    made = []
    for piece in found.pieces:
        first = piece.messages[0]
        leading = first.seq == found.head.first_seq
        opening = offload.common_opening(found.tenant, first) if leading else None
        segment = offload.compressed(piece.messages, opening, level, settled=piece.settled)
        made.append(await segment)
    return made


async def _store(connection: Connection, head: Head, made: list[Segment], by: By) -> Head:
    """Put segments in the place of their messages; the head then."""
    key = head.key
    for segment in made:
        await offload.insert(connection, head, segment)
    first, end = made[0].first_seq, made[-1].end
    deleted = await offload.delete_messages(connection, key, first, end)
    if deleted != end - first:
        raise RuntimeError(f"{deleted} messages were there of {first} to {end - 1}")
    await offload.set_border(connection, key, end)
    sizes = (
        sum(len(message.payload) for segment in made for message in segment.messages),
        sum(len(segment.content) for segment in made),
    )
    await offload.record(
        connection, head, restored=False, seqs=(first, end - 1), sizes=sizes, by=by
    )
    await changes.record(connection, key, changes.OFFLOADED, reference=head.next_change)
    return head.with_border(end)


async def _restore_some(
    connection: Connection, session_id: str, key: SessionKey, from_seq: int, by: By
) -> tuple[Head, int, bool]:
    """Restore the last segments, down to a place where the border may stand."""
    head = await gate.lock(connection, session_id, key)
    if not head.has_offloaded or max(from_seq, head.first_seq) >= head.offloaded_before_seq:
        return head, 0, False
    places = await offload.last_places(connection, key, _GROUP + 1)
    restored = await offload.segments_from(connection, key, _restorable(places, from_seq))
    border = restored[0].first_seq
    for segment in restored:
        await offload.insert_messages(connection, key, segment.messages)
    await offload.delete_segments(connection, key, border)
    left = border if border > head.first_seq else 0
    await offload.set_border(connection, key, left)
    found = [message for segment in restored for message in segment.messages]
    sizes = sum(len(m.payload) for m in found), sum(s.stored_bytes for s in restored)
    seqs = border, head.offloaded_before_seq - 1
    await offload.record(connection, head, restored=True, seqs=seqs, sizes=sizes, by=by)
    await changes.record(connection, key, changes.OFFLOADED, reference=head.next_change)
    after = head.with_border(left)
    return after, len(found), after.has_offloaded and from_seq < border


def _restorable(last: list[SegmentPlace], from_seq: int) -> int:
    """From which of the last segments on to restore: a few, more if the border can't stand before these."""
    border = 0
    for count, place in enumerate(last, start=1):
        if count == len(last) or last[count].settled:
            border = place.first_seq
            if border <= from_seq or count >= _SEGMENTS:
                break
    return border


class StillOffloaded(Exception):
    """What an operation changes has to be restored first: from this seq on."""

    def __init__(self, from_seq: int) -> None:
        super().__init__(from_seq)
        self.from_seq = from_seq


def check_restored(head: Head, from_seq: int) -> None:
    """Raises `StillOffloaded`, for `transact`, if messages from a seq on are in segments."""
    if head.has_offloaded and from_seq < head.offloaded_before_seq:
        raise StillOffloaded(from_seq)


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
        except StillOffloaded as needed:
            moved = Moved(0, 0, more=True)
            while moved.more:
                moved = await restore_messages(
                    database, session_id, key, from_seq=needed.from_seq, by=By()
                )

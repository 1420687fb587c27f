"""A conversation that goes on in further sessions, read as one sequence of messages."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from sessiond_server.errors import SessionNotFound
from sessiond_server.operations import reading
from sessiond_server.operations.reading import Read, Reading
from sessiond_server.store import sessions
from sessiond_server.store.database import Connection
from sessiond_server.store.keys import session_key
from sessiond_server.store.messages import Marks

DEPTH = 1001
"""Sessions of a conversation, that included in which it ends."""
_VISITS = 50
"""Sessions that a page looks at; then it is cut, also when it is empty."""
_LAST = 2**62


@dataclass(frozen=True, slots=True)
class Place:
    """Where to read on: a session of the conversation, and a seq in it or a bound of all."""

    session_id: str
    position: int


@dataclass(frozen=True, slots=True)
class Piece:
    """Messages of one session, in the order of the page."""

    session_id: str
    read: Read


@dataclass(frozen=True, slots=True)
class Conversation:
    """The sessions of a conversation, the oldest first, and how to read them."""

    tenant: str
    ids: list[str]
    wanted: Reading

    def start(self) -> Place:
        """The beginning, or the end when reading backwards."""
        return _edge(self, self.wanted.descending)


def _edge(conversation: Conversation, descending: bool) -> Place:
    return Place(conversation.ids[-1], _LAST) if descending else Place(conversation.ids[0], 1)


async def find(
    connection: Connection, tenant: str, owner: str | None, wanted: Reading
) -> Conversation:
    """The conversation that ends in a session; with an owner, as far as it is that one's."""
    ids = await sessions.continued(connection, tenant, wanted.key, owner, DEPTH)
    if not ids:
        raise SessionNotFound(wanted.session_id)
    return Conversation(tenant, ids[::-1], wanted)


async def page(
    connection: Connection, conversation: Conversation, at: Place
) -> tuple[list[Piece], Place | None]:
    """A page from a place on, and where the next one begins, if there is more."""
    wanted = conversation.wanted
    step = -1 if wanted.descending else 1
    if at.session_id in conversation.ids:
        number = conversation.ids.index(at.session_id)
        if wanted.descending and wanted.last and at.session_id != wanted.session_id:
            return [], None  # it stops in the session itself, which is the last one
    elif wanted.descending:  # it was deleted meanwhile, and with it the way to those before it
        return [], None
    else:
        number, at = 0, _edge(conversation, False)
    pieces: list[Piece] = []
    position, left, room = at.position, wanted.limit, wanted.max_bytes
    for _ in range(_VISITS):
        place = Place(conversation.ids[number], position)
        read = await _read(connection, conversation, place, left, room)
        size = reading.size_of(read.messages)
        if pieces and size > room:  # the first message of a session comes whatever its size
            return pieces, place
        if read.messages:
            pieces.append(Piece(place.session_id, read))
        left, room = left - len(read.messages), room - size
        if read.next_position is not None:
            return pieces, Place(place.session_id, read.next_position)
        number += step
        stopped = wanted.descending and wanted.last  # in the session itself, before any other
        if stopped or not 0 <= number < len(conversation.ids):
            return pieces, None
        position = _LAST if wanted.descending else 1
        if left <= 0 or room <= 0:
            break
    return pieces, Place(conversation.ids[number], position)


async def _read(
    connection: Connection, conversation: Conversation, place: Place, limit: int, room: int
) -> Read:
    itself = place.session_id == conversation.wanted.session_id
    part = replace(
        conversation.wanted,
        session_id=place.session_id,
        key=session_key(conversation.tenant, place.session_id),
        position=place.position,
        limit=limit,
        max_bytes=room,
        last=conversation.wanted.last if itself else None,
    )
    try:
        return await reading.page(connection, part)
    except SessionNotFound:
        if itself:
            raise
        return Read([], Marks(set(), {}, {}), None)


async def page_around(
    connection: Connection, conversation: Conversation, seq: int
) -> tuple[list[Piece], Place | None, Place | None]:
    """A page around a seq of the session itself, ascending; where the next page begins, and that before."""
    wanted = conversation.wanted
    half = replace(
        wanted, descending=True, limit=max(wanted.limit // 2, 1), max_bytes=wanted.max_bytes // 2
    )
    here = Place(wanted.session_id, seq)
    back = Place(wanted.session_id, seq - 1)
    before, previous = await page(connection, replace(conversation, wanted=half), back)
    used = sum(len(piece.read.messages) for piece in before)
    size = sum(reading.size_of(piece.read.messages) for piece in before)
    rest = replace(
        wanted,
        descending=False,
        limit=max(wanted.limit - used, 1),
        max_bytes=wanted.max_bytes - size,
    )
    after, following = await page(connection, replace(conversation, wanted=rest), here)
    size += sum(reading.size_of(it.read.messages) for it in after)
    if before and after and (wanted.limit == 1 or size > wanted.max_bytes):
        before, previous = [], back
    turned = [
        Piece(it.session_id, replace(it.read, messages=it.read.messages[::-1]))
        for it in reversed(before)
    ]
    return [*turned, *after], following, previous


async def at_time(connection: Connection, conversation: Conversation, time: datetime) -> Place:
    """Where a reading from a time on begins."""
    descending = conversation.wanted.descending
    for session_id in reversed(conversation.ids) if descending else conversation.ids:
        key = session_key(conversation.tenant, session_id)
        head = await reading.head_of(connection, session_id, key)
        position = await reading.position_at(
            connection, session_id, key, time, descending=descending
        )
        if head.first_seq <= position <= head.last_seq:
            return Place(session_id, position)
    return Place(conversation.ids[0], 0) if descending else Place(conversation.ids[-1], _LAST)

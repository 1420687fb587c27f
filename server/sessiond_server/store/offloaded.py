"""Reading messages that are in segments. The functions of `messages` and `contexts` read on both sides of the
border; they come here for what lies below it.

The border moves, so all of this happens in one snapshot or under the session's lock.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from sessiond_server.store import segments
from sessiond_server.store.database import Connection, SnapshotNeeded
from sessiond_server.store.keys import BUCKETS, SessionKey
from sessiond_server.store.segments import FullMessage, client_key
from sessiond_server.store.sql import query

INDEXED_FROM = 4096
"""The client ids of so many first messages of a session are looked through, those of later ones are in an
index. The append statement says the same."""
CACHE_BYTES = 32 * 2**20
_DICTIONARY_CACHE_BYTES = 8 * 2**20
_ASIDE = 128 * 2**10
"""From so many bytes on a segment is expanded in a thread."""
_READ_AHEAD = 8
_ANY = -1


def require_one_state(connection: Connection) -> None:
    """Raises `SnapshotNeeded` unless everything that is read now is of one state; see `Database.read`."""
    if not connection.is_in_transaction():
        raise SnapshotNeeded


class _Cache:
    """The segments that were read last, up to so many bytes. A version is never changed, only replaced."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: OrderedDict[UUID, tuple[UUID, list[FullMessage], int]] = OrderedDict()
        self._versions: dict[UUID, set[UUID]] = {}
        self._bytes = 0

    def versions(self, session_key: UUID) -> dict[UUID, list[FullMessage]]:
        """What is held of a session."""
        return {version: self._held[version][1] for version in self._versions.get(session_key, ())}

    def touch(self, version: UUID) -> None:
        if version in self._held:
            self._held.move_to_end(version)

    def put(self, session_key: UUID, version: UUID, messages: list[FullMessage], size: int) -> None:
        if version in self._held or size > self._limit // 8:
            return
        self._held[version] = (session_key, messages, size)
        self._versions.setdefault(session_key, set()).add(version)
        self._bytes += size
        while self._bytes > self._limit:
            oldest, (owner, _, freed) = self._held.popitem(last=False)
            self._bytes -= freed
            self._versions[owner].discard(oldest)
            if not self._versions[owner]:
                del self._versions[owner]


_cache = _Cache(CACHE_BYTES)
_OVERHEAD = 600
"""What a message takes in memory besides its payload."""
_dictionaries: OrderedDict[UUID, bytes] = OrderedDict()


def dictionary_bucket(dictionary_id: UUID) -> int:
    return int.from_bytes(dictionary_id.bytes[:2]) % BUCKETS


async def dictionary(connection: Connection, dictionary_id: UUID | None) -> bytes | None:
    """What a segment is compressed with."""
    if dictionary_id is None:
        return None
    if dictionary_id not in _dictionaries:
        stored = await connection.fetchval(
            query("read_dictionary"), dictionary_bucket(dictionary_id), dictionary_id
        )
        _dictionaries[dictionary_id] = segments.unpack_dictionary(stored)
        while sum(map(len, _dictionaries.values())) > _DICTIONARY_CACHE_BYTES:
            _dictionaries.popitem(last=False)
    _dictionaries.move_to_end(dictionary_id)
    return _dictionaries[dictionary_id]


async def expanded(connection: Connection, row: asyncpg.Record) -> list[FullMessage]:
    """The messages of a segment's row."""
    using = await dictionary(connection, row["dictionary_id"])
    if row["message_bytes"] < _ASIDE:
        return segments.expand(row["content"], row["first_seq"], using)
    return await asyncio.to_thread(segments.expand, row["content"], row["first_seq"], using)


async def _segments(
    connection: Connection,
    key: SessionKey,
    low: int,
    high: int,
    masks: tuple[int, int],
    count: int,
    *,
    descending: bool,
) -> list[list[FullMessage]]:
    """The messages of the first segments over a range, each segment's in order."""
    held = _cache.versions(key.key)
    rows = await connection.fetch(
        query("read_segments_descending" if descending else "read_segments_ascending"),
        *key,
        low,
        high,
        *masks,
        count,
        list(held),
    )
    return [await _held_or_expanded(connection, key, row, held) for row in rows]


async def _held_or_expanded(
    connection: Connection,
    key: SessionKey,
    row: asyncpg.Record,
    held: Mapping[UUID, list[FullMessage]],
) -> list[FullMessage]:
    """The messages of a segment's row, whose content is left out if they are held."""
    version = row["version"]
    messages = held.get(version)
    if messages is not None:
        _cache.touch(version)
        return messages
    messages = await expanded(connection, row)
    size = row["message_bytes"] + _OVERHEAD * len(messages)
    _cache.put(key.key, version, messages, size)
    return messages


def _mask(values: Iterable[int] | None) -> int:
    return _ANY if values is None else sum(1 << value for value in set(values))


async def pieces(
    connection: Connection,
    key: SessionKey,
    low: int,
    high: int,
    *,
    descending: bool = False,
    roles: Sequence[int] | None = None,
    kinds: Sequence[int] | None = None,
) -> AsyncIterator[list[FullMessage]]:
    """The offloaded messages of a range in the order of reading, a segment's at a time. Segments without any
    message in these roles, or of these kinds, are left out."""
    require_one_state(connection)
    masks = (_mask(roles), _mask(kinds))
    count = 1
    while low <= high:
        found = await _segments(connection, key, low, high, masks, count, descending=descending)
        for messages in found:
            within = [m for m in messages if low <= m.seq <= high]
            yield within[::-1] if descending else within
        if len(found) < count:
            return
        if descending:
            high = found[-1][0].seq - 1
        else:
            low = found[-1][-1].seq + 1
        count = min(2 * count, _READ_AHEAD)


async def by_seqs(
    connection: Connection, key: SessionKey, seqs: Iterable[int]
) -> dict[int, FullMessage]:
    """Offloaded messages by their seqs."""
    found: dict[int, FullMessage] = {}
    left = sorted(set(seqs))
    while left:
        require_one_state(connection)
        held = _cache.versions(key.key)
        rows = await connection.fetch(
            query("segments_with_seqs"), *key, left, list(held), _READ_AHEAD
        )
        for row in rows:
            messages = await _held_or_expanded(connection, key, row, held)
            found |= {message.seq: message for message in messages}
        left = [seq for seq in left if seq > rows[-1]["last_seq"]] if rows else []
    return found


async def segment_count(connection: Connection, key: SessionKey, seqs: Sequence[int]) -> int:
    """In how many segments these messages are."""
    count: int = await connection.fetchval(query("count_segments_with_seqs"), *key, list(seqs))
    return count


async def by_client_ids(
    connection: Connection, key: SessionKey, first_seq: int, client_ids: Sequence[str]
) -> dict[str, FullMessage]:
    """Offloaded messages by their client ids; `first_seq` is the session's."""
    require_one_state(connection)
    rows = await connection.fetch(
        query("segments_with_client_ids"),
        *key,
        list(client_ids),
        [client_key(key.key, client_id) for client_id in client_ids],
        first_seq + INDEXED_FROM,
    )
    wanted = set(client_ids)
    messages = await by_seqs(connection, key, {row["first_seq"] for row in rows})
    return {m.client_id: m for m in messages.values() if m.client_id in wanted}


async def seq_at_time(connection: Connection, key: SessionKey, time: datetime) -> int | None:
    """The first offloaded seq appended at a time or later."""
    require_one_state(connection)
    row = await connection.fetchrow(query("segment_at_time"), *key, time)
    if row is None:
        return None
    async for messages in pieces(connection, key, row["first_seq"], row["last_seq"]):
        return next(m.seq for m in messages if m.create_time >= time)
    return None


async def as_of(
    connection: Connection, key: SessionKey, messages: list[FullMessage], seq: int
) -> list[FullMessage]:
    """Messages of a segment as they were right after message `seq`."""
    if not messages:
        return messages
    low, high = sorted((messages[0].seq, messages[-1].seq))
    rows = await connection.fetch(query("revisions_valid"), *key, low, high, seq)
    then = {row["seq"]: dict(row) for row in rows}
    return [m._replace(**then[m.seq]) if m.seq in then else m for m in messages]

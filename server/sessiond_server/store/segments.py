"""Segments: consecutive messages as one compressed piece, and the messages that are in it again."""

from __future__ import annotations

import hashlib
import struct
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from uuid import UUID

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MESSAGES = 256
BYTES = 2**20
"""What a segment holds at most, unless a single message is larger."""
SMALLEST = 19
"""The level for what is written once; it takes 0.2 s for a full segment of a mebibyte."""
QUICK = 9
"""The level for what is rewritten under a session's lock."""

_FORMAT = b"\x01"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_ID, _ITEM = "\x1f", "\x1e"
"""Between tool ids and between messages; ids hold no control characters."""
_IN_CONTEXT, _IN_TRANSCRIPT, _NOTE = 1, 2, 4
_FIXED = struct.Struct("<BBB")


class FullMessage(NamedTuple):
    """A message with all its columns."""

    seq: int
    create_time: datetime
    token_count: int
    role: int
    kind: int
    in_context: bool
    in_transcript: bool
    note: bool
    client_id: str
    tool_call_ids: list[str] | None
    tool_call_id: str | None
    payload: bytes


def client_key(session_key: UUID, client_id: str) -> int:
    """What a client id is looked for by; the append statement computes the same."""
    digest = hashlib.sha256(f"{session_key}{client_id}".encode()).digest()
    return int.from_bytes(digest[:4], signed=True)


def compress(messages: Sequence[FullMessage], level: int, dictionary: bytes | None = None) -> bytes:
    """The content of a segment. Takes its time: not for the event loop."""
    lengths, times, tokens = bytearray(), bytearray(), bytearray()
    before = 0
    for message in messages:
        time = (message.create_time - _EPOCH) // _MICROSECOND
        _put(lengths, len(message.payload))
        _put(times, (time - before) << 1 if time >= before else (before - time) << 1 | 1)
        _put(tokens, message.token_count)
        before = time
    facts = b"".join(
        _FIXED.pack(
            message.role,
            message.kind,
            message.in_context | message.in_transcript << 1 | message.note << 2,
        )
        for message in messages
    )
    ids = _ITEM.join(
        _ID.join((m.client_id, m.tool_call_id or "", *(m.tool_call_ids or ()))) for m in messages
    ).encode()
    head = bytearray()
    for number in (len(messages), len(lengths), len(times), len(tokens), len(ids)):
        _put(head, number)
    payloads = (message.payload for message in messages)
    body = b"".join((head, lengths, times, tokens, facts, *payloads, ids))
    frame = zstd.compress(body, level, zstd_dict=_dictionary(dictionary))
    return _FORMAT + frame


def expand(content: bytes, first_seq: int, dictionary: bytes | None = None) -> list[FullMessage]:
    """The messages of a segment, in order."""
    if content[:1] != _FORMAT:
        raise ValueError(f"segment of an unknown format: {content[:1]!r}")
    body = zstd.decompress(content[1:], zstd_dict=_dictionary(dictionary))
    (count, *sizes), place = _take(body, 0, 5)
    lengths, place = _take(body, place, count)
    deltas, place = _take(body, place, count)
    tokens, place = _take(body, place, count)
    facts = place
    place += _FIXED.size * count
    ids = body[len(body) - sizes[3] :].decode().split(_ITEM)
    found, time = [], _EPOCH
    for number in range(count):
        delta = deltas[number]
        time += (-(delta >> 1) if delta & 1 else delta >> 1) * _MICROSECOND
        role, kind, flags = _FIXED.unpack_from(body, facts + _FIXED.size * number)
        client_id, answers, *calls = ids[number].split(_ID)
        found.append(
            FullMessage(
                first_seq + number,
                time,
                tokens[number],
                role,
                kind,
                bool(flags & _IN_CONTEXT),
                bool(flags & _IN_TRANSCRIPT),
                bool(flags & _NOTE),
                client_id,
                calls or None,
                answers or None,
                body[place : place + lengths[number]],
            )
        )
        place += lengths[number]
    return found


def _dictionary(content: bytes | None) -> zstd.ZstdDict | None:
    return None if content is None else zstd.ZstdDict(content, is_raw=True)


@lru_cache(maxsize=16)
def pack_dictionary(content: bytes) -> bytes:
    return zstd.compress(content, SMALLEST)


def unpack_dictionary(stored: bytes) -> bytes:
    return zstd.decompress(stored)


def _put(into: bytearray, value: int) -> None:
    while value > 0x7F:
        into.append(value & 0x7F | 0x80)
        value >>= 7
    into.append(value)


def _take(body: bytes, place: int, count: int) -> tuple[list[int], int]:
    """So many numbers, and where they end."""
    found = []
    for _ in range(count):
        value = shift = 0
        while (byte := body[place]) > 0x7F:
            value |= (byte & 0x7F) << shift
            shift += 7
            place += 1
        found.append(value | byte << shift)
        place += 1
    return found, place


def settled_ends(
    messages: Iterable[FullMessage], rewound: Sequence[tuple[int, int]], waiting: set[str]
) -> Iterator[bool]:
    """Behind which messages every tool call is answered: `waiting` are the calls that aren't before them, and
    is kept up. What a rewind hides doesn't count."""
    for message in messages:
        if not any(low <= message.seq <= high for low, high in rewound):
            if message.tool_call_id is not None:
                waiting.discard(message.tool_call_id)
            waiting.update(message.tool_call_ids or ())
        yield not waiting


def last_settled(ends: Sequence[bool]) -> int:
    """How many messages there are up to the last settled end."""
    return next((place for place in range(len(ends), 0, -1) if ends[place - 1]), 0)


def cut(ends: Sequence[bool]) -> int:
    """How many of as many messages as fit make a segment: all up to the last settled end, unless that were
    few."""
    settled = last_settled(ends)
    return settled if settled >= max(1, len(ends) // 2) else len(ends)

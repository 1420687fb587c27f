"""Segments: consecutive messages as one compressed piece, and the messages that are in it again."""

from __future__ import annotations

import hashlib
import re
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
_ID, _ITEM, _LIST = "\x1f", "\x1e", "\x1d"
"""Between tool ids, between messages, and between the texts of one; none holds control characters."""
_IN_CONTEXT, _IN_TRANSCRIPT, _SUMMARY, _UUID, _LED = 1, 2, 4, 8, 16
"""Flags of a message: the last two say that its client id is a UUID, and that its payload begins with it."""
_FIXED = struct.Struct("<BBB")
_CLIENT_ID_TAG = 1 << 3 | 2
_UUID_BYTES = 16
_CANONICAL_UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class FullMessage(NamedTuple):
    """A message with all its columns."""

    seq: int
    create_time: datetime
    token_count: int
    role: int
    kind: int
    in_context: bool
    in_transcript: bool
    summary: bool
    client_id: str
    type: str | None
    tool_call_ids: list[str] | None
    tool_result_ids: list[str] | None
    payload: bytes


def client_key(session_key: UUID, client_id: str) -> int:
    """What a client id is looked for by; the append statement computes the same."""
    digest = hashlib.sha256(f"{session_key}{client_id}".encode()).digest()
    return int.from_bytes(digest[:4], signed=True)


def compress(messages: Sequence[FullMessage], level: int, dictionary: bytes | None = None) -> bytes:
    """The content of a segment. Takes its time: not for the event loop."""
    lengths, times, tokens, facts = bytearray(), bytearray(), bytearray(), bytearray()
    payloads, uuids, texts = [], [], []
    before = 0
    for message in messages:
        flags = message.in_context | message.in_transcript << 1 | message.summary << 2
        payload, client_id = without_client_id(message), message.client_id
        if len(payload) < len(message.payload):
            flags |= _LED
        if _CANONICAL_UUID.fullmatch(client_id):
            flags |= _UUID
            uuids.append(UUID(client_id).bytes)
            client_id = ""
        time = (message.create_time - _EPOCH) // _MICROSECOND
        _put(lengths, len(payload))
        _put(times, (time - before) << 1 if time >= before else (before - time) << 1 | 1)
        _put(tokens, message.token_count)
        facts += _FIXED.pack(message.role, message.kind, flags)
        payloads.append(payload)
        calls, results = _ID.join(message.tool_call_ids or ()), message.tool_result_ids or ()
        texts.append(_LIST.join((client_id, message.type or "", calls, _ID.join(results))))
        before = time
    text = _ITEM.join(texts).encode()
    head = bytearray()
    for number in (len(messages), len(lengths), len(times), len(tokens), len(uuids), len(text)):
        _put(head, number)
    body = b"".join((head, lengths, times, tokens, facts, _columns(uuids), *payloads, text))
    frame = zstd.compress(body, level, zstd_dict=_dictionary(dictionary))
    return _FORMAT + frame


def expand(content: bytes, first_seq: int, dictionary: bytes | None = None) -> list[FullMessage]:
    """The messages of a segment, in order."""
    if content[:1] != _FORMAT:
        raise ValueError(f"segment of an unknown format: {content[:1]!r}")
    body = zstd.decompress(content[1:], zstd_dict=_dictionary(dictionary))
    (count, *sizes), place = _take(body, 0, 6)
    lengths, place = _take(body, place, count)
    deltas, place = _take(body, place, count)
    tokens, place = _take(body, place, count)
    facts = _FIXED.iter_unpack(body[place : place + _FIXED.size * count])
    place += _FIXED.size * count
    uuids = iter(_rows(body[place : place + _UUID_BYTES * sizes[3]]))
    place += _UUID_BYTES * sizes[3]
    ids = body[len(body) - sizes[4] :].decode().split(_ITEM)
    found, time = [], _EPOCH
    for number, (role, kind, flags) in enumerate(facts):
        delta = deltas[number]
        time += (-(delta >> 1) if delta & 1 else delta >> 1) * _MICROSECOND
        client_id, type, calls, results = ids[number].split(_LIST)
        if flags & _UUID:
            client_id = str(UUID(bytes=next(uuids)))
        led = _client_id_field(client_id) if flags & _LED else b""
        found.append(
            FullMessage(
                first_seq + number,
                time,
                tokens[number],
                role,
                kind,
                bool(flags & _IN_CONTEXT),
                bool(flags & _IN_TRANSCRIPT),
                bool(flags & _SUMMARY),
                client_id,
                type or None,
                calls.split(_ID) if calls else None,
                results.split(_ID) if results else None,
                led + body[place : place + lengths[number]],
            )
        )
        place += lengths[number]
    return found


def without_client_id(message: FullMessage) -> bytes:
    """The payload as the messages of other sessions may have it too."""
    return message.payload.removeprefix(_client_id_field(message.client_id))


def _client_id_field(client_id: str) -> bytes:
    """What the protobuf encoding of a message begins with where its seq isn't stored."""
    value = client_id.encode()
    field = bytearray((_CLIENT_ID_TAG,))
    _put(field, len(value))
    return bytes(field) + value


def _columns(uuids: Sequence[bytes]) -> bytes:
    """All first bytes, then all second ones: those of UUIDs by time are alike."""
    return b"".join(bytes(column) for column in zip(*uuids, strict=True))


def _rows(columns: bytes) -> list[bytes]:
    """The UUIDs again."""
    count = len(columns) // _UUID_BYTES
    return [columns[number::count] for number in range(count)]


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
            waiting.update(message.tool_call_ids or ())
            waiting.difference_update(message.tool_result_ids or ())
        yield not waiting


def last_settled(ends: Sequence[bool]) -> int:
    """How many messages there are up to the last settled end."""
    return next((place for place in range(len(ends), 0, -1) if ends[place - 1]), 0)


def cut(ends: Sequence[bool]) -> int:
    """How many of as many messages as fit make a segment: all up to the last settled end, unless that were
    few."""
    settled = last_settled(ends)
    return settled if settled >= max(1, len(ends) // 2) else len(ends)

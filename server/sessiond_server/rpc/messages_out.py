"""Messages on their way out: the stored bytes, with what the server adds put behind them.

In protobuf's encoding a message followed by another one is the two merged, so nothing is decoded.
"""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.message import Message as ProtoMessage

from sessiond.v1 import message_pb2 as pb
from sessiond_server.rpc.times import timestamp
from sessiond_server.store.messages import Marks, StoredMessage


def encoded(message: StoredMessage, marks: Marks, session_id: str = "") -> bytes:
    """A `sessiond.v1.Message` as it goes out."""
    added = pb.Message(
        seq=message.seq, create_time=timestamp(message.create_time), session_id=session_id
    )
    if message.seq in marks.rewound:
        added.rewound = True
    if message.seq in marks.compacted_by:
        added.compacted_by_seq = marks.compacted_by[message.seq]
    if message.seq in marks.replaces:
        added.replaces_from_seq, added.replaces_to_seq = marks.replaces[message.seq]
    return message.payload + added.SerializeToString()


def decoded(message: StoredMessage, marks: Marks) -> pb.Message:
    return pb.Message.FromString(encoded(message, marks))


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def with_messages(
    answer: ProtoMessage, field: int, messages: Iterable[StoredMessage], marks: Marks
) -> bytes:
    """The encoding of an answer whose repeated field number `field` holds the messages."""
    pieces = [answer.SerializeToString()]
    pieces += (as_field(field, encoded(message, marks)) for message in messages)
    return b"".join(pieces)


def as_field(number: int, body: bytes) -> bytes:
    """An encoded message as field `number` of another one."""
    return b"".join((_varint(number << 3 | 2), _varint(len(body)), body))

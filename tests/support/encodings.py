"""Another encoding of the same message, as a library of another language may make it."""

from __future__ import annotations

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

_BYTES = 2


def other_encoding(message: Message, *, longer: bool = True) -> bytes:
    """The message with its fields and the entries of its maps in the reverse order, values before keys in
    these, and lengths that take a byte more than they need if it may be `longer`."""
    fields = reversed(message.ListFields())
    return b"".join(_field(message, field, longer) for field, _ in fields)


def _field(message: Message, field: FieldDescriptor, longer: bool) -> bytes:
    value = getattr(message, field.name)
    if field.message_type is None:
        return _alone(message, field)
    if field.message_type.GetOptions().map_entry:
        entries = sorted(value.items(), reverse=True, key=str)
        held = [_entry(key, it, longer) for key, it in entries]
    else:
        inner = [value] if isinstance(value, Message) else value
        held = [other_encoding(one, longer=longer) for one in inner]
    return b"".join(_delimited(field.number, content, longer) for content in held)


def _entry(key: str, value: Message | bytes, longer: bool) -> bytes:
    content = other_encoding(value, longer=longer) if isinstance(value, Message) else value
    return _delimited(2, content, longer) + _delimited(1, key.encode(), longer)


def _alone(message: Message, field: FieldDescriptor) -> bytes:
    """A field that holds no messages, in the usual encoding."""
    only = type(message)()
    only.CopyFrom(message)
    for other, _ in message.ListFields():
        if other is not field:
            only.ClearField(other.name)
    return only.SerializeToString()


def _delimited(number: int, content: bytes, longer: bool) -> bytes:
    length = _varint(len(content))
    if longer:
        length = length[:-1] + bytes([length[-1] | 0x80, 0])
    return _varint(number << 3 | _BYTES) + length + content


def _varint(number: int) -> bytes:
    low = number & 0x7F
    return bytes([low]) if number < 0x80 else bytes([low | 0x80]) + _varint(number >> 7)

"""How requests are decoded. A request that changes something is refused if it has a field that this server
doesn't know: a newer client means something by it, which would be lost without a word. Requests that only
read may have such fields.

Numbers 100 to 199 of a resource are for what the server says of it. A client that sends a resource as it was
read, from a newer server perhaps, means nothing by them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.unknown_fields import UnknownFieldSet

from sessiond.v1 import attachment_pb2, message_pb2, reminder_pb2, session_pb2
from sessiond_server.errors import UnknownField, invalid
from sessiond_server.rpc.policies import policy_of

_RESOURCES = {
    message_pb2.Message.DESCRIPTOR,
    session_pb2.Session.DESCRIPTOR,
    attachment_pb2.Attachment.DESCRIPTOR,
    reminder_pb2.Reminder.DESCRIPTOR,
}
_SAID_BY_THE_SERVER = range(100, 200)


def decoder(method: MethodDescriptor) -> Callable[[bytes], Message]:
    """What decodes the requests of a method. It raises `InvalidFields` and `UnknownField`."""
    request = GetMessageClass(method.input_type)
    return partial(_decoded if policy_of(method).reads else _known, request)


def _decoded(request: type[Message], encoded: bytes) -> Message:
    try:
        return request.FromString(encoded)
    except DecodeError as error:
        raise invalid(
            "request",
            f"can't be decoded as {request.DESCRIPTOR.full_name}: it isn't protobuf, has text that"
            " isn't UTF-8, or is nested too deeply",
        ) from error


def _known(request: type[Message], encoded: bytes) -> Message:
    """A request without unknown fields. To encode what is known of it, and compare, is faster than to look
    for them. They are looked for only if that differs, since a request may be encoded in several ways."""
    known = _decoded(request, encoded)
    known.DiscardUnknownFields()
    if known.SerializeToString() == encoded:
        return known
    whole = _decoded(request, encoded)
    if whole.ByteSize() != known.ByteSize():
        check_known(whole, "")
    return known


def check_known(message: Message, where: str) -> None:
    """Raises `UnknownField` if a message that is at a path has a field which isn't known here."""
    for path, number in _unknown(message, where):
        raise UnknownField(path, number)


def _unknown(message: Message, path: str) -> Iterator[tuple[str, int]]:
    """The unknown fields that a client may mean something by: the path of what has each, and its number."""
    resource = message.DESCRIPTOR in _RESOURCES
    unknown = UnknownFieldSet(message)
    for place in range(len(unknown)):
        number = unknown[place].field_number
        if not (resource and number in _SAID_BY_THE_SERVER):
            yield path or "request", number
    for field, value in message.ListFields():
        if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            for name, inner in _messages(field, value):
                yield from _unknown(inner, f"{path}.{name}" if path else name)


def _messages(field: FieldDescriptor, value: object) -> Iterator[tuple[str, Message]]:
    """The messages in a field, by the field's name and their place in it."""
    if isinstance(value, Message):
        yield field.name, value
    elif isinstance(value, dict) or hasattr(value, "items"):
        for key, inner in value.items():
            if isinstance(inner, Message):
                yield f"{field.name}[{str(key)[:64]!r}]", inner
    else:
        for place, inner in enumerate(value):  # type: ignore[arg-type]
            yield f"{field.name}[{place}]", inner

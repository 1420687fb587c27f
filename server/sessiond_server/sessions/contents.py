"""When two encoded messages say the same (P4). This is the only place that decides it."""

from __future__ import annotations

from sessiond.v1 import message_pb2 as pb

SPELLING_BYTES = 4096
"""By how much the stored encodings of equal messages differ in length at most: defaults that are spelled out,
of which the types of 256 tool calls take most. What differs by more needn't be read to know that it isn't the
same."""

_TOOL_CALL_TYPE = "function"


def same(one: bytes, other: bytes) -> bool:
    """Whether two messages have the same content. Each may be encoded in its own way: by another library, or
    another version of one."""
    return one == other or canonical(one) == canonical(other)


def canonical(payload: bytes) -> bytes:
    """The encoding of a message that all with the same content have, among those that this process makes."""
    message = pb.Message.FromString(payload)
    message.kind = message.kind or pb.MESSAGE_KIND_NORMAL
    if not message.metadata.fields:
        message.ClearField("metadata")
    for part in message.parts:
        if part.tool_call.type == _TOOL_CALL_TYPE:
            part.tool_call.ClearField("type")
    return message.SerializeToString(deterministic=True)

"""What of an encoded message is searched."""

from __future__ import annotations

from sessiond.v1 import message_pb2 as pb
from sessiond_server.sessions.passages import (
    REASONING,
    TEXT,
    TOOL_CALL,
    TOOL_RESULT,
    Passage,
    Searched,
    readable,
)


def searched(payload: bytes) -> Searched:
    """The passages of a stored message, the weightiest first."""
    message = pb.Message.FromString(payload)
    field = TOOL_RESULT if message.role == pb.ROLE_TOOL else TEXT
    found = [Passage(field, _plain(text, field)) for text in _texts(message)]
    for call in message.tool_calls:
        found.append(Passage(TOOL_CALL, f"{call.name} {readable(call.arguments)}"))
    if message.reasoning:
        found.append(Passage(REASONING, message.reasoning))
    return Searched(message.role, found)


def _texts(message: pb.Message) -> list[str]:
    texts = [message.text] if message.text else []
    for part in message.parts:
        kind = part.WhichOneof("content")
        if kind == "text" and part.text:
            texts.append(part.text)
        elif kind == "json" and part.json:
            texts.append(readable(part.json))
    return texts


def _plain(text: str, field: int) -> str:
    """Results are often JSON texts."""
    return readable(text) if field == TOOL_RESULT and text.lstrip()[:1] in ("{", "[", '"') else text

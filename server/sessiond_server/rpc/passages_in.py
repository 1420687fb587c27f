"""What of an encoded message is searched."""

from __future__ import annotations

from collections.abc import Iterator

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

_FIELDS = (TEXT, TOOL_RESULT, TOOL_CALL, REASONING)


def searched(payload: bytes) -> Searched:
    """The passages of a stored message, the weightiest first."""
    message = pb.Message.FromString(payload)
    found = [passage for part in message.parts for passage in _passages(part)]
    found.sort(key=lambda passage: _FIELDS.index(passage.field))
    return Searched(message.role, found)


def _passages(part: pb.Part) -> Iterator[Passage]:
    kind = part.WhichOneof("content")
    if kind == "tool_result":
        for piece in part.tool_result.parts:
            for passage in _passages(piece):
                yield Passage(TOOL_RESULT, _plain(passage.text))
    elif kind == "tool_call":
        call = part.tool_call
        yield Passage(TOOL_CALL, f"{call.name} {readable(call.arguments)}")
    elif kind == "reasoning" and part.reasoning.text:
        yield Passage(REASONING, part.reasoning.text)
    elif kind == "json" and part.json:
        yield Passage(TEXT, readable(part.json))
    elif kind == "text" and part.text:
        yield Passage(TEXT, part.text)
    elif kind == "refusal" and part.refusal:
        yield Passage(TEXT, part.refusal)


def _plain(text: str) -> str:
    """Results are often JSON texts."""
    return readable(text) if text.lstrip()[:1] in ("{", "[", '"') else text

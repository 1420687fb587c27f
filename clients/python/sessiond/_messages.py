"""Messages and their parts in few words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sessiond import v1
from sessiond._requests.values import Role, enum_value

_TEXTS = frozenset({"text", "json"})


def message(role: Role, *parts: str | v1.Part, **fields: Any) -> v1.Message:
    """A message of these parts in their order; a `str` is a text.

    Args:
        role: `system`, `developer`, `user`, `assistant`, `tool`, or a value of `v1.Role`.
        parts: Texts, or what `reasoning`, `tool_call`, `tool_result` and `v1.Part` make.
        fields: Any other fields of `v1.Message`.

    Example:
        message("assistant", reasoning("They ask for Lisbon."), "I look it up.",
                tool_call("call_1", "weather", '{"city": "Lisbon"}'), model="gpt-5")
    """
    return v1.Message(role=enum_value(v1.Role, "ROLE_", role), parts=_parts(parts), **fields)


def reasoning(text: str, extensions: Mapping[str, bytes] | None = None) -> v1.Part:
    """What a model thought, with its signature or whatever else must come back exactly."""
    return v1.Part(reasoning=v1.Reasoning(text=text), extensions=extensions)


def tool_call(id: str, name: str, arguments: str = "{}", *, type: str = "") -> v1.Part:
    """A call of a tool; the arguments are JSON text, as the model wrote it."""
    return v1.Part(tool_call=v1.ToolCall(id=id, name=name, arguments=arguments, type=type))


def tool_result(
    tool_call_id: str, *parts: str | v1.Part, tool_name: str = "", is_error: bool = False
) -> v1.Part:
    """What a tool answered to a call: texts, images, files, JSON."""
    result = v1.ToolResult(
        tool_call_id=tool_call_id, tool_name=tool_name, is_error=is_error, parts=_parts(parts)
    )
    return v1.Part(tool_result=result)


def _parts(parts: Iterable[str | v1.Part]) -> list[v1.Part]:
    return [v1.Part(text=part) if isinstance(part, str) else part for part in parts]


def text_of(said: v1.Message | v1.ToolResult) -> str:
    """The texts and JSON texts of a message or of a tool's result, in order, a line each."""
    found = (getattr(part, part.WhichOneof("content") or "text") for part in _texts(said))
    return "\n".join(found)


def _texts(said: v1.Message | v1.ToolResult) -> Iterable[v1.Part]:
    return (part for part in said.parts if part.WhichOneof("content") in _TEXTS)


def reasoning_of(message: v1.Message) -> str:
    """What can be read of a message's reasoning, each piece of it on lines of its own."""
    return "\n".join(p.reasoning.text for p in message.parts if p.HasField("reasoning"))


def tool_calls_of(message: v1.Message) -> list[v1.ToolCall]:
    """The tool calls of a message, in order."""
    return [part.tool_call for part in message.parts if part.HasField("tool_call")]


def tool_results_of(message: v1.Message) -> list[v1.ToolResult]:
    """The results of tools that a message holds, in order."""
    return [part.tool_result for part in message.parts if part.HasField("tool_result")]

"""Messages from and to the form of OpenAI's chat completions, and of the many that speak it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from sessiond import v1
from sessiond.dialects import _exact
from sessiond.dialects._exact import short, text

EXTRA = "openai.extra"
"""The extension that holds, as JSON, how a dict differs from what the fields alone say."""
FILE = "openai-file:"
"""Stands before a file's id, as a URI."""

_ASSISTANT, _TOOL = v1.Role.ROLE_ASSISTANT, v1.Role.ROLE_TOOL
_ROLES: dict[Any, v1.Role.ValueType] = {
    "system": v1.Role.ROLE_SYSTEM,
    "developer": v1.Role.ROLE_DEVELOPER,
    "user": v1.Role.ROLE_USER,
    "assistant": _ASSISTANT,
    "tool": _TOOL,
    "function": _TOOL,
}
_ROLE_NAMES = {role: name for name, role in _ROLES.items() if name != "function"}
_LIST = "list"
"""The form in which content is a list even where it is one text."""


def from_openai(messages: Iterable[Mapping[str, Any]]) -> list[v1.Message]:
    """Messages for `append`, from dicts as chat completions take and give them.

    `to_openai` gives equal dicts back, whatever they hold: content that is absent, null, empty, a
    text or a list of parts; arguments of tool calls byte for byte, valid JSON or not; keys that are
    unknown here; the order of the keys, at every depth. What has a field goes there, as parts in
    this order: `reasoning_content`, `content`, `refusal`, `tool_calls`; a message of a tool becomes
    one tool result. An image at `attachment:ID` gets an `attachment_id`, a file's id becomes the URI
    `openai-file:ID`. A part of an unknown type becomes a JSON part. The rest, and what doesn't fit
    its field's limits, goes into the extension `openai.extra`, as JSON text. A message that says
    nothing at all gets an empty text.

    Of values that aren't text, what JSON keeps is kept: equal Python objects come back, except that
    a tuple comes back as a list. Numbers are Python's, so NaN and infinities travel too.

    Args:
        messages: The dicts. They aren't changed. Roles are `system`, `developer`, `user`,
            `assistant`, `tool` and `function`.

    Raises:
        ValueError: A text holds an unpaired surrogate, which can't be encoded in UTF-8; a role is
            unknown; or a value isn't JSON. It names the message's index and the field.

    Example:
        answer = openai.chat.completions.create(...).choices[0].message
        client.append("chat-1", sessiond.from_openai([answer.to_dict()]))
    """
    return _exact.each(messages, _message)


def to_openai(messages: Iterable[v1.Message]) -> list[dict[str, Any]]:
    """Dicts as chat completions take them, from messages.

    Messages from `from_openai` become dicts that equal those given there. Others become what chat
    completions have a place for: each tool result becomes a dict of its own, before what else its
    message says; media that are given inline become `data:` URIs. Those that refer to an attachment
    become `attachment:` and its id, which the application replaces by what the model takes. The rest
    is left out: results of tools that a provider ran, `is_error`, metadata, extensions of other
    names, and so on; a message of which nothing is left becomes no dict.

    Raises:
        ValueError: A JSON part or the extension `openai.extra` can't be read.
    """
    return _exact.back(messages, _dicts, "OpenAI's")


def _message(at: str, item: dict[str, Any]) -> v1.Message:
    role = item.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise ValueError(f"{at}.role: {role!r} is none of {', '.join(_ROLES)}")
    message = v1.Message(role=_ROLES[role])
    if message.role == _TOOL:
        message.parts.add(tool_result=_result(at, item))
    else:
        message.name = short(f"{at}.name", item.get("name"))
        for key, take in _TAKE.items():
            if key in item and (message.role == _ASSISTANT or key == "content"):
                message.parts.extend(take(f"{at}.{key}", item[key]))
        if not message.parts:
            message.parts.add(text="")
    fitted(message, item, at)
    return message


def fitted(message: v1.Message, item: Mapping[str, Any], at: str = "message") -> None:
    """Makes `to_openai` give a dict for a message whose fields are set already."""
    message.extensions.pop(EXTRA, None)
    form = _LIST if _is_listed(item.get("content")) else ""
    _exact.leave(at, EXTRA, message, _plain(message, form), dict(item), form)


def _is_listed(content: Any) -> bool:
    """Whether content must be told to be a list."""
    if not isinstance(content, list):
        return False
    parts = [part for part in content if isinstance(part, dict)]
    return len(content) == 1 or any(part.get("type") == "refusal" for part in parts)


def _result(at: str, item: dict[str, Any]) -> v1.ToolResult:
    return v1.ToolResult(
        tool_call_id=_exact.call_id(f"{at}.tool_call_id", item.get("tool_call_id")),
        tool_name=short(f"{at}.name", item.get("name")),
        parts=_content(f"{at}.content", item.get("content"), _result_part),
    )


def _content(
    at: str, value: Any, part: Callable[[str, Any], v1.Part] | None = None
) -> list[v1.Part]:
    if isinstance(value, str):
        return [v1.Part(text=text(at, value))]
    if isinstance(value, list) and len(value) <= _exact.MANY:
        return [(part or _part)(f"{at}[{index}]", item) for index, item in enumerate(value)]
    return []


def _reasoning(at: str, value: Any) -> list[v1.Part]:
    if not isinstance(value, str) or not text(at, value):
        return []
    return [v1.Part(reasoning=v1.Reasoning(text=value))]


def _refusal(at: str, value: Any) -> list[v1.Part]:
    return [v1.Part(refusal=text(at, value))] if isinstance(value, str) and value else []


def _tool_calls(at: str, value: Any) -> list[v1.Part]:
    if not isinstance(value, list) or len(value) > _exact.MANY:
        return []
    calls = [_tool_call(f"{at}[{index}]", call) for index, call in enumerate(value)]
    return [v1.Part(tool_call=call) for call in calls if call is not None]


_TAKE: dict[str, Callable[[str, Any], list[v1.Part]]] = {
    "reasoning_content": _reasoning,
    "content": _content,
    "refusal": _refusal,
    "tool_calls": _tool_calls,
}
"""What of a dict becomes parts, in their order."""


def _part(at: str, value: Any) -> v1.Part:
    """What has a field as such, anything else as its JSON."""
    if isinstance(value, dict):
        kind = value.get("type")
        if kind == "refusal" and isinstance(value.get("refusal"), str):
            return v1.Part(refusal=text(f"{at}.refusal", value["refusal"]))
        found = _media(at, kind, value)
        if found is not None:
            return found
        if kind == "text" and isinstance(value.get("text"), str):
            return v1.Part(text=text(f"{at}.text", value["text"]))
    return v1.Part(json=_exact.json_text(at, value))


def _result_part(at: str, value: Any) -> v1.Part:
    part = _part(at, value)
    return v1.Part(json=_exact.json_text(at, value)) if part.HasField("refusal") else part


def _media(at: str, kind: Any, value: dict[str, Any]) -> v1.Part | None:
    given = value.get(kind) if isinstance(kind, str) else None
    if not isinstance(given, dict):
        return None
    at = f"{at}.{kind}"
    if kind == "image_url":
        image = _exact.media(at, given.get("url"), detail=given.get("detail", ""))
        return None if image is None else v1.Part(image=image)
    if kind == "input_audio":
        format = given.get("format")
        mime_type = f"audio/{format}" if isinstance(format, str) else ""
        audio = _exact.inline(at, given.get("data"), mime_type=mime_type)
        return None if audio is None else v1.Part(audio=audio)
    if kind == "file":
        id, data = given.get("file_id"), given.get("file_data")
        url = FILE + id if isinstance(id, str) else data
        file = _exact.media(at, url, name=given.get("filename", ""))
        return None if file is None else v1.Part(file=file)
    return None


def _tool_call(at: str, value: Any) -> v1.ToolCall | None:
    """A tool call, or None if it isn't one as the API wants it: it needs an id at least."""
    function = value.get("function") if isinstance(value, dict) else None
    if not isinstance(function, dict):
        return None
    id = _exact.call_id(f"{at}.id", value.get("id"))
    name = short(f"{at}.function.name", function.get("name"))
    arguments, kind = function.get("arguments"), short(f"{at}.type", value.get("type"))
    if not id:
        return None
    return v1.ToolCall(
        id=id,
        name=name,
        arguments=text(f"{at}.function.arguments", arguments) if isinstance(arguments, str) else "",
        type=kind if kind != "function" else "",
    )


def _dicts(message: v1.Message) -> list[dict[str, Any]]:
    """The dicts of a message: one, but for each further result of a tool."""
    form, patch = _exact.left(EXTRA, message.extensions)
    results = [part for part in message.parts if part.HasField("tool_result")]
    if message.role == _ASSISTANT or not results or patch is not None:
        found = _exact.patched(_plain(message, form), patch)
        return [found] if patch is not None or _says_something(found) else []
    answers = [_plain(v1.Message(role=_TOOL, parts=[part]), form) for part in results]
    others = [part for part in message.parts if not part.HasField("tool_result")]
    if others:
        answers.append(_plain(v1.Message(role=message.role, name=message.name, parts=others), ""))
    return answers


def _says_something(item: dict[str, Any]) -> bool:
    return any(item.get(key) is not None for key in _TAKE)


def _plain(message: v1.Message, form: str) -> dict[str, Any]:
    """What the fields alone say."""
    result: dict[str, Any] = {"role": _ROLE_NAMES.get(message.role, "user")}
    parts: Iterable[v1.Part] = message.parts
    name = message.name
    if message.role == _TOOL:
        answer = message.parts[0].tool_result if message.parts else v1.ToolResult()
        parts, name = answer.parts, answer.tool_name or name
        if answer.tool_call_id:
            result["tool_call_id"] = answer.tool_call_id
    if name:
        result["name"] = name
    result["content"] = _plain_content(list(parts), form)
    if message.role == _TOOL and result["content"] is None:
        result["content"] = ""  # null is none of what a tool may answer
    if thought := "\n\n".join(filter(None, (p.reasoning.text for p in message.parts))):
        result["reasoning_content"] = thought
    if form != _LIST and (refusal := "".join(part.refusal for part in message.parts)):
        result["refusal"] = refusal
    if calls := [_plain_call(p.tool_call) for p in message.parts if p.HasField("tool_call")]:
        result["tool_calls"] = calls
    return result


def _plain_content(parts: list[v1.Part], form: str) -> str | list[Any] | None:
    kinds = {"text", "image", "audio", "file", "json"} | ({"refusal"} if form == _LIST else set())
    said = [part for part in parts if part.WhichOneof("content") in kinds]
    if not said:
        return None
    if form != _LIST and len(said) == 1 and said[0].HasField("text"):
        return said[0].text
    return list(map(_plain_part, said))


def _plain_part(part: v1.Part) -> Any:
    kind = part.WhichOneof("content")
    if kind == "json":
        return json.loads(part.json)
    if kind == "refusal":
        return {"type": "refusal", "refusal": part.refusal}
    if kind == "image":
        detail = {"detail": part.image.detail} if part.image.detail else {}
        return {"type": "image_url", "image_url": {"url": _exact.url_of(part.image), **detail}}
    if kind == "audio" and part.audio.WhichOneof("source") == "inline":
        format = part.audio.mime_type.removeprefix("audio/")
        sound = {"data": _exact.base64_of(part.audio), "format": format}
        return {"type": "input_audio", "input_audio": sound}
    if kind in ("file", "audio"):
        return {"type": "file", "file": dict(_plain_file(getattr(part, kind)))}
    return {"type": "text", "text": part.text}


def _plain_file(media: v1.Media) -> Iterator[tuple[str, str]]:
    if media.name:
        yield "filename", media.name
    if media.uri.startswith(FILE):
        yield "file_id", media.uri.removeprefix(FILE)
    else:
        yield "file_data", _exact.url_of(media)


def _plain_call(call: v1.ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": call.type or "function", "function": function}

"""Messages from and to the contents of Google's Gemini API."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from sessiond import v1
from sessiond.dialects import _exact
from sessiond.dialects._exact import Budget, json_text, short, text

EXTRA = "gemini.extra"
"""The extension that holds, as JSON, how a content differs from what the fields alone say."""
SIGNATURE = "gemini.thought_signature"
"""The extension of a part that holds its thought signature."""

_USER, _ASSISTANT, _TOOL = v1.Role.ROLE_USER, v1.Role.ROLE_ASSISTANT, v1.Role.ROLE_TOOL
_ROLES: dict[Any, v1.Role.ValueType] = {
    "user": _USER,
    "model": _ASSISTANT,
    "function": _USER,
    "system": v1.Role.ROLE_SYSTEM,
}
_MADE_UP = "gemini:"
"""Stands before the id of a call that came without one: its name, and which call of that name it is."""
_OWN = "own"
"""The form of contents that came from Gemini, which takes their thoughts back."""


def from_gemini(contents: Iterable[Mapping[str, Any]]) -> list[v1.Message]:
    """Messages for `append`, from contents as the Gemini API takes and gives them in JSON.

    `to_gemini` gives equal dicts back, their keys and parts in order. What has a field goes there:
    texts; thoughts, as reasoning; a part's `thoughtSignature`, as the extension
    `gemini.thought_signature`; `functionCall` and `functionResponse`, several in one message;
    `inlineData` and `fileData`, by their media type as image, audio or file. A call without an id
    gets one made of its name and its number among the calls of that name in its content, and a
    response likewise, so that they belong together. Other parts, such as `executableCode`, become
    JSON parts. The rest goes into the extension `gemini.extra`, as JSON text.

    Args:
        contents: The dicts, in the roles `user`, `model`, `function` and `system`, or without one,
            which is the user's. They aren't changed.

    Raises:
        ValueError: A text holds an unpaired surrogate, a role is unknown, or a value isn't JSON. It
            names the message's index and the field.
    """
    return _exact.each(contents, _message)


def to_gemini(messages: Iterable[v1.Message]) -> list[dict[str, Any]]:
    """Contents as the Gemini API takes them, from messages.

    Messages from `from_gemini` become dicts that equal those given there. Of others, reasoning and
    results of tools that a provider ran are left out, JSON and refusals are texts, and what a tool
    answered is `output` or `error` of a response, under the name of its call. A message of which
    nothing is left becomes no dict. Messages in the system's or the developer's role have the role
    `system`: put their parts into `systemInstruction`.

    Raises:
        ValueError: A part or an extension of an earlier `from_gemini` can't be read.
    """
    names: dict[str, str] = {}

    def dicts(message: v1.Message) -> list[dict[str, Any]]:
        calls = (part.tool_call for part in message.parts if part.HasField("tool_call"))
        names.update((call.id, call.name) for call in calls)
        form, patch = _exact.left(EXTRA, message.extensions)
        plain = _plain(message, form == _OWN, names)
        if patch is not None:
            return [_exact.patched(plain, patch)]
        return [plain] if plain["parts"] else []

    return _exact.back(messages, dicts, "Gemini's")


def _message(at: str, item: dict[str, Any]) -> v1.Message:
    role, parts = item.get("role", "user"), item.get("parts")
    if not isinstance(role, str) or role not in _ROLES:
        raise ValueError(f"{at}.role: {role!r} is none of {', '.join(_ROLES)}")
    message = v1.Message(role=_ROLES[role])
    if isinstance(parts, list) and len(parts) <= _exact.MANY:
        budget, numbers = Budget(), Counter[str]()
        for place, given in enumerate(parts):
            where = f"{at}.parts[{place}]"
            made = _part(where, message.role, given, numbers) if isinstance(given, dict) else None
            part = made or v1.Part(json=json_text(where, given))
            signature = given.get("thoughtSignature") if made else None
            if isinstance(signature, str) and budget.spend():
                encoded = text(f"{where}.thoughtSignature", signature).encode()
                part.extensions[SIGNATURE] = encoded
            message.parts.append(part)
    if not message.parts:
        message.parts.add(text="")
    thinks = any(part.HasField("reasoning") for part in message.parts)
    form = _OWN if thinks else None
    _exact.leave(at, EXTRA, message, _plain(message, thinks, {}), item, form)
    return message


def _part(
    at: str, role: v1.Role.ValueType, given: dict[str, Any], numbers: Counter[str]
) -> v1.Part | None:
    """What has a field, or None."""
    if isinstance(given.get("text"), str):
        said = text(f"{at}.text", given["text"])
        if given.get("thought") is True and role == _ASSISTANT:
            return v1.Part(reasoning=v1.Reasoning(text=said))
        return v1.Part(text=said)
    call, response = given.get("functionCall"), given.get("functionResponse")
    if isinstance(call, dict) and role == _ASSISTANT:
        id, name = _named(f"{at}.functionCall", call, numbers)
        arguments = json_text(f"{at}.functionCall.args", call.get("args", {}))
        return v1.Part(tool_call=v1.ToolCall(id=id, name=name, arguments=arguments)) if id else None
    if isinstance(response, dict) and role == _USER:
        id, name = _named(f"{at}.functionResponse", response, numbers)
        where = f"{at}.functionResponse.response"
        answer = v1.Part(json=json_text(where, response.get("response", {})))
        result = v1.ToolResult(tool_call_id=id, tool_name=name, parts=[answer])
        result.is_error = _is_error(response.get("response"))
        return v1.Part(tool_result=result)
    return _media(at, given)


def _is_error(response: Any) -> bool:
    return isinstance(response, dict) and response.keys() == {"error"}


def _named(at: str, given: dict[str, Any], numbers: Counter[str]) -> tuple[str, str]:
    """The id and the name of a call or a response."""
    name = short(f"{at}.name", given.get("name"))
    numbers[name] += 1
    id = _exact.call_id(f"{at}.id", given.get("id"))
    return id or _exact.call_id(at, _made_up(name, numbers[name])), name


def _made_up(name: str, number: int) -> str:
    return f"{_MADE_UP}{name}" if number == 1 else f"{_MADE_UP}{name}#{number}"


def _media(at: str, given: dict[str, Any]) -> v1.Part | None:
    inline, file = given.get("inlineData"), given.get("fileData")
    if isinstance(inline, dict):
        media = _exact.inline(at, inline.get("data"), mime_type=inline.get("mimeType"))
    elif isinstance(file, dict):
        media = _exact.media(at, file.get("fileUri"), mime_type=file.get("mimeType", ""))
    else:
        return None
    if media is None:
        return None
    kind = media.mime_type.partition("/")[0]
    if kind == "image":
        return v1.Part(image=media)
    return v1.Part(audio=media) if kind == "audio" else v1.Part(file=media)


def _plain(message: v1.Message, own: bool, names: Mapping[str, str]) -> dict[str, Any]:
    """What the fields alone say; `names` are those of calls by their ids."""
    role = {_ASSISTANT: "model", _USER: "user", _TOOL: "user"}.get(message.role, "system")
    numbers = Counter[str]()
    parts = []
    for part in message.parts:
        given = _plain_part(part, message.role, own, numbers, names)
        if given is not None and SIGNATURE in part.extensions:
            given["thoughtSignature"] = part.extensions[SIGNATURE].decode()
        if given is not None:
            parts.append(given)
    return {"role": role, "parts": parts}


def _plain_part(
    part: v1.Part,
    role: v1.Role.ValueType,
    own: bool,
    numbers: Counter[str],
    names: Mapping[str, str],
) -> dict[str, Any] | None:
    kind = part.WhichOneof("content")
    if kind == "reasoning":
        return {"text": part.reasoning.text, "thought": True} if own else None
    if kind == "tool_call":
        call = part.tool_call
        numbers[call.name] += 1
        facts = {"name": call.name, "args": _exact.json_object(call.arguments)}
        return {"functionCall": _with_id(call.id, call.name, numbers) | facts}
    if kind == "tool_result":
        return None if role == _ASSISTANT else _response(part.tool_result, numbers, names)
    if kind == "json":
        found = _exact.json_or_none(part.json)
        return found if isinstance(found, dict) and _is_part(found) else {"text": part.json}
    if kind in ("image", "audio", "file"):
        return _plain_media(getattr(part, kind))
    return {"text": part.text or part.refusal}


def _is_part(found: dict[str, Any]) -> bool:
    """Whether JSON is a part of the API's that has no field here."""
    known = {"executableCode", "codeExecutionResult", "functionCall", "functionResponse"}
    return bool(known & found.keys())


def _with_id(id: str, name: str, numbers: Counter[str]) -> dict[str, Any]:
    """The id, unless it was made up here."""
    return {} if not id or id == _made_up(name, numbers[name]) else {"id": id}


def _response(
    result: v1.ToolResult, numbers: Counter[str], names: Mapping[str, str]
) -> dict[str, Any]:
    name = result.tool_name or names.get(result.tool_call_id, "")
    numbers[name] += 1
    found = None
    if len(result.parts) == 1 and result.parts[0].HasField("json"):
        found = _exact.json_or_none(result.parts[0].json)
    if not isinstance(found, dict):
        said = "\n".join(part.text or part.json for part in result.parts)
        found = {"error" if result.is_error else "output": said}
    facts = {"name": name, "response": found}
    return {"functionResponse": _with_id(result.tool_call_id, name, numbers) | facts}


def _plain_media(media: v1.Media) -> dict[str, Any]:
    if media.WhichOneof("source") == "inline":
        return {"inlineData": {"mimeType": media.mime_type, "data": _exact.base64_of(media)}}
    mime_type = {"mimeType": media.mime_type} if media.mime_type else {}
    return {"fileData": {**mime_type, "fileUri": _exact.url_of(media)}}

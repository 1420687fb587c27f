"""Messages from and to the form of OpenAI's chat completions, and of the many that speak it."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sessiond import v1
from sessiond._patch import apply, difference

EXTRA = "openai.extra"
"""The extension that holds, as JSON, how a dict differs from what the fields alone say."""

_ROLES: dict[Any, v1.Role.ValueType] = {
    "system": v1.Role.ROLE_SYSTEM,
    "developer": v1.Role.ROLE_DEVELOPER,
    "user": v1.Role.ROLE_USER,
    "assistant": v1.Role.ROLE_ASSISTANT,
    "tool": v1.Role.ROLE_TOOL,
    "function": v1.Role.ROLE_TOOL,
}
_ROLE_NAMES = {role: name for name, role in _ROLES.items() if name != "function"}
_NAME_LENGTH = 256
_ID_BYTES = 256
_MANY = 256
_URI_BYTES = 1 << 20
_ATTACHMENT = "attachment:"
_ATTACHMENT_ID = re.compile(r"[!-~]{1,128}")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SURROGATE_PAIR = re.compile(r"[\ud800-\udbff][\udc00-\udfff]")


def from_openai(messages: Iterable[Mapping[str, Any]]) -> list[v1.Message]:
    """Messages for `append`, from dicts as chat completions take and give them.

    `to_openai` gives equal dicts back, whatever they hold: content that is absent, null, empty, a
    text or a list of parts; arguments of tool calls byte for byte, valid JSON or not; keys that are
    unknown here; the order of the keys, at every depth. What has a field goes there: `content` to
    `text` or `parts`, `tool_calls`, `tool_call_id`, `name` (of a tool to `tool_name`),
    `reasoning_content` to `reasoning`; an image at `attachment:ID` to an `attachment_id`. The rest,
    and what doesn't fit its field's limits, goes into the extension `openai.extra`, as JSON text.

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
    result = []
    for index, item in enumerate(messages):
        try:
            result.append(_message(f"messages[{index}]", dict(item)))
        except RecursionError:
            raise ValueError(f"messages[{index}]: nested too deeply") from None
    return result


def to_openai(messages: Iterable[v1.Message]) -> list[dict[str, Any]]:
    """Dicts as chat completions take them, from messages.

    Messages from `from_openai` become dicts that equal those given there. In others `text` and
    `parts` become `content`, which is null when there is neither, and media that are given inline
    become `data:` URIs. Those that refer to an attachment become `attachment:` and its id, which
    the application replaces by what the model takes. What chat completions have no place for is
    left out: `is_error`, metadata, extensions of other names, and so on.

    Raises:
        ValueError: A JSON part or the extension `openai.extra` can't be read.
    """
    return [_dict(f"messages[{index}]", message) for index, message in enumerate(messages)]


def _message(at: str, item: dict[str, Any]) -> v1.Message:
    _check_keys(at, item)
    role = item.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise ValueError(f"{at}.role: {role!r} is none of {', '.join(_ROLES)}")
    message = v1.Message(role=_ROLES[role])
    for key, take in _TAKE.items():
        if key in item:
            take(f"{at}.{key}", message, item[key])
    patch = difference(_plain(message), item)
    if patch is not None:
        message.extensions[EXTRA] = _encode(at, patch)
    return message


def fitted(message: v1.Message, item: Mapping[str, Any]) -> None:
    """Makes `to_openai` give a dict for a message whose fields are set already."""
    message.extensions.pop(EXTRA, None)
    patch = difference(_plain(message), dict(item))
    if patch is not None:
        message.extensions[EXTRA] = _encode("message", patch)


def _dict(at: str, message: v1.Message) -> dict[str, Any]:
    try:
        plain = _plain(message)
        patch = json.loads(message.extensions[EXTRA]) if EXTRA in message.extensions else None
        result: dict[str, Any] = apply(plain, patch)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"{at}: not a message from OpenAI's form: {error}") from error
    return result


def _take_content(at: str, message: v1.Message, value: Any) -> None:
    if isinstance(value, str):
        message.text = _text(at, value)
    elif isinstance(value, list) and len(value) <= _MANY:
        message.parts.extend(_part(f"{at}[{index}]", part) for index, part in enumerate(value))


def _take_tool_calls(at: str, message: v1.Message, value: Any) -> None:
    if isinstance(value, list) and len(value) <= _MANY:
        calls = [_tool_call(f"{at}[{index}]", call) for index, call in enumerate(value)]
        message.tool_calls.extend(call for call in calls if call is not None)


def _take_tool_call_id(at: str, message: v1.Message, value: Any) -> None:
    if isinstance(value, str) and _is_id(_text(at, value)):
        message.tool_call_id = value


def _take_name(at: str, message: v1.Message, value: Any) -> None:
    if isinstance(value, str) and _is_short(_text(at, value)):
        if message.role == v1.Role.ROLE_TOOL:
            message.tool_name = value
        else:
            message.name = value


def _take_reasoning(at: str, message: v1.Message, value: Any) -> None:
    if isinstance(value, str):
        message.reasoning = _text(at, value)


_TAKE: dict[str, Callable[[str, v1.Message, Any], None]] = {
    "content": _take_content,
    "tool_calls": _take_tool_calls,
    "tool_call_id": _take_tool_call_id,
    "name": _take_name,
    "reasoning_content": _take_reasoning,
}


def _part(at: str, value: Any) -> v1.Part:
    """A text or an image as such, anything else as its JSON."""
    if isinstance(value, dict):
        text, image = value.get("text"), value.get("image_url")
        if value.get("type") == "text" and isinstance(text, str):
            return v1.Part(text=_text(f"{at}.text", text))
        if value.get("type") == "image_url" and isinstance(image, dict):
            found = _image(f"{at}.image_url", image)
            if found is not None:
                return v1.Part(image=found)
    return v1.Part(json=_encode(at, value).decode())


def _image(at: str, image: dict[str, Any]) -> v1.Media | None:
    url, detail = image.get("url"), image.get("detail", "")
    if not isinstance(url, str) or not isinstance(detail, str):
        return None
    size = len(_text(f"{at}.url", url).encode())
    if size > _URI_BYTES or not _is_short(_text(f"{at}.detail", detail)):
        return None
    if url.startswith(_ATTACHMENT) and _ATTACHMENT_ID.fullmatch(url, len(_ATTACHMENT)):
        return v1.Media(attachment_id=url.removeprefix(_ATTACHMENT), detail=detail)
    return v1.Media(uri=url, detail=detail)


def _tool_call(at: str, value: Any) -> v1.ToolCall | None:
    """A tool call, or None if it isn't one as the API wants it: it needs an id at least."""
    function = value.get("function") if isinstance(value, dict) else None
    if not isinstance(function, dict):
        return None
    id, name, arguments, kind = (
        _text(f"{at}.{place}", found) if isinstance(found, str) else None
        for place, found in (
            ("id", value.get("id")),
            ("function.name", function.get("name")),
            ("function.arguments", function.get("arguments")),
            ("type", value.get("type")),
        )
    )
    if id is None or not _is_id(id):
        return None
    return v1.ToolCall(
        id=id,
        name=name if name is not None and _is_short(name) else "",
        arguments=arguments or "",
        type=kind if kind is not None and kind != "function" and _is_short(kind) else "",
    )


def _plain(message: v1.Message) -> dict[str, Any]:
    """What the fields alone say."""
    result: dict[str, Any] = {"role": _ROLE_NAMES.get(message.role, "user")}
    tool = message.role == v1.Role.ROLE_TOOL
    if message.tool_call_id:
        result["tool_call_id"] = message.tool_call_id
    if name := (message.tool_name if tool else "") or message.name:
        result["name"] = name
    result["content"] = _content(message)
    if message.reasoning:
        result["reasoning_content"] = message.reasoning
    if message.tool_calls:
        result["tool_calls"] = [_plain_call(call) for call in message.tool_calls]
    return result


def _content(message: v1.Message) -> str | list[Any] | None:
    if not message.parts:
        return message.text if message.HasField("text") else None
    lead = [{"type": "text", "text": message.text}] if message.text else []
    return lead + [_plain_part(part) for part in message.parts]


def _plain_part(part: v1.Part) -> Any:
    kind = part.WhichOneof("content")
    if kind == "json":
        return json.loads(part.json)
    if kind == "image":
        detail = {"detail": part.image.detail} if part.image.detail else {}
        return {"type": "image_url", "image_url": {"url": _uri(part.image), **detail}}
    if kind == "file":
        name = {"filename": part.file.name} if part.file.name else {}
        return {"type": "file", "file": {**name, "file_data": _uri(part.file)}}
    return {"type": "text", "text": part.text}


def _uri(media: v1.Media) -> str:
    source = media.WhichOneof("source")
    if source == "attachment_id":
        return _ATTACHMENT + media.attachment_id
    if source != "inline":
        return media.uri
    kind = media.mime_type or "application/octet-stream"
    return f"data:{kind};base64,{base64.b64encode(media.inline).decode()}"


def _plain_call(call: v1.ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": call.type or "function", "function": function}


def _text(at: str, value: str) -> str:
    """The text, if it can be encoded."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{at}: an unpaired surrogate at {error.start} can't be encoded in UTF-8"
        ) from None
    return value


def _is_short(value: str) -> bool:
    return len(value) <= _NAME_LENGTH and not _CONTROLS.search(value)


def _is_id(value: str) -> bool:
    return 0 < len(value.encode()) <= _ID_BYTES and not _CONTROLS.search(value)


def _check_keys(at: str, value: Any) -> None:
    """Raises ValueError for a key that JSON would turn into a text."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError(f"{at}: the key {key!r} isn't a text")
            _check_keys(f"{at}.{key}", item)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _check_keys(f"{at}[{index}]", item)


def _encode(at: str, value: Any) -> bytes:
    """The value as JSON; unpaired surrogates as escapes, which JSON can hold."""
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{at}: {error}") from error
    try:
        return text.encode()
    except UnicodeEncodeError:
        if _SURROGATE_PAIR.search(text):
            # As escapes, the two would be read as one character.
            raise ValueError(f"{at}: a pair of surrogates instead of a character") from None
        return json.dumps(value, separators=(",", ":")).encode()

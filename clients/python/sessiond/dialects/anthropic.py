"""Messages from and to the form of Anthropic's Messages API."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from sessiond import v1
from sessiond.dialects import _exact
from sessiond.dialects._exact import Budget, json_text, short, text

EXTRA = "anthropic.extra"
"""The extension that holds, as JSON, how a dict differs from what the fields alone say."""
SIGNATURE = "anthropic.signature"
"""The extension of reasoning that holds its signature."""
REDACTED = "anthropic.redacted"
"""The extension of reasoning that nobody may read: what stands for it."""
KIND = "anthropic.type"
"""The extension of a result whose tool the provider ran: the type of its block."""
FILE = "anthropic-file:"
"""Stands before a file's id, as a URI."""

_USER, _ASSISTANT, _TOOL = v1.Role.ROLE_USER, v1.Role.ROLE_ASSISTANT, v1.Role.ROLE_TOOL
_ROLES: dict[Any, v1.Role.ValueType] = {
    "user": _USER,
    "assistant": _ASSISTANT,
    "system": v1.Role.ROLE_SYSTEM,
}
_MESSAGE = -1
"""Stands for the message's own content among the places whose content is a list."""


def from_anthropic(messages: Iterable[Mapping[str, Any]]) -> list[v1.Message]:
    """Messages for `append`, from dicts as Anthropic's Messages API takes and gives them.

    `to_anthropic` gives equal dicts back, their keys and blocks in order. What has a field goes
    there: texts; `thinking`, whose signature is in the extension `anthropic.signature`;
    `redacted_thinking`, whose data are in `anthropic.redacted`; `tool_use` and what else ends in
    `_tool_use`; `tool_result`, several in one message; results of tools that Anthropic runs, as JSON;
    images and documents in base64, by URL or by a file's id, which becomes the URI
    `anthropic-file:ID`. A block of an unknown type becomes a JSON part. The rest goes into the
    extension `anthropic.extra`, as JSON text. Of an answer, `model` and `stop_reason` are in
    `model` and `finish_reason` too.

    Args:
        messages: The dicts, in the roles `user`, `assistant` and `system`. They aren't changed.

    Raises:
        ValueError: A text holds an unpaired surrogate, a role is unknown, or a value isn't JSON. It
            names the message's index and the field.
    """
    return _exact.each(messages, _message)


def to_anthropic(messages: Iterable[v1.Message]) -> list[dict[str, Any]]:
    """Dicts as Anthropic's Messages API takes them, from messages.

    Messages from `from_anthropic` become dicts that equal those given there. Others become what the
    API has a place for: results of tools are blocks of the user's; JSON and refusals are texts;
    arguments that aren't a JSON object are the text `arguments` of one. Reasoning without a
    signature, sounds, and results of tools that another provider ran are left out, and so is a
    message of which nothing is left. Messages in the system's or the developer's role have the role
    `system`: put them into the parameter of that name.

    Raises:
        ValueError: A part or an extension of an earlier `from_anthropic` can't be read.
    """
    return _exact.back(messages, _dicts, "Anthropic's")


def _message(at: str, item: dict[str, Any]) -> v1.Message:
    role, content = item.get("role"), item.get("content")
    if not isinstance(role, str) or role not in _ROLES:
        raise ValueError(f"{at}.role: {role!r} is none of {', '.join(_ROLES)}")
    message = v1.Message(
        role=_ROLES[role],
        model=short(f"{at}.model", item.get("model")),
        finish_reason=short(f"{at}.stop_reason", item.get("stop_reason")),
    )
    listed: list[int] = []
    if isinstance(content, str):
        message.parts.add(text=text(f"{at}.content", content))
    elif isinstance(content, list) and len(content) <= _exact.MANY:
        budget = Budget()
        for place, block in enumerate(content):
            message.parts.append(_part(f"{at}.content[{place}]", message.role, block, budget))
            answered = message.parts[-1].HasField("tool_result") and isinstance(block, dict)
            if answered and _is_one_text(block.get("content")):
                listed.append(place)
        if _is_one_text(content):
            listed.append(_MESSAGE)
    if not message.parts:
        message.parts.add(text="")
    _exact.leave(at, EXTRA, message, _plain(message, listed), item, listed)
    return message


def _is_one_text(content: Any) -> bool:
    """Whether content must be told to be a list."""
    one = content[0] if isinstance(content, list) and len(content) == 1 else None
    return isinstance(one, dict) and one.get("type") == "text"


def _part(at: str, role: v1.Role.ValueType, block: Any, budget: Budget) -> v1.Part:
    """What has a field as such, anything else as its JSON."""
    kind = block.get("type") if isinstance(block, dict) else None
    part = None
    if isinstance(kind, str):
        if role == _ASSISTANT:
            part = _spoken(at, kind, block, budget)
        elif role == _USER and kind == "tool_result":
            part = v1.Part(tool_result=_result(at, block))
        part = part or _shown(at, kind, block)
    return part or v1.Part(json=json_text(at, block))


def _shown(at: str, kind: str, block: dict[str, Any]) -> v1.Part | None:
    if kind == "text" and isinstance(block.get("text"), str):
        return v1.Part(text=text(f"{at}.text", block["text"]))
    if kind not in ("image", "document"):
        return None
    media = _media(f"{at}.source", block.get("source"), block.get("title"))
    if media is None:
        return None
    return v1.Part(image=media) if kind == "image" else v1.Part(file=media)


def _media(at: str, source: Any, title: Any) -> v1.Media | None:
    if not isinstance(source, dict):
        return None
    facts = {"name": title} if isinstance(title, str) else {}
    kind = source.get("type")
    if kind == "base64":
        mime_type = source.get("media_type")
        return _exact.inline(at, source.get("data"), mime_type=mime_type, **facts)
    if kind == "url":
        return _exact.media(at, source.get("url"), **facts)
    if kind == "file" and isinstance(source.get("file_id"), str):
        return _exact.media(at, FILE + source["file_id"], **facts)
    return None


def _spoken(at: str, kind: str, block: dict[str, Any], budget: Budget) -> v1.Part | None:
    """What only an assistant says."""
    if kind == "thinking" and isinstance(block.get("thinking"), str):
        thought, signature = text(f"{at}.thinking", block["thinking"]), block.get("signature", "")
        if isinstance(signature, str) and budget.spend():
            opaque = {SIGNATURE: text(f"{at}.signature", signature).encode()}
            return v1.Part(reasoning=v1.Reasoning(text=thought), extensions=opaque)
    if kind == "redacted_thinking" and isinstance(block.get("data"), str) and budget.spend():
        opaque = {REDACTED: text(f"{at}.data", block["data"]).encode()}
        return v1.Part(reasoning=v1.Reasoning(), extensions=opaque)
    if kind == "tool_use" or kind.endswith("_tool_use"):
        id, input = _exact.call_id(f"{at}.id", block.get("id")), block.get("input")
        if id and isinstance(input, dict):
            name = short(f"{at}.name", block.get("name"))
            call = v1.ToolCall(id=id, name=name, arguments=json_text(f"{at}.input", input))
            call.type = "" if kind == "tool_use" else short(f"{at}.type", kind)
            return v1.Part(tool_call=call)
    if kind.endswith("_tool_result") and "content" in block:
        id = _exact.call_id(f"{at}.tool_use_id", block.get("tool_use_id"))
        if id and budget.spend():
            content = v1.Part(json=json_text(f"{at}.content", block["content"]))
            result = v1.ToolResult(tool_call_id=id, parts=[content])
            result.is_error = block.get("is_error") is True
            return v1.Part(tool_result=result, extensions={KIND: kind.encode()})
    return None


def _result(at: str, block: dict[str, Any]) -> v1.ToolResult:
    content = block.get("content")
    parts = []
    if isinstance(content, str):
        parts = [v1.Part(text=text(f"{at}.content", content))]
    elif isinstance(content, list) and len(content) <= _exact.MANY:
        for place, inner in enumerate(content):
            where, kind = f"{at}.content[{place}]", inner.get("type") if _is_block(inner) else None
            shown = _shown(where, kind, inner) if kind else None
            parts.append(shown or v1.Part(json=json_text(where, inner)))
    return v1.ToolResult(
        tool_call_id=_exact.call_id(f"{at}.tool_use_id", block.get("tool_use_id")),
        is_error=block.get("is_error") is True,
        parts=parts,
    )


def _is_block(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("type"), str)


def _dicts(message: v1.Message) -> list[dict[str, Any]]:
    listed, patch = _exact.left(EXTRA, message.extensions)
    plain = _plain(message, listed or [])
    if patch is not None:
        return [_exact.patched(plain, patch)]
    return [plain] if plain["content"] not in (None, []) else []


def _plain(message: v1.Message, listed: list[int]) -> dict[str, Any]:
    """What the fields alone say; `listed` are the places whose content is a list even if it is one text."""
    role = {_ASSISTANT: "assistant", _USER: "user", _TOOL: "user"}.get(message.role, "system")
    blocks = [_block(part, place in listed) for place, part in enumerate(message.parts)]
    content = _said([block for block in blocks if block is not None], _MESSAGE in listed)
    return {"role": role, "content": content}


def _said(blocks: list[Any], listed: bool) -> Any:
    """One text as such, unless it is to be a list."""
    one = blocks[0] if len(blocks) == 1 and not listed else None
    is_text = isinstance(one, dict) and one.keys() == {"type", "text"}
    return one["text"] if one is not None and is_text else blocks


def _block(part: v1.Part, listed: bool) -> Any:
    kind = part.WhichOneof("content")
    if kind == "reasoning":
        if REDACTED in part.extensions:
            return {"type": "redacted_thinking", "data": part.extensions[REDACTED].decode()}
        if SIGNATURE in part.extensions:
            signature = part.extensions[SIGNATURE].decode()
            return {"type": "thinking", "thinking": part.reasoning.text, "signature": signature}
        return None
    if kind == "tool_call":
        call = part.tool_call
        type = call.type if call.type.endswith("_tool_use") else "tool_use"
        input = _exact.json_object(call.arguments)
        return {"type": type, "id": call.id, "name": call.name, "input": input}
    if kind == "tool_result":
        return _result_block(part, listed)
    return _shown_block(part)


def _result_block(part: v1.Part, listed: bool) -> dict[str, Any]:
    result = part.tool_result
    if KIND in part.extensions:
        content = json.loads(result.parts[0].json)
    else:
        content = _said(list(filter(None, map(_shown_block, result.parts))), listed)
    block = {
        "type": part.extensions[KIND].decode() if KIND in part.extensions else "tool_result",
        "tool_use_id": result.tool_call_id,
        "content": content,
    }
    return block | ({"is_error": True} if result.is_error else {})


def _shown_block(part: v1.Part) -> Any:
    kind = part.WhichOneof("content")
    if kind == "json":
        found = _exact.json_or_none(part.json)
        return found if _is_block(found) else {"type": "text", "text": part.json}
    if kind in ("image", "file"):
        media = getattr(part, kind)
        title = {"title": media.name} if media.name and kind == "file" else {}
        return {
            "type": "image" if kind == "image" else "document",
            "source": _source(media),
        } | title
    if kind == "refusal":
        return {"type": "text", "text": part.refusal}
    return {"type": "text", "text": part.text} if kind == "text" else None


def _source(media: v1.Media) -> dict[str, Any]:
    if media.WhichOneof("source") == "inline":
        data = _exact.base64_of(media)
        return {"type": "base64", "media_type": media.mime_type, "data": data}
    if media.uri.startswith(FILE):
        return {"type": "file", "file_id": media.uri.removeprefix(FILE)}
    return {"type": "url", "url": _exact.url_of(media)}

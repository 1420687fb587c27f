"""Messages from and to the items of OpenAI's Responses API, its input as well as its output."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sessiond import v1
from sessiond.dialects import _exact
from sessiond.dialects._exact import Budget, json_text, short, text
from sessiond.dialects.openai_chat import FILE

EXTRA = "openai.responses"
"""The extension that holds, as JSON, how items differ from what the fields alone say."""
ENCRYPTED = "openai.encrypted_content"
"""The extension of reasoning that holds it as only OpenAI can read it."""

_ASSISTANT, _TOOL = v1.Role.ROLE_ASSISTANT, v1.Role.ROLE_TOOL
_ROLES: dict[Any, v1.Role.ValueType] = {
    "system": v1.Role.ROLE_SYSTEM,
    "developer": v1.Role.ROLE_DEVELOPER,
    "user": v1.Role.ROLE_USER,
    "assistant": _ASSISTANT,
}
_ROLE_NAMES = {role: name for name, role in _ROLES.items()}
_FACTS = ("type", "id", "call_id", "status")
"""What calls and their outputs of every type have besides what they are about."""


@dataclass
class _Form:
    """How parts belong to items, by their places: a JSON value."""

    begin: list[int] = field(default_factory=list)
    """Parts with which an item begins where, by their kinds, the one before could go on."""
    easy: list[int] = field(default_factory=list)
    """Parts that are the content of their item as a text."""
    listed: list[int] = field(default_factory=list)
    """Results whose output is a list even if it is one text."""
    raw: list[int] = field(default_factory=list)
    """Reasoning that is content, not a summary."""
    items: list[int] = field(default_factory=list)
    """JSON parts that are items by themselves, not content of one."""
    types: dict[str, str] = field(default_factory=dict)
    """The types of outputs that aren't those of functions."""
    own: bool = False
    """Whether there is reasoning, which only its own API takes back."""

    def told(self) -> dict[str, Any]:
        """As JSON, without what is empty."""
        return {name: value for name, value in vars(self).items() if value}


def from_openai_responses(items: Iterable[Mapping[str, Any]]) -> list[v1.Message]:
    """Messages for `append`, from items as OpenAI's Responses API takes and gives them.

    `to_openai_responses` gives equal items back, their keys and content in order. Items of a model
    that follow each other become one message, with a part for each: texts and refusals, reasoning,
    calls of functions, custom tools, computers and shells. Outputs of calls that follow each other
    become one message too. Encrypted reasoning is in the extension `openai.encrypted_content`, of
    the first part of its item; images and files are by URL, `data:` included, or by id, which becomes
    the URI `openai-file:ID`. Items and content of other types, such as calls of tools that OpenAI
    runs, become JSON parts. The rest goes into the extension `openai.responses`, as JSON text.

    Args:
        items: The items: those of a request's `input`, or of a response's `output`.

    Raises:
        ValueError: A text holds an unpaired surrogate, a role is unknown, or a value isn't JSON. It
            names the item's index and the field.

    Example:
        response = openai.responses.create(...)
        items = [item.to_dict() for item in response.output]
        client.append("chat-1", sessiond.from_openai_responses(items))
    """
    found: list[_Making] = []
    for index, item in enumerate(items):
        at = f"items[{index}]"
        try:
            _exact.check_keys(at, item)
            role = _role(at, dict(item))
            if not found or found[-1].role != role or not found[-1].takes_more(item):
                found.append(_Making(role))
            found[-1].take(at, dict(item))
        except RecursionError:
            raise ValueError(f"{at}: nested too deeply") from None
    return [making.made() for making in found]


def to_openai_responses(messages: Iterable[v1.Message]) -> list[dict[str, Any]]:
    """Items as OpenAI's Responses API takes them, from messages.

    Messages from `from_openai_responses` become items that equal those given there. Of others,
    reasoning and results of tools that a provider ran are left out, and JSON is text. Media that
    refer to an attachment become `attachment:` and its id, which the application replaces.

    Raises:
        ValueError: A part or an extension of an earlier `from_openai_responses` can't be read.
    """
    return _exact.back(messages, _items, "the Responses API's")


def _role(at: str, item: dict[str, Any]) -> v1.Role.ValueType:
    """In whose message an item stands."""
    kind = item.get("type", "message")
    if kind != "message":
        return _TOOL if isinstance(kind, str) and kind.endswith("_output") else _ASSISTANT
    role = item.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise ValueError(f"{at}.role: {role!r} is none of {', '.join(_ROLES)}")
    return _ROLES[role]


class _Making:
    """A message that is being made of items."""

    def __init__(self, role: v1.Role.ValueType) -> None:
        self.role = role
        self._message = v1.Message(role=role)
        self._items: list[dict[str, Any]] = []
        self._form = _Form()
        self._budget = Budget()

    def takes_more(self, item: Mapping[str, Any]) -> bool:
        """Whether an item of the same role belongs to this message."""
        lists = [it for it in (item.get("summary"), item.get("content")) if isinstance(it, list)]
        more = max(1, sum(map(len, lists)))
        room = len(self._message.parts) + more <= _exact.MANY
        return room and self.role in (_ASSISTANT, _TOOL)

    def take(self, at: str, item: dict[str, Any]) -> None:
        """One more item."""
        self._items.append(item)
        kind, start = item.get("type", "message"), len(self._message.parts)
        if self.role == _TOOL:
            self._output(at, kind, item)
        elif kind == "message":
            self._said(at, item)
        elif kind == "reasoning":
            self._reasoned(at, item)
        else:
            self._message.parts.append(self._called(at, kind, item))
        if len(self._message.parts) == start:
            self._message.parts.add(text="")
        if start and _goes_on(self._message.parts[start - 1], self._message.parts[start]):
            self._form.begin.append(start)

    def _said(self, at: str, item: dict[str, Any]) -> None:
        content = item.get("content")
        if isinstance(content, str):
            self._form.easy.append(len(self._message.parts))
            self._message.parts.add(text=text(f"{at}.content", content))
        elif isinstance(content, list) and len(content) <= _exact.MANY:
            for place, block in enumerate(content):
                part = _part(f"{at}.content[{place}]", block, spoken=self.role == _ASSISTANT)
                self._message.parts.append(part)

    def _reasoned(self, at: str, item: dict[str, Any]) -> None:
        self._form.own = True
        start, parts = len(self._message.parts), self._message.parts
        for name, kind in (("summary", "summary_text"), ("content", "reasoning_text")):
            blocks = item.get(name)
            for place, block in enumerate(blocks if isinstance(blocks, list) else []):
                said = block.get("text") if isinstance(block, dict) else None
                if isinstance(said, str) and block.get("type") == kind:
                    if name == "content":
                        self._form.raw.append(len(parts))
                    thought = text(f"{at}.{name}[{place}].text", said)
                    parts.add(reasoning=v1.Reasoning(text=thought))
        if len(parts) == start:
            parts.add(reasoning=v1.Reasoning())
        opaque = item.get("encrypted_content")
        if isinstance(opaque, str) and self._budget.spend():
            encoded = text(f"{at}.encrypted_content", opaque).encode()
            parts[start].extensions[ENCRYPTED] = encoded

    def _called(self, at: str, kind: Any, item: dict[str, Any]) -> v1.Part:
        """A call that the application answers as such, anything else as its JSON."""
        id = _exact.call_id(f"{at}.call_id", item.get("call_id"))
        name = short(f"{at}.name", item.get("name"))
        if id and isinstance(kind, str):
            call = v1.ToolCall(id=id, name=name)
            key = {"function_call": "arguments", "custom_tool_call": "input"}.get(kind)
            if key and isinstance(item.get(key), str):
                call.type = "" if key == "arguments" else "custom"
                call.arguments = text(f"{at}.{key}", item[key])
                return v1.Part(tool_call=call)
            if key is None and kind.endswith("_call") and short(f"{at}.type", kind):
                call.type, call.name = kind, kind.removesuffix("_call")
                call.arguments = json_text(at, _about(item))
                return v1.Part(tool_call=call)
        self._form.items.append(len(self._message.parts))
        return v1.Part(json=json_text(at, item))

    def _output(self, at: str, kind: str, item: dict[str, Any]) -> None:
        place, output = len(self._message.parts), item.get("output")
        result = v1.ToolResult(tool_call_id=_exact.call_id(f"{at}.call_id", item.get("call_id")))
        if kind not in ("function_call_output", "custom_tool_call_output"):
            self._form.types[str(place)] = kind
            result.parts.add(json=json_text(at, _about(item)))
        elif isinstance(output, str):
            result.parts.add(text=text(f"{at}.output", output))
        elif isinstance(output, list) and len(output) <= _exact.MANY:
            for number, block in enumerate(output):
                result.parts.append(_part(f"{at}.output[{number}]", block, spoken=False))
            if len(output) == 1 and result.parts[0].HasField("text"):
                self._form.listed.append(place)
        if kind == "custom_tool_call_output":
            self._form.types[str(place)] = kind
        self._message.parts.add(tool_result=result)

    def made(self) -> v1.Message:
        """The message of all its items."""
        plain = _plain(self._message, self._form)
        form = self._form.told()
        _exact.leave("items", EXTRA, self._message, plain, self._items, form)
        return self._message


def _about(item: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in item.items() if key not in _FACTS}


def _goes_on(before: v1.Part, part: v1.Part) -> bool:
    """Whether two parts, by their kinds, would be of one item."""
    kinds = before.WhichOneof("content"), part.WhichOneof("content")
    if kinds == ("reasoning", "reasoning"):
        return True
    said = {"text", "refusal", "image", "audio", "file", "json"}
    return said.issuperset(kinds)


def _part(at: str, block: Any, *, spoken: bool) -> v1.Part:
    """What has a field as such, anything else as its JSON."""
    kind = block.get("type") if isinstance(block, dict) else None
    if kind == ("output_text" if spoken else "input_text") and isinstance(block.get("text"), str):
        return v1.Part(text=text(f"{at}.text", block["text"]))
    if kind == "refusal" and spoken and isinstance(block.get("refusal"), str):
        return v1.Part(refusal=text(f"{at}.refusal", block["refusal"]))
    found = None if spoken else _media(at, kind, block)
    return found or v1.Part(json=json_text(at, block))


def _media(at: str, kind: Any, block: Any) -> v1.Part | None:
    if kind == "input_image":
        id, url = block.get("file_id"), block.get("image_url")
        place = FILE + id if isinstance(id, str) else url
        image = _exact.media(f"{at}.image_url", place, detail=block.get("detail", ""))
        return None if image is None else v1.Part(image=image)
    if kind == "input_file":
        id, name = block.get("file_id"), block.get("filename", "")
        place = FILE + id if isinstance(id, str) else block.get("file_data", block.get("file_url"))
        file = _exact.media(f"{at}.file_url", place, name=name)
        return None if file is None else v1.Part(file=file)
    return None


def _items(message: v1.Message) -> list[Any]:
    told, patch = _exact.left(EXTRA, message.extensions)
    form = _Form(**(told or {}))
    items: list[Any] = _exact.patched(_plain(message, form), patch)
    return items


def _plain(message: v1.Message, form: _Form) -> list[Any]:
    """What the fields alone say."""
    items: list[Any] = []
    before: v1.Part | None = None
    for place, part in enumerate(message.parts):
        joins = before is not None and place not in form.begin and _goes_on(before, part)
        kind = part.WhichOneof("content")
        before = part
        if kind == "reasoning":
            if form.own:
                _reason(items, part, place, form, joins)
        elif kind == "tool_call":
            items.append(_call(part.tool_call))
        elif kind == "tool_result":
            if message.role != _ASSISTANT:
                items.append(_result(part.tool_result, place, form))
        elif place in form.items:
            items.append(json.loads(part.json))
            before = None
        elif place in form.easy:
            items.append({"role": _ROLE_NAMES.get(message.role, "user"), "content": part.text})
        else:
            _say(items, message, part, joins)
    return items


def _reason(items: list[Any], part: v1.Part, place: int, form: _Form, joins: bool) -> None:
    if not joins:
        items.append({"type": "reasoning", "summary": []})
        if ENCRYPTED in part.extensions:
            items[-1]["encrypted_content"] = part.extensions[ENCRYPTED].decode()
    if place in form.raw:
        content = items[-1].setdefault("content", [])
        content.append({"type": "reasoning_text", "text": part.reasoning.text})
    elif part.reasoning.text or joins:
        items[-1]["summary"].append({"type": "summary_text", "text": part.reasoning.text})


def _call(call: v1.ToolCall) -> dict[str, Any]:
    if call.type.endswith("_call"):
        return {"type": call.type, "call_id": call.id, **_exact.json_object(call.arguments)}
    facts = {"call_id": call.id, "name": call.name}
    if call.type == "custom":
        return {"type": "custom_tool_call", **facts, "input": call.arguments}
    return {"type": "function_call", **facts, "arguments": call.arguments}


def _result(result: v1.ToolResult, place: int, form: _Form) -> dict[str, Any]:
    kind = form.types.get(str(place), "function_call_output")
    if kind not in ("function_call_output", "custom_tool_call_output"):
        about = json.loads(result.parts[0].json)
        return {"type": kind, "call_id": result.tool_call_id, **about}
    said = [_block(part, spoken=False) for part in result.parts]
    output: Any = said
    if not said:
        output = ""
    elif len(said) == 1 and result.parts[0].HasField("text") and place not in form.listed:
        output = result.parts[0].text
    return {"type": kind, "call_id": result.tool_call_id, "output": output}


def _say(items: list[Any], message: v1.Message, part: v1.Part, joins: bool) -> None:
    role = _ROLE_NAMES.get(message.role, "user")
    block = _block(part, spoken=role == "assistant")
    if joins:
        items[-1]["content"].append(block)
    else:
        items.append({"type": "message", "role": role, "content": [block]})


def _block(part: v1.Part, *, spoken: bool) -> Any:
    kind = part.WhichOneof("content")
    if kind == "json":
        found = _exact.json_or_none(part.json)
        if isinstance(found, dict) and isinstance(found.get("type"), str):
            return found
        return {"type": "output_text" if spoken else "input_text", "text": part.json}
    if kind == "refusal" and spoken:
        return {"type": "refusal", "refusal": part.refusal}
    if kind == "image":
        url = _exact.url_of(part.image)
        detail = {"detail": part.image.detail} if part.image.detail else {}
        return {"type": "input_image", **_place(url, "image_url"), **detail}
    if kind in ("file", "audio"):
        media = getattr(part, kind)
        url = _exact.url_of(media)
        name = {"filename": media.name} if media.name else {}
        where = _place(url, "file_data" if url.startswith("data:") else "file_url")
        return {"type": "input_file", **name, **where}
    return {"type": "output_text" if spoken else "input_text", "text": part.text or part.refusal}


def _place(url: str, key: str) -> dict[str, str]:
    return {"file_id": url.removeprefix(FILE)} if url.startswith(FILE) else {key: url}

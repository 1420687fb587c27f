"""The parts of messages on their way in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sessiond.v1 import message_pb2 as pb
from sessiond_server.rpc import limits
from sessiond_server.rpc.checks import Checks
from sessiond_server.store.appends import join_tools

_PLAIN = frozenset({"text", "image", "audio", "file", "json"})
"""What all roles but a tool may say, and what a tool's result may hold."""
_ANY = frozenset(field.name for field in pb.Part.DESCRIPTOR.oneofs_by_name["content"].fields)
_ALLOWED: dict[int, frozenset[str]] = {
    pb.ROLE_SYSTEM: _PLAIN,
    pb.ROLE_DEVELOPER: _PLAIN,
    pb.ROLE_USER: _PLAIN | {"tool_result"},
    pb.ROLE_ASSISTANT: _ANY,
    pb.ROLE_TOOL: frozenset({"tool_result"}),
}
_SPEAKERS = frozenset(_ALLOWED) - {pb.ROLE_TOOL}
_REFUSALS = {
    "reasoning": "only an assistant may reason",
    "tool_call": "only an assistant may call tools",
    "refusal": "only an assistant may refuse",
    "tool_result": "only a tool, a user or an assistant may hold results of tools",
}
_MEDIA = frozenset({"image", "audio", "file"})


def is_text(parts: Sequence[pb.Part], role: int) -> bool:
    """Whether there is one text and nothing else, as in most messages, with nothing to check about it."""
    return (
        len(parts) == 1
        and role in _SPEAKERS
        and parts[0].WhichOneof("content") == "text"
        and not parts[0].extensions
    )


def tool_calls(message: pb.Message) -> list[pb.ToolCall]:
    """The tool calls of a message, in order."""
    return [part.tool_call for part in message.parts if part.HasField("tool_call")]


def without_tools(message: pb.Message, where: str, what: str, checks: Checks) -> None:
    """Refuse parts by which a message that isn't one of a conversation would call tools, or answer them."""
    for place, part in enumerate(message.parts[: limits.PARTS]):
        kind = part.WhichOneof("content")
        if kind in ("tool_call", "tool_result"):
            checks.wrong(f"{where}.parts[{place}].{kind}", f"{what} can't hold one")


class Walk:
    """Goes through the parts of one message: checks them, and gathers which tools it calls and answers.

    Places of parts are numbers, or pairs of them within a tool's result: they are spelled out only where
    something is wrong.
    """

    __slots__ = ("_calls", "_checks", "_results", "_role", "_where", "extensions")

    def __init__(self, role: int, where: str, checks: Checks) -> None:
        self._role = role
        self._where = where
        self._checks = checks
        self._calls: list[str] = []
        self._results: list[str] = []
        self.extensions = 0
        """How many extensions were counted."""

    def take(self, parts: Sequence[pb.Part], type: str) -> None:
        """The parts of a message of this type."""
        if not parts and self._role == pb.ROLE_TOOL:
            self._checks.wrong(f"{self._where}.parts", "must hold a tool_result: a tool speaks")
        elif not parts and not type:
            self._checks.wrong(f"{self._where}.parts", "must not be empty, unless type is set")
        elif len(parts) > limits.PARTS:
            self._checks.count(f"{self._where}.parts", len(parts), limits.PARTS)
        allowed = _ALLOWED.get(self._role, _ANY)
        for place, part in enumerate(parts[: limits.PARTS]):
            kind = part.WhichOneof("content")
            if kind not in allowed:
                self._refuse(kind, place)
            elif kind == "tool_call":
                self._call(part.tool_call, place)
            elif kind == "tool_result":
                self._result(part.tool_result, place)
            elif kind in _MEDIA:
                self._media(getattr(part, kind), self._at(place, kind))
            if part.extensions:
                self.count_extensions(part.extensions, self._at(place))

    def _at(self, place: int | tuple[int, int], *fields: str) -> str:
        """The path of a part, or of a field of it."""
        if isinstance(place, int):
            return ".".join((f"{self._where}.parts[{place}]", *fields))
        outer, inner = place
        return self._at(outer, "tool_result", f"parts[{inner}]", *fields)

    def _refuse(self, kind: str | None, place: int) -> None:
        if kind is None:
            self._checks.wrong(self._at(place), "must have content")
        elif self._role == pb.ROLE_TOOL:
            self._checks.wrong(self._at(place, kind), "a tool may hold nothing but tool_result")
        else:
            self._checks.wrong(self._at(place, kind), _REFUSALS[kind])

    def _call(self, call: pb.ToolCall, place: int) -> None:
        id, name, kind = call.id, call.name, call.type
        if not limits.PLAIN_TOOL_CALL_ID.fullmatch(id):
            where = self._at(place, "tool_call.id")
            if not id:
                self._checks.wrong(where, "is required")
            self._checks.tool_call_id(where, id)
        if not limits.PLAIN_TEXT.fullmatch(name):
            self._checks.text(self._at(place, "tool_call.name"), name)
        if kind:
            self._checks.text(self._at(place, "tool_call.type"), kind)
        self._calls.append(id)

    def _result(self, result: pb.ToolResult, place: int) -> None:
        id, name, parts = result.tool_call_id, result.tool_name, result.parts
        if id:
            if not limits.PLAIN_TOOL_CALL_ID.fullmatch(id):
                self._checks.tool_call_id(self._at(place, "tool_result.tool_call_id"), id)
            self._results.append(id)
        if not limits.PLAIN_TEXT.fullmatch(name):
            self._checks.text(self._at(place, "tool_result.tool_name"), name)
        if len(parts) > limits.PARTS:
            where = self._at(place, "tool_result.parts")
            self._checks.count(where, len(parts), limits.PARTS)
        for number, part in enumerate(parts[: limits.PARTS]):
            kind = part.WhichOneof("content")
            if kind is None:
                self._checks.wrong(self._at((place, number)), "must have content")
            elif kind not in _PLAIN:
                said = f"a result may hold {', '.join(sorted(_PLAIN))}"
                self._checks.wrong(self._at((place, number), kind), said)
            elif kind in _MEDIA:
                self._media(getattr(part, kind), self._at((place, number), kind))
            if part.extensions:
                self.count_extensions(part.extensions, self._at((place, number)))

    def _media(self, media: pb.Media, at: str) -> None:
        checks, source = self._checks, media.WhichOneof("source")
        if source is None:
            checks.wrong(at, "must have a uri, inline bytes or an attachment_id")
        elif source == "attachment_id":
            checks.client_id(f"{at}.attachment_id", media.attachment_id)
        checks.size(f"{at}.uri", len(media.uri.encode()), limits.MEDIA_BYTES)
        checks.size(f"{at}.inline", len(media.inline), limits.MEDIA_BYTES)
        checks.text(f"{at}.mime_type", media.mime_type)
        checks.text(f"{at}.name", media.name)
        checks.text(f"{at}.detail", media.detail)

    def count_extensions(self, extensions: Mapping[str, bytes], at: str) -> None:
        """The extensions of a part or of the message itself, at this place."""
        before, most = self.extensions, limits.EXTENSIONS
        self.extensions += len(extensions)
        if before <= most < self.extensions:
            text = f"must be at most {most} in a message and its parts together"
            self._checks.wrong(f"{at}.extensions", text)
        for name in list(extensions)[: most + 1]:
            place = f"{at}.extensions[{name[:64]!r}]"
            if not name:
                self._checks.wrong(place, "must not be empty")
            self._checks.text(place, name, limits.EXTENSION_NAME)

    def tools(self, type: str) -> str | None:
        """What the statement needs to know of the message besides its small facts."""
        if self._calls or self._results or type:
            return join_tools(self._calls, self._results, type)
        return None

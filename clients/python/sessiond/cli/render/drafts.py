"""Messages that are being written, put together from what comes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sessiond import Event, message, reasoning, tool_call
from sessiond.cli.render.json_text import completed
from sessiond.v1.feed_service_pb2 import DraftChanged, DraftDelta
from sessiond.v1.message_pb2 import Message, Part

_KEPT = 6_000
"""Characters of a text that are kept at least, its last: what a terminal shows."""


@dataclass
class Growing:
    """A text that grows, of which the end is kept."""

    text: str = ""
    cut: bool = False

    def add(self, more: str) -> None:
        """Appends to it."""
        self.text += more
        if len(self.text) > 2 * _KEPT:
            self.text = self.text[-_KEPT:]
            self.cut = True


@dataclass
class _Part:
    """A part that grows, of the kind that its deltas say."""

    kind: str
    text: Growing = field(default_factory=Growing)
    id: str = ""
    name: str = ""

    def add(self, delta: DraftDelta) -> None:
        if self.kind == "tool_call":
            self.id = delta.tool_call.id or self.id
            self.name = delta.tool_call.name or self.name
            self.text.add(delta.tool_call.arguments)
        else:
            self.text.add(getattr(delta, self.kind))

    def so_far(self) -> Part:
        """The part; a call has its arguments as valid JSON where that can be."""
        written = self.text.text
        if self.kind == "tool_call":
            arguments = written if self.text.cut else completed(written) or written
            return tool_call(self.id, self.name, arguments)
        if self.kind == "reasoning":
            return reasoning(written)
        return Part(refusal=written) if self.kind == "refusal" else Part(text=written)


@dataclass
class Draft:
    """What was written of a message so far."""

    parts: dict[int, _Part] = field(default_factory=dict)

    def add(self, changed: DraftChanged) -> None:
        """Adds what was written since."""
        for delta in changed.deltas:
            kind = delta.WhichOneof("delta")
            if kind is not None:
                self.parts.setdefault(delta.part_index, _Part(kind)).add(delta)

    def message(self) -> Message:
        """The message so far."""
        return message("assistant", *(self.parts[place].so_far() for place in sorted(self.parts)))


class Drafts:
    """The messages that are being written now, in the order in which they began."""

    def __init__(self) -> None:
        self.open: dict[tuple[str, str], Draft] = {}
        """By the session's id and the message's client id."""
        self._behind: set[str] = set()

    def take(self, events: Sequence[Event]) -> list[Event]:
        """Follows what happened; the events that remain to be shown.

        These are all others, and the ends of drafts that were open.
        """
        return [event for event in events if self._take(event)]

    def _take(self, event: Event) -> bool:
        match event.kind:
            case "draft_changed":
                key = event.session_id, event.value.client_id
                if event.value.begins:
                    self.open[key] = Draft()
                self.open.setdefault(key, Draft()).add(event.value)
                return False
            case "draft_ended":
                return self.open.pop((event.session_id, event.value.client_id), None) is not None
            case "message_appended":
                self.open.pop((event.session_id, event.value.client_id), None)
            case "fell_behind":
                self._behind.add(event.session_id)
            case "caught_up" if event.session_id in self._behind:
                self._behind.discard(event.session_id)
            case "caught_up" | "session_deleted":
                self._forget(event.session_id)
        return True

    def _forget(self, session_id: str) -> None:
        """Of a watch that begins anew, all drafts that there are come again, from their beginning."""
        for key in [key for key in self.open if key[0] == session_id]:
            del self.open[key]

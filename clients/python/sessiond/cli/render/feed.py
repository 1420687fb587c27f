"""What happens in sessions, as it happens, as lines of rich text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from rich.console import Console
from rich.text import Text

from sessiond import Event, text_of, tool_calls_of
from sessiond.cli.output import enum_name
from sessiond.cli.render.conversation import Painter, Style, marks
from sessiond.cli.render.pairs import Call, Turn, pair
from sessiond.cli.render.prose import count, one_line, span
from sessiond.cli.render.times import local_with_zone
from sessiond.v1.feed_service_pb2 import AttachmentChange, SessionChanged, WriterChange
from sessiond.v1.message_pb2 import Message
from sessiond.v1.reminder_pb2 import REMINDER_STATE_PENDING, ReminderChange
from sessiond.v1.session_pb2 import (
    PARENT_KIND_SUBAGENT,
    SESSION_STATE_ACTIVE,
    ParentKind,
    Session,
    SessionState,
)

OpenCalls = Callable[[str], frozenset[tuple[int, str]]]
"""The calls of a session that wait for their results, by seq and id."""

_BAR = "▌ "
_COLOURS = (
    "bright_blue",
    "bright_magenta",
    "bright_yellow",
    "bright_cyan",
    "bright_red",
    "bright_green",
)
_UNSEEN = frozenset({"system_prompt", "config", "metadata"})
"""Facts that the session of an event leaves out."""
_EMPTY_PART = 2
"""Bytes of a part that is begun and holds nothing."""
_LONGEST_ID = 24
_ID_ENDS = 8


@dataclass
class _Shown:
    """What was shown of a session."""

    painter: Painter
    drafting: Painter
    open_calls: frozenset[tuple[int, str]]
    colour: str = ""
    name: str = ""
    facts: Session | None = None
    waiting: dict[str, tuple[int, Call]] = field(default_factory=dict)
    """Calls without a result by their id, with the seq of their message."""


class FeedPainter:
    """Turns what happens into lines that fit a console's width.

    A message looks as in `show`, a result that follows its call stands beneath it; anything else
    is a dim line. Blank lines separate messages. In a tree, all but the root's lines are marked.
    """

    def __init__(
        self,
        console: Console,
        root: Session,
        style: Style,
        *,
        tree: bool,
        open_calls: OpenCalls,
    ) -> None:
        self._console = console
        self._root = root
        self._style = style
        self._tree = tree
        self._open_calls = open_calls
        self._sessions: dict[str, _Shown] = {}
        self._begun = False
        self._bottom: tuple[str, int, str] | None = None
        """The session, the message's seq and the call's id of the turn that stands at the bottom."""
        self._after_event = False

    def paint(self, events: Sequence[Event]) -> Iterator[Text]:
        """The lines of events of one session that happened together."""
        if not events:
            return
        session_id = events[0].session_id
        shown = self._sessions.get(session_id) or self._first_seen(session_id)
        messages: list[Message] = []
        for event in events:
            if event.kind == "message_appended":
                messages.append(event.value)
                continue
            yield from self._messages(session_id, shown, messages)
            messages = []
            yield from self._event(session_id, shown, event)
        yield from self._messages(session_id, shown, messages)

    def draft(self, session_id: str, message: Message) -> Iterator[Text]:
        """The lines of a message that is being written, so far."""
        shown = self._sessions.get(session_id) or self._first_seen(session_id)
        lines = shown.drafting.block(Turn(message, [Call(it) for it in tool_calls_of(message)]))
        begun = any(part.ByteSize() > _EMPTY_PART for part in message.parts)
        yield from self._marked(shown, lines if begun else islice(lines, 1))

    def remark(self, words: str) -> Iterator[Text]:
        """The lines of a remark on the feed itself."""
        yield from self._gap(after_event=True)
        shown = self._sessions.get(self._root.id) or self._first_seen(self._root.id)
        line = shown.painter.margin().append(words, style="dim")
        yield from self._marked(shown, iter([line]))

    def _first_seen(self, session_id: str) -> _Shown:
        number = len(self._sessions)
        style, mark, colour, name = self._style, Text(), "", ""
        if session_id != self._root.id:
            name = short_id(session_id)
            colour = _COLOURS[number % len(_COLOURS)]
            mark = Text(f"  {name}", style=colour)
        indent = len(_BAR) if self._tree else 0
        writing = Text.assemble(mark, ("  writing …", "dim"))
        last = self._root.next_seq
        painter = Painter(self._console, last, style, mark=mark, indent=indent)
        drafting = Painter(self._console, last, Style(full=True), mark=writing, indent=indent)
        shown = _Shown(painter, drafting, self._open_calls(session_id), colour, name)
        self._sessions[session_id] = shown
        return shown

    def _messages(self, session_id: str, shown: _Shown, messages: list[Message]) -> Iterator[Text]:
        for item in pair(messages, shown.open_calls):
            assert isinstance(item, Turn)
            yield from self._turn(session_id, shown, item)

    def _turn(self, session_id: str, shown: _Shown, turn: Turn) -> Iterator[Text]:
        yield from self._answers(session_id, shown, turn)
        if turn.is_empty:
            return
        yield from self._gap(after_event=False)
        last = turn.calls[-1].call.id if turn.calls else ""
        self._bottom = (session_id, turn.message.seq, last)
        for call in turn.calls:
            if call.result is None:
                shown.waiting[call.call.id] = (turn.message.seq, call)
        yield from self._marked(shown, shown.painter.block(turn))

    def _answers(self, session_id: str, shown: _Shown, turn: Turn) -> Iterator[Text]:
        """The results that stand beneath the turn at the bottom, which holds their calls."""
        for place, part in enumerate(turn.message.parts):
            result, id = part.tool_result, part.tool_result.tool_call_id
            asked = shown.waiting.pop(id, None) if id and place not in turn.moved else None
            if asked is None:
                continue
            if self._bottom and self._bottom[:2] == (session_id, asked[0]):
                repeated = self._bottom[2] != id
                self._bottom = (*self._bottom[:2], id)
                turn.moved.add(place)
                call = Call(asked[1].call, result, turn.message.seq)
                yield from self._marked(shown, shown.painter.answer(call, repeated))
            elif not result.tool_name:
                result.tool_name = asked[1].call.name

    def _event(self, session_id: str, shown: _Shown, event: Event) -> Iterator[Text]:
        said = self._words(shown, event)
        shown.facts = self._facts(session_id, shown, event)
        if said is None:
            return
        sign, words = said
        yield from self._gap(after_event=True)
        line = shown.painter.margin().append(f"{sign} {words}", style="dim")
        if shown.name:
            line.append(f"  {shown.name}", style=shown.colour)
        yield from self._marked(shown, iter([line]))

    def _facts(self, session_id: str, shown: _Shown, event: Event) -> Session | None:
        """The session as far as it is known behind an event."""
        if event.kind == "session_changed":
            assert isinstance(event.value, SessionChanged)
            return event.value.session
        if event.kind == "caught_up" and shown.facts is None and session_id == self._root.id:
            return self._root
        return shown.facts

    def _gap(self, *, after_event: bool) -> Iterator[Text]:
        """A blank line, but at the beginning and between events."""
        if self._begun and not (after_event and self._after_event):
            yield Text()
        self._begun, self._after_event, self._bottom = True, after_event, None

    def _marked(self, shown: _Shown, lines: Iterator[Text]) -> Iterator[Text]:
        for line in lines:
            if not self._tree:
                yield line
            elif shown.colour:
                yield Text.assemble((_BAR, shown.colour), line)
            else:
                yield Text.assemble(" " * len(_BAR), line)

    def _words(self, shown: _Shown, event: Event) -> tuple[str, str] | None:
        if event.kind == "session_changed":
            return "✎", " · ".join(_changed(shown.facts, event.value))
        words = _WORDS.get(event.kind)
        return None if words is None else words(event.value)


def short_id(session_id: str) -> str:
    """An id, or the ends of a long one."""
    if len(session_id) <= _LONGEST_ID:
        return session_id
    return f"{session_id[:_ID_ENDS]}…{session_id[-_ID_ENDS:]}"


def _updated(message: Message) -> tuple[str, str]:
    words = ", ".join(marks(message))
    return "✎", f"message {message.seq} changed" + (f": {words}" if words else "")


def _compacted(made: Any) -> tuple[str, str]:
    what = f"{span(made.from_seq, made.to_seq)} ({count(made.message_count, 'message')})"
    return "▸", f"compacted {what} under summary {made.id}"


def _compaction_reverted(made: Any) -> tuple[str, str]:
    return (
        "▾",
        f"reverted: {span(made.from_seq, made.to_seq)} instead of summary {made.id}",
    )


def _rewound(made: Any) -> tuple[str, str]:
    hidden = made.to_seq - made.after_seq
    verb = "is" if hidden == 1 else "are"
    return "↶", f"rewound: {count(hidden, 'message')} after {made.after_seq} {verb} hidden"


def _rewind_reverted(made: Any) -> tuple[str, str]:
    return "↷", f"rewind reverted: {span(made.after_seq + 1, made.to_seq)} back"


def _cleared(made: Any) -> tuple[str, str]:
    return "✕", f"cleared: no messages before {made.first_seq}"


def _child(made: Any) -> tuple[str, str]:
    kind = enum_name(ParentKind.DESCRIPTOR, made.kind)
    kind = "sub-agent" if made.kind == PARENT_KIND_SUBAGENT else kind
    return "⑂", f"{kind} {made.session_id} made"


def _reminder(made: Any) -> tuple[str, str]:
    change = enum_name(ReminderChange.DESCRIPTOR, made.change)
    what = made.reminder.type or text_of(made.reminder.message) or made.reminder.comment
    named = f"reminder {made.reminder.id}" + (f" ({one_line(what)[:40]})" if what else "")
    due = local_with_zone(made.reminder.trigger_time)
    if made.reminder.state == REMINDER_STATE_PENDING:
        return "◷", f"{named} {change}, due {due}"
    return "◷", f"{named} {change}"


def _attachment(made: Any) -> tuple[str, str]:
    change = enum_name(AttachmentChange.DESCRIPTOR, made.change)
    if not made.HasField("attachment"):
        return "▤", f"attachment {made.attachment_id} {change}"
    return (
        "▤",
        f"attachment {made.attachment.name} {change} ({count(made.attachment.size, 'byte')})",
    )


def _writer(made: Any) -> tuple[str, str]:
    change = enum_name(WriterChange.DESCRIPTOR, made.change).replace("_", " ")
    return "✎", f"writer lease {change} by {one_line(made.holder)[:40]}"


def _deleted(made: Any) -> tuple[str, str]:
    del made
    return "∎", "session deleted"


def _given_up(made: Any) -> tuple[str, str]:
    del made
    return "✕", "draft given up"


def _offloaded(made: Any) -> tuple[str, str]:
    return (
        "▤",
        f"{'restored' if made.restored else 'offloaded'}: {span(made.from_seq, made.to_seq)}",
    )


_WORDS: dict[str, Callable[[Any], tuple[str, str]]] = {
    "message_updated": _updated,
    "compacted": _compacted,
    "compaction_reverted": _compaction_reverted,
    "rewound": _rewound,
    "rewind_reverted": _rewind_reverted,
    "messages_cleared": _cleared,
    "child_created": _child,
    "reminder_changed": _reminder,
    "messages_offloaded": _offloaded,
    "attachment_changed": _attachment,
    "writer_changed": _writer,
    "session_deleted": _deleted,
    "draft_ended": _given_up,
}


def _changed(before: Session | None, changed: SessionChanged) -> Iterator[str]:
    """What changed of a session; how it is now if it isn't known how it was."""
    known = before or Session(state=SESSION_STATE_ACTIVE)
    unseen = _UNSEEN.intersection(changed.changed_fields.paths)
    told = [*_differences(known, changed.session)]
    told += [f"{name.replace('_', ' ')} changed" for name in sorted(unseen)]
    if before is None or not told:
        yield "session changed"
    yield from told


def _differences(before: Session, now: Session) -> Iterator[str]:
    if now.title != before.title:
        yield f"title: {one_line(now.title)}" if now.title else "title taken away"
    if now.state != before.state:
        reason = f": {one_line(now.end_reason)}" if now.end_reason else ""
        name = enum_name(SessionState.DESCRIPTOR, now.state)
        yield f"{name}{reason}" if now.state != SESSION_STATE_ACTIVE else "active again"
    if now.pinned != before.pinned:
        yield "pinned" if now.pinned else "no longer pinned"
    if now.model != before.model:
        yield f"model: {one_line(now.model)}"

"""A conversation as lines of rich text: seq in the margin, a bar in the role's colour, the body."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from sessiond.cli.render.json_text import call_line, json_lines
from sessiond.cli.render.pairs import Call, Item, Turn, pair
from sessiond.cli.render.prose import Line, count, markdown_lines, one_line, span, wrap
from sessiond.cli.render.times import local
from sessiond.cli.transcript import Fold, Gap, for_people
from sessiond.v1 import message_pb2 as pb

READING_WIDTH = 100
_STYLES = {
    pb.ROLE_SYSTEM: "magenta",
    pb.ROLE_DEVELOPER: "magenta",
    pb.ROLE_USER: "green",
    pb.ROLE_ASSISTANT: "cyan",
    pb.ROLE_TOOL: "yellow",
}
_EDGES = {_STYLES[pb.ROLE_USER]: "┃ ", _STYLES[pb.ROLE_ASSISTANT]: "  │ "}
_FOLD_STYLE = "blue"
_ARGUMENT_LINES = 12
_RESULT_LINES = 10
_REASONING_LINES = 10
_SUMMARY_LINES = 12
_SYSTEM_LINES = 8


@dataclass(frozen=True)
class Style:
    """How much to show: everything, or long system prompts, results and summaries cut short."""

    full: bool = False
    open_calls: frozenset[tuple[int, str]] = frozenset()


class Painter:
    """Turns items into lines that fit a console's width, less an indent of so many columns.

    `last_seq` sets the margin; `mark` stands in every heading.
    """

    def __init__(
        self,
        console: Console,
        last_seq: int,
        style: Style,
        mark: Text | None = None,
        indent: int = 0,
    ) -> None:
        self._console = console
        self._style = style
        self._mark = mark or Text()
        self._margin = max(4, len(str(last_seq)))
        self._shown_time = ""
        self._width = min(console.width - indent, READING_WIDTH) - self._margin - 5

    def paint(self, items: Iterable[Item]) -> Iterator[Text]:
        """The lines of the items, a blank one after each."""
        for item in items:
            yield from self.block(item)
            yield Text()

    def block(self, item: Item) -> Iterator[Text]:
        """The lines of an item."""
        if isinstance(item, Turn):
            yield from self._turn(item)
        elif isinstance(item, Fold):
            yield from self._fold(item)
        else:
            yield self._gap(item)

    def answer(self, call: Call, repeated: bool) -> Iterator[Text]:
        """The lines of a result beneath its turn; `repeated` names the call again."""
        bar = _STYLES[pb.ROLE_ASSISTANT]
        for line in self._call_lines(call.call) if repeated else ():
            line.stylize("dim")
            yield self._row(0, bar, line)
        yield from self._answer(call, bar)

    def margin(self) -> Text:
        """What stands before the bar of a line without a seq."""
        return Text(" " * (self._margin + 1))

    def _turn(self, turn: Turn) -> Iterator[Text]:
        message = turn.message
        bar = "dim" if message.rewound else _STYLES.get(message.role, "white")
        for row in (self._heading(turn, bar), *self._body(turn, bar)):
            if message.rewound:
                row.stylize("dim")
            yield row

    def _heading(self, turn: Turn, bar: str) -> Text:
        message = turn.message
        label = Text.assemble((_label(turn), f"bold {bar}"), self._mark)
        for mark in marks(message):
            label.append(f"  {mark}", style="dim")
        when = local(message.origin_time) or local(message.create_time)
        space = self._width - label.cell_len - len(when)
        if when != self._shown_time and space >= 2:
            self._shown_time = when
            label.append(" " * space).append(when, style="dim")
        return self._row(message.seq, bar, label)

    def _body(self, turn: Turn, bar: str) -> Iterator[Text]:
        """The rows of the parts in their order, a blank one where calls begin or end."""
        calls = iter(turn.calls)
        called = None
        for place, part in enumerate(turn.message.parts):
            if place in turn.moved:
                continue
            is_call = part.HasField("tool_call")
            if is_call:
                rows = list(self._call(next(calls), bar))
            else:
                rows = [self._row(0, bar, line) for line in self._part(turn, place)]
            if rows and called is not None and (called != is_call or part.HasField("text")):
                yield self._row(0, bar, Text())
            yield from rows
            called = is_call if rows else called
        if called is None:
            yield self._row(0, bar, Text("(no text)", style="dim"))

    def _part(self, turn: Turn, place: int) -> list[Text]:
        """The lines of a part that calls no tool."""
        message, part = turn.message, turn.message.parts[place]
        if part.HasField("reasoning"):
            return self._reasoning(part.reasoning.text) if part.reasoning.text else []
        if part.HasField("tool_result"):
            lines = self._result_lines(part.tool_result, self._width)
            if message.role == pb.ROLE_TOOL and place == _first_shown(turn):
                return lines  # the heading names it
            name = one_line(part.tool_result.tool_name) or "a tool"
            return [Text(f"↳ result of {name}{_failed(part.tool_result)}", style="dim"), *lines]
        lines = self._wrapped(markdown_lines(_shown(part)), 0)
        while lines and not lines[-1]:
            lines.pop()
        if message.role in (pb.ROLE_SYSTEM, pb.ROLE_DEVELOPER):
            return self._cut(lines, _SYSTEM_LINES)
        return lines

    def _reasoning(self, reasoning: str) -> list[Text]:
        lines = self._cut(self._wrapped(markdown_lines(reasoning), 2), _REASONING_LINES)
        for line in lines:
            line.stylize("dim italic")
        return [Text.assemble(("┆ ", "dim"), line) for line in lines]

    def _call(self, call: Call, bar: str) -> Iterator[Text]:
        for line in self._call_lines(call.call):
            yield self._row(0, bar, line)
        if call.is_open:
            yield self._row(0, bar, Text("    ⚠ waits for its result", style="bold red"))
        yield from self._answer(call, bar)

    def _answer(self, call: Call, bar: str) -> Iterator[Text]:
        if call.result is None:
            return
        arrow = ("✗ ", "bold red") if call.result.is_error else ("↳ ", _STYLES[pb.ROLE_TOOL])
        for position, line in enumerate(self._result_lines(call.result, self._width - 4)):
            seq = 0 if position else call.result_seq
            lead = ("  ", "") if position else arrow
            yield self._row(seq, bar, Text.assemble("  ", lead, line))

    def _call_lines(self, call: pb.ToolCall) -> list[Text]:
        short = call_line(call.name, call.arguments)
        if short is not None and short.cell_len <= self._width - 2:
            return [Text.assemble(("⚙ ", "bold"), short)]
        name = Text.assemble(("⚙ ", "bold"), (one_line(call.name), "bold"))
        body = wrap(json_lines(call.arguments, self._width - 4), self._width - 4, self._console)
        return [name, *(Text.assemble("    ", line) for line in self._cut(body, _ARGUMENT_LINES))]

    def _result_lines(self, result: pb.ToolResult, width: int) -> list[Text]:
        lines: list[Line] = []
        for part in result.parts:
            lines += json_lines(_shown(part), width)
        wrapped = wrap(lines, width, self._console) or [Text("(empty)", style="dim")]
        return self._cut(wrapped, _RESULT_LINES)

    def _fold(self, fold: Fold) -> Iterator[Text]:
        arrow = "▸" if fold.messages is None else "▾"
        first, last = fold.span
        title = f"{arrow} {count(fold.compaction.message_count, 'message')} compacted:"
        head = Text.assemble((title, f"bold {_FOLD_STYLE}"))
        head.append(f"  seq {span(first, last)}, summary {fold.compaction.id}", style="dim")
        yield self._row(first, _FOLD_STYLE, head)
        texts = map(_shown, fold.summary.parts) if fold.summary else []
        summary = [line for text in texts for line in self._wrapped(markdown_lines(text), 2)]
        for line in self._cut(summary, _SUMMARY_LINES):
            line.stylize("italic")
            yield self._row(0, _FOLD_STYLE, Text.assemble("  ", line))
        if fold.messages is not None:
            yield Text()
            yield from self.paint(pair(fold.messages, self._style.open_calls))
            end = Text(f"▴ end of what summary {fold.compaction.id} replaces", style="dim")
            yield self._row(0, _FOLD_STYLE, end)

    def _gap(self, gap: Gap) -> Text:
        hidden = count(gap.to_seq - gap.from_seq + 1, "message")
        line = Text(f"↶ {hidden} rewound (--all shows them)", style="dim")
        return self._row(gap.from_seq, "dim", line)

    def _wrapped(self, lines: list[Line], indent: int) -> list[Text]:
        return wrap(lines, self._width - indent, self._console)

    def _cut(self, lines: list[Text], limit: int) -> list[Text]:
        hidden = len(lines) - limit
        if self._style.full or hidden <= 1:
            return lines
        return [*lines[:limit], Text(f"… {hidden} more lines (--full)", style="dim")]

    def _row(self, seq: int, bar: str, line: Text) -> Text:
        margin = str(seq) if seq else ""
        edge = _EDGES.get(bar, "│ ")
        row = Text.assemble((f"{margin:>{self._margin}} ", "dim"), (edge, bar), line)
        row.rstrip()
        return row


def _shown(part: pb.Part) -> str:
    """A part of what was said, as text."""
    match part.WhichOneof("content"):
        case "text":
            return part.text
        case "json":
            return part.json
        case "refusal":
            return part.refusal
        case "image":
            return f"[image {_media(part.image)}]"
        case "audio":
            return f"[audio {_media(part.audio)}]"
        case "file":
            return f"[file {_media(part.file)}]"
        case _:
            return "[part of an unknown kind]"


def _media(media: pb.Media) -> str:
    attached = f"attachment {media.attachment_id}" if media.attachment_id else ""
    source = f"{len(media.inline)} bytes" if media.inline else media.uri[:80] or attached
    return " ".join(word for word in (media.name, media.mime_type, source) if word)


def _first_shown(turn: Turn) -> int:
    """The place of the first part that doesn't stand elsewhere."""
    return next(place for place in range(len(turn.message.parts) + 1) if place not in turn.moved)


def _failed(result: pb.ToolResult) -> str:
    return "  failed" if result.is_error else ""


def _label(turn: Turn) -> str:
    message = turn.message
    role = pb.Role.Name(message.role).removeprefix("ROLE_").lower()
    if message.role == pb.ROLE_TOOL:
        parts = message.parts[_first_shown(turn) :]
        return f"result of {one_line(parts[0].tool_result.tool_name if parts else '') or 'a tool'}"
    return f"{role} {one_line(message.name)}".rstrip()


_SEEN = {
    (True, True): "",
    (True, False): "for the model only",
    (False, True): "not for the model",
    (False, False): "hidden",
}


def marks(message: pb.Message) -> Iterator[str]:
    """What is particular about a message, in words."""
    if message.kind not in (pb.MESSAGE_KIND_UNSPECIFIED, pb.MESSAGE_KIND_NORMAL):
        yield pb.MessageKind.Name(message.kind).removeprefix("MESSAGE_KIND_").lower()
    if message.type:
        yield one_line(message.type)
    if message.rewound:
        yield "rewound"
    seen = _SEEN[not message.hidden_from_model, for_people(message)]
    if seen:
        yield seen
    if message.role == pb.ROLE_TOOL and any(p.tool_result.is_error for p in message.parts):
        yield "failed"

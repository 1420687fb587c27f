"""Text for the terminal: made harmless, styled like Markdown and wrapped with hanging indents.

The text stays as it was written, markers included: what people copy is what was said, and nothing
depends on colours.
"""

from __future__ import annotations

import re

from rich.console import Console
from rich.text import Text

TAB = "    "
_CONTROL = {code: 0x2400 + code for code in range(0x20) if code not in (0x09, 0x0A)}
_CONTROL |= {0x7F: 0x2421}
_CONTROL |= dict.fromkeys(range(0x80, 0xA0), 0xFFFD)
# Bidirectional controls can make a terminal show another text than the one that is there.
_CONTROL |= dict.fromkeys((0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F)), 0xFFFD)
_CONTROL |= dict.fromkeys(range(0x2066, 0x206A), 0xFFFD)

_LIST_ITEM = re.compile(r"\s*(?:[-*+•]|\d{1,3}[.)])\s+|\s*>\s?|\s+")
_HEADING = re.compile(r"#{1,6} ")
_FENCE = re.compile(r"\s*(```|~~~)")
_CODE = re.compile(r"(`+)([^`\n]+)(\1)")
_BOLD = re.compile(r"(\*\*)(\S(?:[^*\n]*\S)?)(\*\*)")
_LONGEST_HANG = 12

Line = tuple[Text, int]
"""A line before wrapping, and by how many columns its continuation is indented."""


def harmless(text: str) -> str:
    """The text without anything that a terminal would obey; tabs become spaces."""
    plain = text.replace("\r\n", "\n").replace("\t", TAB)
    return plain.translate(_CONTROL)


def one_line(text: str) -> str:
    """The text on one line, white space collapsed, harmless."""
    return " ".join(harmless(text).split())


def count(number: int, noun: str, plural: str = "") -> str:
    """A number and its noun: `1 message`, `1,200 messages`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def span(first: int, last: int) -> str:
    """A range of seqs: `3–7`, or `3` for a single one."""
    return str(first) if first == last else f"{first}–{last}"


def markdown_lines(text: str) -> list[Line]:
    """The lines of a text with headings, list markers, code and bold words styled."""
    lines: list[Line] = []
    fenced = False
    for raw in harmless(text).strip("\n").split("\n"):
        if _FENCE.match(raw):
            fenced = not fenced
            lines.append((Text(raw, style="dim"), 0))
        elif fenced:
            lines.append((Text(raw, style="cyan"), _leading_spaces(raw)))
        else:
            lines.append(_markdown_line(raw))
    return lines


def plain_lines(text: str) -> list[Line]:
    """The lines of a text as they are; continuations keep the line's own indentation."""
    lines = harmless(text).strip("\n").split("\n")
    return [(Text(line), _leading_spaces(line)) for line in lines]


def wrap(lines: list[Line], width: int, console: Console) -> list[Text]:
    """The lines wrapped to a width in columns, at least 10."""
    return [part for line in lines for part in _wrap_line(*line, max(width, 10), console)]


def _markdown_line(raw: str) -> Line:
    text = Text(raw)
    if _HEADING.match(raw):
        text.stylize("bold")
        return text, 0
    marker = _LIST_ITEM.match(raw)
    if marker and marker.group().strip():
        text.stylize("bold", 0, marker.end())
    _style_pairs(text, _BOLD, "bold")
    _style_pairs(text, _CODE, "cyan")
    return text, marker.end() if marker else 0


def _style_pairs(text: Text, pattern: re.Pattern[str], style: str) -> None:
    for match in pattern.finditer(text.plain):
        text.stylize(style, *match.span(2))
        text.stylize("dim", *match.span(1))
        text.stylize("dim", *match.span(3))


def _leading_spaces(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _wrap_line(line: Text, hang: int, width: int, console: Console) -> list[Text]:
    hang = min(hang, _LONGEST_HANG, width // 2)
    if line.cell_len <= width:
        return [line]
    head, body = line[:hang], line[hang:]
    parts = list(body.wrap(console, width - hang))
    indent = Text(" " * hang)
    return [Text.assemble(head if i == 0 else indent, part) for i, part in enumerate(parts)]

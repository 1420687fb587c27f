"""JSON texts of tool calls and results, in as few lines as are readable."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator

from rich.cells import cell_len
from rich.text import Text

from sessiond.cli.render.prose import Line, harmless, plain_lines

_INDENT = "  "
_CLOSERS = {"{": "}", "[": "]"}
_TOKEN = re.compile(
    r'(?P<key>"(?:\\.|[^"\\])*"\s*:)|"(?:\\.|[^"\\])*"'
    r"|(?P<value>-?\d[\d.eE+-]*|true|false|null)|(?P<mark>[{}\[\],])"
)
_STYLES = {"key": "blue", "value": "cyan", "mark": "dim"}


def call_line(name: str, arguments: str) -> Text | None:
    """A call on one line, `name(key="value", …)`; None when its arguments aren't a JSON object."""
    try:
        parsed = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        return None
    if not isinstance(parsed, dict):
        return None
    line = Text.assemble((harmless(name), "bold"), ("(", "dim"))
    for position, (key, value) in enumerate(parsed.items()):
        line.append(", " if position else "", style="dim")
        line.append(f"{harmless(key)}=", style="dim")
        line.append(_compact(value))
    return line.append(")", style="dim")


def completed(text: str) -> str:
    """An unfinished JSON text with all that is open closed; a part that can't be is left out."""
    closers, quoted, escaped, without_last = "", False, False, ""
    for place, character in enumerate(text):
        if quoted:
            quoted = escaped or character != '"'
            escaped = not escaped and character == "\\"
        elif character == '"':
            quoted = True
        elif character in _CLOSERS:
            closers = _CLOSERS[character] + closers
            without_last = text[: place + 1] + closers
        elif character in "]}":
            closers = closers[1:]
        elif character == ",":
            without_last = text[:place] + closers
    whole = text.removesuffix("\\") if escaped else text
    whole += '"' * quoted + closers
    return whole if _is_json(whole) else without_last


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def json_lines(text: str, width: int) -> list[Line]:
    """A text's lines: a JSON object or array indented, with what fits a line of this width on one.

    Anything else stays as it is.
    """
    try:
        parsed = json.loads(text)
        lines = list(_broken(parsed, width, "", ""))
    except (ValueError, RecursionError):
        return plain_lines(text)
    if not isinstance(parsed, dict | list):
        return plain_lines(text)
    return [(_highlighted(line), _hang(line)) for line in lines]


def _broken(value: object, width: int, indent: str, lead: str) -> Iterator[str]:
    """The lines of a value which `lead` (a key, say) precedes."""
    short = f"{indent}{lead}{json.dumps(value, ensure_ascii=False)}"
    if cell_len(short) < width or not value or not isinstance(value, dict | list):
        yield short
        return
    yield f"{indent}{lead}{'{' if isinstance(value, dict) else '['}"
    yield from _filled(_entries(value, width, indent + _INDENT), width)
    yield f"{indent}{'}' if isinstance(value, dict) else ']'}"


def _entries(
    value: dict[str, object] | list[object], width: int, indent: str
) -> Iterator[list[str]]:
    """The lines of each entry, with their commas."""
    pairs: Iterable[tuple[str, object]] = (("", entry) for entry in value)
    if isinstance(value, dict):
        pairs = ((f"{json.dumps(key, ensure_ascii=False)}: ", v) for key, v in value.items())
    for position, (name, entry) in enumerate(pairs, 1):
        lines = list(_broken(entry, width - 1, indent, name))
        lines[-1] += "," if position < len(value) else ""
        yield lines


def _filled(entries: Iterable[list[str]], width: int) -> Iterator[str]:
    """The lines of entries, several short ones on a line."""
    held = ""
    for lines in entries:
        joined = f"{held} {lines[0].lstrip()}"
        if held and len(lines) == 1 and cell_len(joined) < width:
            held = joined
            continue
        if held:
            yield held
        yield from lines[:-1]
        held = lines[-1] if len(lines) == 1 else ""
        if len(lines) > 1:
            yield lines[-1]
    if held:
        yield held


def _hang(line: str) -> int:
    return len(line) - len(line.lstrip(" ")) + len(_INDENT)


def _compact(value: object) -> Text:
    return _highlighted(json.dumps(value, ensure_ascii=False))


def _highlighted(text: str) -> Text:
    line = Text(harmless(text))
    for token in _TOKEN.finditer(line.plain):
        if token.lastgroup:
            line.stylize(_STYLES[token.lastgroup], *token.span())
    return line

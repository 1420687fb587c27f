"""Texts on the terminal: harmless, wrapped, as they were written."""

from __future__ import annotations

import pytest
from rich.console import Console

from sessiond.cli.render.json_text import call_line, json_lines
from sessiond.cli.render.prose import harmless, markdown_lines, one_line, plain_lines, wrap


def wrapped(text: str, width: int) -> list[str]:
    console = Console(width=width)
    return [line.plain.rstrip() for line in wrap(markdown_lines(text), width, console)]


def as_json(text: str, width: int) -> list[str]:
    console = Console(width=width)
    return [line.plain.rstrip() for line in wrap(json_lines(text, width), width, console)]


@pytest.mark.parametrize(
    "text",
    ["\x1b[2J", "\x07", "a\rb", "\x9b31m", "‮evil", "⁦x", "\x00", "\x7f"],
)
def test_nothing_that_a_terminal_obeys_gets_through(text: str) -> None:
    shown = harmless(text)
    assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 for c in shown)
    assert not any(c in "‮⁦" for c in shown)


def test_ordinary_texts_stay_as_they_are() -> None:
    assert harmless("Grüße, 世界\n👋🏽 ok") == "Grüße, 世界\n👋🏽 ok"
    assert harmless("a\tb\r\nc") == "a    b\nc"
    assert one_line("  two\n lines\t") == "two lines"


def test_list_items_hang_under_their_text() -> None:
    assert wrapped("12. one two three four\n  - five six seven eight", 16) == [
        "12. one two",
        "    three four",
        "  - five six",
        "    seven eight",
    ]


def test_line_breaks_and_code_stay_as_they_were_written() -> None:
    text = "first\nsecond\n\n```py\nx = 1\n    y = 2\n```"
    assert wrapped(text, 40) == text.split("\n")


def test_wide_characters_are_wrapped_by_their_columns() -> None:
    assert wrapped("世界世界世界", 10) == ["世界世界世", "界"]


def test_a_line_without_spaces_is_folded() -> None:
    assert "".join(wrapped("x" * 95, 40)) == "x" * 95
    assert max(map(len, wrapped("x" * 95, 40))) == 40


def test_json_is_shown_on_as_few_lines_as_are_readable() -> None:
    text = '{"name": {"first": "Mia", "last": "Li"}, "zip": "78750", "tags": [], "n": 1.5}'
    assert as_json(text, 100) == [text]
    assert as_json(text, 44) == [
        "{",
        '  "name": {"first": "Mia", "last": "Li"},',
        '  "zip": "78750", "tags": [], "n": 1.5',
        "}",
    ]


@pytest.mark.parametrize("text", ["not json", '{"broken": ', "[" * 100_000, "255.0", '"text"', ""])
def test_what_is_no_json_document_is_shown_as_it_is(text: str) -> None:
    assert [line.plain for line, _ in json_lines(text, 40)] == [
        line.plain for line, _ in plain_lines(text)
    ]


def test_a_call_reads_like_a_call() -> None:
    line = call_line("search", '{"from": "JFK", "n": 2, "exact": true}')
    assert line is not None
    assert line.plain == 'search(from="JFK", n=2, exact=true)'
    assert call_line("search", "[1]") is None
    assert call_line("search", '{"cut of') is None
    empty = call_line("now", "")
    assert empty is not None
    assert empty.plain == "now()"

"""What of a message is searched: its passages, as entries of the index and as the snippets of hits."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sessiond_server.sessions.queries import Query, ranges
from sessiond_server.sessions.words import words

TEXT, TOOL_RESULT, TOOL_CALL, REASONING = 1, 2, 3, 4
"""The fields that passages are of: the values of `sessiond.v1.SearchField`, the weightiest first."""

ENTRY_VERSION = 1
"""Of how entries are made. Those of an older version are made anew."""

_WEIGHTS = {TEXT: "A", TOOL_RESULT: "B", TOOL_CALL: "C", REASONING: "D"}
_PIECE_WORDS = 16_000  # a tsvector holds places up to 16383,
_PIECE_BYTES = 400_000  # and a megabyte
_WORD_PLACES = 255
_GAP = 10  # so that no phrase goes from one passage to the next
_LOOKED_THROUGH = 2**18  # characters of a passage in which a snippet is looked for
_MARK_LENGTH = 500  # of the first place that was found, in a snippet
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": " ", "f": " "}
_SURROGATES = re.compile("[\ud800-\udfff]+")


class Passage(NamedTuple):
    """A text of a message, and which field it is of."""

    field: int
    text: str


class Run(NamedTuple):
    """A part of a snippet, and whether it is what was looked for."""

    text: str
    match: bool


class Snippet(NamedTuple):
    """A piece of a passage, cut into what was looked for and what stands between."""

    field: int
    runs: list[Run]
    cut_before: bool
    cut_after: bool


@dataclass(frozen=True, slots=True)
class Searched:
    """A message as far as it is searched."""

    role: int
    passages: list[Passage]


def readable(json_text: str) -> str:
    """A JSON text without its escapes, so that words are whole and every script is found."""
    if "\\" not in json_text:
        return json_text

    def plain(escape: re.Match[str]) -> str:
        if escape[1]:
            return chr(int(escape[1], 16))
        return _ESCAPED.get(escape[2], escape[2])

    return _SURROGATES.sub(_joined, _ESCAPE.sub(plain, json_text))


def _joined(surrogates: re.Match[str]) -> str:
    return surrogates[0].encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def documents(passages: Sequence[Passage]) -> Iterator[str]:
    """The passages as texts of tsvectors: one, or several for a long message."""
    places: dict[str, list[str]] = {}
    place = size = 0
    for passage in passages:
        weight = _WEIGHTS[passage.field]
        for word in words(passage.text):
            place += 1
            found = places.get(word.word)
            if found is None:
                found = places[word.word] = []
                size += 4 * len(word.word) + 8
            if len(found) < _WORD_PLACES:
                found.append(f"{place}{weight}")
                size += 2
            if place >= _PIECE_WORDS or size >= _PIECE_BYTES:
                yield _tsvector(places)
                places, place, size = {}, 0, 0
        place += _GAP
    if places:
        yield _tsvector(places)


def _tsvector(places: dict[str, list[str]]) -> str:
    return " ".join(f"'{word}':{','.join(found)}" for word, found in places.items())


def snippet(passages: Sequence[Passage], query: Query, around: int) -> Snippet:
    """The piece of the first passage with something that was looked for: so many characters before and
    after the first place. Without one, the beginning of the message."""
    for passage in passages:
        looked = passage.text[:_LOOKED_THROUGH]
        found = ranges(query.terms, list(words(looked)))
        if found:
            return _cut(passage, found, around)
    for passage in passages[:1]:
        return _cut(passage, [], around)
    return Snippet(0, [], False, False)


def _cut(passage: Passage, found: list[tuple[int, int]], around: int) -> Snippet:
    low, high = found[0] if found else (0, 0)
    low = max(0, low - around)
    high = min(len(passage.text), min(high, low + around + _MARK_LENGTH) + around)
    marks = [(a, min(b, high)) for a, b in found if a < high]
    field = passage.field if marks else 0
    return Snippet(
        field, list(_runs(passage.text, low, high, marks)), low > 0, high < len(passage.text)
    )


def _runs(text: str, low: int, high: int, marks: list[tuple[int, int]]) -> Iterator[Run]:
    """The text from `low` to `high`, cut at the marks, which are in order and don't overlap."""
    for start, end in marks:
        if low < start:
            yield Run(text[low:start], False)
        yield Run(text[start:end], True)
        low = end
    if low < high:
        yield Run(text[low:high], False)

"""The words of a text, as they are found: one way for what is stored and for what is asked.

Letters and digits in a row are a word, without regard to case or to compatibility forms (NFKC). Whatever else
there is separates words, so an id such as `ORD-1234` is the two words `ord` and `1234` in a row, which asking
for `ORD-1234` finds, and so does asking for either. Scripts that don't put spaces between words (Chinese,
Japanese, Korean, Thai and their like) are taken in overlapping pairs of characters: any piece of such a text
is then a row of pairs. There is no stemming, and no language to choose.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

WORD_LENGTH = 64
"""What follows in a longer word isn't looked at."""

PLAIN, PAIR, TAIL, LONE = range(4)
"""What a word is: of letters, or of a script without spaces a pair, the last character, or the only one."""


class Word(NamedTuple):
    """A word and where it stands in its text, in code points. `head_end` is where its first character
    ends."""

    word: str
    start: int
    end: int
    head_end: int
    kind: int


def _ranges(points: Iterable[int]) -> str:
    """Code points as the inside of a character class."""
    pieces: list[list[int]] = []
    for point in points:
        if pieces and pieces[-1][1] == point - 1:
            pieces[-1][1] = point
        else:
            pieces.append([point, point])
    return "".join(f"\\U{low:08x}-\\U{high:08x}" for low, high in pieces)


_PLANES = chain(range(0x300, 0x20000), range(0xE0100, 0xE01F0))
_MARKS = _ranges(
    p for p in _PLANES if unicodedata.category(chr(p))[0] == "M" and p < sys.maxunicode
)
_DENSE = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u3007\u3031-\u3035\u3040-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff"
)
_ASCII_WORDS = re.compile("[a-z0-9]+")
# A mark where no letter or digit stands before it is composed with what separates words, and no word.
_WORDS = re.compile(f"[\\w{_DENSE}][\\w{_MARKS}]*")
_RUNS = re.compile(f"[{_DENSE}]+|[^{_DENSE}]+")
_IS_DENSE = re.compile(f"[{_DENSE}]")
# A character with all that may be composed with it: marks, the vowels and ends of Hangul, voiced kana.
_CLUSTERS = re.compile(f".[{_MARKS}\u1160-\u11ff\ud7b0-\ud7ff\uff9e\uff9f]*", re.DOTALL)


class _Folded(NamedTuple):
    """A text for comparing, and where each of its characters comes from; `None` is the same place."""

    text: str
    starts: list[int] | None
    ends: list[int] | None


def _fold(text: str) -> _Folded:
    if text.isascii():
        return _Folded(text.lower(), None, None)
    if unicodedata.is_normalized("NFKC", text):
        folded = text.casefold()
        if len(folded) == len(text):
            return _Folded(folded, None, None)
    pieces: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    for cluster in _CLUSTERS.finditer(text):
        piece = unicodedata.normalize("NFKC", cluster[0]).casefold()
        pieces.append(piece)
        starts += [cluster.start()] * len(piece)
        ends += [cluster.end()] * len(piece)
    return _Folded("".join(pieces), starts, ends)


def words(text: str) -> Iterator[Word]:
    """The words of a text in their order; each has the place after the one before."""
    folded, starts, ends = _fold(text)
    for low, high, kind in _pieces(folded.replace("_", " "), text.isascii()):
        head = low + 1
        yield Word(
            folded[low : min(high, low + WORD_LENGTH)],
            starts[low] if starts else low,
            ends[high - 1] if ends else high,
            ends[head - 1] if ends else head,
            kind,
        )


def _pieces(folded: str, is_ascii: bool) -> Iterator[tuple[int, int, int]]:
    if is_ascii:
        for found in _ASCII_WORDS.finditer(folded):
            yield found.start(), found.end(), PLAIN
        return
    for found in _WORDS.finditer(folded):
        for run in _RUNS.finditer(folded, *found.span()):
            if _IS_DENSE.match(run[0]):
                yield from _pairs(*run.span())
            else:
                yield run.start(), run.end(), PLAIN


def _pairs(low: int, high: int) -> Iterator[tuple[int, int, int]]:
    if high - low == 1:
        yield low, high, LONE
        return
    for place in range(low, high - 1):
        yield place, place + 2, PAIR
    yield high - 1, high, TAIL

"""What a search must find, by looking through texts that are made of known words.

A text is runs: a word, or a row of characters of a script without spaces. Queries are made of the same
words. Nothing here splits a text into words: the model knows what the text was made of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

Run = tuple[str, ...]
"""The pieces of a run: one word, or its characters."""

WORDS = ("a", "ab", "abc", "ord", "1234", "x9", "straße", "café", "мир", "هلا", "हिन्दी")
CHARACTERS = "東京都大阪가나カナก"
_SEPARATORS = (" ", "  ", "\n", ", ", "-", "_", "/", "'", ":", "!", "🙂", "\x00", "(", "\\", "|&")


def dense(run: Run) -> bool:
    return run[0] in CHARACTERS


@dataclass(frozen=True)
class Text:
    """Runs, and how they were written."""

    runs: tuple[Run, ...]
    written: str


@dataclass(frozen=True)
class Term:
    """Runs in a row; of the last one perhaps only the beginning."""

    runs: tuple[Run, ...]
    prefix: bool

    def found_in(self, text: Text) -> bool:
        return any(self._at(text, place) for place in range(_length(text.runs)))

    def _at(self, text: Text, place: int) -> bool:
        pieces = _placed(text.runs)
        for number, run in enumerate(self.runs):
            last = number == len(self.runs) - 1
            runs = set()
            for piece in run:
                if place >= len(pieces):
                    return False
                its_run, found = pieces[place]
                whole = dense(run) or not (self.prefix and last)
                if not (found == piece if whole else found.startswith(piece)):
                    return False
                runs.add(its_run)
                place += 1
            if len(runs) > 1:
                return False
        return True


def _length(runs: Sequence[Run]) -> int:
    return sum(len(run) for run in runs)


def _placed(runs: Sequence[Run]) -> list[tuple[int, str]]:
    return [(number, piece) for number, run in enumerate(runs) for piece in run]


@dataclass(frozen=True)
class Query:
    """Alternatives of terms to be found and terms not to be."""

    alternatives: tuple[tuple[tuple[Term, ...], tuple[Term, ...]], ...]
    written: str

    @property
    def terms(self) -> list[Term]:
        return [term for both in self.alternatives for terms in both for term in terms]

    def finds(self, text: Text) -> bool:
        return any(
            all(term.found_in(text) for term in terms)
            and not any(term.found_in(text) for term in without)
            for terms, without in self.alternatives
        )


def _upper(text: str) -> str:
    return text.upper() if text.upper().casefold() == text.casefold() else text


words = st.sampled_from(WORDS).map(lambda word: (word,))
rows = st.text(CHARACTERS, min_size=1, max_size=4).map(tuple)
runs = st.one_of(words, words, rows)


@st.composite
def texts(draw: st.DrawFn, queries: Sequence[Query] = ()) -> Text:
    """A text with separators of all kinds between its runs, and often with what is looked for in it."""
    rows: list[tuple[Run, ...]] = [term.runs for query in queries for term in query.terms]
    pieces = runs.map(lambda run: (run,))
    some = st.one_of(pieces, st.sampled_from(rows), st.sampled_from(rows)) if rows else pieces
    found = [run for row in draw(st.lists(some, max_size=6)) for run in row]
    written = draw(st.sampled_from(("", *_SEPARATORS)))
    for run in found:
        word = "".join(run)
        written += draw(st.sampled_from((word, _upper(word)))) + draw(st.sampled_from(_SEPARATORS))
    return Text(tuple(found), written)


@st.composite
def _terms(draw: st.DrawFn) -> tuple[Term, str]:
    found = tuple(draw(st.lists(runs, min_size=1, max_size=3)))
    prefix = draw(st.booleans())
    inner = "".join(found[0])
    phrase = draw(st.booleans())
    for run in found[1:]:
        inner += (" " if phrase else draw(st.sampled_from("-_/:'"))) + "".join(run)
    written = f'"{inner}"' if phrase else inner
    if prefix and not dense(found[-1]):
        return Term(found, True), f"{written}*"
    return Term(found, False), _upper(written)


@st.composite
def queries(draw: st.DrawFn) -> Query:
    """A query that looks for something on each side of an OR."""
    alternatives = []
    written = []
    for _ in range(draw(st.integers(1, 3))):
        wanted = draw(st.lists(_terms(), min_size=1, max_size=3))
        without = draw(st.lists(_terms(), max_size=2))
        pieces = [text for _, text in wanted]
        pieces += [draw(st.sampled_from(("-", "NOT ", "--"))) + text for _, text in without]
        written.append(
            draw(st.sampled_from((" ", " AND ", "  "))).join(draw(st.permutations(pieces)))
        )
        alternatives.append((tuple(t for t, _ in wanted), tuple(t for t, _ in without)))
    return Query(tuple(alternatives), " OR ".join(written))

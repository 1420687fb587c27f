"""What people type to search, understood: words, "phrases", OR, -without and prefix*.

Nothing that can be typed is an error, but for what asks for nothing and for what is longer than the limits:
characters that mean nothing where they stand are left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sessiond_server.sessions.words import LONE, PLAIN, TAIL, Word, words

TERMS = 32
"""Words and phrases of a query at most."""
QUERY_WORDS = 128
"""Words of all of them together at most; in scripts without spaces, characters."""

_ITEM = re.compile(r'(?P<minus>-*)(?:"(?P<phrase>[^"]*)(?:"|\Z)|(?P<word>[^\s"]+))(?P<star>\*?)')
_QUOTES = str.maketrans("“”„‟«»＂", '"' * 7)


class QueryRefused(Exception):
    """The query asks for nothing, or for too much; the text says which."""


class Wanted(NamedTuple):
    """A word of a term: how far behind the term's first it stands, and whether it only begins so. Of a
    `lone` character of a script without spaces any pair is found that begins with it."""

    offset: int
    word: str
    prefix: bool
    lone: bool


@dataclass(frozen=True, slots=True)
class Term:
    """Words in a row."""

    words: tuple[Wanted, ...]
    length: int
    """How many were written, in scripts without spaces characters."""

    @property
    def tsquery(self) -> str:
        pieces: list[str] = []
        place = 0
        for wanted in self.words:
            if pieces:
                pieces.append(f"<{wanted.offset - place}>")
            place = wanted.offset
            pieces.append(f"'{wanted.word}'{':*' if wanted.prefix else ''}")
        return f"({' '.join(pieces)})" if len(self.words) > 1 else pieces[0]


@dataclass(frozen=True, slots=True)
class Alternative:
    """What stands between two ORs: all of `terms` and none of `without`."""

    terms: tuple[Term, ...]
    without: tuple[Term, ...]

    @property
    def tsquery(self) -> str:
        wanted = [term.tsquery for term in self.terms]
        return "(" + " & ".join([*wanted, *(f"!{term.tsquery}" for term in self.without)]) + ")"


@dataclass(frozen=True, slots=True)
class Query:
    """One of several alternatives is to be found."""

    alternatives: tuple[Alternative, ...]

    @property
    def terms(self) -> list[Term]:
        """Whatever it looks for, without what it excludes."""
        return [term for alternative in self.alternatives for term in alternative.terms]

    @property
    def tsquery(self) -> str:
        """For Postgres, which words are in quotes for: they have neither quotes nor backslashes in them."""
        return " | ".join(alternative.tsquery for alternative in self.alternatives)

    @property
    def rank_tsquery(self) -> str:
        """What counts for the rank."""
        return " | ".join(dict.fromkeys(term.tsquery for term in self.terms))


def parse(text: str) -> Query:
    """Understand a query. Raises `QueryRefused`."""
    alternatives: list[Alternative] = []
    terms: list[Term] = []
    without: list[Term] = []
    negated = False

    def finish() -> None:
        if terms or without:
            alternatives.append(Alternative(tuple(terms), tuple(without)))
            terms.clear()
            without.clear()

    for item in _ITEM.finditer(text.translate(_QUOTES)):
        if item["word"] == "OR" and not item["minus"]:
            finish()
            negated = False
        elif item["word"] == "NOT" and not item["minus"]:
            negated = True
        elif item["word"] != "AND" or item["minus"]:
            term = _term(item)
            if term is not None:
                (without if negated or item["minus"] else terms).append(term)
                negated = False
    finish()
    query = Query(tuple(alternatives))
    _check(query)
    return query


def _term(item: re.Match[str]) -> Term | None:
    text = item["word"] if item["phrase"] is None else item["phrase"]
    star = bool(item["star"]) or (item["phrase"] is None and text.endswith("*"))
    found = list(words(text))
    kept = [(place, word) for place, word in enumerate(found) if word.kind != TAIL]
    if not kept:
        return None
    first = kept[0][0]
    return Term(
        tuple(
            Wanted(
                place - first,
                word.word,
                word.kind == LONE or (star and word.kind == PLAIN and place == len(found) - 1),
                word.kind == LONE,
            )
            for place, word in kept
        ),
        len(found),
    )


def _check(query: Query) -> None:
    terms = [t for a in query.alternatives for t in (*a.terms, *a.without)]
    if not terms:
        raise QueryRefused("must have a word to look for: a letter or a digit")
    if not all(alternative.terms for alternative in query.alternatives):
        raise QueryRefused(
            "must have a word to look for, on each side of an OR, and not only what to leave out"
        )
    if len(terms) > TERMS:
        raise QueryRefused(f"must have at most {TERMS} words and phrases, has {len(terms)}")
    if (count := sum(term.length for term in terms)) > QUERY_WORDS:
        raise QueryRefused(
            f"must have at most {QUERY_WORDS} words, those of phrases and the characters of scripts"
            f" without spaces counted, has {count}"
        )


def ranges(terms: Sequence[Term], text: Sequence[Word]) -> list[tuple[int, int]]:
    """Where terms stand in a text of these words, in code points: in order, and merged where they
    overlap."""
    places: dict[str, list[int]] = {}
    for place, word in enumerate(text):
        places.setdefault(word.word, []).append(place)
    found: list[tuple[int, int]] = []
    for term in terms:
        first = term.words[0]
        starts = (
            (p for word, ps in places.items() if word.startswith(first.word) for p in ps)
            if first.prefix
            else iter(places.get(first.word, ()))
        )
        found += (_range(term, text, start) for start in starts if _stands(term, text, start))
    return _merged(found)


def _stands(term: Term, text: Sequence[Word], start: int) -> bool:
    for wanted in term.words:
        place = start + wanted.offset
        if place >= len(text):
            return False
        word = text[place].word
        if not (word.startswith(wanted.word) if wanted.prefix else word == wanted.word):
            return False
    return True


def _range(term: Term, text: Sequence[Word], start: int) -> tuple[int, int]:
    last = term.words[-1]
    end = text[start + last.offset]
    return text[start].start, end.head_end if last.lone else end.end


def _merged(found: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for low, high in sorted(found):
        if merged and low <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return merged

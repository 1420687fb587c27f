"""Words and queries against the model, in Postgres itself but without a server."""

from __future__ import annotations

import asyncio
import json
import unicodedata
from collections.abc import Callable, Iterator
from itertools import pairwise

import asyncpg
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sessiond_server.sessions import passages, queries
from sessiond_server.sessions.passages import TEXT, Passage
from sessiond_server.sessions.queries import QueryRefused
from sessiond_server.sessions.words import words
from tests.search import naive
from tests.support.examples import examples

Matches = Callable[[list[str], str], list[bool]]

SOUP = st.text(
    st.one_of(st.sampled_from(list("ab1 \"'\\-*:&|!()<>=@% 東京ー\u0301\x00\n")), st.characters()),
    max_size=60,
)


@pytest.fixture(scope="module")
def matches(postgres: str) -> Iterator[Matches]:
    """Which documents Postgres finds by a tsquery."""
    loop = asyncio.new_event_loop()
    connection = loop.run_until_complete(asyncpg.connect(postgres))

    def run(documents: list[str], tsquery: str) -> list[bool]:
        sql = (
            "SELECT d::tsvector @@ $2::text::tsquery"
            " FROM unnest($1::text[]) WITH ORDINALITY AS x (d, n) ORDER BY n"
        )
        rows = loop.run_until_complete(connection.fetch(sql, documents, tsquery))
        return [row[0] for row in rows]

    yield run
    loop.run_until_complete(connection.close())
    loop.close()


def document(text: str) -> str:
    return " ".join(passages.documents([Passage(TEXT, text)]))


@settings(max_examples=examples(150))
@given(st.lists(naive.queries(), min_size=1, max_size=4), st.data())
def test_what_is_found_is_what_a_naive_search_finds(
    matches: Matches, wanted: list[naive.Query], data: st.DataObject
) -> None:
    texts = data.draw(st.lists(naive.texts(wanted), min_size=1, max_size=8))
    documents = [document(text.written) for text in texts]
    for query in wanted:
        parsed = queries.parse(query.written)
        expected = [query.finds(text) for text in texts]
        assert matches(documents, parsed.tsquery) == expected, (query.written, parsed.tsquery)
        for text, found in zip(texts, expected, strict=True):
            marks = queries.ranges(parsed.terms, list(words(text.written)))
            assert bool(marks) >= found, "what is found is marked"
            assert all(low < high for low, high in marks)


@settings(max_examples=examples(250))
@given(SOUP, SOUP)
@example('"', "-")
@example("OR OR NOT AND", "'a' & !b:*")
@example("\u0130\u0149ﬃ\u1e9e", "\u0345\u0390")
def test_P14_no_text_is_an_error(matches: Matches, query: str, text: str) -> None:
    """Any text can be searched, and asked for, but what asks for nothing."""
    entry = document(text)
    try:
        parsed = queries.parse(query)
    except QueryRefused:
        return
    matches([entry], parsed.tsquery)
    matches([entry], parsed.rank_tsquery)
    shown = passages.snippet([Passage(TEXT, text)], parsed, 30)
    assert "".join(run.text for run in shown.runs) in text
    assert all(run.text for run in shown.runs)
    assert all(one.match != other.match for one, other in pairwise(shown.runs))
    assert bool(shown.field) == any(run.match for run in shown.runs)


@pytest.mark.parametrize("text", ["東" * 128, "東" * 64 + " " + "京" * 64, '"' + "ab " * 128 + '"'])
def test_P13_words_and_characters_of_a_query_are_counted(text: str) -> None:
    queries.parse(text)
    for more in (" 京", " ab"):
        with pytest.raises(QueryRefused, match="has 129"):
            queries.parse(text + more)
    with pytest.raises(QueryRefused, match="has 129"):
        queries.parse("東" * 129)


@pytest.mark.parametrize("text", ["\u0301", '"\u0301 \u0308"', "❤\ufe0f"])
def test_a_mark_without_a_letter_is_no_word(text: str) -> None:
    with pytest.raises(QueryRefused, match="must have a word to look for"):
        queries.parse(text)
    assert [word.word for word in words(f"a {text} b")] == ["a", "b"]


@settings(max_examples=examples(200))
@given(st.text(max_size=40))
def test_a_text_is_found_however_it_is_written(text: str) -> None:
    """Composed, decomposed and compatibility forms are the same words, in any case."""
    expected = [(word.word, word.kind) for word in words(text)]
    for form in ("NFC", "NFD", "NFKC"):
        written = unicodedata.normalize(form, text)
        if unicodedata.normalize("NFC", written) == unicodedata.normalize("NFC", text):
            assert [(word.word, word.kind) for word in words(written)] == expected
    for word in words(text):
        assert 0 <= word.start < word.head_end <= word.end <= len(text)


@settings(max_examples=examples(200))
@given(st.text(max_size=200))
def test_json_escapes_are_read(text: str) -> None:
    assert passages.readable(json.dumps(text))[1:-1] == text.replace("\b", " ").replace("\f", " ")

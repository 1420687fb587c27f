"""Ids of sessions that are made of what an application has."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sessiond
from sessiond._ids import is_session_id
from sessiond_server.sessions import session_ids

PARTS = st.lists(st.text(st.characters(codec="utf-8"), max_size=200), min_size=1, max_size=4)


@pytest.mark.parametrize(
    ("parts", "id"),
    [
        (("telegram", "chat 7"), "telegram/chat 7"),
        (("a/b", "100%"), "a%2Fb/100%25"),
        (("a\nb\u2028", "\ufffe"), "a%0Ab%E2%80%A8/%EF%BF%BE"),
        (("grüße", "🙂", "e\u0301"), "grüße/🙂/e\u0301"),
        (("", "x"), "/x"),
        (("é" * 256,), "é" * 256),
        (("é" * 257,), "~" + hashlib.sha256(("é" * 257).encode()).hexdigest()),
    ],
)
def test_an_id_of_parts_is_as_documented(parts: tuple[str, ...], id: str) -> None:
    assert sessiond.session_id(*parts) == id


@given(PARTS, PARTS)
def test_different_parts_make_different_ids_that_fit(one: list[str], other: list[str]) -> None:
    for parts in (one, other):
        if any(parts) or len(parts) > 1:
            assert session_ids.is_one(sessiond.session_id(*parts))
    if one != other and all(any(parts) or len(parts) > 1 for parts in (one, other)):
        assert sessiond.session_id(*one) != sessiond.session_id(*other)


@given(st.text(st.characters(codec="utf-8"), max_size=300))
def test_client_and_server_agree_about_ids(text: str) -> None:
    assert is_session_id(text) == session_ids.is_one(text)


@pytest.mark.parametrize("parts", [(), ("",), ("\ud800",)])
def test_parts_that_make_no_id_are_refused(parts: tuple[str, ...]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        sessiond.session_id(*parts)

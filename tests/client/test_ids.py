"""Ids of sessions that are made of what an application has, as docs/session-ids.md says."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sessiond
from sessiond._ids import is_session_id
from sessiond_server.rpc.checks import is_session_id as server_takes

DOC = Path(__file__).parents[2] / "docs" / "session-ids.md"
EXAMPLES = re.findall(
    r'^\| `(\[.*\])` \| `(".*")` \|$', DOC.read_text(encoding="utf-8"), re.MULTILINE
)
ANYTHING = st.text(st.characters(codec="utf-8"), max_size=200)
TELLING = st.text(st.sampled_from("~%/27EFa\n\u202e"), max_size=4)
PARTS = st.lists(st.one_of(ANYTHING, TELLING), min_size=1, max_size=4)


def makes_one(parts: list[str]) -> bool:
    return any(parts) or len(parts) > 1


@pytest.mark.parametrize(("parts", "id"), [tuple(map(json.loads, it)) for it in EXAMPLES])
def test_an_id_of_parts_is_as_the_documents_examples_say(parts: list[str], id: str) -> None:
    assert sessiond.session_id(*parts) == id


def test_the_document_has_examples() -> None:
    assert len(EXAMPLES) > 8


@pytest.mark.parametrize("letter", ["x", "é", "🙂"])
def test_an_id_that_would_be_too_long_is_a_hash(letter: str) -> None:
    most = letter * (512 // len(letter.encode()))
    assert sessiond.session_id(most) == most
    longer = f"{most}{letter}"
    hashed = f"~{hashlib.sha256(longer.encode()).hexdigest()}"
    assert sessiond.session_id(longer) == hashed
    assert letter != "x" or f"`{hashed}`" in DOC.read_text(encoding="utf-8")
    assert sessiond.session_id(hashed) != hashed, "nobody can make the id of others' parts"


@given(PARTS, PARTS)
def test_different_parts_make_different_ids_that_the_server_takes(
    one: list[str], other: list[str]
) -> None:
    made = [sessiond.session_id(*parts) for parts in (one, other) if makes_one(parts)]
    assert all(map(server_takes, made))
    if one != other and len(made) == 2:
        assert made[0] != made[1]


@given(TELLING.map(lambda it: [it]), st.lists(TELLING, min_size=1, max_size=3))
def test_different_parts_of_telling_characters_make_different_ids(
    one: list[str], other: list[str]
) -> None:
    if one != other and makes_one(one) and makes_one(other):
        assert sessiond.session_id(*one) != sessiond.session_id(*other)


@given(st.text(st.characters(codec="utf-8"), max_size=300))
def test_client_and_server_agree_about_ids(text: str) -> None:
    assert is_session_id(text) == server_takes(text)


@pytest.mark.parametrize("parts", [(), ("",), ("\ud800",), ("a", "b\udfff")], ids=ascii)
def test_parts_that_make_no_id_are_refused(parts: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="a session's id must not"):
        sessiond.session_id(*parts)
    assert not is_session_id("/".join(parts))


@pytest.mark.parametrize("part", [7, None, b"a"])
def test_a_part_is_a_text(part: Any) -> None:
    with pytest.raises(TypeError, match="must be a text"):
        sessiond.session_id("a", part)

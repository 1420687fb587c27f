"""Sessions as JSON lines: what goes in comes out, equal as JSON."""

from __future__ import annotations

import gzip
import io
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sessiond import v1
from sessiond.cli.openai_files import (
    EXACT_METADATA,
    FormatError,
    SessionLine,
    canonical,
    decompressed,
    from_message,
    from_session,
    line_chunks,
    parse_line,
    struct,
    to_message,
    to_metadata,
)
from tests.support.data import airline_sessions
from tests.support.examples import examples

TEXTS = st.text(st.characters(), max_size=20)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
CALLS = st.lists(
    st.fixed_dictionaries(
        {
            "id": TEXTS,
            "type": st.sampled_from(["function", "custom"]),
            "function": st.fixed_dictionaries({"name": TEXTS, "arguments": TEXTS}),
        }
    ),
    max_size=3,
)
MESSAGES = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "developer", "user", "assistant", "tool"])},
    optional={
        "content": VALUES,
        "tool_calls": CALLS | st.none(),
        "tool_call_id": TEXTS,
        "name": TEXTS,
        "reasoning_content": TEXTS,
        "refusal": VALUES,
        "audio": VALUES,
        "weight": VALUES,
    },
)


@settings(max_examples=examples(300))
@given(MESSAGES)
@example({"role": "user", "content": "\ud800 unpaired"})
@example({"role": "assistant", "content": None})
@example({"role": "assistant"})
@example({"role": "assistant", "content": "", "tool_calls": []})
@example({"role": "tool", "content": [{"type": "text", "text": "r"}], "tool_call_id": "c"})
@example({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u", "x": 1}}]})
def test_P10_a_message_comes_back_equal_in_every_field(value: dict[str, Any]) -> None:
    message = to_message(value)
    again = v1.Message.FromString(message.SerializeToString())
    assert canonical(from_message(again)) == canonical(value)


def test_P10_real_messages_need_no_second_copy() -> None:
    for session in airline_sessions():
        for value in session["messages"]:
            message = to_message(value)
            assert from_message(message) == value
            assert not message.extensions


def test_P4_the_stored_form_does_not_depend_on_the_order_of_keys() -> None:
    one = {"role": "user", "content": "a", "odd": {"x": 1, "y": 2}}
    other = {"odd": {"y": 2, "x": 1}, "content": "a", "role": "user"}
    serialized = {to_message(it).SerializeToString(deterministic=True) for it in (one, other)}
    assert len(serialized) == 1


@pytest.mark.parametrize(
    "value",
    [None, "text", [], {}, {"content": "no role"}, {"role": "robot"}, {"role": 7}],
)
def test_P14_what_is_no_message_is_refused(value: object) -> None:
    with pytest.raises(FormatError):
        to_message(value)


@settings(max_examples=examples(200))
@given(st.dictionaries(TEXTS, VALUES, max_size=4), st.dictionaries(TEXTS, VALUES, max_size=2))
@example({"task_id": 3, "reward": 0.0, "big": 2**63 + 1, "half": 0.5}, {"tools": [{"n": 1}]})
def test_P10_metadata_and_further_fields_come_back_equal(
    metadata: dict[str, Any], fields: dict[str, Any]
) -> None:
    for name in ("id", "metadata", "messages"):
        fields.pop(name, None)
    metadata.pop(EXACT_METADATA, None)
    line = SessionLine("s", metadata, [], fields)
    session = v1.Session(id="s", metadata=struct(to_metadata(line)))
    found = from_session(v1.Session.FromString(session.SerializeToString()))
    assert canonical(found.metadata) == canonical(metadata)
    assert canonical(found.fields) == canonical(fields)


def test_the_key_that_keeps_metadata_exact_is_refused() -> None:
    with pytest.raises(FormatError, match="can't have the key"):
        to_metadata(SessionLine("s", {EXACT_METADATA: None}, []))


def test_metadata_that_were_changed_in_the_store_are_exported_as_they_are() -> None:
    stored = to_metadata(SessionLine("s", {"big": 2**63 + 1, "kept": 2**64 + 1}, []))
    stored["big"] = "changed"
    found = from_session(v1.Session(id="s", metadata=struct(stored)))
    assert found.metadata == {"big": "changed", "kept": 2**64 + 1}


@pytest.mark.parametrize(
    "raw",
    [
        b"not json",
        b"[]",
        b'{"messages": []}',
        b'{"id": 7, "messages": []}',
        b'{"id": "", "messages": []}',
        b'{"id": "s"}',
        b'{"id": "s", "messages": {}}',
        b'{"id": "s", "metadata": [1], "messages": []}',
        b'{"id": "s", "messages": [NaN]}',
        b'{"id": "s", "messages": [1e999]}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_P14_a_line_that_is_no_session_is_refused(raw: bytes) -> None:
    with pytest.raises(FormatError):
        parse_line(raw)


def test_lines_are_read_gzip_or_not() -> None:
    raw = b'{"id": "a", "messages": []}\n{"id": "b", "messages": []}\n'
    for stored in (raw, gzip.compress(raw)):
        stream = io.BufferedReader(io.BytesIO(stored))
        assert [parse_line(line).id for line in decompressed(stream)] == ["a", "b"]


def test_a_written_line_reads_as_it_was() -> None:
    value = airline_sessions()[5]
    line = SessionLine(value["id"], value["metadata"], [])
    written = b"".join(line_chunks(line, map(to_message, value["messages"])))
    assert written.endswith(b"}\n")
    assert json.loads(written) == value

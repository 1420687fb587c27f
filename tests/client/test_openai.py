"""Messages in OpenAI's form come back as they went in (P10)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sessiond
from sessiond import from_openai, to_openai, v1
from sessiond.dialects.openai_chat import EXTRA
from tests.support.data import airline_sessions
from tests.support.examples import examples

ARGUMENTS = '{"b": 1.0, "a":\t[1e2], "c": "\\u00e9\\ud800"'  # not valid JSON: never closed

SHAPES: list[dict[str, Any]] = [
    {"role": "user", "content": "hi"},
    {"content": "hi", "role": "assistant"},
    {"role": "system", "content": ""},
    {"role": "developer", "content": "x", "name": "ann"},
    {"role": "assistant", "content": None},
    {"role": "assistant"},
    {"role": "assistant", "content": []},
    {
        "content": None,
        "role": "assistant",
        "tool_calls": [
            {
                "function": {"arguments": ARGUMENTS, "name": "f"},
                "id": "call_1",
                "type": "function",
            }
        ],
    },
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}},
            {"id": "c2", "type": "custom", "custom": {"name": "g", "input": "x"}},
            {"index": 0, "id": "c3", "function": {"name": None, "arguments": {"a": 1}}},
        ],
    },
    {"role": "assistant", "content": None, "tool_calls": []},
    {"role": "assistant", "content": None, "tool_calls": None},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "", "function": {}}, 3]},
    {"role": "tool", "tool_call_id": "c1", "name": "f", "content": "{}"},
    {"role": "tool", "tool_call_id": "", "content": [{"type": "text", "text": "a"}]},
    {"role": "function", "name": "f", "content": "x"},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "look"},
            {"text": "cached", "type": "text", "cache_control": {"type": "ephemeral"}},
            {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "x": 1}},
            {"type": "image_url", "image_url": "https://x/y.png"},
            {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
            {"type": "file", "file": {"file_id": "f"}},
            "plain",
            None,
        ],
    },
    {
        "role": "assistant",
        "content": "no",
        "refusal": None,
        "reasoning_content": "because",
        "annotations": [],
        "audio": {"id": "a"},
        "function_call": {"name": "f", "arguments": "{"},
        "reasoning_details": [{"type": "x", "data": "\u0000\ud800", "n": [1, 1.0, True, -0.0]}],
    },
    {"role": "assistant", "content": "x", "reasoning_content": None, "name": ""},
    {"role": "user", "content": "x", "name": "n" * 300},
    {"role": "tool", "content": "x", "tool_call_id": "bad\nid"},
    {"role": "user", "content": {"odd": 1}},
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: json.dumps(shape)[:40])
def test_P10_every_shape_comes_back_with_its_order(shape: dict[str, Any]) -> None:
    before = json.dumps(shape)
    (message,) = from_openai([shape])
    (again,) = to_openai([v1.Message.FromString(message.SerializeToString())])
    assert again == shape
    assert json.dumps(again) == json.dumps(shape) == before


def test_P10_arguments_travel_byte_for_byte_in_their_field() -> None:
    (message,) = from_openai([SHAPES[7]])
    (call,) = sessiond.tool_calls_of(message)
    assert (call.id, call.name, call.arguments) == ("call_1", "f", ARGUMENTS)
    assert ARGUMENTS.encode() not in message.extensions[EXTRA]


def test_what_has_a_field_is_in_it() -> None:
    (tool,) = from_openai([SHAPES[12]])
    assert tool.role == v1.Role.ROLE_TOOL
    assert list(tool.parts) == [sessiond.tool_result("c1", "{}", tool_name="f")]
    assert EXTRA not in tool.extensions
    (user,) = from_openai([SHAPES[15]])
    assert [part.WhichOneof("content") for part in user.parts] == [
        *("text", "text", "image", "image", "json", "audio", "file", "json", "json")
    ]
    assert user.parts[1].text == "cached"
    assert user.parts[2].image == v1.Media(uri="https://x/y.png", detail="low")
    (thought,) = from_openai([SHAPES[16]])
    assert list(thought.parts) == [sessiond.reasoning("because"), v1.Part(text="no")]
    (calling,) = from_openai([SHAPES[7]])
    assert [part.WhichOneof("content") for part in calling.parts] == ["tool_call"]
    (empty,) = from_openai([SHAPES[2]])
    assert list(empty.parts) == [v1.Part(text="")]
    assert EXTRA not in empty.extensions


def test_what_breaks_a_field_s_limit_stays_out_of_it() -> None:
    messages = from_openai(SHAPES[-3:-1])
    assert (messages[0].name, messages[1].parts[0].tool_result.tool_call_id) == ("", "")


def test_facts_set_later_show_besides_the_rest() -> None:
    (message,) = from_openai([{"content": "x", "role": "assistant", "refusal": None}])
    message.parts.append(sessiond.reasoning("late"))
    (again,) = to_openai([message])
    assert again["reasoning_content"] == "late"
    assert list(again)[:3] == ["content", "role", "refusal"]


def test_messages_of_other_origin_become_dicts() -> None:
    message = sessiond.message(
        "user",
        "see",
        v1.Part(text="this"),
        v1.Part(image=v1.Media(inline=b"\x00", mime_type="image/png")),
        v1.Part(file=v1.Media(uri="data:text/plain,x", name="x.txt")),
        v1.Part(file=v1.Media(inline=b"\x00")),
    )
    call = sessiond.message(
        "assistant", v1.Part(tool_call=v1.ToolCall(id="c", name="f", arguments="{", type="custom"))
    )
    summary = sessiond.message("system", "n")
    assert to_openai([message, call, summary]) == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "see"},
                {"type": "text", "text": "this"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
                {
                    "type": "file",
                    "file": {"filename": "x.txt", "file_data": "data:text/plain,x"},
                },
                {
                    "type": "file",
                    "file": {"file_data": "data:application/octet-stream;base64,AA=="},
                },
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c", "type": "custom", "function": {"name": "f", "arguments": "{"}}
            ],
        },
        {"role": "system", "content": "n"},
    ]


@pytest.mark.parametrize(
    ("message", "where"),
    [
        ({"role": "user", "content": "\ud800"}, r"messages\[1\]\.content"),
        ({"role": "user", "content": [{"type": "text", "text": "\udfff"}]}, r"content\[0\]\.text"),
        ({"role": "user", "content": "x", "name": "\ud800"}, r"messages\[1\]\.name"),
        ({"role": "tool", "tool_call_id": "\ud800"}, r"messages\[1\]\.tool_call_id"),
        ({"role": "assistant", "reasoning_content": "\ud800"}, r"\.reasoning_content"),
        (
            {"role": "assistant", "tool_calls": [{"id": "c", "function": {"arguments": "\ud800"}}]},
            r"messages\[1\]\.tool_calls\[0\]\.function\.arguments",
        ),
        ({"role": "user", "x": "\ud83d" + "\ude00"}, r"messages\[1\]: a pair of surrogates"),
        ({"role": "alien", "content": "x"}, r"messages\[1\]\.role: 'alien' is none of"),
        ({"content": "x"}, r"messages\[1\]\.role"),
        ({"role": ["user"]}, r"messages\[1\]\.role"),
        ({"role": "user", "x": {1: 2}}, r"messages\[1\]\.x: the key 1"),
        ({"role": "user", "x": object()}, r"messages\[1\]: .*not JSON serializable"),
    ],
)
def test_what_can_t_travel_is_refused_by_index_and_field(message: Any, where: str) -> None:
    with pytest.raises(ValueError, match=where):
        from_openai([{"role": "user", "content": "fine"}, message])


def test_nesting_without_end_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ValueError, match=r"messages\[0\]: nested too deeply"):
        from_openai([{"role": "user", "x": endless}])


@pytest.mark.parametrize("extra", [b"{", b"3", b'{"keys": 3}', b'{"x": 1}', b"\xff"])
def test_an_extension_that_isn_t_ours_is_refused(extra: bytes) -> None:
    message = sessiond.message("user", "x", extensions={EXTRA: extra})
    with pytest.raises(ValueError, match=r"messages\[0\]"):
        to_openai([message])


def test_P10_all_of_a_benchmark_s_sessions_come_back() -> None:
    count = 0
    for session in airline_sessions():
        messages = session["messages"]
        again = to_openai(from_openai(messages))
        assert again == messages
        assert json.dumps(again) == json.dumps(messages)
        count += len(messages)
    assert count == 3206


texts = st.text(st.characters(exclude_categories=["Cs"]))
json_values: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
calls = st.fixed_dictionaries(
    {"id": texts, "function": st.fixed_dictionaries({"arguments": texts, "name": texts})},
    optional={"type": st.sampled_from(["function", "custom"]), "index": st.integers()},
)
parts = st.one_of(
    st.fixed_dictionaries({"type": st.just("text"), "text": texts}, optional={"x": json_values}),
    st.fixed_dictionaries(
        {
            "type": st.just("image_url"),
            "image_url": st.fixed_dictionaries({"url": texts}, optional={"detail": texts}),
        }
    ),
    json_values,
)
known = {
    "content": st.none() | texts | st.lists(parts, max_size=4) | json_values,
    "tool_calls": st.lists(calls, max_size=3) | json_values,
    "tool_call_id": texts | json_values,
    "name": texts | json_values,
    "reasoning_content": texts | json_values,
    "refusal": json_values,
}


@st.composite
def dicts(draw: st.DrawFn) -> dict[str, Any]:
    role = st.sampled_from(["system", "developer", "user", "assistant", "tool", "function"])
    drawn = draw(st.fixed_dictionaries({"role": role}, optional=known))
    drawn |= {
        key: value
        for key, value in draw(st.dictionaries(texts, json_values)).items()
        if key not in known and key != "role"
    }
    return {key: drawn[key] for key in draw(st.permutations(list(drawn)))}


@settings(max_examples=examples(300))
@given(st.lists(dicts(), max_size=3))
def test_P10_any_dict_comes_back_equal_and_in_order(messages: list[dict[str, Any]]) -> None:
    sent = [message.SerializeToString() for message in from_openai(messages)]
    again = to_openai([v1.Message.FromString(data) for data in sent])
    assert again == messages
    assert json.dumps(again) == json.dumps(messages)


def test_an_image_may_be_an_attachment() -> None:
    """The application puts what the model takes in its place."""
    media = v1.Media(attachment_id="a-1", detail="low")
    message = v1.Message(role=v1.Role.ROLE_USER, parts=[v1.Part(image=media)])
    dicts = to_openai([message])
    assert dicts[0]["content"][0]["image_url"] == {"url": "attachment:a-1", "detail": "low"}
    assert from_openai(dicts)[0].parts[0].image == media
    for url in ("attachment:", "attachment:a b", "attachment:é"):
        image = {"type": "image_url", "image_url": {"url": url}}
        odd = [{"role": "user", "content": [image]}]
        assert from_openai(odd)[0].parts[0].image.uri == url
        assert to_openai(from_openai(odd)) == odd

"""What providers' APIs take and give comes back as it was, in order (P10)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sessiond
from sessiond import v1
from tests.client.conversations import ANTHROPIC, FORMS, GEMINI, OPENAI, RESPONSES
from tests.support.examples import examples


def kinds(message: v1.Message) -> list[str | None]:
    return [part.WhichOneof("content") for part in message.parts]


def there_and_back(form: str, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    there, back, _ = FORMS[form]
    sent = [message.SerializeToString() for message in there(items)]
    found: list[dict[str, Any]] = back([v1.Message.FromString(data) for data in sent])
    return found


@pytest.mark.parametrize("form", FORMS)
def test_P10_a_conversation_comes_back_equal_and_in_order(form: str) -> None:
    items = FORMS[form][2]
    before = json.dumps(items)
    again = there_and_back(form, items)
    assert again == items
    assert json.dumps(again) == before == json.dumps(items)


@pytest.mark.parametrize("form", FORMS)
def test_P10_what_is_opaque_is_kept_once_and_not_in_the_patch(form: str) -> None:
    """A signature or an encrypted text may be of many kilobytes."""
    items = grown(FORMS[form][2])
    size = sum(message.ByteSize() for message in FORMS[form][0](items))
    assert size < len(json.dumps(items, separators=(",", ":"))) * 1.1
    assert there_and_back(form, items) == items


def grown(value: Any, key: str = "") -> Any:
    """The same with long texts and signatures."""
    if isinstance(value, list):
        return [grown(item) for item in value]
    if isinstance(value, dict):
        return {key: grown(item, key) for key, item in value.items()}
    long = ("signature", "thoughtSignature", "encrypted_content", "thinking", "text")
    return value * 200 if key in long and isinstance(value, str) else value


def test_a_turn_of_the_responses_api_is_one_message_in_its_order() -> None:
    messages = sessiond.from_openai_responses(RESPONSES)
    assert [v1.Role.Name(message.role)[5:] for message in messages] == [
        *("DEVELOPER", "USER", "ASSISTANT", "TOOL", "ASSISTANT"),
    ]
    assert kinds(messages[1]) == ["text", "file", "file", "image"]
    assert kinds(messages[2]) == [
        *("reasoning", "reasoning", "json", "text", "text", "refusal"),
        *("tool_call", "tool_call", "tool_call"),
    ]
    opaque = messages[2].parts[0].extensions["openai.encrypted_content"]
    assert opaque == b"gAAAAABo2Q7xOpaque=="
    assert [call.id for call in sessiond.tool_calls_of(messages[2])] == [
        "call_A",
        "call_B",
        "call_C",
    ]
    results = sessiond.tool_results_of(messages[3])
    assert [result.tool_call_id for result in results] == ["call_A", "call_B", "call_C", "call_A"]


def test_blocks_of_anthropic_have_their_fields() -> None:
    asked, answered, results, *_ = sessiond.from_anthropic(ANTHROPIC)
    assert kinds(asked) == ["image", "image", "file", "text"]
    assert asked.parts[2].file == v1.Media(
        uri="anthropic-file:file_011CNha8iCJcU1wXNR6q4V8w", name="plan.pdf"
    )
    assert (answered.model, answered.finish_reason) == ("claude-sonnet-4-5", "tool_use")
    assert kinds(answered) == [
        *("reasoning", "reasoning", "text", "tool_call", "tool_result", "reasoning"),
        *("tool_call", "tool_call"),
    ]
    signature = ANTHROPIC[1]["content"][0]["signature"].encode()
    assert answered.parts[0].extensions["anthropic.signature"] == signature
    assert answered.parts[1].extensions["anthropic.redacted"] == b"EmwKAhgBEgy3va3pzix/LafPsn4a"
    assert kinds(results) == ["tool_result"] * 4 + ["text"]
    assert results.role == v1.Role.ROLE_USER
    first, second, third, _ = sessiond.tool_results_of(results)
    assert first.is_error
    assert [part.WhichOneof("content") for part in second.parts] == ["text", "image"]
    assert not third.parts


def test_calls_of_gemini_without_ids_are_answered_by_their_name_and_number() -> None:
    _, called, answered, *_ = sessiond.from_gemini(GEMINI)
    calls = [call.id for call in sessiond.tool_calls_of(called)]
    results = sessiond.tool_results_of(answered)
    assert calls == [result.tool_call_id for result in results]
    assert calls == ["gemini:weather", "gemini:weather#2", "f-1"]
    assert called.parts[2].extensions["gemini.thought_signature"] == b"CpcBAdHtim9T0p4que"
    assert [result.is_error for result in results] == [False, True, False]


OTHERS = [
    sessiond.message("system", "You book trips."),
    sessiond.message("user", "Where is this?", v1.Part(json='{"seen": 1}')),
    sessiond.message(
        "assistant",
        sessiond.reasoning("hm"),
        "I look.",
        sessiond.tool_call("a", "weather", '{"city": "Lisbon"}'),
        sessiond.tool_call("b", "fares", "{"),
    ),
    sessiond.message(
        "tool",
        sessiond.tool_result("b", "no route", is_error=True),
        sessiond.tool_result("a", "18 °C"),
    ),
    sessiond.message("assistant", sessiond.reasoning("so")),
]


def test_messages_of_other_origin_go_to_anthropic() -> None:
    assert sessiond.to_anthropic(OTHERS) == [
        {"role": "system", "content": "You book trips."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Where is this?"},
                {"type": "text", "text": '{"seen": 1}'},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "a", "name": "weather", "input": {"city": "Lisbon"}},
                {"type": "tool_use", "id": "b", "name": "fares", "input": {"arguments": "{"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "b",
                    "content": "no route",
                    "is_error": True,
                },
                {"type": "tool_result", "tool_use_id": "a", "content": "18 °C"},
            ],
        },
    ]


def test_messages_of_other_origin_go_to_gemini() -> None:
    system, user, model, results = sessiond.to_gemini(OTHERS)
    assert system == {"role": "system", "parts": [{"text": "You book trips."}]}
    assert user["parts"] == [{"text": "Where is this?"}, {"text": '{"seen": 1}'}]
    assert model["parts"][0] == {"text": "I look."}
    assert model["parts"][1] == {
        "functionCall": {"id": "a", "name": "weather", "args": {"city": "Lisbon"}}
    }
    assert results["parts"] == [
        {"functionResponse": {"id": "b", "name": "fares", "response": {"error": "no route"}}},
        {"functionResponse": {"id": "a", "name": "weather", "response": {"output": "18 °C"}}},
    ]


def test_messages_of_other_origin_go_to_openai() -> None:
    items = sessiond.to_openai_responses(OTHERS)
    assert [item.get("type") for item in items] == [
        *("message", "message", "message", "function_call", "function_call"),
        *("function_call_output", "function_call_output"),
    ]
    assert items[4] == {
        "type": "function_call",
        "call_id": "b",
        "name": "fares",
        "arguments": "{",
    }
    chat = sessiond.to_openai(OTHERS)
    assert [item["role"] for item in chat] == [
        *("system", "user", "assistant", "tool", "tool", "assistant"),
    ]
    assert [item.get("tool_call_id") for item in chat[3:5]] == ["b", "a"]


@pytest.mark.parametrize("to", FORMS)
@pytest.mark.parametrize("form", FORMS)
def test_any_form_can_be_given_to_any_other(form: str, to: str) -> None:
    """What one has no place for is left out; what is said, called and answered arrives."""
    messages = FORMS[form][0](FORMS[form][2])
    given = json.dumps(FORMS[to][1](messages), ensure_ascii=False)
    for call in (call for message in messages for call in sessiond.tool_calls_of(message)):
        assert call.id in given or call.id.startswith("gemini:")
    for message in messages:
        for part in message.parts:
            assert json.dumps(part.text, ensure_ascii=False) in given or not part.text


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
json_values: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def changed(draw: st.DrawFn, form: str) -> list[dict[str, Any]]:
    """A conversation with some of its items, and odd values in some places of them."""
    items = draw(st.lists(st.sampled_from(FORMS[form][2]), min_size=1, max_size=3))
    found: list[dict[str, Any]] = json.loads(json.dumps(items))
    for _ in range(draw(st.integers(0, 4))):
        place: Any = draw(st.sampled_from(found))
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            inner = place[key]
            if isinstance(inner, (dict, list)) and inner and draw(st.integers(0, 3)):
                place = inner
                continue
            if key == "role" or (key == "type" and form == "openai_responses"):
                break
            if isinstance(place, dict) and draw(st.booleans()):
                del place[key]
            else:
                place[key] = draw(json_values)
            break
    return found


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=examples(150))
@given(data=st.data())
def test_P10_any_items_come_back_equal_and_in_order(form: str, data: st.DataObject) -> None:
    items = data.draw(changed(form))
    again = there_and_back(form, items)
    assert again == items
    assert json.dumps(again) == json.dumps(items)


@pytest.mark.parametrize("form", FORMS)
def test_P10_more_thoughts_than_a_message_has_extensions_for_come_back(form: str) -> None:
    thought = {
        "openai": OPENAI[2],
        "openai_responses": RESPONSES[2],
        "anthropic": {"role": "assistant", "content": [ANTHROPIC[1]["content"][0]] * 99},
        "gemini": {"role": "model", "parts": [GEMINI[1]["parts"][2]] * 99},
    }[form]
    items = [thought] * (99 if form == "openai_responses" else 1)
    assert there_and_back(form, items) == items
    for message in FORMS[form][0](items):
        count = len(message.extensions) + sum(len(part.extensions) for part in message.parts)
        assert count <= 64

"""What random messages hold: tool calls that share few ids, and payloads that are hard to keep."""

from __future__ import annotations

from hypothesis import strategies as st

from sessiond import v1

CALL_IDS = ("a", "b", "c")


def _call(call_ids: list[str], tokens: int) -> v1.Message:
    message = v1.Message(role=v1.Role.ROLE_ASSISTANT, token_count=tokens)
    for call_id in call_ids:
        message.tool_calls.add(id=call_id, name="look", arguments='{"at": 1e400}')
    return message


def _result(call_id: str, tokens: int) -> v1.Message:
    return v1.Message(
        role=v1.Role.ROLE_TOOL, tool_call_id=call_id, text=call_id, token_count=tokens
    )


def _said(role: v1.Role.ValueType, tokens: int, hidden: int) -> v1.Message:
    message = v1.Message(role=role, text="said", token_count=tokens)
    if hidden == 1:
        message.in_context = False
    if hidden == 2:
        message.in_transcript = False
    return message


TOKENS = st.integers(0, 9)
CALLS = st.builds(_call, st.lists(st.sampled_from(CALL_IDS), min_size=1, max_size=3), TOKENS)
RESULTS = st.builds(_result, st.sampled_from(CALL_IDS), TOKENS)
SAID = st.builds(
    _said,
    st.sampled_from(
        (
            v1.Role.ROLE_USER,
            v1.Role.ROLE_ASSISTANT,
            v1.Role.ROLE_SYSTEM,
            v1.Role.ROLE_DEVELOPER,
        )
    ),
    TOKENS,
    st.integers(0, 8),
)
MESSAGES = st.one_of(SAID, CALLS, RESULTS)


def _turns(spoken: list[v1.Message], called: list[v1.Message]) -> list[v1.Message]:
    """What is said, with calls in between and their results behind them."""
    found: list[v1.Message] = []
    for place, message in enumerate(spoken):
        found.append(message)
        if place < len(called):
            found.append(called[place])
            found += [_result(call.id, 2) for call in called[place].tool_calls]
    return found


CONVERSATIONS = st.builds(
    _turns, st.lists(SAID, min_size=1, max_size=4), st.lists(CALLS, max_size=2)
)
SUMMARIES = st.builds(
    lambda tokens, role: v1.Message(role=role, text="in short", token_count=tokens),
    TOKENS,
    st.sampled_from((v1.Role.ROLE_UNSPECIFIED, v1.Role.ROLE_USER, v1.Role.ROLE_SYSTEM)),
)

# gRPC strings are UTF-8, which has no unpaired surrogates; escaped ones are in the JSON below.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.sampled_from(
    ("\x00", "a\x00b", "👩‍👩‍👧‍👦", "\u202e\ufeff\ufffe", "e\u0301", " \r\n\t ", "")
)
JSON_TEXTS = st.sampled_from(
    (
        '{"b": 1, "a": 2, "b": 3}',
        '{"n": 1.10, "big": 123456789012345678901234567890, "e": 1E+2, "z": -0}',
        r'{"u": "\ud800 \u0000 \/"}',
        '{"open": [',
        "",
        "null ",
        "NaN",
    )
)
BYTES = st.binary(max_size=40) | JSON_TEXTS.map(str.encode) | st.just(b"\x00\xff\xfe")
SHORT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)


@st.composite
def payloads(draw: st.DrawFn) -> v1.Message:
    """A message with any of the contents that have to come back byte for byte (P10)."""
    message = v1.Message(role=draw(st.sampled_from(v1.Role.values()[1:])))
    if draw(st.booleans()):
        message.text = draw(TEXTS)
    message.reasoning = draw(TEXTS)
    message.name = draw(SHORT | st.just(""))
    for _ in range(draw(st.integers(0, 2))):
        message.tool_calls.add(
            id=draw(SHORT),
            name=draw(SHORT),
            arguments=draw(JSON_TEXTS | TEXTS),
        )
    for _ in range(draw(st.integers(0, 2))):
        if draw(st.booleans()):
            message.parts.add(json=draw(JSON_TEXTS | TEXTS))
        else:
            message.parts.add(text=draw(TEXTS))
    for name, value in draw(st.dictionaries(SHORT, BYTES, max_size=3)).items():
        message.extensions[name] = value
    if draw(st.booleans()):
        message.metadata.update({draw(SHORT): draw(st.floats(allow_nan=False) | TEXTS)})
    return message


PROMPTS = st.sampled_from(("", "be kind", "be brief", "be kind\n\0", "é" * 5000))
MODELS = st.sampled_from(("", "small", "big"))
FACTS = st.builds(v1.Session, system_prompt=PROMPTS, model=MODELS, config=PROMPTS)
"""What a session runs with."""

"""What random messages hold: tool calls that share few ids, and payloads that are hard to keep."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

import sessiond
from sessiond import v1

CALL_IDS = ("a", "b", "c")


def _call(call_ids: list[str], tokens: int) -> v1.Message:
    message = v1.Message(role=v1.Role.ROLE_ASSISTANT, token_count=tokens)
    for call_id in call_ids:
        message.parts.append(sessiond.tool_call(call_id, "look", '{"at": 1e400}'))
    return message


def _results(role: str, call_ids: list[str], tokens: int) -> v1.Message:
    results = [sessiond.tool_result(call_id, call_id) for call_id in call_ids]
    return sessiond.message(v1.Role.Value(role), *results, token_count=tokens)


def _run(call_ids: list[str], result_ids: list[str], tokens: int) -> v1.Message:
    """An assistant's message with calls, and with results of tools that its provider ran."""
    message = _call(call_ids, tokens)
    message.parts.extend(sessiond.tool_result(call_id, call_id) for call_id in result_ids)
    return message


def _said(role: v1.Role.ValueType, tokens: int, hidden: int) -> v1.Message:
    message = sessiond.message(role, "said", token_count=tokens)
    if hidden == 1:
        message.hidden_from_model = True
    if hidden == 2:
        message.hidden_from_people = True
    return message


TOKENS = st.integers(0, 9)
_IDS = st.lists(st.sampled_from(CALL_IDS), min_size=1, max_size=3)
CALLS = st.builds(_call, _IDS, TOKENS) | st.builds(_run, _IDS, _IDS, TOKENS)
RESULTS = st.builds(
    _results, st.sampled_from(("ROLE_TOOL", "ROLE_USER", "ROLE_ASSISTANT")), _IDS, TOKENS
)
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
            ids = [call.id for call in sessiond.tool_calls_of(called[place])]
            found += [_results("ROLE_TOOL", ids[:1], 2), _results("ROLE_USER", ids, 2)]
    return found


CONVERSATIONS = st.builds(
    _turns, st.lists(SAID, min_size=1, max_size=4), st.lists(CALLS, max_size=2)
)
SUMMARIES = st.builds(
    lambda tokens, role: sessiond.message(role, "in short", token_count=tokens),
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


PLAIN = ("text", "json", "image", "audio", "file")


@st.composite
def parts(draw: st.DrawFn, kind: str) -> v1.Part:
    """A part of this kind."""
    if kind == "reasoning":
        return sessiond.reasoning(draw(TEXTS))
    if kind == "tool_call":
        return sessiond.tool_call(draw(SHORT), draw(SHORT), draw(JSON_TEXTS | TEXTS))
    if kind == "tool_result":
        inner = st.sampled_from(PLAIN).flatmap(parts)
        found = draw(st.lists(inner, max_size=3))
        return sessiond.tool_result(draw(SHORT | st.just("")), *found, is_error=draw(st.booleans()))
    if kind in ("image", "audio", "file"):
        media = st.builds(v1.Media, uri=TEXTS) | st.builds(v1.Media, inline=st.binary(max_size=9))
        fields: dict[str, Any] = {kind: draw(media)}
    else:
        fields = {kind: draw(JSON_TEXTS | TEXTS)}
    return v1.Part(**fields)


@st.composite
def payloads(draw: st.DrawFn) -> v1.Message:
    """A message with any of the contents that have to come back byte for byte (P10)."""
    role = draw(st.sampled_from(v1.Role.values()[1:]))
    message = v1.Message(role=role, name=draw(SHORT | st.just("")))
    kinds: tuple[str, ...] = PLAIN
    if role == v1.Role.ROLE_TOOL:
        kinds = ("tool_result",)
    elif role == v1.Role.ROLE_ASSISTANT:
        kinds = (*PLAIN, "reasoning", "refusal", "tool_call", "tool_result")
    for _ in range(draw(st.integers(1, 4))):
        part = draw(parts(draw(st.sampled_from(kinds))))
        for name, value in draw(st.dictionaries(SHORT, BYTES, max_size=2)).items():
            part.extensions[name] = value
        message.parts.append(part)
    for name, value in draw(st.dictionaries(SHORT, BYTES, max_size=3)).items():
        message.extensions[name] = value
    if draw(st.booleans()):
        message.metadata.update({draw(SHORT): draw(st.floats(allow_nan=False) | TEXTS)})
    return message


PROMPTS = st.sampled_from(("", "be kind", "be brief", "be kind\n\0", "é" * 5000))
MODELS = st.sampled_from(("", "small", "big"))
FACTS = st.builds(v1.Session, system_prompt=PROMPTS, model=MODELS, config=PROMPTS)
"""What a session runs with."""

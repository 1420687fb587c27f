"""How a conversation looks: real ones of an airline's agent, on a console of a fixed width."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import pytest
from rich.console import Console

import sessiond
from sessiond import v1
from sessiond.cli.openai_files import to_message
from sessiond.cli.render.conversation import Painter, Style
from sessiond.cli.render.pairs import pair
from sessiond.cli.transcript import Fold, Gap, Row
from tests.support.data import airline_sessions


def stored(values: list[dict[str, Any]]) -> list[v1.Message]:
    messages = [to_message(value) for value in values]
    for seq, message in enumerate(messages, 1):
        message.seq = seq
        message.create_time.FromSeconds(1_747_750_000 + seq)
    return messages


def painted(rows: Sequence[Row], width: int = 100, **style: Any) -> str:
    console = Console(width=width, file=io.StringIO(), record=True)
    look = Style(**style)
    for line in Painter(console, 100, look).paint(pair(rows, look.open_calls)):
        console.print(line, soft_wrap=True)
    return console.export_text(styles=False)


@pytest.fixture(scope="module")
def conversation() -> list[v1.Message]:
    return stored(airline_sessions()[0]["messages"])


@pytest.mark.parametrize("width", [40, 80, 100, 200])
def test_every_real_conversation_fits_the_console(width: int) -> None:
    for session in airline_sessions()[::12]:
        text = painted(stored(session["messages"]), width)
        assert max(map(len, text.split("\n"))) <= width


def test_every_message_has_its_seq_in_the_margin(conversation: list[v1.Message]) -> None:
    margins = [line[:4].strip() for line in painted(conversation).split("\n")]
    assert [int(it) for it in margins if it] == [message.seq for message in conversation]


def test_a_call_and_its_result_stand_together(conversation: list[v1.Message]) -> None:
    lines = painted(conversation).split("\n")
    call = next(i for i, line in enumerate(lines) if "get_user_details" in line)
    assert lines[call] == '       │ ⚙ get_user_details(user_id="mia_li_3668")'
    assert lines[call + 1].startswith("   8   │   ↳ {")


def test_long_results_are_cut_with_a_count_and_whole_on_demand(
    conversation: list[v1.Message],
) -> None:
    cut, full = painted(conversation), painted(conversation, full=True)
    assert "more lines (--full)" in cut
    assert "more lines" not in full
    hidden = sum(int(line.split("… ")[1].split()[0]) for line in cut.split("\n") if "… " in line)
    counted = len(full.split("\n")) - len(cut.split("\n"))
    assert counted == hidden - cut.count("more lines (--full)")


def test_long_system_prompts_are_cut(conversation: list[v1.Message]) -> None:
    assert len(painted([conversation[0]]).split("\n")) < 15


def test_an_open_call_is_flagged() -> None:
    call = v1.ToolCall(id="c1", name="book", arguments="{}")
    message = sessiond.message("assistant", v1.Part(tool_call=call), seq=3)
    assert "⚠ waits for its result" in painted([message], open_calls=frozenset({(3, "c1")}))
    assert "⚠" not in painted([message])


def test_a_failed_result_is_marked() -> None:
    call = v1.ToolCall(id="c1", name="book", arguments="{}")
    rows: list[Row] = [
        sessiond.message("assistant", v1.Part(tool_call=call), seq=1),
        sessiond.message("tool", sessiond.tool_result("c1", "no seats", is_error=True), seq=2),
    ]
    assert "   2   │   ✗ no seats" in painted(rows)


def test_a_fold_says_how_many_and_shows_its_summary() -> None:
    made = v1.Compaction(id=40, from_seq=3, to_seq=14, message_count=12)
    summary = sessiond.message("system", "They booked HAT136.", seq=40)
    folded = painted([Fold(made, summary)])
    assert "▸ 12 messages compacted:" in folded
    assert "They booked HAT136." in folded
    inner = sessiond.message("user", "Hello there", seq=3)
    opened = painted([Fold(made, summary, [inner])])
    assert "▾ 12 messages compacted:" in opened
    assert "Hello there" in opened


def test_what_is_rewound_is_said_and_marked() -> None:
    assert "↶ 5 messages rewound (--all shows them)" in painted([Gap(4, 8)])
    message = sessiond.message("user", "oops", seq=4, rewound=True)
    assert "user  rewound" in painted([message])


def test_reasoning_parts_and_empty_messages_are_shown() -> None:
    message = sessiond.message(
        "assistant",
        sessiond.reasoning("They want a window seat."),
        v1.Part(text="Here it is:"),
        v1.Part(image=v1.Media(uri="https://example.org/a.png", mime_type="image/png")),
        seq=1,
    )
    text = painted([message, v1.Message(seq=2, role=v1.Role.ROLE_USER)])
    assert "┆ They want a window seat." in text
    assert "[image image/png https://example.org/a.png]" in text
    assert "(no text)" in text


def test_messages_cannot_take_over_the_terminal() -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\x9b1m‮"
    call = v1.ToolCall(id="c", name=evil, arguments=f'{{"{evil}": "{evil}"}}')
    message = sessiond.message(
        "assistant", sessiond.reasoning(evil), evil, v1.Part(tool_call=call), seq=1, name=evil
    )
    result = sessiond.message("tool", sessiond.tool_result("c", evil), seq=2)
    text = painted(
        [message, result, sessiond.message("tool", sessiond.tool_result("", tool_name=evil), seq=3)]
    )
    assert not any(character in text for character in "\x1b\x07\x9b‮")

"""The JSON of `-o json` and `-o jsonl`."""

from __future__ import annotations

import json

import pytest

import sessiond
from sessiond import v1
from sessiond.cli.output import Format, plain, write_all


def test_messages_are_plain_json_with_the_names_of_the_api() -> None:
    message = sessiond.message(
        "assistant",
        v1.Part(tool_call=v1.ToolCall(id="c1", name="f", arguments='{"a":1}')),
        seq=2**60,
        kind=v1.MessageKind.MESSAGE_KIND_NORMAL,
        extensions={"signature": b"\x00\xff"},
    )
    message.create_time.FromSeconds(0)
    message.elapsed.FromMilliseconds(1500)
    message.metadata.update({"n": 3, "x": 1.5, "deep": [{"k": 7.0}], "none": None})
    shown = plain(message)
    assert isinstance(shown, dict)
    assert json.loads(json.dumps(shown)) == shown
    assert shown["seq"] == 2**60
    assert shown["role"] == "assistant"
    assert shown["kind"] == "normal"
    call = {"id": "c1", "name": "f", "arguments": '{"a":1}', "type": ""}
    assert shown["parts"] == [{"tool_call": call, "extensions": {}}]
    assert shown["extensions"] == {"signature": "AP8="}
    assert shown["create_time"] == "1970-01-01T00:00:00Z"
    assert shown["elapsed"] == "1.500s"
    assert shown["metadata"] == {"n": 3, "x": 1.5, "deep": [{"k": 7}], "none": None}
    assert shown["rewound"] is False


def test_absent_and_empty_are_two_things() -> None:
    assert "text" not in _object(v1.Part())
    assert _object(v1.Part(text=""))["text"] == ""


def test_a_summary_is_its_session_with_preview_and_opening() -> None:
    summary = v1.SessionSummary(
        session=v1.Session(id="s", state=v1.SessionState.SESSION_STATE_ENDED), opening="Hi"
    )
    shown = _object(summary)
    assert (shown["id"], shown["state"], shown["opening"]) == ("s", "ended", "Hi")


@pytest.mark.parametrize("count", [0, 1, 3])
def test_lists_are_one_document_or_a_line_each(
    count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    write_all([{"n": n} for n in range(count)], Format.JSON)
    assert json.loads(capsys.readouterr().out) == [{"n": n} for n in range(count)]
    write_all([{"n": n} for n in range(count)], Format.JSONL)
    assert len(capsys.readouterr().out.splitlines()) == count


def _object(message: v1.Message | v1.Part | v1.SessionSummary) -> dict[str, object]:
    shown = plain(message)
    assert isinstance(shown, dict)
    return shown

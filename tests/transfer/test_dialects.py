"""Conversations in the forms of providers, through all that happens to messages in a store."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sessiond import Client
from tests.cli.command import Cli
from tests.client.conversations import FORMS
from tests.support.processes import ServerProcess
from tests.transfer.test_round_trip import move


@pytest.mark.parametrize("form", FORMS)
def test_P10_parts_keep_their_order_through_append_offload_fork_export_and_import(
    form: str, old: Client, new: Client, source: ServerProcess, tmp_path: Any
) -> None:
    there, back, items = FORMS[form]
    expected = json.dumps(items)

    def check(client: Client, id: str) -> None:
        for messages in (
            client.list_messages(id, view="all"),
            client.list_messages(id, order="descending"),
            client.get_context(id).messages,
        ):
            in_order = sorted(messages, key=lambda message: message.seq)
            assert json.dumps(back(in_order)) == expected

    id = f"{form}-1"
    old.create_session(id)
    old.append(id, there(items))
    check(old, id)
    old.fork_session(id, fork_id=f"{form}-fork")
    assert old.offload_messages(id, all_messages=True).message_count
    check(old, id)
    old.fork_session(id, fork_id=f"{form}-late")
    check(old, f"{form}-fork")
    check(old, f"{form}-late")
    ids = [id, f"{form}-fork", f"{form}-late"]
    assert all(outcome.created for outcome in move(old, new, ids))
    for each in ids:
        check(new, each)
    file = tmp_path / "native.jsonl"
    file.write_text(Cli(source.target).ok("export", "--format", "native", id))
    old.delete_session(id)
    Cli(source.target).ok("import", "--format", "native", str(file))
    check(old, id)


@pytest.mark.parametrize("form", FORMS)
def test_P8_calls_of_every_form_are_answered_by_their_results(form: str, old: Client) -> None:
    there, _, items = FORMS[form]
    id = f"{form}-open"
    old.create_session(id)
    open_before = []
    for message in there(items):
        old.append(id, message)
        open_before.append(old.get_session(id).open_tool_call_count)
        if any(part.HasField("tool_call") for part in message.parts):
            waiting = [it.tool_call for it in old.list_open_tool_calls(id)]
            run = {p.tool_result.tool_call_id for p in message.parts}
            calls = [part.tool_call for part in message.parts if part.HasField("tool_call")]
            assert waiting == [call for call in calls if call.id not in run]
    assert max(open_before) > 1
    assert open_before[-1] == 0

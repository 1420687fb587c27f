"""Messages are a role and parts in order: calls and results in any number, what is shown."""

from __future__ import annotations

from typing import Any

import pytest

import sessiond
from sessiond import v1
from tests.rpc.api import ASSISTANT, TOOL, USER, Api, answering, calling, new, refused, said


def open_calls(api: Api, id: str) -> list[tuple[int, str]]:
    request = v1.ListOpenToolCallsRequest(session_id=id)
    answer = api.messages.ListOpenToolCalls(request)
    found = [(call.seq, call.tool_call.id) for call in answer.open_tool_calls]
    assert api.get(id).open_tool_call_count == len(found)
    return found


def spoken(role: Any, *parts: str | v1.Part, **fields: Any) -> v1.Message:
    return sessiond.message(role, *parts, client_id=new("m"), **fields)


def offloaded(api: Api, id: str) -> int:
    request = v1.OffloadMessagesRequest(session_id=id, all=True)
    return api.storage.OffloadMessages(request).offloaded_before_seq


@pytest.mark.parametrize("role", [TOOL, USER, ASSISTANT])
def test_P8_each_result_of_a_message_answers_its_own_call(api: Api, role: Any) -> None:
    id = api.talk(1, calling("a", "b"), calling("c", "a", "d"))
    results = spoken(role, sessiond.tool_result("a", "1"), sessiond.tool_result("d", is_error=True))
    api.append(id, results)
    assert open_calls(api, id) == [(2, "b"), (3, "c")]
    api.rewind(id, 3)
    assert open_calls(api, id) == [(2, "a"), (2, "b"), (3, "c"), (3, "a"), (3, "d")]
    api.messages.RevertRewind(v1.RevertRewindRequest(session_id=id, newest=True))
    assert open_calls(api, id) == [(2, "b"), (3, "c")]
    fork = api.fork(id).id
    assert open_calls(api, fork) == [(2, "b"), (3, "c")]
    assert offloaded(api, id) == 2
    api.append(id, answering("b"), answering("c"))
    assert open_calls(api, id) == []
    found = refused(lambda: api.compact(id, 3, 4)).metadata
    assert (found["nearest_from_seq"], found["nearest_to_seq"]) == ("2", "6")
    assert offloaded(api, id) == 7
    assert api.get(id).tool_call_count == 5
    assert open_calls(api, fork) == [(2, "b"), (3, "c")]


def test_P8_a_message_may_hold_calls_and_their_results(api: Api) -> None:
    """Tools that the provider runs."""
    run = spoken(
        ASSISTANT,
        sessiond.reasoning("hm"),
        sessiond.tool_call("s", "search"),
        sessiond.tool_result("s", "found"),
        "It says so.",
        sessiond.tool_call("t", "book"),
    )
    id = api.talk(2, run)
    assert open_calls(api, id) == [(3, "t")]
    assert offloaded(api, id) == 3
    api.append(id, answering("t"), said())
    assert open_calls(api, id) == []
    refusal = refused(lambda: api.compact(id, 2, 3))
    assert refusal.metadata["tool_call_id"] == "t"
    assert api.compact(id, 1, 4).compaction.message_count == 4
    assert offloaded(api, id) == 7
    assert api.log(id)[2].parts == run.parts


def test_P8_results_that_come_in_one_batch_with_their_calls_leave_none_open(api: Api) -> None:
    both = spoken(USER, sessiond.tool_result("a"), sessiond.tool_result("b"), "and now?")
    id = api.talk(0, calling("a"), calling("b", "a"), both, calling("a"))
    assert open_calls(api, id) == [(4, "a")]
    records = api.export(session_ids=[id])
    api.delete(id)
    api.bring(*records)
    assert open_calls(api, id) == [(4, "a")]


def _unknown(number: int) -> bytes:
    tag = number << 3
    return bytes([tag & 0x7F | 0x80, tag >> 7, 7])


def test_P4_what_is_the_server_s_to_say_is_dropped_from_requests_known_or_not(api: Api) -> None:
    plain = said("hello")
    ahead = v1.Message.FromString(plain.SerializeToString() + _unknown(150) + _unknown(199))
    ahead.seq, ahead.rewound, ahead.compacted_by_seq = 99, True, 98
    ahead.replaces_from_seq, ahead.replaces_to_seq, ahead.session_id = 1, 2, "other"
    ahead.create_time.seconds = 1
    id = api.talk(0, ahead)
    assert api.append(id, plain).replayed
    (stored,) = api.log(id)
    assert (stored.seq, stored.rewound, stored.session_id) == (1, False, "")
    assert stored.create_time.seconds > 1
    stored.ClearField("seq")
    stored.ClearField("create_time")
    stored.ClearField("kind")
    assert stored.SerializeToString() == plain.SerializeToString()


def test_P10_an_import_loses_nothing_that_it_doesn_t_know(api: Api) -> None:
    id = api.talk(1)
    records = api.export(session_ids=[id])
    whole = records[1].message.payload
    api.delete(id)
    records[1].message.payload = whole + _unknown(60)
    (outcome,) = api.bring(*records)
    assert outcome.error.reason == v1.ErrorReason.ERROR_REASON_UNKNOWN_FIELD
    records[1].message.payload = whole + _unknown(150)
    (outcome,) = api.bring(*records)
    assert not outcome.HasField("error")
    assert api.export(session_ids=[id])[1].message.payload == whole


def listed(api: Api, id: str, *types: str, **fields: Any) -> list[int]:
    request = v1.ListMessagesRequest(session_id=id, types=types, page_size=2, **fields)
    found = list[int]()
    while True:
        page = api.messages.ListMessages(request)
        found += [message.seq for message in page.messages]
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


def test_types_are_the_application_s_words_and_filter_every_view(api: Api) -> None:
    marks = [
        v1.Message(client_id=new(), role=USER, type=word) for word in ("plan", "event", "plan")
    ]
    typed = said("typed", type="plan")
    id = api.talk(2, *marks, typed, said("x", type="event", hidden_from_model=True))
    views = v1.MessageView
    for _ in range(2):
        assert listed(api, id, "plan") == [3, 5, 6]
        assert listed(api, id, "event", "plan") == [3, 4, 5, 6, 7]
        assert listed(api, id, "") == [1, 2]
        assert listed(api, id, "event", view=views.MESSAGE_VIEW_CONTEXT) == [4]
        descending = v1.SortOrder.SORT_ORDER_DESCENDING
        assert listed(api, id, "plan", "none", order=descending) == [6, 5, 3]
        offloaded(api, id)
    update = v1.UpdateMessagesRequest(session_id=id)
    for seq, word in ((6, "event"), (1, "plan")):
        change = update.updates.add(message=v1.Message(seq=seq, type=word))
        change.update_mask.paths.append("type")
    answer = api.messages.UpdateMessages(update)
    assert [(m.seq, m.type, len(m.parts)) for m in answer.messages] == [
        (6, "event", 0),
        (1, "plan", 0),
    ]
    assert listed(api, id, "plan") == [1, 3, 5]
    assert listed(api, api.fork(id).id, "plan") == [1, 3, 5]
    assert listed(api, api.fork(id, at_seq=7).id, "plan") == [3, 5, 6], "as it was then"


def test_P14_an_update_leaves_no_message_that_couldn_t_be_appended(api: Api) -> None:
    mark = v1.Message(client_id=new(), role=USER, type="plan")
    thought = sessiond.reasoning("hm", {f"{n}": b"" for n in range(60)})
    id = api.talk(0, mark, spoken(ASSISTANT, thought))

    def update(path: str, **fields: Any) -> None:
        request = v1.UpdateMessagesRequest(session_id=id)
        change = request.updates.add(message=v1.Message(**fields))
        change.update_mask.paths.append(path)
        api.messages.UpdateMessages(request)

    nothing = refused(lambda: update("type", seq=1, type=""))
    assert nothing.fields == ["updates[0].message.parts"]
    extensions = {f"more-{n}": b"" for n in range(5)}
    many = refused(lambda: update("extensions", seq=2, extensions=extensions))
    assert many.fields == ["updates[0].message.extensions"]
    update("extensions", seq=2, extensions={"late": b"\0"})
    assert api.log(id)[1].parts[0] == thought
    assert dict(api.log(id)[1].extensions) == {"late": b"\0"}


def test_lists_show_what_was_said_behind_long_reasoning(api: Api) -> None:
    owner = new("owner")
    id = api.create(owner=owner).id
    thought = sessiond.reasoning("hm " * 9000, {"signature": b"x" * 20_000})
    image = v1.Part(image=v1.Media(inline=bytes(5000), mime_type="image/png"))
    api.append(id, spoken(USER, image, "Where is this?"))
    api.append(id, spoken(ASSISTANT, thought, "In  Lisbon.", sessiond.tool_call("a", "f")))
    api.append(id, answering("a"))
    request = v1.ListSessionsRequest(filter=v1.SessionFilter(owner=owner))
    for _ in range(2):
        (shown,) = api.sessions.ListSessions(request).sessions
        assert (shown.opening, shown.preview) == ("Where is this?", "In Lisbon.")
        offloaded(api, id)
    api.append(id, spoken(ASSISTANT, v1.Part(refusal="No.")))
    (shown,) = api.sessions.ListSessions(request).sessions
    assert shown.preview == "No."


def test_P7_the_summary_of_a_compaction_is_for_the_model_whatever_it_says(api: Api) -> None:
    id = api.talk(3)
    summary = v1.Message(client_id=new(), parts=[v1.Part(text="short")], hidden_from_people=False)
    api.compact(id, 1, 2, summary=summary)
    assert api.log(id)[3].hidden_from_people
    transcript = api.messages.ListMessages(v1.ListMessagesRequest(session_id=id)).messages
    assert [message.seq for message in transcript] == [1, 2, 3]

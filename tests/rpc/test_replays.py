"""P4: what is a replay, and what an append does with messages that are stored already."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict

import sessiond
from sessiond import v1
from tests.rpc.api import ASSISTANT, Api, new, refused, said
from tests.support.encodings import other_encoding
from tests.support.processes import ServerProcess

REFUSE, SKIP = v1.OnKnown.ON_KNOWN_REFUSE, v1.OnKnown.ON_KNOWN_SKIP
ANY_CONTENT = v1.OnKnown.ON_KNOWN_SKIP_ANY_CONTENT


def rich() -> v1.Message:
    """A message with all that can be encoded in more than one way."""
    call = sessiond.tool_call("c", "look", '{"b": 1.0, "a": 2}')
    call.extensions.update({"x": b"1", "y": b"2"})
    message = sessiond.message(
        ASSISTANT, "hello", call, client_id=new("m"), token_count=300, model="m"
    )
    message.extensions.update({"one": b"1", "two": b"2", "three": b"3"})
    message.metadata.update({"b": 1, "a": {"d": [1.5, None, {"z": True, "y": "t"}], "c": -0.0}})
    message.elapsed.FromMilliseconds(1500)
    message.origin_time.FromMilliseconds(1_700_000_000_001)
    return message


def appended(target: str, encoded: bytes) -> v1.AppendMessagesResponse:
    """The answer to an append of these bytes."""
    with grpc.insecure_channel(target) as channel:
        call: Any = channel.unary_unary("/sessiond.v1.MessageService/AppendMessages")
        return v1.AppendMessagesResponse.FromString(call(encoded, timeout=60))


def streamed(target: str, encoded: bytes) -> v1.AppendMessagesResponse:
    """The same through a stream."""
    request = v1.AppendMessagesRequest.FromString(encoded)
    frame = v1.AppendStreamRequest(appends=[v1.StreamedAppend(append=request)])
    with grpc.insecure_channel(target) as channel:
        call: Any = channel.stream_stream("/sessiond.v1.MessageService/AppendStream")
        (answer,) = call(iter([other_encoding(frame)]), timeout=60)
    return v1.AppendStreamResponse.FromString(answer).results[0].ack


def as_it_was(api: Api, id: str) -> str:
    return id


def offloaded(api: Api, id: str) -> str:
    api.append(id, said("the result isn't asked for"))
    api.compact(id, 1, 3)
    request = v1.OffloadMessagesRequest(session_id=id, all=True)
    assert api.storage.OffloadMessages(request).offloaded_before_seq > 1
    return id


def updated(api: Api, id: str) -> str:
    request = v1.UpdateMessagesRequest(session_id=id)
    update = request.updates.add(message=v1.Message(seq=2, model="other", hidden_from_model=True))
    update.update_mask.paths.extend(["model", "extensions", "metadata", "hidden_from_model"])
    assert not api.messages.UpdateMessages(request).replayed
    return id


def updated_and_offloaded(api: Api, id: str) -> str:
    return offloaded(api, updated(api, id))


def rewound(api: Api, id: str) -> str:
    api.rewind(id, 0)
    return id


def forked(api: Api, id: str) -> str:
    return api.fork(updated(api, id)).id


def reencoded(records: list[v1.TransferRecord], *, longer: bool) -> list[v1.TransferRecord]:
    """The records with each message in another encoding."""
    for record in records:
        if record.WhichOneof("record") in ("message", "revision"):
            held = record.message if record.HasField("message") else record.revision
            message = v1.Message.FromString(held.payload)
            held.payload = other_encoding(message, longer=longer)
    return records


def moved(api: Api, id: str, *, longer: bool = False) -> str:
    """Deleted, and imported from what was exported in another encoding, which is then the stored one."""
    records = reencoded(api.export(session_ids=[updated(api, id)]), longer=longer)
    api.delete(id)
    assert not api.bring(*records)[0].HasField("error")
    return id


def moved_in_a_longer_encoding(api: Api, id: str) -> str:
    return moved(api, id, longer=True)


def moved_and_offloaded(api: Api, id: str) -> str:
    return offloaded(api, moved(api, id))


@pytest.mark.parametrize("send", [appended, streamed])
@pytest.mark.parametrize(
    "happen",
    [
        as_it_was,
        offloaded,
        updated,
        updated_and_offloaded,
        rewound,
        forked,
        moved,
        moved_in_a_longer_encoding,
        moved_and_offloaded,
    ],
)
def test_P4_a_message_in_another_encoding_is_a_replay(
    api: Api,
    server: ServerProcess,
    happen: Callable[[Api, str], str],
    send: Callable[[str, bytes], v1.AppendMessagesResponse],
) -> None:
    """Whatever became of what was appended."""
    message = rich()
    id = happen(api, api.talk(1, message, sessiond.message("tool", result(), client_id=new("m"))))
    request = v1.AppendMessagesRequest(session_id=id, messages=[message])
    encoded = other_encoding(request)
    assert encoded != request.SerializeToString(deterministic=True)
    assert v1.AppendMessagesRequest.FromString(encoded) == request
    answer = send(server.target, encoded)
    assert (answer.replayed, answer.first_seq, list(answer.known)) == (True, 2, [True])
    request.messages[0].extensions["one"] = b"2"
    assert refused(partial(api.messages.AppendMessages, request)).reason == "CLIENT_ID_REUSED"


def result() -> v1.Part:
    return sessiond.tool_result("c", "found")


def test_P4_a_message_that_came_in_another_encoding_is_known_in_the_usual_one(
    api: Api, server: ServerProcess
) -> None:
    id, message = api.create().id, rich()
    request = v1.AppendMessagesRequest(session_id=id, messages=[message])
    assert not appended(server.target, other_encoding(request)).replayed
    assert api.append(id, message).replayed


def spelled_out(message: v1.Message) -> v1.Message:
    """The same with its defaults."""
    spelled = v1.Message()
    spelled.CopyFrom(message)
    spelled.kind = v1.MessageKind.MESSAGE_KIND_NORMAL
    spelled.metadata.SetInParent()
    spelled.parts[1].tool_call.type = "function"
    return spelled


@pytest.mark.parametrize("spelled_first", [False, True])
def test_P4_defaults_make_no_difference_whether_they_are_spelled_out(
    api: Api, spelled_first: bool
) -> None:
    message = rich()
    message.ClearField("metadata")
    first, again = message, spelled_out(message)
    if spelled_first:
        first, again = again, first
    id = api.talk(0, first)
    assert api.append(id, again).replayed
    assert list(api.append(id, again, said(), on_known=SKIP).known) == [True, False]
    read = api.log(id)[0]
    assert read.parts == first.parts  # as it was sent (P10)
    assert read.HasField("metadata") == spelled_first


def _json(message: v1.Message) -> None:
    message.parts[1].tool_call.arguments = '{"b":1.0,"a":2}'


def _bytes(message: v1.Message) -> None:
    message.parts[1].extensions["x"] = b"1 "


def _number(message: v1.Message) -> None:
    message.metadata["b"] = 2


def _zero(message: v1.Message) -> None:
    message.metadata.update({"a": {**MessageToDict(message.metadata)["a"], "c": 0.0}})


def _time(message: v1.Message) -> None:
    message.ClearField("origin_time")


def _elapsed(message: v1.Message) -> None:
    message.elapsed.Clear()


def _flag(message: v1.Message) -> None:
    message.hidden_from_people = True


def _type(message: v1.Message) -> None:
    message.parts[1].tool_call.type = "custom"


def _order(message: v1.Message) -> None:
    one, two = message.parts
    del message.parts[:]
    message.parts.extend([two, one])


@pytest.mark.parametrize(
    "change", [_json, _bytes, _number, _zero, _time, _elapsed, _flag, _type, _order]
)
def test_P4_all_else_is_content(api: Api, change: Callable[[v1.Message], None]) -> None:
    message = rich()
    id = api.talk(0, message)
    other = v1.Message()
    other.CopyFrom(message)
    change(other)
    found = refused(partial(api.append, id, other))
    assert (found.reason, found.metadata["seq"]) == ("CLIENT_ID_REUSED", "1")
    assert refused(partial(api.append, id, other, on_known=SKIP)).reason == "CLIENT_ID_REUSED"
    assert api.append(id, other, on_known=ANY_CONTENT).replayed
    assert api.append(id, message).replayed


def test_P4_the_most_defaults_that_a_message_can_spell_out_make_no_difference(api: Api) -> None:
    """What is stored is only read to be compared if its length allows that it is the same."""
    calls = [sessiond.tool_call(f"c{n}", "look") for n in range(256)]
    message = sessiond.message(ASSISTANT, *calls, client_id=new("m"))
    id, spelled = api.talk(0, message), v1.Message()
    spelled.CopyFrom(message)
    spelled.metadata.SetInParent()
    for part in spelled.parts:
        part.tool_call.type = "function"
    assert spelled.ByteSize() - message.ByteSize() > 2560
    assert api.append(id, spelled).replayed
    found = refused(partial(api.append, id, said("x" * 1_000_000, message.client_id)))
    assert found.reason == "CLIENT_ID_REUSED"


@pytest.mark.parametrize("on_known", [0, REFUSE])
def test_P4_a_call_that_is_known_in_part_is_refused_unless_it_says_otherwise(
    api: Api, on_known: Any
) -> None:
    messages = [said(str(n)) for n in range(4)]
    id = api.talk(0, messages[1], messages[3])
    found = refused(partial(api.append, id, *messages, messages[3], on_known=on_known))
    assert found.reason == "PARTIAL_REPLAY"
    assert (found.metadata["known_count"], found.metadata["message_count"]) == ("3", "5")
    assert (found.metadata["client_id"], found.metadata["seq"]) == (messages[1].client_id, "1")
    assert api.append(id, messages[1], messages[3], on_known=on_known).replayed
    assert api.get(id).message_count == 2


@pytest.mark.parametrize("on_known", [SKIP, ANY_CONTENT])
def test_P4_known_messages_are_skipped_and_told(api: Api, on_known: Any) -> None:
    messages = [said(str(n)) for n in range(4)]
    id = api.talk(0, messages[1], messages[3])
    answer = api.append(id, *messages, on_known=on_known)
    assert list(answer.seqs) == [3, 1, 4, 2]
    assert list(answer.known) == [False, True, False, True]
    assert (answer.first_seq, answer.last_seq, answer.version.next_seq) == (3, 2, 5)
    assert not answer.replayed
    again = api.append(id, *messages, on_known=on_known)
    assert (again.replayed, list(again.seqs), list(again.known)) == (True, [3, 1, 4, 2], [True] * 4)
    assert [sessiond.text_of(m) for m in api.log(id)] == ["1", "3", "0", "2"]


def test_P4_skipping_refuses_other_content_and_appends_nothing_then(api: Api) -> None:
    message = said("one")
    id, other = api.talk(0, message), said("other", message.client_id)
    found = refused(partial(api.append, id, said(), other, on_known=SKIP))
    assert (found.reason, found.metadata["seq"]) == ("CLIENT_ID_REUSED", "1")
    assert api.get(id).message_count == 1
    answer = api.append(id, said("new"), other, on_known=ANY_CONTENT)
    assert (list(answer.seqs), list(answer.known)) == ([2, 1], [False, True])
    assert [sessiond.text_of(m) for m in api.log(id)] == ["one", "new"]


@pytest.mark.parametrize("send", [appended, streamed])
@pytest.mark.parametrize("on_known", [0, REFUSE, SKIP, ANY_CONTENT])
def test_P4_the_same_message_twice_in_a_call_is_stored_once(
    api: Api,
    server: ServerProcess,
    on_known: Any,
    send: Callable[[str, bytes], v1.AppendMessagesResponse],
) -> None:
    id = api.talk(1)
    one, two = rich(), said("two")
    spelled = v1.Message()
    spelled.CopyFrom(one)
    spelled.kind = v1.MessageKind.MESSAGE_KIND_NORMAL
    request = v1.AppendMessagesRequest(
        session_id=id, messages=[one, spelled, two, one], on_known=on_known
    )
    request.usage.usage.input_tokens = 5
    answer = send(server.target, request.SerializeToString())
    assert (list(answer.seqs), list(answer.known)) == ([2, 2, 3, 2], [False, True, False, True])
    assert (answer.first_seq, answer.last_seq, answer.version.next_seq) == (2, 2, 4)
    assert not answer.replayed
    again = send(server.target, request.SerializeToString())
    assert (again.replayed, list(again.seqs)) == (True, [2, 2, 3, 2])
    assert list(again.known) == [True] * 4
    session = api.get(id)
    assert (session.message_count, session.tool_call_count, session.open_tool_call_count) == (
        3,
        1,
        1,
    )
    assert session.usage.own.input_tokens == 5
    assert api.append(id, said(), said()).seqs == []


def test_P4_one_message_many_times_alone_has_one_seq(api: Api) -> None:
    id, message = api.create().id, said()
    answer = api.append(id, *[message] * 1000, expected_next_seq=1)
    assert list(answer.seqs) == [1] * 1000
    assert list(answer.known) == [False] + [True] * 999
    assert (answer.replayed, answer.version.next_seq) == (False, 2)


def test_P4_other_content_under_an_id_of_the_call_is_refused_unless_any_will_do(api: Api) -> None:
    id = api.create().id
    one, other = said("one", "x"), said("other", "x")
    for on_known in (0, REFUSE, SKIP):
        found = refused(partial(api.append, id, one, said(), other, on_known=on_known))
        assert (found.reason, found.metadata["client_id"]) == ("CLIENT_ID_REUSED", "x")
        assert "seq" not in found.metadata
    assert api.get(id).message_count == 0
    answer = api.append(id, one, said("new"), other, on_known=ANY_CONTENT)
    assert (list(answer.seqs), list(answer.known)) == ([1, 2, 1], [False, False, True])
    assert [sessiond.text_of(m) for m in api.log(id)] == ["one", "new"]


def test_P4_doubles_count_among_the_messages_and_bytes_of_a_call(api: Api) -> None:
    id = api.create().id
    found = refused(partial(api.append, id, *[said("x")] * 1001))
    assert (found.reason, found.fields) == ("INVALID_FIELD", ["messages"])
    large = said("x" * 1_000_000)
    found = refused(partial(api.append, id, large, large, large))
    assert (found.reason, found.fields) == ("INVALID_FIELD", ["messages"])
    assert api.append(id, large, large).version.next_seq == 2


def test_P14_a_value_of_on_known_that_means_nothing_is_refused(api: Api) -> None:
    found = refused(partial(api.append, api.create().id, said(), on_known=4))
    assert (found.reason, found.fields) == ("INVALID_FIELD", ["on_known"])


def test_P4_an_append_tells_whether_it_made_the_session(api: Api) -> None:
    id, message = new(), said()
    made = api.append(id, message, create_session=v1.Session())
    assert (made.session_created, made.replayed, list(made.known)) == (True, False, [])
    again = api.append(id, message, create_session=v1.Session())
    assert (again.session_created, again.replayed) == (False, True)
    assert not api.append(id, said(), create_session=v1.Session()).session_created
    assert not api.append(id, said()).session_created
    doubled, twice = new(), said()
    answer = api.append(doubled, twice, twice, create_session=v1.Session())
    assert (answer.session_created, list(answer.seqs)) == (True, [1, 1])


def test_P4_a_summary_in_another_encoding_is_a_replay(api: Api, server: ServerProcess) -> None:
    id = api.talk(3)
    summary = rich()
    del summary.parts[1]
    request = v1.CompactSessionRequest(session_id=id, from_seq=1, to_seq=2, summary=summary)
    assert not api.compactions.CompactSession(request).replayed
    with grpc.insecure_channel(server.target) as channel:
        call: Any = channel.unary_unary("/sessiond.v1.CompactionService/CompactSession")
        answer = v1.CompactSessionResponse.FromString(call(other_encoding(request), timeout=60))
    assert answer.replayed
    request.summary.model = "another"
    assert refused(partial(api.compactions.CompactSession, request)).reason == "CLIENT_ID_REUSED"


def test_P4_a_reminder_s_message_that_its_worker_appended_in_another_encoding_is_known(
    api: Api, server: ServerProcess
) -> None:
    """The worker appends it itself, as the claim has it, and then completes the claim."""
    id, kind = api.talk(1), new("type")
    api.reminder(id, "look again", type=kind)
    (claim,) = api.claim(kind)
    message = v1.Message()
    message.CopyFrom(claim.reminder.message)
    assert message.client_id
    message.metadata.SetInParent()
    request = v1.AppendMessagesRequest(session_id=id, messages=[message])
    assert appended(server.target, other_encoding(request)).first_seq == 2
    done = api.complete(claim, append_message=True)
    assert (done.message_seq, api.get(id).message_count) == (2, 2)


@pytest.mark.parametrize("longer", [False, True])
def test_P4_an_import_in_another_encoding_finds_what_is_there(api: Api, longer: bool) -> None:
    id = updated_and_offloaded(
        api, api.talk(1, rich(), sessiond.message("tool", result(), client_id=new("m")))
    )
    api.append(id, rich())
    records = reencoded(api.export(session_ids=[id]), longer=longer)
    (outcome,) = api.bring(*records)
    assert not outcome.HasField("error"), outcome
    assert (outcome.messages_added, outcome.messages_known) == (0, len(api.log(id)))
    assert outcome.records_added == 0

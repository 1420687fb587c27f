"""P14: named cases of bad input, with the exact code, reason and metadata."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

import sessiond
from sessiond import v1
from sessiond_server.rpc import limits, page_tokens
from sessiond_server.rpc.server import SERVICES
from tests.rpc import lease_cases, reminder_cases, retention_cases
from tests.rpc.api import ASSISTANT, USER, Api, answering, calling, new, refused, said
from tests.rpc.cases import CASES, Case
from tests.rpc.field_cases import FIELDS
from tests.rpc.odd_values import nested
from tests.rpc.reasons import REASONS
from tests.rpc.refusals import Refusal, breaches
from tests.support import streamed
from tests.support.processes import ServerProcess

assert lease_cases
assert reminder_cases
assert retention_cases  # their cases are in the table now

_FROM_FAULTS = {
    "APPEND_TIMEOUT",
    "INTERNAL",
    "DATABASE_UNAVAILABLE",
    "SHUTTING_DOWN",
    "APPEND_QUEUE_FULL",
    "READ_QUEUE_FULL",
    "TOO_MANY_WATCHES",
    "TOO_MANY_DRAFTS",
    "SESSION_BUSY",
    "CREDENTIALS_INVALID",
    "API_KEY_NOT_FOUND",  # of a server that wants keys
    "PERMISSION_DENIED",
    "TOO_MANY_TRANSFERS",
    "SEARCH_DISABLED",
    "SEARCH_TOO_COSTLY",
    "UNKNOWN_FIELD",  # has a file of its own
}
_PATHS = {
    method.input_type.full_name: (f"/{service.full_name}/{method.name}", method.server_streaming)
    for service in SERVICES
    for method in service.methods
}


@pytest.fixture
def send(server: ServerProcess) -> Any:
    """Calls the method of a request, or sends bytes to it in the place of that request."""
    with grpc.insecure_channel(server.target) as channel:

        def call(request: Message, encoded: bytes | None = None) -> Any:
            path, streams = _PATHS[request.DESCRIPTOR.full_name]
            data = request.SerializeToString() if encoded is None else encoded
            method: Any = channel.unary_stream if streams else channel.unary_unary
            return method(path)(data)

        yield call


def _check(found: Refusal, reason: str) -> None:
    assert breaches(found) == []
    assert (found.reason, found.code) == (reason, REASONS[reason].code)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.reason}-{case.provoke.__name__}")
def test_P14_refusals_say_why(api: Api, case: Case) -> None:
    found, metadata = case.provoke(api)
    _check(found, case.reason)
    assert found.metadata == {key: str(value) for key, value in metadata.items()}


@pytest.mark.parametrize(
    ("request_", "field"), FIELDS, ids=lambda v: v if isinstance(v, str) else v.DESCRIPTOR.name
)
def test_P14_a_wrong_field_is_named(send: Any, request_: Message, field: str) -> None:
    found = refused(lambda: send(request_))
    _check(found, "INVALID_FIELD")
    assert found.metadata == {"field": field}
    assert found.fields[0] == field
    assert found.violations[0][1] in found.message


def test_P14_every_wrong_field_is_named(send: Any) -> None:
    session = v1.Session(owner="\0", labels={"": ""}, turn_index=-1)
    found = refused(lambda: send(v1.CreateSessionRequest(session=session, request_id=" ")))
    assert sorted(found.fields) == [
        "request_id",
        "session.labels['']",
        "session.owner",
        "session.turn_index",
    ]


def test_P14_a_thousand_wrong_fields_still_fit_the_answer(send: Any) -> None:
    """Clients refuse trailers over 8 KiB."""
    odd = v1.Message(client_id="\U0001f600" * 200, model="\U0001f600" * 300)
    request = v1.AppendMessagesRequest(session_id="s", messages=[odd] * 1000)
    found = refused(lambda: send(request))
    _check(found, "INVALID_FIELD")
    assert 3 < len(found.violations) <= 100
    labels = {f"{n}" + "\U000e0001" * 70: "\0" for n in range(64)}
    _check(
        refused(lambda: send(v1.CreateSessionRequest(session=v1.Session(labels=labels)))),
        "INVALID_FIELD",
    )


@pytest.mark.parametrize("character", ["x", "\U0001d54f", "\U000e0001", "'", "\\", "%"])
def test_P14_the_longest_ids_still_fit_the_answer(api: Api, character: str) -> None:
    def longest() -> str:
        id = new()
        return id + character * ((limits.SESSION_ID_BYTES - len(id)) // len(character.encode()))

    missing, id = longest(), longest()
    _check(refused(lambda: api.get(missing)), "SESSION_NOT_FOUND")
    _check(refused(lambda: api.child(missing)), "PARENT_NOT_FOUND")
    api.create(id, owner="a", title="x", agent=(agent := new()))
    _check(refused(lambda: api.create(id)), "SESSION_EXISTS")
    differs = v1.Session(owner="b")
    _check(refused(lambda: api.append(id, said(), create_session=differs)), "SESSION_DIFFERS")
    api.end(id)
    _check(refused(lambda: api.append(id, said())), "SESSION_ENDED")
    assert api.get(id).agent == agent


@pytest.mark.parametrize("character", ["\U0001d54f", "\U000e0001", "\u2028", "'", "\\"])
def test_P14_the_longest_texts_still_fit_the_answer(api: Api, character: str) -> None:
    id, longest = new().ljust(128, "x"), character * 256
    api.create(id)
    api.append(id, *(said() for _ in range(4)))
    api.lease(id, longest)
    _check(refused(lambda: api.append(id, said())), "WRITER_LEASE_HELD")
    api.plan(id, longest)
    _check(refused(lambda: api.plan(id)), "COMPACTION_LEASE_HELD")
    name = longest.encode()[: limits.NAME_BYTES].decode(errors="ignore")
    request = v1.ResolveSessionRequest(query=name)
    _check(refused(lambda: api.sessions.ResolveSession(request)), "SESSION_NOT_FOUND")
    title, owner = new()[:34] + character * 66, new("owner")
    api.create(title=title, owner=owner)
    if character.isprintable():
        titled = v1.CreateSessionRequest(
            session=v1.Session(title=title, owner=owner),
            title_conflict=v1.TitleConflict.TITLE_CONFLICT_REFUSE,
        )
        _check(refused(lambda: api.sessions.CreateSession(titled)), "TITLE_TAKEN")


@pytest.mark.parametrize("character", ["x", "\U0001d54f", "\U000e0001", "'", "\\", '"', "é"])
def test_P14_the_longest_candidates_still_fit_the_answer(api: Api, character: str) -> None:
    prefix = new()
    prefix += character * ((510 - len(prefix)) // len(character.encode()))
    for n in range(21):
        api.create(f"{prefix}{n:02}")
    request = v1.ResolveSessionRequest(query=prefix)
    _check(refused(lambda: api.sessions.ResolveSession(request)), "SESSION_AMBIGUOUS")


@pytest.mark.parametrize("encoded", [b"\xff", b"\x0a\x05ab", b"\x0a\x02\xff\xfe", b"\x08"])
@pytest.mark.parametrize("request_", [v1.GetSessionRequest(), v1.GetContextRequest()])
def test_P14_what_is_not_protobuf_is_refused_with_a_reason(
    send: Any, request_: Message, encoded: bytes
) -> None:
    found = refused(lambda: send(request_, encoded))
    _check(found, "INVALID_FIELD")
    assert found.fields == ["request"]
    assert request_.DESCRIPTOR.full_name in found.message


def test_P14_what_is_not_protobuf_ends_a_stream_with_a_reason(server: ServerProcess) -> None:
    with grpc.insecure_channel(server.target) as channel:
        stream: Any = channel.stream_stream("/sessiond.v1.MessageService/AppendStream")
        found = refused(lambda: list(stream(iter([b"\xff\xff"]))))
    _check(found, "INVALID_FIELD")


def test_P14_a_request_over_8_MiB_is_refused_by_grpc(send: Any) -> None:
    request = v1.GetSessionRequest(session_id="x" * (8 * 2**20 + 1))
    found = refused(lambda: send(request))
    assert found.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in found.message


def test_P14_a_method_that_is_not_there_is_unimplemented(server: ServerProcess) -> None:
    with grpc.insecure_channel(server.target) as channel:
        call: Any = channel.unary_unary("/sessiond.v1.SessionService/Nothing")
        assert refused(lambda: call(b"")).code is grpc.StatusCode.UNIMPLEMENTED


def test_P14_a_refused_append_of_a_stream_ends_nothing(api: Api) -> None:
    id = api.create().id
    wrong = v1.AppendMessagesRequest(session_id=id, messages=[said(client_id="a b")])
    good = v1.AppendMessagesRequest(session_id=id, messages=[said()])
    frames = iter([streamed.frame([wrong, good]), v1.AppendStreamRequest()])
    answers = api.messages.AppendStream(frames)
    results: list[v1.AppendResult] = []

    def read() -> None:
        for frame in answers:
            results.extend(frame.results)

    _check(refused(read), "INVALID_FIELD")  # the frame without appends
    assert results[0].error.field_violations[0].field == "messages[0].client_id"
    assert results[1].ack.first_seq == 1


def test_P14_a_thousand_refused_appends_of_a_frame_are_all_answered(api: Api) -> None:
    """Clients refuse answers over 4 MiB."""
    id = api.create().id
    odd = [v1.Message(client_id="a b", model="\0")] * 50
    wrong = v1.AppendMessagesRequest(session_id=id, messages=odd)
    good = v1.AppendMessagesRequest(session_id=id, messages=[said()])
    frames = iter([streamed.frame([*[wrong] * 999, good])])
    results = [result for frame in api.messages.AppendStream(frames) for result in frame.results]
    assert [result.WhichOneof("outcome") for result in results] == ["error"] * 999 + ["ack"]
    assert len(results[0].error.field_violations) == 100


@pytest.mark.parametrize("size", [1.9, 1.99])
def test_P10_messages_of_nearly_2_MiB_come_back_as_they_were(api: Api, size: float) -> None:
    text = "é\0" * int(size * 2**20 / 3)
    id = api.talk(0, message := said(text))
    assert sessiond.text_of(api.log(id)[0]) == text
    assert sessiond.text_of(api.context(id)[0]) == text
    assert api.append(id, message).replayed


def test_P14_what_is_too_large_leaves_nothing_behind(api: Api) -> None:
    id = api.create().id
    half = said("x" * 2**20)
    found = refused(lambda: api.append(id, half, said("x" * 2**20)))
    assert found.fields == ["messages"]
    assert str(2 * 2**20) in found.violations[0][1]
    assert api.get(id).next_seq == 1


@pytest.mark.parametrize(
    "text", ["", "\0", "a\0b", "\x1b[0m", "\u202e", "\ufeff", "e\u0301", "\ud7ff\U0010ffff", "\r\n"]
)
def test_P10_any_text_is_kept(api: Api, text: str) -> None:
    parts = [
        sessiond.reasoning(text, {"x": text.encode()}),
        v1.Part(text=text),
        v1.Part(refusal=text),
        sessiond.tool_call("c", "f", text),
        sessiond.tool_result("c", text, v1.Part(json=text)),
    ]
    message = sessiond.message(ASSISTANT, *parts, client_id=new(), extensions={"y": text.encode()})
    found = api.log(api.talk(0, message))[0]
    assert list(found.parts) == parts
    assert found.extensions["y"] == text.encode()


@pytest.mark.parametrize("arguments", ["", "{", '{"a": 1.0, "a": 1e400}', "\\ud800", "\0"])
def test_P10_tool_arguments_need_not_be_json(api: Api, arguments: str) -> None:
    call = v1.ToolCall(id="a", name="f", arguments=arguments)
    json = v1.Part(json="\0 not json")
    message = sessiond.message(ASSISTANT, json, v1.Part(tool_call=call), client_id="c")
    found = api.log(api.talk(0, message))[0]
    assert sessiond.tool_calls_of(found)[0].arguments == arguments
    assert found.parts[0].json == "\0 not json"


def test_P8_a_result_without_a_call_is_kept_and_opens_nothing(api: Api) -> None:
    id = api.talk(0, answering("nobody"), calling("a"))
    waiting = api.messages.ListOpenToolCalls(v1.ListOpenToolCallsRequest(session_id=id))
    assert [call.tool_call.id for call in waiting.open_tool_calls] == ["a"]
    assert sessiond.tool_results_of(api.log(id)[0])[0].tool_call_id == "nobody"
    assert api.get(id).open_tool_call_count == 1


def test_P10_metadata_at_the_limit_can_be_read_everywhere(api: Api) -> None:
    """An answer holds it further down than the request did."""
    deep, owner = nested(30), new()
    session = api.create(metadata=deep, owner=owner)
    api.append(session.id, said(metadata=deep))
    full = v1.SessionView.SESSION_VIEW_FULL
    listed = api.sessions.ListSessions(
        v1.ListSessionsRequest(filter=v1.SessionFilter(owner=owner), view=full)
    )
    assert listed.sessions[0].session.metadata == deep
    assert api.log(session.id)[0].metadata == deep
    assert api.full(api.fork(session.id).id).metadata == deep


def test_titles_are_stripped_and_bounded(api: Api) -> None:
    name = new("x")
    session = api.create(title=f"\u202e {name}\0\n\t\u200b  y\x7f ")
    assert session.title == f"{name} y"
    longest = new()[:34].ljust(100, "é")
    assert api.update(session.id, "title", title=f" {longest} ").title == longest
    assert api.update(session.id, "title", title=" \u200b").title == ""


def _first_page(api: Api) -> tuple[v1.ListMessagesRequest, str]:
    id = api.talk(6)
    request = v1.ListMessagesRequest(session_id=id, page_size=2)
    return request, api.messages.ListMessages(request).next_page_token


def _with_token(api: Api, request: v1.ListMessagesRequest, token: str) -> Refusal:
    request.page_token = token
    return refused(lambda: api.messages.ListMessages(request))


@pytest.mark.parametrize(
    "other",
    [
        v1.ListMessagesRequest(view=v1.MessageView.MESSAGE_VIEW_ALL),
        v1.ListMessagesRequest(order=v1.SortOrder.SORT_ORDER_DESCENDING),
        v1.ListMessagesRequest(roles=[USER]),
        v1.ListMessagesRequest(from_seq=1),
        v1.ListMessagesRequest(session_id="another"),
    ],
)
def test_P14_a_page_token_is_bound_to_its_arguments(
    api: Api, other: v1.ListMessagesRequest
) -> None:
    request, token = _first_page(api)
    request.MergeFrom(other)
    found = _with_token(api, request, token)
    _check(found, "PAGE_TOKEN_INVALID")
    assert found.metadata == {"field": "page_token"}


def test_P14_a_page_token_is_bound_to_its_method(api: Api) -> None:
    request, token = _first_page(api)
    other = v1.ListRewindsRequest(session_id=request.session_id, page_token=token)
    _check(refused(lambda: api.messages.ListRewinds(other)), "PAGE_TOKEN_INVALID")


def test_P14_a_page_token_that_was_changed_is_refused(api: Api) -> None:
    request, token = _first_page(api)
    for place in range(0, len(token) - 1, 3):
        changed = "A" if token[place] != "A" else "B"
        found = _with_token(api, request, token[:place] + changed + token[place + 1 :])
        _check(found, "PAGE_TOKEN_INVALID")
    for odd in (token[:-4], token + "AAAA", "é", "\0", "=", "x" * 100_000, "AQ=="):
        _check(_with_token(api, request, odd), "PAGE_TOKEN_INVALID")


@pytest.mark.parametrize(
    "place", [[2**70], [-(2**70)], [True], [None], [], ["1"], [1, 2], {"a": 1}, 1.5, [[1]]]
)
def test_P14_a_page_token_that_somebody_forged_harms_nobody(api: Api, place: Any) -> None:
    """The check sum is no secret: what it covers is looked at like any other input."""
    request = v1.ListRewindsRequest(session_id=api.create().id)
    request.page_token = page_tokens.encode(place, page_tokens.call_of("ListRewinds", request))
    _check(refused(lambda: api.messages.ListRewinds(request)), "PAGE_TOKEN_INVALID")


@pytest.mark.parametrize("time", ["", "x", "2026-01-01T00:00:00", "9999-12-31T23:59:59-23:00"])
def test_P14_a_forged_place_in_a_list_harms_nobody(api: Api, time: str) -> None:
    request = v1.ListSessionsRequest(filter=v1.SessionFilter(whole_tenant=True))
    call = page_tokens.call_of("ListSessions", request)
    key = "00000000-0000-0000-0000-000000000000"
    request.page_token = page_tokens.encode([True, time, key], call)
    _check(refused(lambda: api.sessions.ListSessions(request)), "PAGE_TOKEN_INVALID")


def test_P14_a_time_at_the_end_of_time_is_only_late(api: Api) -> None:
    request = v1.ListMessagesRequest(session_id=api.talk(2))
    request.start_time.seconds, request.start_time.nanos = 253_402_300_799, 999_999_999
    assert not api.messages.ListMessages(request).messages
    request.order = v1.SortOrder.SORT_ORDER_DESCENDING
    assert len(api.messages.ListMessages(request).messages) == 2


def test_P14_updates_cannot_make_a_message_that_no_answer_could_hold(api: Api) -> None:
    id = api.talk(0, said("x" * (2**21 - 1000)))
    request = v1.UpdateMessagesRequest(session_id=id)
    update = request.updates.add(
        message=v1.Message(extensions={"late": b"y" * (2**21 - 1000)}, seq=1)
    )
    update.update_mask.paths.append("extensions")
    _check(refused(lambda: api.messages.UpdateMessages(request)), "INVALID_FIELD")
    assert not api.log(id)[0].extensions


def test_P10_a_message_that_updates_made_larger_can_be_read_everywhere(api: Api) -> None:
    id, text = api.create(system_prompt="p" * 2**19).id, "x" * (2**21 - 1000)
    for message in (said(), said(text), said(text)):
        api.append(id, message)
    request = v1.UpdateMessagesRequest(session_id=id)
    update = request.updates.add(
        message=v1.Message(extensions={"late": b"y" * (2**20 - 1000)}, seq=2)
    )
    update.update_mask.paths.append("extensions")
    api.messages.UpdateMessages(request)
    size = update.ByteSize() + len(text)
    assert api.context(id)[1].ByteSize() > size - 1000
    assert api.context(id, as_of_seq=3)[1].ByteSize() < size - 2**19
    for around in (1, 2, 3):
        listed = v1.ListMessagesRequest(session_id=id, around_seq=around)
        assert api.messages.ListMessages(listed).messages
    named = v1.GetMessageRequest(session_id=id, seq=2)
    assert sessiond.text_of(api.messages.GetMessage(named).message) == text


def test_P14_every_reason_that_a_client_can_cause_has_a_case() -> None:
    elsewhere = {"INVALID_FIELD", "PAGE_TOKEN_INVALID", "REQUEST_ID_REUSED", "JOURNAL_FULL"}
    assert {case.reason for case in CASES} | elsewhere == REASONS.keys() - _FROM_FAULTS

"""A request that changes something is refused if it has a field that the server doesn't know (P14)."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor

from sessiond import v1
from sessiond_server.errors import UnknownField
from sessiond_server.rpc.decoding import decoder
from sessiond_server.rpc.policies import policy_of
from sessiond_server.rpc.server import SERVICES
from tests.rpc.api import Api, new, refused, said
from tests.rpc.refusals import breaches
from tests.support.processes import ServerProcess

METHODS = sorted(
    (method for service in SERVICES for method in service.methods), key=lambda m: m.full_name
)
CHANGING = [method for method in METHODS if not policy_of(method).reads]
METHODS_BY_NAME = {method.name: method for method in METHODS}
NUMBER = 15_000
EXTENSIONS = v1.Message.DESCRIPTOR.fields_by_name["extensions"].number
RESOURCES = (v1.Message, v1.Session, v1.Attachment, v1.Reminder)


def said_bytes() -> bytes:
    return said().SerializeToString()


def varint(number: int) -> bytes:
    low = number & 0x7F
    return bytes([low]) if number < 0x80 else bytes([low | 0x80]) + varint(number >> 7)


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def of(method: MethodDescriptor) -> str:
    return f"{method.containing_service.full_name}/{method.name}"


def called(channel: grpc.Channel, method: MethodDescriptor, request: bytes) -> None:
    path = f"/{of(method)}"
    sent: Any = iter([request]) if method.client_streaming else request
    kind = f"{'stream' if method.client_streaming else 'unary'}_"
    kind += "stream" if method.server_streaming else "unary"
    answer = getattr(channel, kind)(path)(sent, timeout=60)
    if method.server_streaming:
        list(answer)


@pytest.mark.parametrize("method", CHANGING, ids=of)
def test_P14_a_method_that_changes_something_refuses_an_unknown_field(
    server: ServerProcess, method: MethodDescriptor
) -> None:
    with grpc.insecure_channel(server.target) as channel:
        found = refused(lambda: called(channel, method, field(NUMBER, b"new")))
    assert breaches(found) == []
    assert found.reason == "UNKNOWN_FIELD"
    assert found.metadata == {"field": "request", "number": str(NUMBER)}
    assert found.fields == ["request"]


def test_P14_a_method_that_only_reads_ignores_an_unknown_field(
    server: ServerProcess, api: Api
) -> None:
    id = api.create().id
    method = METHODS_BY_NAME["GetSession"]
    request = v1.GetSessionRequest(session_id=id).SerializeToString() + field(NUMBER, b"new")
    with grpc.insecure_channel(server.target) as channel:
        called(channel, method, request)


def test_P14_nothing_is_done_and_what_has_the_field_is_named(
    server: ServerProcess, api: Api
) -> None:
    id = api.create(new()).id
    append = METHODS_BY_NAME["AppendMessages"]
    newer = said_bytes() + field(NUMBER, b"new")
    request = v1.AppendMessagesRequest(session_id=id, messages=[said()]).SerializeToString()
    with grpc.insecure_channel(server.target) as channel:
        found = refused(lambda: called(channel, append, request + field(2, newer)))
        assert (found.reason, found.fields) == ("UNKNOWN_FIELD", ["messages[1]"])
        assert api.get(id).message_count == 0
        filled_in = said_bytes() + field(199, b"of the server")
        called(channel, append, request + field(2, filled_in))
    assert api.get(id).message_count == 2


def paths(kind: Any, depth: int) -> list[list[Any]]:
    """The paths to every message within a type, to a depth."""
    found: list[list[Any]] = [[]]
    for its in kind.fields if depth else ():
        if its.message_type is not None:
            found += [[its, *rest] for rest in paths(its.message_type, depth - 1)]
    return found


def encoded_at(path: list[Any], unknown: bytes) -> bytes:
    for its in reversed(path):
        unknown = field(its.number, unknown)
    return unknown


@pytest.mark.parametrize("method", CHANGING, ids=of)
def test_P14_an_unknown_field_is_found_wherever_it_is(method: MethodDescriptor) -> None:
    """And what a resource has among the server's numbers is dropped wherever that is."""
    decode = decoder(method)
    for path in paths(method.input_type, 4):
        for number in (100, 199, NUMBER):
            holder = path[-1].message_type if path else method.input_type
            if number in holder.fields_by_number or holder.GetOptions().map_entry:
                continue
            request = encoded_at(path, field(number, b"new"))
            resource = holder in {kind.DESCRIPTOR for kind in RESOURCES}
            if resource and number < 200:
                assert decode(request).ByteSize() < len(request)
                continue
            with pytest.raises(UnknownField) as raised:
                decode(request)
            assert raised.value.metadata["number"] == str(number)
            named = raised.value.metadata["field"].split(".") if path else []
            steps = [its.name for its in path if not its.containing_type.GetOptions().map_entry]
            assert [it.partition("[")[0] for it in named] == steps


def test_P14_another_encoding_of_the_same_is_no_unknown_field() -> None:
    """What other libraries send: numbers that aren't packed, map entries without what is empty, fields in
    another order, or twice."""
    rule = v1.PruneSessionsRequest.DESCRIPTOR.fields_by_name["rule"].number
    sessions = v1.RetentionRule.DESCRIPTOR.fields_by_name["sessions"].number
    states = varint(v1.SessionFilter.DESCRIPTOR.fields_by_name["states"].number << 3)
    unpacked = field(rule, field(sessions, states + varint(2) + states + varint(1)))
    pruning: Any = decoder(METHODS_BY_NAME["PruneSessions"])(unpacked)
    assert list(pruning.rule.sessions.states) == [2, 1]
    names = [b"b", b"a", b"c"]
    message = b"".join([*(field(EXTENSIONS, field(1, it)) for it in names), said_bytes()])
    request = field(2, message) + field(1, b"first") + field(1, b"again")
    appending: Any = decoder(METHODS_BY_NAME["AppendMessages"])(request)
    assert appending.session_id == "again"
    assert dict(appending.messages[0].extensions) == {"a": b"", "b": b"", "c": b""}


def test_P14_an_unknown_field_is_found_in_another_encoding_of_the_same_length() -> None:
    """Entries without their empty values are as much shorter as an unknown field is long."""
    append = decoder(METHODS_BY_NAME["AppendMessages"])
    unknown = varint(90 << 3) + varint(1)
    assert len(unknown) == 3
    for entries in range(8):
        message = b"".join(field(EXTENSIONS, field(1, bytes([97 + n]))) for n in range(entries))
        with pytest.raises(UnknownField):
            append(field(2, message + unknown))
        with pytest.raises(UnknownField):
            append(field(2, message + 2 * unknown))

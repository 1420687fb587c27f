"""The synchronous client against gRPC's fake channel: requests out, answers and errors in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import grpc
import grpc_testing
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

import sessiond
from sessiond import v1

T = TypeVar("T")
SERVICES = {
    service.name: service
    for message in (
        v1.GetSessionRequest,
        v1.GetMessageRequest,
        v1.GetContextRequest,
        v1.AcquireWriterRequest,
    )
    for service in message.DESCRIPTOR.file.services_by_name.values()
}


class Fake:
    """A client whose calls run in a thread while the test plays the server."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._channel = grpc_testing.channel(SERVICES.values(), grpc_testing.strict_real_time())
        self._pool = pool
        self.client = sessiond.Client(channel=self._channel, timeout=7.0)

    def start(self, call: Callable[[sessiond.Client], T]) -> Future[T]:
        return self._pool.submit(call, self.client)

    def take(self, path: str) -> tuple[Any, Any]:
        """The request of the next call of this RPC, and what answers it."""
        _, request, rpc = self._channel.take_unary_unary(method(path))
        return request, rpc

    def take_stream(self, path: str) -> tuple[Any, Any]:
        _, request, rpc = self._channel.take_unary_stream(method(path))
        return request, rpc


def method(path: str) -> Any:
    service, name = path.split("/")
    return SERVICES[service].methods_by_name[name]


def answer(rpc: Any, response: Message) -> None:
    rpc.send_initial_metadata(())
    rpc.terminate(response, (), grpc.StatusCode.OK, "")


@pytest.fixture
def fake() -> Iterator[Fake]:
    with ThreadPoolExecutor(1) as pool:
        yield Fake(pool)


def test_a_call_returns_the_one_thing_that_its_answer_holds(fake: Fake) -> None:
    running = fake.start(lambda client: client.get_session("a", view="basic"))
    request, rpc = fake.take("SessionService/GetSession")
    assert request == v1.GetSessionRequest(session_id="a", view=v1.SessionView.SESSION_VIEW_BASIC)
    answer(rpc, v1.GetSessionResponse(session=v1.Session(id="a")))
    assert running.result() == v1.Session(id="a")


def test_an_answer_of_several_things_is_returned_whole(fake: Fake) -> None:
    message = v1.Message(role=v1.Role.ROLE_USER, text="hello", client_id="c")
    running = fake.start(lambda client: client.append("a", message, expected_next_seq=3))
    request, rpc = fake.take("MessageService/AppendMessages")
    assert request == v1.AppendMessagesRequest(
        session_id="a", messages=[message], expected_next_seq=3
    )
    ack = v1.AppendMessagesResponse(first_seq=3, last_seq=3, next_seq=4)
    answer(rpc, ack)
    assert running.result() == ack


def test_pages_are_read_as_the_iteration_goes_on(fake: Fake) -> None:
    running = fake.start(lambda client: list(client.list_messages("a", order="descending")))
    requests = []
    for seqs, token in (([9, 8], "t1"), ([], "t2"), ([7], "")):
        request, rpc = fake.take("MessageService/ListMessages")
        requests.append(request)
        page = [v1.Message(seq=seq) for seq in seqs]
        answer(rpc, v1.ListMessagesResponse(messages=page, next_page_token=token))
    assert [message.seq for message in running.result()] == [9, 8, 7]
    assert [request.page_token for request in requests] == ["", "t1", "t2"]
    assert {request.order for request in requests} == {v1.SortOrder.SORT_ORDER_DESCENDING}


def test_a_single_page_comes_with_its_tokens(fake: Fake) -> None:
    running = fake.start(lambda client: client.list_messages_page("a", around_seq=5, page_size=2))
    request, rpc = fake.take("MessageService/ListMessages")
    assert (request.around_seq, request.page_size) == (5, 2)
    page = v1.ListMessagesResponse(next_page_token="n", previous_page_token="p")
    answer(rpc, page)
    assert running.result() == page


def test_arguments_of_a_list_are_checked_when_it_is_called(fake: Fake) -> None:
    with pytest.raises(ValueError, match="exclude each other"):
        fake.client.list_messages("a", from_seq=1, around_seq=1)


def test_a_context_is_collected_from_its_pieces(fake: Fake) -> None:
    running = fake.start(lambda client: client.get_context("a", max_context_tokens=9))
    request, rpc = fake.take_stream("ContextService/GetContext")
    assert request == v1.GetContextRequest(session_id="a", max_context_tokens=9)
    rpc.send_initial_metadata(())
    totals = v1.ContextTotals(message_count=3, next_seq=9)
    rpc.send_response(v1.GetContextResponse(totals=totals, messages=[v1.Message(seq=1)]))
    rpc.send_response(v1.GetContextResponse(messages=[v1.Message(seq=4), v1.Message(seq=2)]))
    rpc.terminate((), grpc.StatusCode.OK, "")
    context = running.result()
    assert context.totals == totals
    assert [message.seq for message in context.messages] == [1, 4, 2]


def test_a_refusal_raises_the_domain_exception(fake: Fake) -> None:
    running = fake.start(lambda client: client.rewind("a", 3, expected_next_seq=5))
    _, rpc = fake.take("MessageService/RewindSession")
    status = status_pb2.Status(code=10, message="moved on")
    status.details.add().Pack(
        error_details_pb2.ErrorInfo(
            reason="NEXT_SEQ_MISMATCH", domain="sessiond", metadata={"next_seq": "8"}
        )
    )
    trailing = (("grpc-status-details-bin", status.SerializeToString()),)
    rpc.send_initial_metadata(())
    rpc.terminate(None, trailing, grpc.StatusCode.ABORTED, "moved on")
    with pytest.raises(sessiond.NextSeqMismatch, match="moved on") as raised:
        running.result()
    assert raised.value.next_seq == 8
    assert isinstance(raised.value.__cause__, grpc.RpcError)


def test_a_refused_stream_raises_too(fake: Fake) -> None:
    running = fake.start(lambda client: list(client.stream_context("a")))
    _, rpc = fake.take_stream("ContextService/GetContext")
    rpc.send_initial_metadata(())
    rpc.terminate((), grpc.StatusCode.NOT_FOUND, "no such session")
    with pytest.raises(sessiond.NotFound, match="no such session"):
        running.result()


def test_P4_creating_fills_in_what_makes_a_retry_safe(fake: Fake) -> None:
    running = fake.start(lambda client: client.create_session(title="T"))
    request, rpc = fake.take("SessionService/CreateSession")
    assert request.request_id
    assert request.session.id
    answer(rpc, v1.CreateSessionResponse(session=request.session, created=True))
    assert running.result().id == request.session.id


def test_a_writer_lease_is_taken_and_given_up(fake: Fake) -> None:
    def write(client: sessiond.Client) -> tuple[str, int, int, bool]:
        with client.writer("a", lease_ttl=60) as lease:
            return lease.token, lease.epoch, lease.next_seq, lease.lost

    running = fake.start(write)
    request, rpc = fake.take("WriterService/AcquireWriter")
    assert request.holder
    assert request.lease_ttl.seconds == 60
    answer(rpc, v1.AcquireWriterResponse(writer_token="t", epoch=4, next_seq=9))
    request, rpc = fake.take("WriterService/ReleaseWriter")
    assert request == v1.ReleaseWriterRequest(session_id="a", writer_token="t")
    answer(rpc, v1.ReleaseWriterResponse())
    assert running.result() == ("t", 4, 9, False)

"""Ids that change hands while calls are under way: nobody sees or changes what is another owner's (P12)."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import grpc
import pytest

import sessiond
from sessiond import v1
from tests.access.keyed import Keyed, keys_command, make_key
from tests.rpc.refusals import refusal
from tests.support import streamed

ROUNDS = 40
SECRET = "bob's alone"


class Stubs:
    """Bare stubs with a key, by the names of the methods."""

    def __init__(self, channel: grpc.Channel, key: str) -> None:
        self._metadata = (("authorization", f"Bearer {key}"),)
        self._methods: dict[str, Any] = {}
        for name in dir(v1):
            if name.endswith("Stub"):
                self._methods |= vars(getattr(v1, name)(channel))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method, request = self._methods[name], getattr(v1, f"{name}Request")

        def call(*requests: Any, **fields: Any) -> Any:
            sent = requests[0] if requests else request(**fields)
            return method(sent, metadata=self._metadata, timeout=60)

        return call


@pytest.fixture
def callers(keyed: Keyed) -> Iterator[tuple[Stubs, Stubs, Stubs]]:
    """Ada, Bob, and the service's own key, on connections of their own."""
    channels = [
        grpc.insecure_channel(
            keyed.server.target, options=[("grpc.use_local_subchannel_pool", True)]
        )
        for _ in range(3)
    ]
    ada, bob, service = map(Stubs, channels, (keyed.ada, keyed.bob, keyed.service))
    yield ada, bob, service
    for channel in channels:
        channel.close()


def said(text: str) -> v1.Message:
    return sessiond.message("user", text, client_id=uuid4().hex)


def tried(call: Callable[[], Any]) -> Any:
    """The answer, or the reason of the refusal."""
    try:
        return call()
    except grpc.RpcError as error:
        return refusal(error).reason


def texts(stubs: Stubs, session_id: str) -> list[str]:
    page = stubs.ListMessages(session_id=session_id, view=v1.MessageView.MESSAGE_VIEW_ALL)
    return [sessiond.text_of(message) for message in page.messages]


def at_once(calls: list[Callable[[], Any]]) -> list[Any]:
    """Make calls at the same moment; what each came to."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        barrier.wait()
        return tried(call)

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))


def appending(stubs: Stubs, id: str, text: str, **fields: Any) -> Callable[[], Any]:
    return lambda: stubs.AppendMessages(session_id=id, messages=[said(text)], **fields)


def test_P12_two_owners_that_make_one_session_at_once_do_not_share_it(
    callers: tuple[Stubs, Stubs, Stubs],
) -> None:
    ada, bob, service = callers
    owners = set()
    for number in range(ROUNDS):
        id = f"raced-{number}"
        sent = ((ada, "ada"), (bob, "bob"), (ada, "ada"))
        answers = at_once([appending(*it, create_session=v1.Session()) for it in with_id(sent, id)])
        owner = service.GetSession(session_id=id).session.owner
        owners.add(owner)
        assert set(texts(service, id)) == {owner}
        assert (answers[1] == "SESSION_EXISTS") is (owner == "ada"), answers
        assert (answers[0] == answers[2] == "SESSION_EXISTS") is (owner == "bob"), answers
        service.DeleteSession(session_id=id)
    assert owners == {"ada", "bob"}


def with_id(sent: Sequence[tuple[Stubs, str]], id: str) -> list[tuple[Stubs, str, str]]:
    return [(stubs, id, text) for stubs, text in sent]


def everything(ada: Stubs, id: str) -> dict[str, Callable[[], Any]]:
    """Calls of all kinds on one session."""

    def watch() -> None:
        target = v1.WatchTarget(session_id=id)
        call = ada.Watch(v1.WatchRequest(targets=[target]))
        next(call)
        call.cancel()

    summary = said("ada's summary")
    return {
        "append": appending(ada, id, "ada"),
        "list": lambda: ada.ListMessages(session_id=id),
        "context": lambda: list(ada.GetContext(session_id=id)),
        "get": lambda: ada.GetSession(session_id=id),
        "compact": lambda: ada.CompactSession(session_id=id, from_seq=1, to_seq=1, summary=summary),
        "delete": lambda: ada.DeleteSession(session_id=id),
        "watch": watch,
    }


def test_P12_calls_that_race_with_a_creation_answer_as_if_there_were_no_session(
    callers: tuple[Stubs, Stubs, Stubs],
) -> None:
    ada, bob, service = callers
    for number in range(ROUNDS):
        id = f"guessed-{number}"
        calls = everything(ada, id)
        new = v1.Session(system_prompt=SECRET)
        made, *answers = at_once([appending(bob, id, SECRET, create_session=new), *calls.values()])
        assert dict(zip(calls, answers, strict=True)) == dict.fromkeys(calls, "SESSION_NOT_FOUND")
        assert made.last_seq == 1
        assert texts(service, id) == [SECRET]


def read_and_write(stubs: Stubs, id: str, seen: list[str], stop: threading.Event) -> None:
    while not stop.is_set():
        page = tried(lambda: stubs.ListMessages(session_id=id))
        if not isinstance(page, str):
            seen += [sessiond.text_of(message) for message in page.messages]
        tried(appending(stubs, id, "ada"))


def test_P12_a_session_made_anew_by_somebody_else_is_not_reached_by_calls_to_the_old_one(
    callers: tuple[Stubs, Stubs, Stubs],
) -> None:
    """Each round Ada deletes her session and Bob makes one of the same id, while Ada reads and appends."""
    ada, bob, service = callers
    for number in range(ROUNDS):
        id = f"handed-{number}"
        ada.CreateSession(session=v1.Session(id=id))
        seen: list[str] = []
        stop = threading.Event()
        with ThreadPoolExecutor(3) as threads:
            reading = [threads.submit(read_and_write, ada, id, seen, stop) for _ in range(3)]
            try:
                ada.DeleteSession(session_id=id)
                appending(bob, id, SECRET, create_session=v1.Session())()
                time.sleep(0.05)
            finally:
                stop.set()
            for future in reading:
                future.result()
        assert SECRET not in seen
        assert texts(service, id) == [SECRET]


def test_P12_an_upload_does_not_go_on_in_a_session_of_somebody_else(
    callers: tuple[Stubs, Stubs, Stubs],
) -> None:
    ada, bob, service = callers
    ada.CreateSession(session=v1.Session(id="files"))
    frames: queue.Queue[v1.UploadAttachmentRequest | None] = queue.Queue()
    attachment = v1.Attachment(id="a1", name="ada.txt")
    frames.put(
        v1.UploadAttachmentRequest(session_id="files", attachment=attachment, chunk=b"ada's data")
    )
    with ThreadPoolExecutor(1) as threads:
        upload = threads.submit(tried, lambda: ada.UploadAttachment(iter(frames.get, None)))
        time.sleep(0.3)
        ada.DeleteSession(session_id="files")
        bob.CreateSession(session=v1.Session(id="files"))
        frames.put(v1.UploadAttachmentRequest(chunk=b"more", last=True))
        frames.put(None)
        assert upload.result() == "SESSION_NOT_FOUND"
    assert not service.ListAttachments(session_id="files").attachments


def test_P12_open_streams_of_a_key_that_is_revoked_end(keyed: Keyed) -> None:
    key = make_key(keyed.dsn, "--owner", "carol")
    with grpc.insecure_channel(keyed.server.target) as channel:
        carol = Stubs(channel, key)
        carol.CreateSession(session=v1.Session(id="carols"))
        frames: queue.Queue[v1.AppendStreamRequest | None] = queue.Queue()
        appending_stream = carol.AppendStream(iter(frames.get, None))
        target = v1.WatchTarget(session_id="carols")
        watching = carol.Watch(v1.WatchRequest(targets=[target]))

        def append(text: str) -> None:
            request = v1.AppendMessagesRequest(session_id="carols", messages=[said(text)])
            frames.put(streamed.frame([request]))
            time.sleep(0.1)

        append("one")
        assert next(appending_stream).results[0].ack.last_seq == 1
        next(watching)
        assert keys_command(keyed.dsn, "revoke", key.split("_")[1]).returncode == 0
        ended = [reason_at_the_end(appending_stream, lambda: append("more"))]
        service = Stubs(channel, keyed.service)
        ended.append(reason_at_the_end(watching, appending(service, "carols", "news")))
        assert ended == ["CREDENTIALS_INVALID"] * 2
        frames.put(None)


def test_P12_a_watch_is_told_that_its_key_is_good_no_more(keyed: Keyed) -> None:
    """Its last frame says why it ends, and gives no time to come back with the same key."""
    key = make_key(keyed.dsn, "--owner", "dora")
    with grpc.insecure_channel(keyed.server.target) as channel:
        dora = Stubs(channel, key)
        dora.CreateSession(session=v1.Session(id="doras"))
        target = v1.WatchTarget(session_id="doras")
        watching = dora.Watch(v1.WatchRequest(targets=[target]))
        frames = [next(watching)]
        assert keys_command(keyed.dsn, "revoke", key.split("_")[1]).returncode == 0
        poke = appending(Stubs(channel, keyed.service), "doras", "news")
        assert reason_at_the_end(watching, poke, frames) == "CREDENTIALS_INVALID"
        (event,) = frames[-1].events
        assert event.goodbye.reason == v1.GoodbyeReason.GOODBYE_REASON_CREDENTIALS_INVALID
        assert not event.goodbye.HasField("retry_delay")


def reason_at_the_end(
    stream: Any, poke: Callable[[], None], received: list[Any] | None = None
) -> str:
    """Why a stream ends, whose caller goes on for as long as it can; what comes is put into `received`."""
    received = [] if received is None else received
    try:
        while True:
            poke()
            received.append(next(stream))
    except grpc.RpcError as error:
        return refusal(error).reason

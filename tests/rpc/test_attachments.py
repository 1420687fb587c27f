"""Attachments over the wire: uploads, ranges, names, limits, what is refused."""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import pytest

from sessiond import v1
from tests.rpc.api import USER, Api, new, refused
from tests.support.patience import PATIENCE
from tests.support.processes import ServerProcess

Start = Callable[..., ServerProcess]
KIB = 2**10


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def frames(*requests: v1.UploadAttachmentRequest) -> Iterator[v1.UploadAttachmentRequest]:
    return iter(requests)


def first(session_id: str, **fields: Any) -> v1.UploadAttachmentRequest:
    return v1.UploadAttachmentRequest(session_id=session_id, **fields)


class Endless:
    """Requests of which only the first comes, until the call is over."""

    def __init__(self, only: v1.UploadAttachmentRequest) -> None:
        self._only: v1.UploadAttachmentRequest | None = only
        self.asked = threading.Event()
        self.over = threading.Event()

    def __iter__(self) -> Endless:
        return self

    def __next__(self) -> v1.UploadAttachmentRequest:
        only, self._only = self._only, None
        if only is None:
            self.asked.set()
            self.over.wait(60)
            raise StopIteration
        return only


def until(met: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not met():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_A_files_of_a_session_come_back_as_they_went_in(api: Api) -> None:
    id = api.create().id
    content = noise(3 * 2**20 + 17)
    made = api.upload(id, content, "docs/report.pdf", metadata={"page": 3}).attachment
    assert (made.name, made.mime_type, made.size) == (
        "docs/report.pdf",
        "application/pdf",
        len(content),
    )
    assert made.sha256 == hashlib.sha256(content).digest()
    assert made.disposition == v1.Disposition.DISPOSITION_ATTACHMENT
    assert made.metadata["page"] == 3
    assert made.create_time.seconds
    assert api.download(id, made.id) == content
    request = v1.GetAttachmentRequest(session_id=id, attachment_id=made.id)
    assert api.attachments.GetAttachment(request).attachment == made
    download = v1.DownloadAttachmentRequest(session_id=id, attachment_id=made.id)
    facts, *pieces = api.attachments.DownloadAttachment(download)
    assert facts == v1.DownloadAttachmentResponse(attachment=made)
    assert not any(piece.HasField("attachment") for piece in pieces)
    gone = v1.DeleteAttachmentRequest(session_id=id, attachment_id=made.id)
    assert api.attachments.DeleteAttachment(gone).deleted
    assert refused(lambda: api.attachments.GetAttachment(request)).reason == "ATTACHMENT_NOT_FOUND"
    gone.allow_missing = True
    assert not api.attachments.DeleteAttachment(gone).deleted


@pytest.mark.parametrize("size", [0, 1, 256 * KIB - 1, 256 * KIB, 2**20, 2**20 + 1, 2_500_000])
def test_A_files_of_a_session_are_read_in_any_range(api: Api, size: int) -> None:
    """The bytes of a range are those of a slice, whatever chunks lie beneath."""
    id, chance, content = api.create().id, random.Random(size), noise(size, size)
    attachment = api.upload(id, content).attachment.id
    edges = {at for edge in range(0, size + 1, 256 * KIB) for at in (edge - 1, edge, edge + 1)}
    places = [
        at for at in (*edges, size, *(chance.randint(0, size) for _ in range(8))) if 0 <= at <= size
    ]
    for offset in places:
        for length in (0, 1, chance.randint(1, size + 10), 2**62):
            end = offset + length if length else size
            assert api.download(id, attachment, offset, length) == content[offset:end]
    beyond = refused(partial(api.download, id, attachment, size + 1))
    assert (beyond.reason, beyond.fields) == ("INVALID_FIELD", ["offset"])


def test_A_files_of_a_session_get_numbers_when_their_names_are_taken(api: Api) -> None:
    id = api.create().id
    names = ["a.txt", "a.txt", "b/a.txt", "a.txt", "a.txt/x", "b", "b\\a.txt", "A.txt"]
    stored = [api.upload(id, name=name).attachment.name for name in names]
    assert stored == [
        *("a.txt", "a_1.txt", "b/a.txt", "a_2.txt"),
        *("a_3.txt/x", "b_1", "b/a_1.txt", "A.txt"),
    ]
    assert [it.name for it in api.files(id)] == sorted(stored)
    assert [it.name for it in api.files(id, "b/")] == ["b/a.txt", "b/a_1.txt"]
    assert api.files(id, "%") == []


def test_A_files_of_a_session_have_safe_names(api: Api) -> None:
    id = api.create().id
    asked = {
        "C:\\fakepath\\photo.png": "C_/fakepath/photo.png",
        ".ssh/authorized_keys": "ssh/authorized_keys",
        "gpj.\u202etxt\0.pdf": "gpj.txt.pdf",
        "aux.txt": "_aux.txt",
        "e\u0301.txt": "é.txt",
        "": "file",
    }
    for name, safe in asked.items():
        assert api.upload(id, name=name).attachment.name == safe
    assert api.upload(id, mime_type="image/png").attachment.name == "file.png"
    for name in ("../x", "a/../../x", "/etc/passwd", "\\x", "a/" * 16 + "b", "x" * 1025):
        found = refused(partial(api.upload, id, name=name))
        assert (found.reason, found.fields) == ("INVALID_FIELD", ["attachment.name"])


async def test_A_files_of_a_session_have_unique_names_under_concurrency(
    server: ServerProcess,
) -> None:
    id = new()
    async with grpc.aio.insecure_channel(server.target) as channel:
        sessions = v1.SessionServiceStub(channel)
        await sessions.CreateSession(v1.CreateSessionRequest(session=v1.Session(id=id)))
        stub = v1.AttachmentServiceStub(channel)
        named = v1.Attachment(name="x.txt")
        uploads = [
            stub.UploadAttachment(
                frames(first(id, attachment=named, chunk=b"%d" % (number % 5), last=True))
            )
            for number in range(20)
        ]
        names = {(await upload).attachment.name for upload in uploads}
        assert names == {"x.txt", *(f"x_{number}.txt" for number in range(1, 20))}


def test_A_images_are_referenced_by_messages_and_stay_with_them(api: Api) -> None:
    id = api.create().id
    image = api.upload(id, noise(50_000), "cat.png").attachment
    media = v1.Media(attachment_id=image.id, mime_type=image.mime_type, name=image.name)
    message = v1.Message(client_id="m", role=USER, parts=[v1.Part(image=media)])
    api.append(id, message)
    fork = api.fork(id).id
    api.delete(id)
    shown = api.context(fork)[0].parts[0].image
    assert shown == media
    assert api.download(fork, shown.attachment_id) == noise(50_000)


def test_an_append_may_name_an_attachment_that_is_not_there(api: Api) -> None:
    """It may be uploaded later, or be deleted: an append doesn't look."""
    id = api.create().id
    media = v1.Media(attachment_id="later")
    api.append(id, v1.Message(client_id="m", role=USER, parts=[v1.Part(file=media)]))
    api.upload(id, b"here", id="later")
    assert api.download(id, "later") == b"here"
    odd = v1.Media(attachment_id="a b")
    message = v1.Message(client_id="n", role=USER, parts=[v1.Part(file=odd)])
    found = refused(lambda: api.append(id, message))
    assert found.fields == ["messages[0].parts[0].file.attachment_id"]


def test_A_published_inline_content_is_kept_as_such(api: Api) -> None:
    id = api.create().id
    inline = v1.Disposition.DISPOSITION_INLINE
    facts = {"disposition": inline, "mime_type": "text/html; charset=utf-8"}
    made = api.upload(id, b"<p>hi</p>", "page.html", **facts).attachment
    assert (made.disposition, made.mime_type) == (inline, "text/html; charset=utf-8")
    assert api.files(id) == [made]


def test_P4_an_upload_is_safe_to_repeat(api: Api) -> None:
    id, content = api.create().id, noise(300_000)
    made = api.upload(id, content, "a.bin", id="it")
    again = api.upload(id, content, "other.bin", id="it")
    assert (made.replayed, again.replayed) == (False, True)
    assert again.attachment == made.attachment
    known = first(id, attachment=v1.Attachment(id="it"), sha256=made.attachment.sha256)
    assert api.attachments.UploadAttachment(frames(known)).replayed, "no bytes are needed"
    for other in (content + b"x", b""):
        assert refused(partial(api.upload, id, other, id="it")).reason == "ATTACHMENT_ID_REUSED"
    api.end(id)
    assert api.upload(id, content, id="it").replayed, "as with appends"
    assert refused(partial(api.upload, id, content, id="new")).reason == "SESSION_ENDED"


async def test_P4_the_same_upload_many_times_at_once_is_one(server: ServerProcess) -> None:
    async with grpc.aio.insecure_channel(server.target) as channel:
        id, stub = new(), v1.AttachmentServiceStub(channel)
        created = v1.CreateSessionRequest(session=v1.Session(id=id))
        await v1.SessionServiceStub(channel).CreateSession(created)
        frame = first(id, attachment=v1.Attachment(id="it", name="x"), chunk=b"x", last=True)
        calls = [stub.UploadAttachment(frames(frame)) for _ in range(12)]
        answers = await asyncio.gather(*calls)
        assert sum(not answer.replayed for answer in answers) == 1
        listed = await stub.ListAttachments(v1.ListAttachmentsRequest(session_id=id))
        assert [it.name for it in listed.attachments] == ["x"]


def test_P14_what_breaks_off_or_differs_is_not_stored(api: Api) -> None:
    id, content = api.create().id, b"some bytes"
    wrong = bytes(32)
    cases = {
        "last": [first(id, chunk=content)],
        "size": [first(id, chunk=content, size=9, last=True)],
        "sha256": [first(id, chunk=content, sha256=wrong, last=True)],
        "chunk": [first(id, chunk=bytes(2**20 + 1), last=True)],
    }
    late = v1.UploadAttachmentRequest(size=11, last=True)
    for field, sent in [*cases.items(), ("size", [first(id, chunk=content, size=10), late])]:
        found = refused(partial(api.attachments.UploadAttachment, frames(*sent)))
        assert (found.reason, found.fields) == ("INVALID_FIELD", [field])
    assert refused(lambda: api.attachments.UploadAttachment(frames())).fields == ["session_id"]
    assert refused(partial(api.upload, "nobody")).reason == "SESSION_NOT_FOUND"
    assert api.files(id) == []
    checked = first(id, chunk=content, size=10, sha256=hashlib.sha256(content).digest(), last=True)
    assert api.attachments.UploadAttachment(frames(checked)).attachment.size == 10


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("id", {"id": "a b"}),
        ("id", {"id": "x" * 129}),
        ("name", {"name": "x" * 1025}),
        ("mime_type", {"mime_type": "png"}),
        ("mime_type", {"mime_type": "text/" + "x" * 300}),
        ("mime_type", {"mime_type": "text/plain; a\nb"}),
        ("disposition", {"disposition": 9}),
        ("metadata", {"metadata": {"text": "x" * 70_000}}),
    ],
)
def test_P14_facts_that_break_their_form_are_named(
    api: Api, field: str, wrong: dict[str, Any]
) -> None:
    facts = {"name": "x", **wrong}
    found = refused(lambda: api.upload(api.create().id, **facts))
    assert found.reason == "INVALID_FIELD"
    assert found.fields[0] == f"attachment.{field}"


def test_A_files_of_a_session_are_listed_in_pages(api: Api) -> None:
    id = api.create().id
    names = [f"{folder}/{number:02}\U0001f600.txt" for folder in "ab" for number in range(12)]
    big = {"text": "x" * 60_000}
    for name in names:
        api.upload(id, name=name, metadata=big)
    for prefix, size in (("", 1000), ("", 5), ("b/", 4)):
        request = v1.ListAttachmentsRequest(session_id=id, path_prefix=prefix, page_size=size)
        found: list[str] = []
        while True:
            page = api.attachments.ListAttachments(request)
            assert page.ByteSize() <= 2**21
            found += [it.name for it in page.attachments]
            request.page_token = page.next_page_token
            if not page.next_page_token:
                break
        assert found == [name for name in names if name.startswith(prefix)]
    assert all(one < other for one, other in pairwise(names))
    assert refused(partial(api.files, "nobody")).reason == "SESSION_NOT_FOUND"


@pytest.fixture
def small(start_server: Start, dsn: str) -> Iterator[Api]:
    """A server that takes little."""
    server = start_server(
        SESSIOND_DSN=dsn,
        SESSIOND_ATTACHMENT_BYTES="2000000",
        SESSIOND_SESSION_ATTACHMENTS="3",
        SESSIOND_SESSION_ATTACHMENT_BYTES="2500000",
        SESSIOND_ATTACHMENT_UPLOADS="2",
        SESSIOND_ATTACHMENT_DOWNLOADS="1",
        SESSIOND_ATTACHMENT_TIMEOUT="1",
        SESSIOND_ATTACHMENT_REFUSED_EXTENSIONS="exe, .BAT",
    )
    options = [("grpc.http2.bdp_probe", 0)]
    with grpc.insecure_channel(server.target, options=options) as channel:
        yield Api(channel)
    assert not server.bugs()


def test_A_files_of_a_session_have_limits_that_name_themselves(small: Api) -> None:
    id = small.create().id
    told = first(id, size=2_000_001)
    for upload in (
        lambda: small.upload(id, bytes(2_000_001)),
        lambda: small.attachments.UploadAttachment(frames(told)),
    ):
        found = refused(upload)
        assert found.reason == "ATTACHMENT_OVER_LIMIT"
        assert found.metadata == {"setting": "attachment_bytes", "limit": "2000000"}
        assert "2000000" in found.message
    small.upload(id, bytes(2_000_000))
    found = refused(lambda: small.upload(id, bytes(500_001)))
    assert found.metadata == {"setting": "session_attachment_bytes", "limit": "2500000"}
    small.upload(id, bytes(500_000))
    small.upload(id, b"")
    assert refused(lambda: small.upload(id, b"")).metadata["setting"] == "session_attachments"
    assert len(small.files(id)) == 3


EXECUTABLES = {
    "ELF": b"\x7fELF\x02\x01\x01",
    "MZ": b"MZ\x90\0\x03\0\0\0",
    "Mach-O": b"\xcf\xfa\xed\xfe\x07",
    "script": b"#!/bin/sh\necho",
}


def test_A_files_of_a_session_are_no_executables(small: Api, api: Api) -> None:
    id = small.create().id
    for kind, content in EXECUTABLES.items():
        found = refused(partial(small.upload, id, content, "photo.png"))
        assert (found.reason, found.metadata["kind"]) == ("ATTACHMENT_TYPE_REFUSED", kind)
    for name in ("a.exe", "a/b.BAT", "a.exe "):
        assert refused(partial(small.upload, id, b"x", name)).reason == "ATTACHMENT_TYPE_REFUSED"
    small.upload(id, b"MZ is how this text begins", "a.sh")
    assert len(small.files(id)) == 1
    assert refused(partial(api.upload, api.create().id, b"x", "a.sh")).metadata["kind"] == ".sh"


def test_executables_can_be_allowed(start_server: Start, dsn: str) -> None:
    server = start_server(SESSIOND_DSN=dsn, SESSIOND_ATTACHMENT_EXECUTABLES="true")
    with grpc.insecure_channel(server.target) as channel:
        own = Api(channel)
        id = own.create().id
        for content in EXECUTABLES.values():
            own.upload(id, content, "a.exe")
        assert len(own.files(id)) == 4


def test_P13_uploads_are_bounded_in_number_and_in_silence(small: Api) -> None:
    id = small.create().id
    waits = [Endless(first(id)) for _ in range(2)]
    calls = [small.attachments.UploadAttachment.future(wait) for wait in waits]
    for wait in waits:
        wait.asked.wait(10)
    assert refused(lambda: small.upload(id)).reason == "TOO_MANY_TRANSFERS"
    for call, wait in zip(calls, waits, strict=True):
        found = refused(call.result)
        assert (found.reason, found.fields) == ("INVALID_FIELD", ["chunk"])
        assert "1 s" in found.message
        wait.over.set()
    small.upload(id)


def test_P13_a_download_that_is_not_read_is_cut_off(small: Api) -> None:
    id = small.create().id
    big = small.upload(id, noise(2_000_000)).attachment.id
    request = v1.DownloadAttachmentRequest(session_id=id, attachment_id=big)
    call = small.attachments.DownloadAttachment(request)
    assert next(call).HasField("attachment")
    found = refused(lambda: small.download(id, big))
    assert (found.reason, found.metadata) == ("TOO_MANY_TRANSFERS", {"limit": "1"})
    time.sleep(3)
    with pytest.raises(grpc.RpcError):
        list(call)
    until(lambda: _downloads(small, id, big))


def _downloads(api: Api, id: str, attachment: str) -> bool:
    try:
        return api.download(id, attachment) == noise(2_000_000)
    except grpc.RpcError:
        return False


def test_P13_frames_without_bytes_are_no_sign_of_life(small: Api) -> None:
    id = small.create().id

    def sent() -> Iterator[v1.UploadAttachmentRequest]:
        yield first(id, chunk=b"x")
        for _ in range(100):
            time.sleep(0.1)
            yield v1.UploadAttachmentRequest()

    assert refused(lambda: small.attachments.UploadAttachment(sent())).fields == ["chunk"]


@pytest.fixture
def narrow(start_server: Start, dsn: str) -> Iterator[tuple[Api, ServerProcess]]:
    """A server with two connections to its database, and a channel that takes little at a time."""
    server = start_server(SESSIOND_DSN=dsn, SESSIOND_CONNECTIONS="2", SESSIOND_JOBS="false")
    options = [("grpc.http2.bdp_probe", 0)]
    with grpc.insecure_channel(server.target, options=options) as channel:
        yield Api(channel), server
    assert not server.bugs()


def _begun(api: Api, id: str, attachment: str) -> Any:
    """A download of which nothing but the facts is read."""
    request = v1.DownloadAttachmentRequest(session_id=id, attachment_id=attachment)
    call = api.attachments.DownloadAttachment(request)
    assert next(call).HasField("attachment")
    return call


def test_P13_transfers_that_stand_still_hold_no_connection(
    narrow: tuple[Api, ServerProcess],
) -> None:
    api, _ = narrow
    id = api.create().id
    content = noise(8_000_000)
    attachment = api.upload(id, content).attachment.id
    downloads = [_begun(api, id, attachment) for _ in range(5)]
    waits = [Endless(first(id, chunk=noise(2**20, n))) for n in range(5)]
    uploads = [api.attachments.UploadAttachment.future(wait) for wait in waits]
    for wait in waits:
        assert wait.asked.wait(30)
    assert api.get(id).id == id
    assert api.upload(id, b"others go on").attachment.size == 12
    for download in downloads:
        assert b"".join(frame.chunk for frame in download) == content
    for upload, wait in zip(uploads, waits, strict=True):
        wait.over.set()
        assert refused(upload.result).fields == ["last"]


def test_a_download_ends_when_its_attachment_is_deleted(narrow: tuple[Api, ServerProcess]) -> None:
    api, _ = narrow
    id = api.create().id
    attachment = api.upload(id, noise(20_000_000)).attachment.id
    call = _begun(api, id, attachment)
    request = v1.DeleteAttachmentRequest(session_id=id, attachment_id=attachment)
    api.attachments.DeleteAttachment(request)
    assert refused(lambda: call).reason == "ATTACHMENT_NOT_FOUND"


def test_a_server_that_stops_ends_transfers(narrow: tuple[Api, ServerProcess]) -> None:
    """At once, though some stand still; an upload under way leaves nothing."""
    api, server = narrow
    id = api.create().id
    attachment = api.upload(id, noise(20_000_000)).attachment.id
    stuck = _begun(api, id, attachment)
    wait = Endless(first(id, chunk=noise(2**20)))
    upload = api.attachments.UploadAttachment.future(wait)
    assert wait.asked.wait(30)
    stopping = threading.Thread(target=server.stop)
    stopping.start()
    assert refused(upload.result).reason == "SHUTTING_DOWN"
    wait.over.set()
    stopping.join()
    assert server.process.returncode == 0
    with pytest.raises(grpc.RpcError):
        list(stuck)


def test_P13_a_large_file_takes_little_memory(narrow: tuple[Api, ServerProcess]) -> None:
    api, server = narrow
    id = api.create().id
    before = _peak(server)
    content = noise(60 * 2**20)
    attachment = api.upload(id, content).attachment.id
    assert api.download(id, attachment) == content
    # gRPC reads more ahead on a busy machine, but a server that held the file would need all of its size.
    assert _peak(server) - before < 55 * 2**20


def _peak(server: ServerProcess) -> int:
    """The most memory that it has had, in bytes."""
    status = Path(f"/proc/{server.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024  # type: ignore[index]


def test_A_files_of_a_session_may_have_the_longest_names(api: Api) -> None:
    id = api.create().id
    name = "/".join([*("é" * 127, "ü" * 127, "\U0001f600" * 63), "x" * 250 + ".txt"])
    names = [api.upload(id, name=name).attachment.name for _ in range(3)]
    assert names[0] == name
    assert [len(it.rpartition("/")[2]) for it in names] == [254, 255, 255]
    assert names[2].endswith("x_2.txt")
    assert [it.name for it in api.files(id)] == sorted(names)

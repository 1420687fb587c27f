"""Uploads and downloads of the library, over real sockets that break."""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, cast

import grpc
import pytest

import sessiond
from sessiond import AsyncClient, Client, v1
from tests.client.flaky import Flaky
from tests.support.processes import ServerProcess

CONTENT = random.Random(7).randbytes(5_000_000)


class Stream(io.RawIOBase):
    """A file that can be read once only."""

    def __init__(self, content: bytes) -> None:
        self._file = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._file.readinto(buffer)


def sources(place: Path) -> list[Any]:
    """The same bytes in every form; those of an open file follow others."""
    path = place / "data.bin"
    path.write_bytes(CONTENT)
    opened = io.BytesIO(b"before" + CONTENT)
    opened.seek(6)
    return [CONTENT, memoryview(CONTENT), path, str(path), opened, Stream(CONTENT)]


def test_A_files_of_a_session_are_updated_by_the_library(server: ServerProcess) -> None:
    with Client(server.target) as client:
        id = client.create_session().id
        made = client.upload_attachment(id, b"x", name="a.log", metadata={"a": 1}).attachment
        renamed = client.update_attachment(
            id, made.id, name="b.log", set_metadata={"b": 2}, remove_metadata=["a"], etag=made.etag
        )
        assert (renamed.name, dict(renamed.metadata)) == ("b.log", {"b": 2})
        with pytest.raises(sessiond.EtagMismatch) as stale:
            client.update_attachment(id, made.id, mime_type="", etag=made.etag)
        assert stale.value.metadata["etag"] == renamed.etag
        with pytest.raises(ValueError, match="not both"):
            client.update_attachment(id, made.id, metadata={}, remove_metadata=["a"])


def test_A_files_of_a_session_by_the_library(server: ServerProcess, tmp_path: Path) -> None:
    with Client(server.target) as client:
        id = client.create_session().id
        for source in sources(tmp_path):
            answer = client.upload_attachment(
                id, source, mime_type="text/x-log", disposition="inline", metadata={"a": 1}
            )
            made = answer.attachment
            assert made.sha256 == hashlib.sha256(CONTENT).digest()
            assert (made.mime_type, made.disposition, made.metadata["a"]) == ("text/x-log", 1, 1)
            assert client.get_attachment(id, made.id) == made
            assert client.read_attachment(id, made.id) == CONTENT
        assert client.read_attachment(id, made.id, offset=3, length=4) == CONTENT[3:7]
        assert client.read_attachment(id, made.id, offset=len(CONTENT)) == b""
        names = [it.name for it in client.list_attachments(id, page_size=2)]
        assert names == ["data.bin", "data_1.bin", "file", "file_1", "file_2", "file_3"]
        assert [it.name for it in client.list_attachments(id, path_prefix="d")] == names[:2]
        assert client.delete_attachment(id, made.id)
        assert not client.delete_attachment(id, made.id, allow_missing=True)
        with pytest.raises(sessiond.AttachmentNotFound):
            client.read_attachment(id, made.id)
        with pytest.raises(sessiond.AttachmentTypeRefused):
            client.upload_attachment(id, b"#!/bin/sh")
        with pytest.raises(FileNotFoundError):
            client.upload_attachment(id, tmp_path / "none")


async def test_A_files_of_a_session_by_the_asynchronous_library(
    server: ServerProcess, tmp_path: Path
) -> None:
    async with AsyncClient(server.target) as client:
        id = (await client.create_session()).id
        for source in sources(tmp_path):
            made = (await client.upload_attachment(id, source, name="a/b.txt")).attachment
            assert await client.read_attachment(id, made.id) == CONTENT
        assert await client.read_attachment(id, made.id, offset=3, length=4) == CONTENT[3:7]
        assert [it.name async for it in client.list_attachments(id, path_prefix="a/b_4")] == [
            "a/b_4.txt"
        ]
        target = tmp_path / "copy"
        target.write_bytes(b"older")
        assert await client.save_attachment(id, made.id, target) == made
        assert target.read_bytes() == CONTENT
        with pytest.raises(sessiond.AttachmentNotFound):
            await client.save_attachment(id, "none", target)
        assert target.read_bytes() == CONTENT
        assert await client.delete_attachment(id, made.id)


def test_P4_an_upload_over_connections_that_break_is_stored_once(server: ServerProcess) -> None:
    with Flaky(server.target, [300_000, 2_000_000]) as way, Client(way.target) as client:
        with Client(server.target) as direct:
            id = direct.create_session().id
        answer = client.upload_attachment(id, CONTENT, name="x")
        assert way.connections == 3
        assert [it.name for it in client.list_attachments(id)] == ["x"]
        assert client.read_attachment(id, answer.attachment.id) == CONTENT


async def test_P4_an_asynchronous_upload_over_connections_that_break(
    server: ServerProcess, tmp_path: Path
) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(CONTENT)
    async with AsyncClient(server.target) as direct:
        id = (await direct.create_session()).id
    with Flaky(server.target, [300_000, 2_000_000]) as way:
        async with AsyncClient(way.target) as client:
            await client.upload_attachment(id, path)
            assert [it.name async for it in client.list_attachments(id)] == ["x.bin"]


def test_P4_a_resumable_upload_goes_on_where_its_connections_broke(
    server: ServerProcess, tmp_path: Path
) -> None:
    """Each source is stored once; a second call with the same id finds it, and one of the other kind too."""
    with Client(server.target) as direct:
        id = direct.create_session().id
        for number, source in enumerate(sources(tmp_path)[:5]):
            with Flaky(server.target, [1_500_000] * 3) as way, Client(way.target) as client:
                key = f"it-{number}"
                answer = client.upload_resumable(id, source, attachment_id=key, metadata={"a": 1})
                assert not answer.replayed
                assert way.connections > 3
            assert direct.read_attachment(id, key) == CONTENT
            for again in (direct.upload_resumable, direct.upload_attachment):
                known = again(id, CONTENT, attachment_id=key)
                assert (known.replayed, known.attachment) == (True, answer.attachment)
        assert len(list(direct.list_attachments(id))) == 5
        with pytest.raises(ValueError, match="can't be read again"):
            direct.upload_resumable(id, cast("BinaryIO", Stream(CONTENT)), attachment_id="once")


async def test_P4_a_resumable_upload_goes_on_after_a_restart(server: ServerProcess) -> None:
    """What another process has stored isn't sent again, which is seen by the bytes that pass."""
    async with AsyncClient(server.target) as client:
        id = (await client.create_session()).id
        digest = hashlib.sha256(CONTENT).digest()
        begun = await client.start_upload(id, len(CONTENT), sha256=digest, attachment_id="it")
        token, most = begun.upload.token, begun.upload.max_chunk_bytes
        for offset in range(0, 4 * most, most):
            chunk = CONTENT[offset : offset + most]
            written = await client.write_upload(id, token, offset, chunk)
        assert (await client.get_upload(id, token)).upload == written.upload
        with Flaky(server.target, [len(CONTENT) - 4 * most + 100_000]) as way:
            async with AsyncClient(way.target) as restarted:
                made = await restarted.upload_resumable(id, CONTENT, attachment_id="it")
            assert way.connections == 1
        assert not made.replayed
        assert await client.read_attachment(id, "it") == CONTENT
        assert (await client.get_upload(id, token)).attachment == made.attachment


def test_P4_a_resumable_upload_begins_anew_when_it_was_removed(server: ServerProcess) -> None:
    """Or when another upload of its attachment goes on beside it."""

    class Interfering(io.BytesIO):
        """Runs something once, when the bytes are read for the second time, at their middle."""

        def __init__(self, interfere: Callable[[], None]) -> None:
            super().__init__(CONTENT)
            self.interfere: list[Callable[[], None]] = [interfere]
            self.readings = 0

        def read(self, size: int | None = -1) -> bytes:
            self.readings += self.tell() == 0
            if self.readings > 1 and self.tell() > 2_000_000 and self.interfere:
                self.interfere.pop()()
            return super().read(size)

    with Client(server.target) as client, Client(server.target) as other:
        id = client.create_session().id
        digest = hashlib.sha256(CONTENT).digest()

        def token(key: str) -> str:
            found = other.start_upload(id, len(CONTENT), sha256=digest, attachment_id=key)
            return found.upload.token

        doings: dict[str, Callable[[], Any]] = {
            "aborted": lambda: other.abort_upload(id, token("aborted")),
            "finished": lambda: other.upload_resumable(id, CONTENT, attachment_id="finished"),
            "streamed": lambda: other.upload_attachment(id, CONTENT, attachment_id="streamed"),
        }
        for key, interfere in doings.items():
            source = Interfering(interfere)
            client.upload_resumable(id, source, attachment_id=key)
            assert not source.interfere
            assert client.read_attachment(id, key) == CONTENT
        assert len(list(client.list_attachments(id))) == 3


def test_a_file_that_changes_while_it_is_uploaded_is_not_stored(server: ServerProcess) -> None:
    class Shrinking(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(size) if size and size <= 256 * 1024 else b"short"

    with Client(server.target) as client:
        id = client.create_session().id
        with pytest.raises(ValueError, match="has changed"):
            client.upload_resumable(id, Shrinking(CONTENT), attachment_id="it")
        assert list(client.list_attachments(id)) == []


def test_what_can_be_read_once_is_uploaded_once(server: ServerProcess) -> None:
    with Client(server.target) as direct:
        id = direct.create_session().id
        with Flaky(server.target, [300_000]) as way, Client(way.target) as client:
            source = cast("BinaryIO", Stream(CONTENT))
            with pytest.raises(sessiond.Unavailable):
                client.upload_attachment(id, source)
        assert list(direct.list_attachments(id)) == []


def test_a_file_that_cannot_be_read_is_not_stored(server: ServerProcess) -> None:
    class Broken(Stream):
        def readinto(self, buffer: Any) -> int:
            if self._file.tell() > 1_000_000:
                raise OSError("the disk is broken")
            return super().readinto(buffer)

    with Client(server.target) as client:
        id = client.create_session().id
        with pytest.raises(OSError, match="the disk is broken"):
            client.upload_attachment(id, cast("BinaryIO", Broken(CONTENT)))
        assert list(client.list_attachments(id)) == []


def test_a_download_goes_on_where_its_connection_broke(
    server: ServerProcess, tmp_path: Path
) -> None:
    with Client(server.target) as direct:
        id = direct.create_session().id
        attachment = direct.upload_attachment(id, CONTENT).attachment
    with Flaky(server.target, [1_500_000] * 4) as way, Client(way.target) as client:
        assert client.read_attachment(id, attachment.id) == CONTENT
        assert way.connections > 3
    with Flaky(server.target, [1_500_000] * 4) as way, Client(way.target) as client:
        client.save_attachment(id, attachment.id, tmp_path / "x")
        assert (tmp_path / "x").read_bytes() == CONTENT
        assert [it.name for it in tmp_path.iterdir()] == ["x"]


async def test_an_asynchronous_download_goes_on_where_its_connection_broke(
    server: ServerProcess,
) -> None:
    async with AsyncClient(server.target) as direct:
        id = (await direct.create_session()).id
        attachment = (await direct.upload_attachment(id, CONTENT)).attachment
    with Flaky(server.target, [1_500_000] * 4) as way:
        async with AsyncClient(way.target) as client:
            assert await client.read_attachment(id, attachment.id) == CONTENT
            assert way.connections > 3


class Deceiver:
    """A service that sends other bytes than it says, or another file when it is asked to go on."""

    def __init__(self, *answers: list[v1.DownloadAttachmentResponse]) -> None:
        self._answers = list(answers)

    def DownloadAttachment(self, request: Any, context: Any) -> Any:
        yield from self._answers.pop(0)
        if self._answers:
            context.abort(grpc.StatusCode.UNAVAILABLE, "as told")


def facts(content: bytes) -> v1.DownloadAttachmentResponse:
    digest = hashlib.sha256(content).digest()
    attachment = v1.Attachment(id="a", size=len(content), sha256=digest)
    return v1.DownloadAttachmentResponse(attachment=attachment)


def chunk(content: bytes) -> v1.DownloadAttachmentResponse:
    return v1.DownloadAttachmentResponse(chunk=content)


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ([[facts(b"abc"), chunk(b"abX")]], "SHA-256"),
        ([[facts(b"abc"), chunk(b"ab")]], "before its end"),
        ([[facts(b"abc"), chunk(b"abcd")]], "before its end"),
        ([[]], "before its end"),
        ([[facts(b"abc"), chunk(b"ab")], [facts(b"xyz"), chunk(b"z")]], "replaced"),
    ],
)
def test_bytes_that_are_not_the_attachments_are_not_taken(
    answers: list[list[v1.DownloadAttachmentResponse]],
    error: str,
    tmp_path: Path,
    serve: Callable[[Any], str],
) -> None:
    with (
        Client(serve(Deceiver(*answers))) as client,
        pytest.raises(sessiond.SessiondError, match=error),
    ):
        client.save_attachment("s", "a", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def serve() -> Iterator[Callable[[Any], str]]:
    server = grpc.server(ThreadPoolExecutor(2))

    def start(servicer: Any) -> str:
        handler = grpc.unary_stream_rpc_method_handler(
            servicer.DownloadAttachment,
            v1.DownloadAttachmentRequest.FromString,
            v1.DownloadAttachmentResponse.SerializeToString,
        )
        service = "sessiond.v1.AttachmentService"
        handlers = {"DownloadAttachment": handler}
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, handlers)])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        return f"127.0.0.1:{port}"

    yield start
    server.stop(0)

"""Uploads call by call: they go on where they stopped, can be repeated, and leave nothing behind."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import asyncpg
import grpc
import pytest

from sessiond import v1
from tests.rpc.api import Api, new, refused
from tests.rpc.test_attachments import EXECUTABLES, _peak, noise
from tests.support.attachments import BAD
from tests.support.patience import wait_for
from tests.support.processes import ServerProcess

Start = Callable[..., ServerProcess]
KIB, MIB = 2**10, 2**20
TABLES = "attachment", "attachment_content", "attachment_chunk", "attachment_upload"


def start(api: Api, id: str, size: int, attachment: str = "it", **fields: Any) -> Any:
    """Begin an upload, or go on with it."""
    facts = {name: fields.pop(name) for name in ("name", "metadata") if name in fields}
    request = v1.StartUploadRequest(
        session_id=id, attachment=v1.Attachment(id=attachment, **facts), size=size, **fields
    )
    return api.attachments.StartUpload(request)


def write(
    api: Api, id: str, token: str, offset: int, chunk: bytes, *, last: bool = False
) -> v1.WriteUploadResponse:
    request = v1.WriteUploadRequest(
        session_id=id, upload_token=token, offset=offset, chunk=chunk, last=last
    )
    return api.attachments.WriteUpload(request)


def status(api: Api, id: str, token: str) -> v1.GetUploadResponse:
    return api.attachments.GetUpload(v1.GetUploadRequest(session_id=id, upload_token=token))


def abort(api: Api, id: str, token: str) -> None:
    api.attachments.AbortUpload(v1.AbortUploadRequest(session_id=id, upload_token=token))


def send(api: Api, id: str, token: str, content: bytes, offset: int = 0) -> v1.WriteUploadResponse:
    """All that follows an offset."""
    while True:
        chunk = content[offset : offset + MIB]
        answer = write(api, id, token, offset, chunk, last=offset + len(chunk) == len(content))
        if answer.HasField("attachment"):
            return answer
        offset = answer.upload.offset


def rows(dsn: str) -> dict[str, int]:
    """How many there are of each table, all at one moment; what is bad among them fails."""

    async def count() -> dict[str, int]:
        connection = await asyncpg.connect(dsn)
        try:
            assert not [row["what"] for row in await connection.fetch(BAD) if row["number"]]
            counts = ", ".join(f"(SELECT count(*) FROM {name}) AS {name}" for name in TABLES)
            (found,) = await connection.fetch(f"SELECT {counts}")
            return dict(found)
        finally:
            await connection.close()

    return asyncio.run(count())


@pytest.fixture
def own(start_server: Start, dsn: str) -> Iterator[Api]:
    """A server with a database of its own that takes little."""
    server = start_server(
        SESSIOND_DSN=dsn,
        SESSIOND_ATTACHMENT_BYTES="3000000",
        SESSIOND_SESSION_ATTACHMENTS="3",
        SESSIOND_SESSION_ATTACHMENT_BYTES="4000000",
        SESSIOND_SESSION_UPLOADS="2",
    )
    with grpc.insecure_channel(server.target) as channel:
        yield Api(channel)
    assert not server.bugs()


@pytest.mark.parametrize("size", [0, 1, 256 * KIB, 256 * KIB + 1, MIB, 2_500_000])
def test_A_files_of_a_session_are_uploaded_call_by_call(api: Api, size: int) -> None:
    """What comes of it is what a stream makes; until then there is nothing to see."""
    id, content = api.create().id, noise(size, size)
    begun = start(api, id, size, name="docs/a.pdf", metadata={"n": 1}).upload
    assert (begun.attachment_id, begun.size, begun.offset) == ("it", size, 0)
    assert (begun.chunk_multiple_bytes, begun.max_chunk_bytes) == (256 * KIB, MIB)
    for offset in range(0, size - MIB, MIB):
        answer = write(api, id, begun.token, offset, content[offset : offset + MIB])
        assert answer.upload.offset == offset + MIB
        assert not answer.HasField("attachment")
        assert answer.upload.expire_time.ToNanoseconds() > begun.expire_time.ToNanoseconds()
        assert status(api, id, begun.token).upload == answer.upload
        assert api.files(id) == []
    offset = max(0, (size - 1) // MIB * MIB)
    stored = write(api, id, begun.token, offset, content[offset:], last=True)
    assert (stored.HasField("upload"), stored.replayed) == (False, False)
    made = stored.attachment
    assert (made.id, made.name, made.mime_type) == ("it", "docs/a.pdf", "application/pdf")
    assert (made.size, made.sha256) == (size, hashlib.sha256(content).digest())
    assert made.metadata["n"] == 1
    assert api.files(id) == [made]
    assert api.download(id, "it") == content
    assert status(api, id, begun.token) == v1.GetUploadResponse(attachment=made)


def test_P4_each_write_is_safe_to_repeat(api: Api) -> None:
    """At once or later, also the last one, whose answer is the same once the attachment is stored."""
    id, content = api.create().id, noise(2_500_000)
    token = start(api, id, len(content)).upload.token
    for offset in (0, MIB):
        answers = [write(api, id, token, offset, content[offset : offset + MIB]) for _ in range(3)]
        assert {answer.upload.offset for answer in answers} == {offset + MIB}
    assert write(api, id, token, 0, content[: 512 * KIB]).upload.offset == 2 * MIB
    other = refused(partial(write, api, id, token, 0, bytes(MIB)))
    assert (other.reason, other.fields) == ("INVALID_FIELD", ["chunk"])
    assert write(api, id, token, 2 * MIB, content[2 * MIB :]).upload.offset == len(content)
    assert api.files(id) == [], "it isn't said to be the last"
    made = write(api, id, token, len(content), b"", last=True)
    assert not made.replayed
    for offset in (0, 2 * MIB):
        again = write(api, id, token, offset, content[offset : offset + MIB], last=bool(offset))
        assert (again.replayed, again.attachment) == (True, made.attachment)
    assert len(api.files(id)) == 1
    beyond = refused(partial(write, api, id, token, 2 * MIB, bytes(MIB)))
    assert beyond.metadata == {"expected_offset": str(len(content))}


@pytest.mark.parametrize("seed", range(3))
def test_P4_writes_in_any_order_come_to_the_file(api: Api, seed: int) -> None:
    """Random pieces at random places: each is stored, was stored, or is told where to go on."""
    chance = random.Random(seed)
    id, content = api.create().id, noise(chance.randint(1, 12) * 200_000, seed)
    token, stored = start(api, id, len(content)).upload.token, 0
    while stored < len(content):
        offset = chance.choice([stored, stored, chance.randrange(0, len(content), 256 * KIB)])
        chunk = content[offset : offset + 256 * KIB * chance.randint(1, 4)]
        try:
            answer = write(api, id, token, offset, chunk)
        except grpc.RpcError:
            found = refused(partial(write, api, id, token, offset, chunk))
            assert found.reason == "UPLOAD_OFFSET_MISMATCH"
            assert found.metadata == {"expected_offset": str(stored)}
            assert offset != stored
            continue
        stored = max(stored, offset + len(chunk))
        assert answer.upload.offset == stored
    made = write(api, id, token, stored, b"", last=True).attachment
    assert api.download(id, made.id) == content


def test_P14_pieces_that_do_not_fit_are_refused_and_change_nothing(api: Api) -> None:
    id = api.create().id
    token = start(api, id, 600_000).upload.token
    write(api, id, token, 0, bytes(256 * KIB))
    cases = [
        ("chunk", 256 * KIB, bytes(1000), False),
        ("chunk", 256 * KIB, b"", False),
        ("chunk", 256 * KIB, bytes(2 * 256 * KIB), False),
        ("chunk", 0, bytes(MIB + 1), False),
        ("chunk", 600_000, b"x", False),
        ("offset", -1, b"", False),
        ("last", 256 * KIB, bytes(256 * KIB), True),
        ("last", 256 * KIB, b"", True),
    ]
    for field, offset, chunk, last in cases:
        found = refused(partial(write, api, id, token, offset, chunk, last=last))
        assert (found.reason, found.fields) == ("INVALID_FIELD", [field]), (offset, len(chunk))
    for offset, chunk in ((2 * 256 * KIB, bytes(600_000 - 2 * 256 * KIB)), (600_000, b"")):
        found = refused(partial(write, api, id, token, offset, chunk, last=True))
        assert found.reason == "UPLOAD_OFFSET_MISMATCH"
        assert found.metadata == {"expected_offset": str(256 * KIB)}
    assert status(api, id, token).upload.offset == 256 * KIB
    for field, wrong in (("size", {"size": -1}), ("sha256", {"size": 1, "sha256": b"x"})):
        request = v1.StartUploadRequest(session_id=id, **wrong)
        assert refused(partial(api.attachments.StartUpload, request)).fields == [field]
    unsized = v1.StartUploadRequest(session_id=id)
    assert refused(partial(api.attachments.StartUpload, unsized)).fields == ["size"]


def test_P4_an_upload_that_is_begun_again_goes_on(api: Api) -> None:
    """By its attachment's id alone: the caller may have lost everything else."""
    id, content = api.create().id, noise(1_500_000)
    sha256 = hashlib.sha256(content).digest()
    begun = start(api, id, len(content), sha256=sha256).upload
    write(api, id, begun.token, 0, content[:MIB])
    again = start(api, id, len(content), sha256=sha256).upload
    assert (again.token, again.offset) == (begun.token, MIB)
    other = start(api, id, len(content), "other", sha256=sha256).upload
    assert (other.token != begun.token, other.offset) == (True, 0)
    made = send(api, id, again.token, content, again.offset).attachment
    assert start(api, id, len(content), sha256=sha256) == v1.StartUploadResponse(attachment=made)
    api.end(id)
    assert start(api, id, len(content), sha256=sha256).attachment == made, "as with appends"
    for size, digest in ((len(content), bytes(32)), (5, b"")):
        found = refused(partial(start, api, id, size, sha256=digest))
        assert found.reason == "ATTACHMENT_ID_REUSED"


def test_an_upload_of_another_file_takes_the_place_of_an_unfinished_one(api: Api) -> None:
    id = api.create().id
    old = start(api, id, MIB + 1).upload.token
    write(api, id, old, 0, bytes(MIB))
    begun = start(api, id, 3).upload
    assert (begun.token != old, begun.offset) == (True, 0)
    assert refused(partial(status, api, id, old)).reason == "UPLOAD_NOT_FOUND"
    assert send(api, id, begun.token, b"abc").attachment.size == 3


def test_P14_bytes_with_another_sha256_are_not_stored(own: Api, dsn: str) -> None:
    id = own.create().id
    token = start(own, id, 3, sha256=hashlib.sha256(b"abc").digest()).upload.token
    found = refused(partial(write, own, id, token, 0, b"abd", last=True))
    assert (found.reason, found.fields) == ("INVALID_FIELD", ["chunk"])
    assert refused(partial(status, own, id, token)).reason == "UPLOAD_NOT_FOUND"
    assert set(rows(dsn).values()) == {0}


def test_P4_without_a_sha256_the_bytes_are_compared_at_the_end(api: Api) -> None:
    id = api.create().id
    made = api.upload(id, b"abc", "a", id="it").attachment
    tokens = [start(api, id, 3).upload.token]
    write(api, id, tokens[0], 0, b"abc", last=True)
    tokens.append(start(api, id, 3).upload.token)
    for token in (*tokens[::-1], *tokens):
        again = write(api, id, token, 0, b"abc", last=True)
        assert (again.replayed, again.attachment) == (True, made)
    token = start(api, id, 3).upload.token
    found = refused(partial(write, api, id, token, 0, b"abd", last=True))
    assert found.reason == "ATTACHMENT_ID_REUSED"
    assert refused(partial(status, api, id, token)).reason == "UPLOAD_NOT_FOUND"


def test_P4_the_same_upload_by_many_callers_at_once_is_one(own: Api, dsn: str) -> None:
    """All begin it, write all of it, and finish it; one attachment comes of it, with nothing beside."""
    id, content = own.create().id, noise(2_000_000)

    def upload(_: int) -> v1.Attachment:
        token = start(own, id, len(content)).upload.token
        return send(own, id, token, content).attachment

    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(upload, range(8)))
    assert {it.etag for it in made} == {made[0].etag}
    assert own.files(id) == [made[0]]
    assert own.download(id, "it") == content
    wait_for(lambda: not rows(dsn)["attachment_upload"], "an upload is left")
    assert rows(dsn)["attachment_chunk"] == 8


def test_A_the_same_bytes_are_stored_once_however_they_come(own: Api, dsn: str) -> None:
    id, content = own.create().id, noise(1_000_000)
    own.upload(id, content, "a")
    token = start(own, id, len(content), name="a").upload.token
    assert send(own, id, token, content).attachment.name == "a_1"
    assert rows(dsn) == dict(zip(TABLES, (2, 1, 4, 0), strict=True))
    assert status(own, id, token).attachment.id == "it"


def test_P11_an_unfinished_upload_is_seen_nowhere_and_goes_with_its_session(
    own: Api, dsn: str
) -> None:
    id = own.create().id
    token = start(own, id, MIB + 1).upload.token
    write(own, id, token, 0, bytes(MIB))
    fork = own.fork(id).id
    assert own.files(fork) == own.files(id) == []
    assert refused(partial(status, own, fork, token)).reason == "UPLOAD_NOT_FOUND"
    kinds = {record.WhichOneof("record") for record in own.export(session_ids=[id])}
    assert "end" in kinds
    assert "attachment" not in kinds
    own.delete(id)
    assert set(rows(dsn).values()) == {0}
    assert refused(partial(write, own, id, token, MIB, b"x", last=True)).reason == (
        "SESSION_NOT_FOUND"
    )
    own.create(id)
    assert refused(partial(status, own, id, token)).reason == "UPLOAD_NOT_FOUND"


def test_P11_an_upload_that_is_not_gone_on_with_is_removed(start_server: Start, dsn: str) -> None:
    short = {"SESSIOND_ATTACHMENT_TIMEOUT": "0.3", "SESSIOND_ATTACHMENT_UPLOAD_EXPIRY": "1"}
    server = start_server(SESSIOND_DSN=dsn, **short)
    with grpc.insecure_channel(server.target) as channel:
        hasty = Api(channel)
        id = hasty.create().id
        token = start(hasty, id, MIB + 1).upload.token
        wait_for(lambda: not any(rows(dsn).values()), "it isn't removed")
        found = refused(partial(write, hasty, id, token, MIB, b"x", last=True))
        assert (found.reason, found.metadata) == ("UPLOAD_NOT_FOUND", {"session_id": id})
        kept = hasty.upload(id, b"what is stored stays").attachment
        assert hasty.files(id) == [kept]
    assert not server.bugs()


def test_an_aborted_upload_is_gone_at_once(own: Api, dsn: str) -> None:
    id = own.create().id
    token = start(own, id, MIB + 1).upload.token
    write(own, id, token, 0, bytes(MIB))
    for _ in range(2):
        abort(own, id, token)
        assert set(rows(dsn).values()) == {0}
    assert refused(partial(status, own, id, token)).reason == "UPLOAD_NOT_FOUND"
    abort(own, id, "no token")
    made = send(own, id, start(own, id, 1).upload.token, b"x").attachment
    assert own.files(id) == [made]
    assert refused(partial(abort, own, "nobody", token)).reason == "SESSION_NOT_FOUND"


def test_A_uploads_under_way_count_for_what_a_session_may_hold(own: Api) -> None:
    """With their whole size, from their beginning; streams have no more room than they leave."""
    id = own.create().id

    def over(call: Callable[[], Any]) -> str:
        found = refused(call)
        assert found.reason == "ATTACHMENT_OVER_LIMIT"
        return found.metadata["setting"]

    assert over(partial(start, own, id, 3_000_001)) == "attachment_bytes"
    tokens = [start(own, id, size, f"{size}").upload.token for size in (3_000_000, 900_000)]
    assert over(partial(own.upload, id, bytes(100_001))) == "session_attachment_bytes"
    assert over(partial(start, own, id, 1, "third")) == "session_uploads"
    assert start(own, id, 900_000, "900000").upload.token == tokens[1], "it is one of them"
    abort(own, id, tokens[0])
    abort(own, id, start(own, id, 3_000_000, "x").upload.token)
    own.upload(id, b"1")
    own.upload(id, b"2")
    assert over(partial(own.upload, id, b"3")) == "session_attachments"
    content = noise(900_000)
    assert send(own, id, tokens[1], content).attachment.size == 900_000
    assert over(partial(start, own, id, 0, "y")) == "session_attachments"


def test_A_uploads_call_by_call_are_no_executables(api: Api) -> None:
    id = api.create().id
    assert refused(partial(start, api, id, 1, name="a.exe")).reason == "ATTACHMENT_TYPE_REFUSED"
    for kind, content in EXECUTABLES.items():
        token = start(api, id, len(content), name="a.png", attachment=kind.replace(" ", "")).upload
        found = refused(partial(write, api, id, token.token, 0, content, last=True))
        assert (found.reason, found.metadata["kind"]) == ("ATTACHMENT_TYPE_REFUSED", kind)
    assert api.files(id) == []


def test_a_session_that_ended_takes_none_until_it_is_reopened(api: Api) -> None:
    id = api.create().id
    token = start(api, id, 3).upload.token
    api.end(id)
    for call in (
        partial(start, api, id, 3),
        partial(start, api, id, 3, "new"),
        partial(write, api, id, token, 0, b"abc", last=True),
    ):
        assert refused(call).reason == "SESSION_ENDED"
    api.sessions.ReopenSession(v1.ReopenSessionRequest(session_id=id))
    assert status(api, id, token).upload.offset == 3, "the bytes are kept"
    assert write(api, id, token, 3, b"", last=True).attachment.size == 3


def test_P12_a_token_is_good_in_its_session_alone(api: Api) -> None:
    id, other = api.create().id, api.create().id
    token = start(api, id, 3).upload.token
    for session in (other, new("nobody")):
        reason = "UPLOAD_NOT_FOUND" if session == other else "SESSION_NOT_FOUND"
        assert refused(partial(status, api, session, token)).reason == reason
        assert refused(partial(write, api, session, token, 0, b"abc")).reason == reason
    abort(api, other, token)
    assert send(api, id, token, b"abc").attachment.size == 3


def test_P13_a_large_upload_takes_little_memory(start_server: Start, dsn: str) -> None:
    server = start_server(SESSIOND_DSN=dsn, SESSIOND_JOBS="false")
    with grpc.insecure_channel(server.target) as channel:
        own = Api(channel)
        id, content = own.create().id, noise(60 * MIB)
        own.upload(id, content[: 8 * MIB])
        before = _peak(server)
        made = send(own, id, start(own, id, len(content)).upload.token, content).attachment
        assert made.sha256 == hashlib.sha256(content).digest()
        assert _peak(server) - before < 40 * MIB
    assert not server.bugs()

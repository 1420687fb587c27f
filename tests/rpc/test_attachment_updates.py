"""Updates of attachments: facts change, guarded by etags, and bytes never do."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import grpc
import pytest
from google.protobuf.json_format import MessageToDict

from sessiond import v1
from tests.rpc.api import Api, refused
from tests.support.processes import ServerProcess

INLINE = v1.Disposition.DISPOSITION_INLINE
ATTACHMENT = v1.Disposition.DISPOSITION_ATTACHMENT


def stored(api: Api, id: str, attachment: str) -> v1.Attachment:
    request = v1.GetAttachmentRequest(session_id=id, attachment_id=attachment)
    return api.attachments.GetAttachment(request).attachment


def test_A_files_of_a_session_are_renamed_and_keep_their_bytes(api: Api) -> None:
    """Each fact alone, in any state of the session; what isn't named in the mask stays."""
    id = api.create().id
    made = api.upload(id, b"bytes", "a.txt", metadata={"a": 1}).attachment
    assert made.update_time == made.create_time
    renamed = api.change_file(id, made.id, "name", name="..docs\\b .pdf ", mime_type="x/y")
    assert (renamed.name, renamed.mime_type) == ("docs/b .pdf", "text/plain")
    assert renamed.etag not in ("", made.etag)
    assert renamed.update_time.ToNanoseconds() > made.update_time.ToNanoseconds()
    api.end(id)
    api.change_file(id, made.id, "disposition", disposition=INLINE)
    typed = api.change_file(id, made.id, "mime_type")
    assert (typed.mime_type, typed.disposition) == ("application/pdf", INLINE)
    last = api.change_file(id, made.id, "name", "disposition", "metadata", "mime_type")
    assert (last.name, last.mime_type) == ("file", "application/octet-stream")
    assert (last.disposition, last.HasField("metadata")) == (ATTACHMENT, False)
    assert last == stored(api, id, made.id)
    assert (last.size, last.sha256, last.create_time) == (made.size, made.sha256, made.create_time)
    assert api.download(id, made.id) == b"bytes"
    assert api.files(id) == [last]


def test_A_files_of_a_session_keep_unique_names_when_renamed(api: Api) -> None:
    """Another one's name is numbered, its own is free, and so are the directories that it was in."""
    id = api.create().id
    one, two, deep = (api.upload(id, name=name).attachment.id for name in ("a", "b", "c/d"))
    assert api.change_file(id, two, "name", name="a").name == "a_1"
    assert api.change_file(id, two, "name", name="a").name == "a_1"
    assert api.change_file(id, one, "name", name="a/b").name == "a/b"
    assert api.change_file(id, two, "name", name="a").name == "a_1", "a is a directory"
    assert api.change_file(id, deep, "name", name="c").name == "c"
    assert [it.name for it in api.files(id)] == ["a/b", "a_1", "c"]


def test_single_fields_of_the_metadata_are_updated(api: Api) -> None:
    id = api.create().id
    made = api.upload(id, metadata={"a": 1, "b": 2, "x.y": 3}).attachment.id
    found = api.change_file(id, made, "metadata.a", "metadata.`x.y`", metadata={"a": 9, "b": 9})
    assert MessageToDict(found.metadata) == {"a": 9, "b": 2}
    big = {"c": "x" * 40_000}
    api.change_file(id, made, "metadata.c", metadata=big)
    over = refused(partial(api.change_file, id, made, "metadata.d", metadata={"d": big["c"]}))
    assert (over.reason, over.fields) == ("INVALID_FIELD", ["attachment.metadata"])
    for path in ("id", "size", "sha256", "create_time", "etag", "metadata.a.b", "name.x"):
        wrong = refused(partial(api.change_file, id, made, path, "name", name="n"))
        assert (wrong.reason, wrong.fields) == ("INVALID_FIELD", ["update_mask"])
    assert stored(api, id, made).name == "file"


def test_P6_an_update_with_an_etag_that_is_stale_changes_nothing(api: Api) -> None:
    id = api.create().id
    made = api.upload(id, b"x", "a", id="it").attachment
    now = api.change_file(id, "it", "name", name="b", etag=made.etag)
    assert now.etag != made.etag
    stale = refused(partial(api.change_file, id, "it", "name", name="c", etag=made.etag))
    assert (stale.reason, stale.metadata) == ("ETAG_MISMATCH", {"etag": now.etag})
    assert stored(api, id, "it") == now
    same = api.change_file(id, "it", "name", name="b")
    assert same.etag != now.etag, "also one that changes nothing is an update"
    gone = v1.DeleteAttachmentRequest(session_id=id, attachment_id="it")
    api.attachments.DeleteAttachment(gone)
    api.upload(id, b"x", "b", id="it")
    anew = refused(partial(api.change_file, id, "it", "name", name="c", etag=same.etag))
    assert anew.reason == "ETAG_MISMATCH", "an id that is used again is another attachment"


async def test_P6_of_updates_with_one_etag_one_is_taken(server: ServerProcess, api: Api) -> None:
    id = api.create().id
    made = api.upload(id, b"x", "a").attachment
    async with grpc.aio.insecure_channel(server.target) as channel:
        stub = v1.AttachmentServiceStub(channel)
        request = v1.UpdateAttachmentRequest(session_id=id, attachment=made)
        request.update_mask.paths.append("name")
        codes = [await call.code() for call in [stub.UpdateAttachment(request) for _ in range(9)]]
    assert sorted(code.name for code in codes) == ["ABORTED"] * 8 + ["OK"]


def test_A_files_of_a_session_do_not_become_executables(
    api: Api, start_server: Callable[..., ServerProcess], dsn: str
) -> None:
    id = api.create().id
    made = api.upload(id, b"x", "a.txt").attachment.id
    for name in ("a.exe", "b/a.SH", "a.exe "):
        found = refused(partial(api.change_file, id, made, "name", name=name))
        assert found.reason == "ATTACHMENT_TYPE_REFUSED"
    assert stored(api, id, made).name == "a.txt"
    server = start_server(SESSIOND_DSN=dsn, SESSIOND_ATTACHMENT_EXECUTABLES="true")
    with grpc.insecure_channel(server.target) as channel:
        own = Api(channel)
        id = own.create().id
        made = own.upload(id, b"x", "a.txt").attachment.id
        assert own.change_file(id, made, "name", name="a.exe").name == "a.exe"


def test_P11_a_fork_and_its_source_rename_apart(api: Api) -> None:
    id = api.create().id
    made = api.upload(id, b"bytes", "a").attachment
    fork = api.fork(id).id
    assert stored(api, fork, made.id) == made
    api.change_file(fork, made.id, "name", name="b")
    assert stored(api, id, made.id) == made
    api.delete(id)
    assert api.download(fork, made.id) == b"bytes"


def test_P4_a_repeated_upload_answers_what_an_update_made_of_it(api: Api) -> None:
    id = api.create().id
    api.upload(id, b"bytes", "a", id="it")
    renamed = api.change_file(id, "it", "name", name="b")
    again = api.upload(id, b"bytes", "a", id="it")
    assert (again.replayed, again.attachment) == (True, renamed)


@pytest.mark.parametrize("session", ["nobody", ""])
def test_P14_an_update_in_no_session_is_refused(api: Api, session: str) -> None:
    found = refused(lambda: api.change_file(session, "a", "name", name="b"))
    assert found.reason == ("SESSION_NOT_FOUND" if session else "INVALID_FIELD")

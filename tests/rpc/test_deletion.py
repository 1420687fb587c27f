"""P11: a deletion takes everything, and what stays behind stands on its own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import asyncpg
import grpc
import pytest

import sessiond
from sessiond import v1
from tests.rpc.api import Api, answering, calling, new, refused, said
from tests.support.processes import ServerProcess

DETACHED = v1.Lifecycle.LIFECYCLE_DETACHED
EPHEMERAL = v1.Lifecycle.LIFECYCLE_EPHEMERAL
CONTINUATION = v1.ParentKind.PARENT_KIND_CONTINUATION


@pytest.fixture
def own(start_server: Callable[..., ServerProcess], dsn: str) -> Iterator[Api]:
    """A server on the test's own database."""
    with grpc.insecure_channel(start_server(SESSIOND_DSN=dsn).target) as channel:
        yield Api(channel)


def _rows(dsn: str, session_id: str, key: str) -> dict[str, int]:
    """How many rows of each table speak of a session, by its key or by its id."""

    async def count() -> dict[str, int]:
        connection = await asyncpg.connect(dsn)
        try:
            tables = await connection.fetch(
                "SELECT relname, oid::regclass::text AS name FROM pg_class"
                " WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace"
            )
            return {
                table["relname"]: await connection.fetchval(
                    f"SELECT count(*) FROM {table['name']} AS t"
                    " WHERE strpos(t::text, $1) > 0 OR strpos(t::text, $2) > 0",
                    session_id,
                    key,
                )
                for table in tables
            }
        finally:
            await connection.close()

    return asyncio.run(count())


def _value(dsn: str, sql: str, *arguments: object) -> object:
    async def fetch() -> object:
        connection = await asyncpg.connect(dsn)
        try:
            return await connection.fetchval(sql, *arguments)
        finally:
            await connection.close()

    return asyncio.run(fetch())


def _full(api: Api) -> str:
    """A session with a row in every table that has to do with sessions."""
    id = new()
    facts = {"system_prompt": "the same for all", "config": id}
    api.create(id, title=new("Title"), labels={"k": "v"}, **facts)
    api.append(id, *(said() for _ in range(4)), calling("a", "b"), answering("a"))
    api.compact(id, 1, 2)
    api.append(id, said(), said())
    api.rewind(id, 8)
    update = v1.UpdateMessagesRequest(session_id=id)
    update.updates.add(message=v1.Message(seq=3, model="m")).update_mask.paths.append("model")
    api.messages.UpdateMessages(update)
    api.storage.OffloadMessages(v1.OffloadMessagesRequest(session_id=id, before_seq=3))
    api.lease(id, seconds=1)
    api.upload(id, b"the same for all")
    api.upload(id, id.encode() * 20_000, id)
    usage = v1.Usage(input_tokens=1)
    used = v1.UsageRecord(usage=usage, turn_index=1, model="m", request_id="r")
    api.spend(id, used)
    api.journal_records(id, b"{}", request_id="r")
    until = time.monotonic() + 30
    while api.search("message", session_id=id).indexed_through < 9:
        assert time.monotonic() < until
    api.reminder(id, delay=3600)
    mark = v1.SetCursorRequest(session_id=id, consumer_id="memory", seq=1)
    api.consumers.SetCursor(mark)
    return id


def _draft(api: Api, id: str, dsn: str, key: str) -> grpc.Future[v1.PublishDraftResponse]:
    """A draft that waits for its message, for as long as its call is kept."""
    delta = v1.DraftDelta(text="so far")
    first = v1.PublishDraftRequest(session_id=id, client_id=new("draft"), deltas=[delta])
    call = api.feeds.PublishDraft.future(iter([first]))
    pieces = "SELECT count(*) FROM draft_piece WHERE session_key = $1::uuid"
    until = time.monotonic() + 30
    while not _value(dsn, pieces, key):
        assert time.monotonic() < until
    return call


@contextmanager
def _upload(api: Api, id: str, dsn: str, key: str) -> Iterator[None]:
    """An upload under way."""
    end = threading.Event()

    def frames() -> Iterator[v1.UploadAttachmentRequest]:
        yield v1.UploadAttachmentRequest(session_id=id, chunk=bytes(2**20))
        yield v1.UploadAttachmentRequest(chunk=b"more")
        end.wait(60)

    call = api.attachments.UploadAttachment.future(frames())
    uploads = "SELECT count(*) FROM attachment_upload WHERE session_key = $1::uuid"
    until = time.monotonic() + 30
    while not _value(dsn, uploads, key):
        assert time.monotonic() < until
    yield
    end.set()
    call.cancel()


def _delete(api: Api, dsn: str, id: str, key: str, other: str, other_key: str) -> None:
    """Delete one of two sessions, and see what there is of each."""
    before, other_before = _rows(dsn, id, key), _rows(dsn, other, other_key)
    with_key = "SELECT array_agg(table_name::text) FROM information_schema.columns"
    named = _value(dsn, f"{with_key} WHERE column_name = 'session_key'")
    assert isinstance(named, list)
    tables = before.keys() & {*named, "session_title"} - {"session_tombstone"}  # without views
    assert {name for name, count in before.items() if count} == tables
    deleted = api.delete(id)
    assert (deleted.session_count, deleted.message_count, deleted.detached_count) == (1, 9, 0)
    left = {name: count for name, count in _rows(dsn, id, key).items() if count}
    assert left == {"session_tombstone": 1}, "for a while, and without anything that was said"
    assert _rows(dsn, other, other_key) == other_before
    contents = "SELECT count(*) FROM attachment_content"
    assert _value(dsn, contents) == 2, "those of the other session, one of which both had"
    chunks = "SELECT count(DISTINCT content_id) FROM attachment_chunk"
    assert _value(dsn, chunks) == 2
    assert {api.download(other, it.id) for it in api.files(other)} == {
        b"the same for all",
        other.encode() * 20_000,
    }
    assert _value(dsn, "SELECT count(*) FROM setup_text") == 2, "of which both had one"
    found = api.full(other)
    assert (found.system_prompt, found.config) == ("the same for all", other)
    api.delete(other)
    for table in ("attachment_content", "attachment_chunk", "attachment_upload", "setup_text"):
        assert _value(dsn, f"SELECT count(*) FROM {table}") == 0


def test_P11_no_row_of_any_table_is_left(own: Api, dsn: str) -> None:
    id, other = _full(own), _full(own)
    keys = "SELECT session_key::text FROM session WHERE session_id = $1"
    key, other_key = str(_value(dsn, keys, id)), str(_value(dsn, keys, other))
    draft = _draft(own, id, dsn, key)
    with _upload(own, id, dsn, key):
        _delete(own, dsn, id, key, other, other_key)
    draft.cancel()


def test_P11_an_id_that_is_used_again_starts_from_nothing(own: Api) -> None:
    id = _full(own)
    old = own.get(id)
    own.delete(id)
    made = own.create(id, title=old.title)
    assert made.incarnation != old.incarnation
    assert (made.next_seq, made.message_count, made.open_tool_call_count) == (1, 0, 0)
    assert own.append(id, said(client_id="m")).first_seq == 1
    assert len(own.context(id)) == len(own.log(id)) == 1


def test_refusals_of_a_session_without_messages_say_that_it_holds_none(own: Api) -> None:
    id = own.talk(3)
    own.messages.ClearMessages(v1.ClearMessagesRequest(session_id=id))
    beyond = refused(lambda: own.rewind(id, 7))
    assert beyond.message.endswith("the session holds none, and its next one will be 4.")
    assert (beyond.metadata["first_seq"], beyond.metadata["next_seq"]) == ("4", "4")


def test_P11_clearing_leaves_the_session_and_nothing_of_its_history(own: Api, dsn: str) -> None:
    id = _full(own)
    key = str(_value(dsn, "SELECT session_key::text FROM session WHERE session_id = $1", id))
    token = own.lease(id)
    clear = v1.ClearMessagesRequest(session_id=id, guard=v1.WriteGuard(writer_token=token))
    assert own.messages.ClearMessages(clear).attachment_count == 0
    left = {name for name, count in _rows(dsn, id, key).items() if count}
    of_usage = {"usage_sum", "usage_turn", "usage_billing", "session_request", "journal_total"}
    of_search = {"search_entry", "search_progress"}
    kept = {
        "session",
        "session_head",
        "session_setup",
        "session_title",
        "session_change",
        "reminder",
        "consumer_cursor",
    }
    kept |= of_usage | of_search
    assert left == {*kept, "attachment"}
    clear.delete_attachments = True
    assert own.messages.ClearMessages(clear).attachment_count == 2
    assert {name for name, count in _rows(dsn, id, key).items() if count} == kept
    assert _value(dsn, "SELECT count(*) FROM attachment_chunk") == 0
    entries = "SELECT count(*) FROM search_entry WHERE session_key = $1::uuid AND seq > 0"
    assert _value(dsn, entries, key) == 0, "only its title can be found"
    about_messages = "SELECT count(*) FROM session_change WHERE session_key = $1::uuid AND kind < 7"
    assert _value(dsn, about_messages, key) == 1, "that they were cleared"
    session = own.get(id)
    assert (session.first_seq, session.next_seq, session.message_count) == (10, 10, 0)
    assert (session.context_message_count, session.open_tool_call_count) == (0, 0)


def test_P11_children_go_or_stay_as_their_lifecycle_says(api: Api) -> None:
    root = api.talk(2)
    linked = api.child(root).id
    below_linked = api.child(linked).id
    ephemeral = api.child(root, EPHEMERAL).id
    stays = api.child(linked, DETACHED).id
    below_stays = api.child(stays).id
    going_on = api.child(root, kind=CONTINUATION).id
    fork = api.fork(root).id
    for id in (linked, below_linked, stays):
        api.append(id, said())
    assert api.get(below_stays).spawn_depth == 3
    deleted = api.delete(root)
    assert (deleted.session_count, deleted.message_count, deleted.detached_count) == (4, 4, 3)
    for id in (root, linked, below_linked, ephemeral):
        assert refused(partial(api.get, id)).reason == "SESSION_NOT_FOUND"
    for id in (stays, going_on, fork):
        session = api.get(id)
        assert not session.HasField("parent")
        assert (session.root_id, session.spawn_depth) == (id, 0)
    below = api.get(below_stays)
    assert (below.parent.id, below.root_id, below.spawn_depth) == (stays, stays, 1)
    assert [sessiond.text_of(m) for m in api.log(fork)] == ["message 1", "message 2"]
    assert api.delete(stays).session_count == 2


def test_P11_what_is_created_meanwhile_below_a_child_that_stays_gets_its_root(
    own: Api, dsn: str
) -> None:
    """The creation has seen its parent as it was before the deletion, and waits for a title with what it
    has made of that."""
    root = own.talk(1)
    stays = own.child(root, DETACHED).id
    below = own.child(stays).id
    own.create(title="a title")
    origin = v1.SessionParent(id=below, kind=v1.ParentKind.PARENT_KIND_SUBAGENT)
    lowest = v1.Session(
        id=new(), title="a title", parent=origin, lifecycle=v1.Lifecycle.LIFECYCLE_LINKED
    )

    async def race() -> None:
        connection = await asyncpg.connect(dsn)

        async def until_waiting(count: int, call: grpc.Future[Any]) -> None:
            waiting = "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted"
            while not call.done() and await connection.fetchval(waiting) < count:
                await connection.execute("SELECT pg_sleep(0.01)")

        try:
            async with connection.transaction():
                await connection.execute("DELETE FROM session_title")
                request = v1.CreateSessionRequest(session=lowest)
                creation = own.sessions.CreateSession.future(request)
                await until_waiting(1, creation)
                deletion = own.sessions.DeleteSession.future(
                    v1.DeleteSessionRequest(session_id=root)
                )
                await until_waiting(2, deletion)
        finally:
            await connection.close()
        assert creation.result().session.id == lowest.id
        assert deletion.result().detached_count == 1

    asyncio.run(race())
    for id, depth in ((stays, 0), (below, 1), (lowest.id, 2)):
        session = own.get(id)
        assert (session.root_id, session.spawn_depth) == (stays, depth)


def test_P11_deleting_a_child_leaves_its_parent(api: Api) -> None:
    root = api.talk(1)
    child = api.child(root).id
    assert api.delete(child).session_count == 1
    assert api.get(root).message_count == 1

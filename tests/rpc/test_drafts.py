"""Drafts: what is being written is seen at every replica, and never kept."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

import asyncpg
import grpc
import pytest

import sessiond
from sessiond import AsyncClient, Client, v1
from tests.rpc.refusals import refusal
from tests.support.processes import ServerProcess

Start = Callable[..., ServerProcess]
ABORTED, APPENDED = v1.DraftEnd.DRAFT_END_ABORTED, v1.DraftEnd.DRAFT_END_APPENDED


class Screen:
    """What a watcher sees of a session's drafts and messages."""

    def __init__(self) -> None:
        self.drafts: dict[str, str] = {}
        self.begun: list[str] = []
        self.ended: list[tuple[str, int]] = []
        self.messages: list[str] = []
        self.late: list[str] = []
        """Pieces of drafts whose message was there already."""
        self.caught_up = False

    def take(self, event: v1.FeedEvent) -> None:
        kind = event.WhichOneof("event")
        if kind == "draft_changed":
            changed = event.draft_changed
            if changed.begins:
                self.begun.append(changed.client_id)
                self.drafts[changed.client_id] = ""
            if changed.client_id in self.messages:
                self.late.append(changed.client_id)
            text = "".join(d.text or d.tool_call.arguments for d in changed.deltas)
            self.drafts[changed.client_id] += text
        elif kind == "draft_ended":
            self.ended.append((event.draft_ended.client_id, event.draft_ended.end))
        elif kind == "message_appended":
            self.messages.append(event.message_appended.client_id)
        elif kind == "caught_up":
            self.caught_up = True


@asynccontextmanager
async def watching(
    target: str, *, drafts: bool = True, kinds: Sequence[v1.FeedEventKind.ValueType] = ()
) -> AsyncIterator[Screen]:
    """A watcher of session `s`."""
    screen = Screen()
    async with grpc.aio.insecure_channel(target) as channel:
        watched = v1.WatchTarget(session_id="s", include_drafts=drafts, event_kinds=kinds)

        async def follow() -> None:
            call = v1.FeedServiceStub(channel).Watch(v1.WatchRequest(targets=[watched]))
            async for frame in call:
                for event in frame.events:
                    screen.take(event)

        task = asyncio.create_task(follow())
        await until(lambda: screen.caught_up)
        yield screen
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(met: Callable[[], bool]) -> None:
    """Wait for it, but not for ever."""
    end = time.monotonic() + 30
    while not met():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


def text(words: str) -> v1.PublishDraftRequest:
    return v1.PublishDraftRequest(deltas=[v1.DraftDelta(text=words)])


def first(client_id: str, words: str = "") -> v1.PublishDraftRequest:
    deltas = [v1.DraftDelta(text=words)] if words else []
    return v1.PublishDraftRequest(session_id="s", client_id=client_id, deltas=deltas)


def message(client_id: str, words: str) -> v1.Message:
    return sessiond.message("assistant", words, client_id=client_id)


@pytest.fixture
def two(start_server: Start, dsn: str) -> tuple[ServerProcess, ServerProcess]:
    """Two servers on one database, with session `s`."""
    made = [start_server(SESSIOND_DSN=dsn, SESSIOND_DRAFT_EXPIRY="2") for _ in range(2)]
    with Client(made[0].target) as client:
        client.create_session("s")
    return made[0], made[1]


async def test_a_draft_is_seen_at_every_replica_until_its_message_is_appended(
    two: tuple[ServerProcess, ServerProcess],
) -> None:
    """A late joiner sees all so far; nothing of the draft comes behind its message."""
    here, there = (server.target for server in two)
    async with (
        watching(here) as local,
        watching(there) as remote,
        watching(there, drafts=False) as without,
        AsyncClient(here) as client,
        AsyncClient(there) as other,
    ):
        async with client.draft("s", "m") as draft:
            for number in range(20):
                draft.text(f"{number} ")
                await asyncio.sleep(0.01)
            whole = " ".join(map(str, range(20))) + " "
            await until(lambda: local.drafts.get("m") == remote.drafts.get("m") == whole)
            async with watching(there) as late:
                await until(lambda: late.drafts.get("m") == whole)
            draft.tool_call("{}", id="c", name="f")
            await other.append("s", message("m", whole))
        assert draft.failure is None
        for screen in (local, remote, without):
            await until(lambda screen=screen: screen.messages == ["m"])  # type: ignore[misc]
            assert (screen.late, screen.ended) == ([], [])
        assert local.begun == remote.begun == ["m"]
        assert without.drafts == {}


async def test_a_draft_that_is_aborted_or_silent_or_orphaned_ends(
    two: tuple[ServerProcess, ServerProcess],
) -> None:
    """Its publisher gives it up, goes away, says nothing for too long, or its server is killed."""
    here, there = two
    async with (
        watching(there.target) as screen,
        grpc.aio.insecure_channel(here.target) as channel,
    ):
        stub = v1.FeedServiceStub(channel)

        async def begin(
            client_id: str,
        ) -> grpc.aio.StreamUnaryCall[v1.PublishDraftRequest, v1.PublishDraftResponse]:
            call = stub.PublishDraft()
            await call.write(first(client_id, "so far"))
            await until(lambda: screen.drafts.get(client_id) == "so far")
            return call

        call = await begin("given-up")
        await call.write(v1.PublishDraftRequest(abort=True))
        assert (await call).end == ABORTED
        (await begin("gone")).cancel()
        assert (await (await begin("silent"))).end == ABORTED
        await begin("orphaned")
        here.kill()
        names = ["given-up", "gone", "silent", "orphaned"]
        await until(lambda: screen.ended == [(name, ABORTED) for name in names])


async def test_a_draft_may_be_closed_before_its_message_is_appended(server: ServerProcess) -> None:
    """The answer says how it ended; the same id can be drafted again."""
    async with grpc.aio.insecure_channel(server.target) as channel, AsyncClient(server.target) as c:
        await c.create_session("s", if_exists="return")
        call = v1.FeedServiceStub(channel).PublishDraft(iter([first("closed", "a"), text("b")]))
        async with watching(server.target) as screen:
            await until(lambda: screen.drafts.get("closed") == "ab")
            await c.append("s", message("closed", "ab"))
            assert (await call).end == APPENDED


async def test_who_does_not_get_messages_is_told_when_a_draft_becomes_one(
    server: ServerProcess,
) -> None:
    changes = [v1.FeedEventKind.FEED_EVENT_KIND_SESSION_CHANGED]
    async with AsyncClient(server.target) as client:
        await client.create_session("s", if_exists="return")
        async with watching(server.target, kinds=changes) as screen:
            async with client.draft("s", "unseen") as draft:
                draft.text("so far")
                await until(lambda: screen.drafts.get("unseen") == "so far")
                await client.append("s", message("unseen", "so far"))
            await until(lambda: screen.ended == [("unseen", APPENDED)])
            assert screen.messages == []


async def test_the_synchronous_client_drafts_as_well(server: ServerProcess) -> None:
    async with watching_new(server) as screen:

        def write() -> None:
            with Client(server.target) as client, client.draft("s", "sync") as draft:
                draft.reasoning("hm")
                draft.text("done")
                time.sleep(0.2)
                client.append("s", message("sync", "done"))

        await asyncio.to_thread(write)
        await until(lambda: "sync" in screen.messages)
        assert screen.drafts["sync"] == "done"


@asynccontextmanager
async def watching_new(server: ServerProcess) -> AsyncIterator[Screen]:
    async with AsyncClient(server.target) as client:
        await client.create_session("s", if_exists="return")
    async with watching(server.target) as screen:
        yield screen


async def test_P13_drafts_are_bounded(start_server: Start, dsn: str) -> None:
    """In number and in size; a refused draft doesn't disturb who writes it."""
    server = start_server(SESSIOND_DSN=dsn, SESSIOND_FEED_DRAFTS="1")
    async with AsyncClient(server.target) as client:
        await client.create_session("s")
        async with watching(server.target) as screen, client.draft("s", "one") as one:
            one.text("x")
            await until(lambda: "one" in screen.drafts)
            async with client.draft("s", "two") as two:
                two.text("y")
            assert two.failure is not None
            assert two.failure.reason == "TOO_MANY_DRAFTS"
            assert two.failure.metadata["limit"] == "1"
        async with grpc.aio.insecure_channel(server.target) as channel:
            stub = v1.FeedServiceStub(channel)
            large = [first("large"), *(text("x" * 2**20) for _ in range(2))]
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.PublishDraft(iter(large))
            assert [field for field, _ in refusal(refused.value).violations] == ["deltas"]


async def test_drafts_cost_no_write_ahead_log(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        kind = "SELECT relpersistence::text FROM pg_class WHERE relname = 'draft_piece'"
        assert await connection.fetchval(kind) == "u"
    finally:
        await connection.close()

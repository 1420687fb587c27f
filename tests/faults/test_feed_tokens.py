"""Where watches begin and go on: from the beginning, and with tokens of this history or of another."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable

import grpc.aio
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from sessiond import v1
from sessiond_server.store.keys import DEFAULT_TENANT, session_key
from tests.faults.load import channel, error_info
from tests.faults.scribes import Stubs, appending
from tests.faults.stalls import connected
from tests.faults.watchers import Raw, read
from tests.support.processes import ServerProcess


async def append(one: grpc.aio.Channel, session: str, *numbers: int) -> None:
    """Append a message for each number."""
    for number in numbers:
        await Stubs(one).messages.AppendMessages(appending(session, number), timeout=10)


async def token_of(one: grpc.aio.Channel, session: str) -> str:
    """The token behind all that there is."""
    call = v1.FeedServiceStub(one).Watch(resuming(session))
    while True:
        frame = await read(call)
        if any(event.HasField("caught_up") for event in frame.events):
            call.cancel()
            return frame.resume_token


def resuming(session: str, *tokens: str) -> v1.WatchRequest:
    """A request to go on behind tokens, or from the beginning without one."""
    target = v1.WatchTarget(session_id=session)
    if tokens:
        target.resume.tokens.extend(tokens)
    return v1.WatchRequest(targets=[target])


async def refusal(one: grpc.aio.Channel, session: str, *tokens: str) -> str:
    """Why a watch is refused."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await v1.FeedServiceStub(one).Watch(resuming(session, *tokens)).read()
    return str(error_info(caught.value).reason)


async def delete(one: grpc.aio.Channel, session: str) -> None:
    request = v1.DeleteSessionRequest(session_id=session)
    await Stubs(one).sessions.DeleteSession(request, timeout=10)


async def test_P9_a_token_of_a_session_that_was_made_again_is_refused(
    server: ServerProcess,
) -> None:
    async with channel(server.target) as one:
        await append(one, "again", 1, 2, 3)
        token = await token_of(one, "again")
        await delete(one, "again")
        await append(one, "again", 1, 2, 3)
        assert await refusal(one, "again", token) == "HISTORY_DIVERGED"


async def test_P9_a_watch_that_is_open_while_its_session_is_made_again_ends(
    server: ServerProcess,
) -> None:
    async with channel(server.target) as one:
        await append(one, "remade", 1, 2)
        frames = aiter(v1.FeedServiceStub(one).Watch(resuming("remade")))
        await anext(frames)
        await delete(one, "remade")
        await append(one, "remade", 7)
        kinds = [event.WhichOneof("event") async for frame in frames for event in frame.events]
        assert kinds[-1] == "session_deleted"
        assert "message_appended" not in kinds


async def test_P9_a_token_of_a_deleted_session_is_told_of_the_deletion(
    server: ServerProcess,
) -> None:
    async with channel(server.target) as one:
        await append(one, "gone", 1)
        token = await token_of(one, "gone")
        await delete(one, "gone")
        call = v1.FeedServiceStub(one).Watch(resuming("gone", token))
        events = [event async for frame in call for event in frame.events]
        assert [event.WhichOneof("event") for event in events] == ["session_deleted"]
        assert await refusal(one, "gone") == "SESSION_NOT_FOUND"


@pytest.mark.parametrize("more", [0, 1, 2, 5])
async def test_P9_a_token_of_what_a_restored_backup_lacks_is_refused(
    dsn: str, start_server: Callable[..., ServerProcess], more: int
) -> None:
    """The session lost its two newest messages, and got some others since."""
    session, server = "restored", start_server(SESSIOND_DSN=dsn)
    async with channel(server.target) as one:
        await append(one, session, 1, 2, 3)
        early = await token_of(one, session)
        await append(one, session, 4, 5)
        late = await token_of(one, session)
        await restore(dsn, session, 4)
        await append(one, session, *range(10, 10 + more))
        assert await refusal(one, session, late) == "HISTORY_DIVERGED"
        call = v1.FeedServiceStub(one).Watch(resuming(session, early))
        frame = await read(call)
        appended = [
            e.message_appended.client_id for e in frame.events if e.HasField("message_appended")
        ]
        assert appended == [f"{number}.1/1" for number in range(10, 10 + more)]
        call.cancel()


async def restore(dsn: str, session: str, next_seq: int) -> None:
    """Make a session what it was in a backup."""
    key = session_key(DEFAULT_TENANT, session)
    async with connected(dsn) as connection, connection.transaction():
        await connection.execute(
            "DELETE FROM message WHERE bucket = $1 AND session_key = $2 AND seq >= $3",
            *key,
            next_seq,
        )
        await connection.execute(
            "UPDATE session_head SET next_seq = $3 WHERE bucket = $1 AND session_key = $2",
            *key,
            next_seq,
        )


async def test_P9_a_changed_token_is_refused(server: ServerProcess) -> None:
    async with channel(server.target) as one:
        await append(one, "own", 1, 2)
        token = await token_of(one, "own")
        raw = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        for place in (0, len(raw) // 2, len(raw) - 1):
            raw[place] ^= 1
            changed = base64.urlsafe_b64encode(raw).decode().rstrip("=")
            assert await refusal(one, "own", changed) == "RESUME_TOKEN_INVALID"
            raw[place] ^= 1
        for bad in (token[:-1], token + "A", "", "nonsense", "\u2603"):
            assert await refusal(one, "own", bad) == "RESUME_TOKEN_INVALID", bad


async def test_P9_a_token_of_another_session_is_refused(server: ServerProcess) -> None:
    async with channel(server.target) as one:
        await append(one, "mine", 1)
        await append(one, "yours", 1)
        assert await refusal(one, "mine", await token_of(one, "yours")) == "RESUME_TOKEN_INVALID"


@pytest.mark.parametrize("live", [True, False])
async def test_P9_a_watch_from_the_beginning_is_told_what_happened_before_the_first_message(
    server: ServerProcess, live: bool
) -> None:
    """A title, and a child that has a child, in sessions without messages."""
    root = f"empty-{live}"
    async with channel(server.target) as one:
        stubs = Stubs(one)
        await create(stubs, root)
        watcher = Raw([server.target], [root], 1, descendants=True)
        call = v1.FeedServiceStub(one).Watch(watcher.request()) if live else None
        if call is not None:
            watcher.take(await read(call))
        await create(stubs, f"{root}.1", root)
        await create(stubs, f"{root}.1.1", f"{root}.1")
        titled = v1.Session(id=root, title=root)
        await stubs.sessions.UpdateSession(
            v1.UpdateSessionRequest(session=titled, update_mask=FieldMask(paths=["title"]))
        )
        await append(one, f"{root}.1.1", 1)
        call = call or v1.FeedServiceStub(one).Watch(watcher.request())
        seen = watcher.seen
        async with asyncio.timeout(10):
            while seen[root].title != root or len(seen) < 3 or seen[f"{root}.1.1"].next_seq < 2:
                watcher.take(await read(call))
        assert seen[root].children == {f"{root}.1"}
        assert watcher.all_problems == []


async def create(stubs: Stubs, session: str, parent: str = "") -> None:
    """Make a session, of a parent if one is given."""
    new = v1.Session(id=session)
    if parent:
        new.parent.MergeFrom(v1.SessionParent(id=parent, kind=v1.ParentKind.PARENT_KIND_SUBAGENT))
        new.lifecycle = v1.Lifecycle.LIFECYCLE_LINKED
    await stubs.sessions.CreateSession(v1.CreateSessionRequest(session=new), timeout=10)

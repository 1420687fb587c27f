"""Known bugs of others' feeds, each a case of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from contextlib import aclosing
from datetime import timedelta
from uuid import UUID

import pytest

from sessiond_server.feed.drafts import DraftHub
from sessiond_server.feed.source import Batch, Place, Watched
from sessiond_server.feed.watching import Beginning
from sessiond_server.store.drafts import Piece
from sessiond_server.store.keys import SessionKey
from tests.feed.history import CLEAR, FACTS, KINDS, MESSAGE, UPDATE, Paging
from tests.feed.store import Faults
from tests.feed.watcher import Habits, MeasuredStream, Target
from tests.feed.wire import Token, decode
from tests.feed.world import NEVER, World, case


def ids(world: World, session_id: str = "a", first: int = 0) -> list[str]:
    return [item.id for item in world.store.sessions[session_id].items[first:]]


@pytest.mark.parametrize("events", [1, 2, 1000])
def test_P9_a_watch_from_a_future_seq_gets_nothing_from_before_it(events: int) -> None:
    async def happen(world: World) -> None:
        world.store.transact("a", [MESSAGE] * 3)
        early = world.watch(Target("a", 8, tree=True))
        await asyncio.sleep(1)
        for kinds in ([UPDATE], [MESSAGE], [FACTS], [MESSAGE] * 2, [UPDATE]):
            world.store.transact("a", kinds)
            await asyncio.sleep(0.5)
        world.store.create("child", parent="a")  # is watched, though its parent doesn't tell of it
        await asyncio.sleep(0.5)
        await world.break_off(early)
        assert early.events == []
        world.go_on(early)
        world.store.transact("child", [MESSAGE])
        world.store.transact("a", [MESSAGE] * 3 + [UPDATE])  # 7, 8 and 9
        world.store.transact("a", [MESSAGE])
        await world.settle()
        wanted = [it.id for it in world.a.items if it.seq >= 8]
        assert [name for name in early.events if name in world.a.index] == wanted
        assert [name for name in early.events if name not in wanted] == ids(world, "child")

    case(happen, paging=Paging(events=events))


def test_P9_children_made_before_the_start_of_a_watch_are_followed_as_they_come() -> None:
    async def happen(world: World) -> None:
        watcher = world.watch(Target("a", 8, tree=True))
        await asyncio.sleep(1)
        world.store.create("child", parent="a")
        world.store.transact("child", [MESSAGE])
        await world.settle()
        assert watcher.events == ids(world, "child")

    case(happen)


def test_P9_a_clear_at_the_watchs_position_leaves_all_watchers_together() -> None:
    """Who comes to the same place before a clear and after it knows more or less of what stood there."""

    async def happen(world: World) -> None:
        world.store.transact("a", [MESSAGE] * 5)
        before = world.watch()
        await asyncio.sleep(1)
        world.store.transact("a", [CLEAR])
        await asyncio.sleep(1)
        await world.break_off(before)
        after = world.watch(Target("a", None))
        await asyncio.sleep(1)
        world.go_on(before)
        await asyncio.sleep(1)
        assert before.notices == ["caught_up", "caught_up"]
        reads = world.source.reads
        world.store.transact("a", [MESSAGE])
        await world.settle()
        assert before.events == ids(world)
        assert after.events == ids(world, first=6)
        assert world.source.reads == reads + 1

    case(happen)


def test_P9_a_clear_within_a_transaction_that_is_being_sent_ends_it() -> None:
    async def happen(world: World) -> None:
        world.store.transact("a", [MESSAGE] * 4)
        watcher = world.watch(habits=Habits(buffer_bytes=1, rests=1, rest=1, heartbeat=NEVER))
        await asyncio.sleep(0.001)
        assert watcher.events
        world.store.transact("a", [CLEAR])
        await world.settle(30)
        assert watcher.events[-1] == ids(world)[-1]
        assert len(watcher.events) < 5

    case(happen, paging=Paging(items=1))


def test_P9_heartbeats_are_never_ahead_of_events_nor_within_a_transaction() -> None:
    async def happen(world: World) -> None:
        watcher = world.watch(habits=Habits(heartbeat=0.1))
        for _ in range(5):
            world.store.transact("a", [MESSAGE] * 3)
            await asyncio.sleep(3)
        world.faults.slow = 0
        await world.settle()
        assert watcher.notices.count("heartbeat") > 20

    case(happen, paging=Paging(items=1), faults=Faults(slow=0.5))


@pytest.mark.parametrize("watching", [True, False])
def test_P9_who_resumes_during_delete_and_recreate_sees_the_deletion_only(watching: bool) -> None:
    async def happen(world: World) -> None:
        world.store.transact("a", [MESSAGE] * 2)
        watcher = world.watch()
        await asyncio.sleep(1)
        old = ids(world)
        if not watching:
            await world.break_off(watcher)
        world.store.delete("a")
        world.store.create("a")
        world.store.transact("a", [MESSAGE] * 5)
        other = world.watch()  # of the new one: both feeds live side by side
        if not watching:
            await asyncio.sleep(0.5)
            world.go_on(watcher)
        await world.settle()
        assert watcher.events == old
        assert watcher.notices == ["caught_up", "deleted"]
        assert watcher.ended
        assert other.events == ids(world)

    case(happen)


@pytest.mark.parametrize("alive", [True, False])
def test_P9_a_child_that_is_made_anew_is_watched_anew(alive: bool) -> None:
    """Whether its watcher hears of the new one before or after the end of the old one."""

    async def happen(world: World) -> None:
        watcher = world.watch(Target("a", tree=True))
        world.store.create("child", parent="a")
        world.store.transact("child", [MESSAGE])
        await asyncio.sleep(1)
        world.store.delete("child")
        if not alive:
            await asyncio.sleep(1)
        world.store.create("child", parent="a")
        world.store.transact("child", [MESSAGE] * 2)
        await world.settle()
        assert watcher.notices.count("deleted") == 1
        assert watcher.events[-2:] == ids(world, "child")

    case(happen)


@pytest.mark.parametrize("events", [1, 2, 3, 1000])
def test_P9_an_overflow_at_any_point_loses_nothing_and_tears_nothing(events: int) -> None:
    """With every size of the buffer, so that every frame is once the first that doesn't fit: the last of a
    transaction too."""
    fell_behind = set()
    for buffer_bytes in range(100, 1400, 20):

        async def happen(world: World, buffer_bytes: int = buffer_bytes) -> None:
            habits = Habits(buffer_bytes, heartbeat=NEVER)
            watcher = world.watch(habits=habits)
            await asyncio.sleep(1)
            habits.rests, habits.rest = 1.0, 2.0
            for kinds in ([MESSAGE], [MESSAGE] * 3, [UPDATE], [MESSAGE] * 2, [MESSAGE]):
                world.store.transact("a", kinds)
                await asyncio.sleep(0.1)
            await world.settle(40)
            assert watcher.events == ids(world)
            fell_behind.add(watcher.notices.count("fell_behind"))

        case(happen, paging=Paging(items=3, events=events))
    assert 0 in fell_behind
    assert max(fell_behind) > 0


def test_P9_a_hint_that_arrives_while_a_fetch_is_under_way_is_not_lost() -> None:
    async def happen(world: World) -> None:
        watcher = world.watch()
        await asyncio.sleep(1)
        for tenth in range(1, 30):  # before, at and after the moment that the read sees
            world.faults.slow = 1
            world.store.transact("a", [MESSAGE])
            await asyncio.sleep(tenth / 10)
            world.store.transact("a", [MESSAGE])
            await asyncio.sleep(10)
            assert watcher.events == ids(world)

    case(happen)


def test_P9_a_hint_between_the_last_read_and_joining_is_not_lost() -> None:
    async def happen(world: World) -> None:
        read = world.source.read

        async def meanwhile(watched: Watched, place: Place, from_seq: int) -> Batch | None:
            batch = await read(watched, place, from_seq)
            if len(world.a.items) == 1:
                world.store.transact("a", [MESSAGE])
            return batch

        world.store.transact("a", [MESSAGE])
        world.source.read = meanwhile  # type: ignore[method-assign]
        watcher = world.watch()
        await world.settle()
        assert len(watcher.events) == 2

    case(happen)


def test_P9_with_all_hints_lost_everything_comes_within_a_sweep() -> None:
    async def happen(world: World) -> None:
        watcher = world.watch()
        commits: dict[str, float] = {}
        for number in range(20):
            await asyncio.sleep(0.37)
            world.store.transact("a", [MESSAGE] * (1 + number % 2))
            now = asyncio.get_running_loop().time()
            commits = dict.fromkeys(ids(world), now) | commits
        await world.settle(3)
        for (time, _), frame in zip(watcher.log, watcher.frames, strict=True):
            assert all(time <= commits[name] + 2.001 for name in frame.events)

    case(happen, faults=Faults(lost=1), sweep=2)


def test_P9_every_token_resumes_exactly_the_rest() -> None:
    async def happen(world: World) -> None:
        watcher = world.watch(habits=Habits(heartbeat=0.2))
        for kinds in ([MESSAGE] * 3, [UPDATE] * 2, [MESSAGE], [FACTS], [MESSAGE] * 2):
            world.store.transact("a", kinds)
            await asyncio.sleep(0.5)
        await world.settle()
        frames = list(watcher.frames)
        for place, frame in enumerate(frames):
            if frame.token is not None:
                rest = [name for later in frames[place + 1 :] for name in later.events]
                assert await received_behind(world, frame.token) == rest

    case(happen, paging=Paging(items=2))


async def received_behind(world: World, token: Token) -> list[str]:
    """What a stream sends that resumes with a token."""
    watched = world.a.watched
    stream = MeasuredStream(world.hub, Habits(heartbeat=NEVER))
    stream.watch(Beginning(watched, token.place, token.from_seq), b"0 ")
    events: list[str] = []
    async with aclosing(stream.frames()) as frames:
        async for data in frames:
            frame = decode(data)
            if frame.notice == "caught_up":
                break
            events += frame.events
    return events


def test_P9_a_transaction_whose_end_is_left_out_is_ended_by_a_bookmark() -> None:
    async def happen(world: World) -> None:
        watcher = world.watch(Target("a", kinds=frozenset({KINDS[MESSAGE]})))
        await asyncio.sleep(1)
        world.store.transact("a", [MESSAGE, UPDATE])
        await world.settle()
        assert [frame.fragment for frame in watcher.frames if frame.events] == [True]
        assert watcher.notices == ["caught_up", "bookmark"]

    case(happen, paging=Paging(events=1))


def test_P9_a_watch_that_wants_nothing_of_it_is_told_how_far_it_has_come() -> None:
    async def happen(world: World) -> None:
        habits = Habits(heartbeat=NEVER, bookmark_events=10)
        watcher = world.watch(Target("a", kinds=frozenset({KINDS[FACTS]})), habits=habits)
        await asyncio.sleep(1)
        for _ in range(25):
            world.store.transact("a", [MESSAGE])
            await asyncio.sleep(1)
        await world.settle()
        assert watcher.notices == ["caught_up", "bookmark", "bookmark"]
        token = watcher.frames[-1].token
        assert token is not None
        assert token.place.seq == 20

    case(happen)


def test_P9_a_bookmark_for_which_there_is_no_room_comes_when_there_is() -> None:
    async def happen(world: World) -> None:
        habits = Habits(buffer_bytes=1, rests=1, rest=10, heartbeat=NEVER, bookmark_events=3)
        watcher = world.watch(Target("a", kinds=frozenset({KINDS[FACTS]})), habits=habits)
        await asyncio.sleep(50)
        for kind in (FACTS, FACTS, MESSAGE, MESSAGE, MESSAGE):  # the second waits for the first
            world.store.transact("a", [kind])
            await asyncio.sleep(0.1)
        await world.settle(200)
        assert [frame.notice for frame in watcher.frames] == ["caught_up", "", "", "bookmark"]

    case(happen)


def test_P9_facts_that_are_told_as_one_are_never_parted_by_a_token() -> None:
    """Whoever resumes between them wouldn't hear what the earlier ones touched."""

    async def happen(world: World) -> None:
        for kinds in ([MESSAGE], [FACTS], [FACTS], [FACTS], [MESSAGE], [FACTS]):
            world.store.transact("a", kinds)
        watcher = world.watch()
        await world.settle()
        one, two, three, four, five, six = ids(world)
        assert watcher.events == [one, f"{two}+{three}+{four}", five, six]

    case(happen, paging=Paging(events=1))


def test_P9_watchers_at_one_place_share_a_fetch() -> None:
    async def happen(world: World) -> None:
        watchers = [world.watch() for _ in range(50)]
        await asyncio.sleep(1)
        reads = world.source.reads
        world.store.transact("a", [MESSAGE, MESSAGE, UPDATE])
        await world.settle()
        assert world.source.reads == reads + 1
        assert all(watcher.events == ids(world) for watcher in watchers)

    case(happen)


def test_P9_the_sweep_reads_only_sessions_that_have_changed() -> None:
    async def happen(world: World) -> None:
        world.watch()
        world.store.transact("a", [MESSAGE])
        await asyncio.sleep(5)
        world.store.transact("a", [MESSAGE])
        await asyncio.sleep(5)
        reads = world.source.reads
        await asyncio.sleep(100)
        assert world.source.reads == reads

    case(happen, sweep=1)


def test_P9_a_child_is_watched_though_its_parent_goes_at_once() -> None:
    async def happen(world: World) -> None:
        begin = world.source.begin

        async def slowly(session_id: str, from_seq: int | None = 0) -> Beginning | None:
            await asyncio.sleep(1)
            return await begin(session_id, from_seq)

        world.source.begin = slowly  # type: ignore[method-assign]
        watcher = world.watch(Target("a", tree=True))
        await asyncio.sleep(5)
        world.store.create("child", parent="a")
        world.store.transact("child", [MESSAGE])
        await asyncio.sleep(0.5)
        world.store.delete("a")
        await world.settle()
        assert watcher.events[-1:] == ids(world, "child")

    case(happen)


def test_P9_a_hub_that_stops_leaves_no_fetch_behind() -> None:
    async def happen(world: World) -> None:
        world.watch()
        await asyncio.sleep(5)
        world.store.transact("a", [MESSAGE])
        await asyncio.sleep(0.5)
        world.store.transact("a", [MESSAGE])
        await world.hub.stop()
        reads = world.source.reads
        await asyncio.sleep(5)
        assert world.source.reads == reads

    case(happen, faults=Faults(slow=1))


def test_P9_children_of_children_are_followed_from_their_beginning() -> None:
    async def happen(world: World) -> None:
        watcher = world.watch(Target("a", None, tree=True))
        await asyncio.sleep(1)
        world.store.create("b", parent="a")
        world.store.create("c", parent="b")
        world.store.transact("c", [MESSAGE] * 3)
        await world.settle()
        assert set(ids(world, "c")) <= set(watcher.events)

    case(happen)


class NoDraftStore:
    """Relays nothing: the drafts here are published at the replica that is watched."""

    async def insert(self, key: SessionKey, piece: Piece) -> None:
        pass

    async def news(self, key: SessionKey, known: Mapping[UUID, int]) -> list[Piece]:
        return []

    async def recent(self, age: timedelta) -> set[SessionKey]:
        return set()

    async def forget(self, key: SessionKey, draft_id: UUID) -> None:
        pass

    async def forget_old(self, age: timedelta) -> None:
        pass

    async def appended(self, key: SessionKey, client_ids: Collection[str]) -> set[str]:
        return set()


def test_P9_drafts_are_not_told_within_a_transaction() -> None:
    async def happen(world: World) -> None:
        drafts = DraftHub(NoDraftStore(), lambda _: None, window=0.05, expiry=60, limit=1)
        watcher = world.watch(drafts=drafts)
        await asyncio.sleep(1)
        publishing = drafts.begin(world.a.watched.key, "draft")
        relaying = asyncio.create_task(publishing.run())
        world.faults.slow = 1
        for number in range(200):
            publishing.push(b"more")
            if number % 50 == 0:
                world.store.transact("a", [MESSAGE] * 5)
            await asyncio.sleep(0.1)
        publishing.give_up()
        await relaying
        drafts.finish(publishing, 2)
        await world.settle(30)
        await drafts.stop()
        assert watcher.events == ids(world)
        assert watcher.notices.count("drafts") > 20

    case(happen, paging=Paging(items=1))

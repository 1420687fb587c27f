"""The checker of feeds finds what is planted: without that, its silence says nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

import pytest

from tests.feed.checker import Follower, Violation
from tests.feed.history import FACTS, KINDS, MESSAGE, UPDATE, History, Paging
from tests.feed.watcher import Habits
from tests.feed.wire import Received
from tests.feed.world import World, case

Frames = list[Received]


async def _happen(world: World) -> None:
    watcher = world.watch(habits=Habits(heartbeat=0.5))
    for kinds in ([MESSAGE] * 3, [UPDATE], [MESSAGE, MESSAGE], [FACTS], [MESSAGE] * 3, [UPDATE]):
        world.store.transact("a", kinds)
        await asyncio.sleep(1)
    await world.settle(1)
    assert {"caught_up", "heartbeat"} <= set(watcher.notices)


@pytest.fixture(scope="module")
def recorded() -> tuple[History, Frames]:
    """A history, and the frames of a watcher that saw all of it."""
    world = case(_happen, paging=Paging(events=1))
    return world.a, world.watchers[0].frames


def check(history: History, frames: Frames) -> None:
    """Check frames as a watcher of the whole history would."""
    follower = Follower(history, place=history.start(0))
    for frame in frames:
        follower.take(frame)
    follower.finish()


def with_events(frames: Frames) -> list[int]:
    return [place for place, frame in enumerate(frames) if frame.events]


def dropped(frames: Frames) -> Iterator[Frames]:
    for place in with_events(frames):
        yield frames[:place] + frames[place + 1 :]


def doubled(frames: Frames) -> Iterator[Frames]:
    for place in with_events(frames):
        yield [*frames[:place], frames[place], *frames[place:]]


def reordered(frames: Frames) -> Iterator[Frames]:
    places = with_events(frames)
    for one, other in pairwise(places):
        swapped = list(frames)
        swapped[one], swapped[other] = frames[other], frames[one]
        yield swapped


def torn_by_a_token(frames: Frames) -> Iterator[Frames]:
    """A fragment that says that it is the end."""
    for place, frame in enumerate(frames):
        if frame.fragment:
            token = next(it.token for it in frames[place:] if it.token is not None)
            seq = token.place.seq - (1 if frames[place + 1].token else 2)
            within = token._replace(place=token.place._replace(seq=seq))
            whole = replace(frame, fragment=False, token=within)
            yield [*frames[:place], whole, *frames[place + 1 :]]


def torn_by_a_notice(frames: Frames) -> Iterator[Frames]:
    heartbeat = next(frame for frame in frames if frame.notice == "heartbeat")
    for place, frame in enumerate(frames):
        if frame.fragment:
            yield [*frames[: place + 1], heartbeat, *frames[place + 1 :]]


def token_ahead(frames: Frames) -> Iterator[Frames]:
    """Frames that carry the token of a later one."""
    for place, frame in enumerate(frames):
        later = next((it.token for it in frames[place + 1 :] if it.events and it.token), None)
        if frame.token and later and later != frame.token:
            yield [*frames[:place], replace(frame, token=later), *frames[place + 1 :]]


def token_behind(frames: Frames) -> Iterator[Frames]:
    """Frames that carry the token of an earlier one."""
    for place, frame in enumerate(frames):
        earlier = next((it.token for it in frames[:place] if it.token), None)
        if frame.token and earlier and earlier != frame.token:
            yield [*frames[:place], replace(frame, token=earlier), *frames[place + 1 :]]


def caught_up_too_early(frames: Frames) -> Iterator[Frames]:
    for place, frame in enumerate(frames):
        if frame.notice == "caught_up":
            yield [*frames[:place], replace(frame, next_seq=5), *frames[place + 1 :]]
            yield frames[:place] + frames[place + 1 :]


def of_another_session(frames: Frames) -> Iterator[Frames]:
    for place in with_events(frames):
        yield [*frames[:place], replace(frames[place], events=("else.0",)), *frames[place + 1 :]]


def after_the_deletion(frames: Frames) -> Iterator[Frames]:
    deleted = replace(frames[-1], events=(), notice="deleted", token=None)
    for place in range(len(frames)):
        yield [*frames[:place], deleted, *frames[place:]]


def test_P9_the_checker_accepts_what_a_watcher_received(recorded: tuple[History, Frames]) -> None:
    history, frames = recorded
    assert sum(frame.fragment for frame in frames) == 5
    check(history, frames)


@pytest.mark.parametrize(
    "plant",
    [
        dropped,
        doubled,
        reordered,
        torn_by_a_token,
        torn_by_a_notice,
        token_ahead,
        token_behind,
        caught_up_too_early,
        of_another_session,
        after_the_deletion,
    ],
)
def test_P9_the_checker_finds_what_is_planted(
    recorded: tuple[History, Frames], plant: Callable[[Frames], Iterator[Frames]]
) -> None:
    history, frames = recorded
    planted = list(plant(frames))
    assert planted
    for wrong in planted:
        with pytest.raises(Violation):
            check(history, wrong)


def test_P9_the_checker_finds_changes_of_facts_that_are_lost_or_parted() -> None:
    world = case(_facts)
    history, frames = world.a, world.watchers[0].frames
    check(history, frames)
    (place,) = with_events(frames)
    whole = frames[place]
    (name,) = whole.events
    first, last = name.split("+")
    assert whole.token is not None
    between = whole.token._replace(place=whole.token.place._replace(change_no=1))
    parted = replace(whole, events=(), notice="bookmark", token=between)
    later = replace(whole, events=(last,))
    for wrong in ([later], [parted, later], [parted, whole], [replace(whole, events=(first,))]):
        with pytest.raises(Violation):
            check(history, [*frames[:place], *wrong, *frames[place + 1 :]])


async def _facts(world: World) -> None:
    world.store.transact("a", [FACTS])
    world.store.transact("a", [FACTS])
    world.watch()
    await world.settle(1)


def test_P9_the_checker_finds_kinds_that_nobody_wants_and_bookmarks_that_are_missing(
    recorded: tuple[History, Frames],
) -> None:
    history, frames = recorded
    follower = Follower(history, history.start(0), kinds=frozenset({KINDS[FACTS]}))
    with pytest.raises(Violation, match="of no kind that is wanted"):
        follower.take(frames[with_events(frames)[0]])
    follower = Follower(history, history.start(0), kinds=frozenset({99}), bookmark_events=5)
    follower.take(next(frame for frame in frames if frame.notice == "caught_up"))
    with pytest.raises(Violation, match="no token covers the last"):
        follower.finish()

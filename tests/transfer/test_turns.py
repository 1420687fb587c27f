"""The order in which sessions are exported, taken up again wherever it broke off."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import example, given, settings
from hypothesis import strategies as st

from sessiond_server.sessions.transfers import Selected, Turns, TurnsPlace
from tests.support.examples import examples

_START = datetime(2026, 1, 1, tzinfo=UTC)


def made(shape: list[tuple[int, int]]) -> list[Selected]:
    """Sessions by their parents' numbers and ages: parents may be younger than their children."""
    found = []
    for number, (parent, age) in enumerate(shape):
        parent_id = None if parent >= number else f"s{parent}"
        found.append(Selected(f"s{number}", parent_id, _START + timedelta(seconds=age)))
    return sorted(found, key=lambda it: it.age)


def ordered(found: list[Selected], after: TurnsPlace | None = None) -> list[str]:
    return [it.session_id for it in Turns(found, after)]


SHAPES = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 6)), min_size=1, max_size=10)


@settings(max_examples=examples(300))
@given(SHAPES)
def test_B_parents_come_before_their_children_and_each_session_once(
    shape: list[tuple[int, int]],
) -> None:
    found = made(shape)
    order = ordered(found)
    assert sorted(order) == sorted(it.session_id for it in found)
    for it in found:
        if it.parent_id is not None:
            assert order.index(it.parent_id) < order.index(it.session_id)


@settings(max_examples=examples(400))
@given(SHAPES, st.lists(st.integers(1, 4), max_size=5), st.sets(st.integers(0, 9)))
@example([(9, 5), (0, 1), (0, 0)], [1], {2})
def test_P9_an_order_that_is_taken_up_again_repeats_none_and_misses_none(
    shape: list[tuple[int, int]], steps: list[int], deleted: set[int]
) -> None:
    """Some sessions are deleted at the first break; those that stay come exactly once."""
    found = made(shape)
    place: TurnsPlace | None = None
    came: list[str] = []
    for step in steps:
        turns = Turns(behind(found, place), place)
        for _, it in zip(range(step), turns, strict=False):
            came.append(it.session_id)
            place = turns.place
        found = [it for it in found if int(it.session_id[1:]) not in deleted]
    came += ordered(behind(found, place), place)
    assert len(set(came)) == len(came)
    assert set(came) >= {it.session_id for it in found}
    staying = {it.session_id for it in found}
    for it in found:
        if it.parent_id in staying:
            assert came.index(it.parent_id) < came.index(it.session_id)


def behind(found: list[Selected], place: TurnsPlace | None) -> list[Selected]:
    """What the query selects behind a place."""
    return [it for it in found if place is None or it.age > place[:2]]


def test_a_session_that_was_made_anew_at_its_turn_does_not_come_again() -> None:
    one, two = made([(9, 0), (9, 1)])
    turns = Turns([one, two], None)
    assert next(iter(turns)) == one
    turns.anew(one.session_id)
    place = turns.place
    again = one._replace(create_time=_START + timedelta(seconds=9))
    assert ordered(behind([two, again], place), place) == ["s1"]

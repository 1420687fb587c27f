"""Continuations: a conversation that goes on in further sessions reads as one."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from sessiond import from_openai, to_openai, v1, with_client_ids
from tests.rpc.api import Api, calling, refused, said
from tests.support.data import airline

CONTINUATION = v1.ParentKind.PARENT_KIND_CONTINUATION
ALL = v1.MessageView.MESSAGE_VIEW_ALL
DESCENDING = v1.SortOrder.SORT_ORDER_DESCENDING

Told = tuple[str, int]
"""A session's id and a seq in it."""


def pages(api: Api, id: str, **fields: Any) -> list[v1.ListMessagesResponse]:
    """A list to its end."""
    request = v1.ListMessagesRequest(session_id=id, continuations=True, **fields)
    found: list[v1.ListMessagesResponse] = []
    while True:
        found.append(api.messages.ListMessages(request))
        request.page_token = found[-1].next_page_token
        if not request.page_token:
            return found


def read(api: Api, id: str, **fields: Any) -> list[Told]:
    found = pages(api, id, **fields)
    size = fields.get("page_size", 100)
    assert all(len(page.messages) <= size for page in found)
    return [(m.session_id, m.seq) for page in found for m in page.messages]


def chain(api: Api, *lengths: int, **facts: Any) -> list[str]:
    """Sessions that continue one another, the oldest first, with so many messages."""
    made: list[str] = []
    for length in lengths:
        if made:
            made.append(api.child(made[-1], kind=CONTINUATION, **facts).id)
        else:
            made.append(api.create(**facts).id)
        if length:
            api.append(made[-1], *(said(f"{len(made)}.{n + 1}") for n in range(length)))
    return made


def told(ids: list[str], lengths: tuple[int, ...]) -> list[Told]:
    return [(id, n + 1) for id, length in zip(ids, lengths, strict=True) for n in range(length)]


def test_B_compression_splits_read_as_one_conversation(api: Api) -> None:
    """A real conversation, split where its agent compressed, is what it was before."""
    _, dicts = airline(3)
    cuts = [0, 7, 8, 20, len(dicts)]
    parent = ""
    for low, high in pairwise(cuts):
        id = api.child(parent, kind=CONTINUATION).id if parent else api.create().id
        api.append(id, *with_client_ids(from_openai(dicts[low:high])))
        if parent:
            api.end(parent, "compressed")
        parent = id
    found = [m for page in pages(api, parent, page_size=6, view=ALL) for m in page.messages]
    assert to_openai(found) == dicts
    backwards = pages(api, parent, page_size=6, view=ALL, order=DESCENDING)
    assert to_openai([m for page in backwards for m in page.messages][::-1]) == dicts
    assert len({m.session_id for m in found}) == len(cuts) - 1
    alone = api.messages.ListMessages(v1.ListMessagesRequest(session_id=parent, view=ALL))
    assert [m.session_id for m in alone.messages] == [""] * (cuts[-1] - cuts[-2])


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_continuations_page_in_both_directions(api: Api, size: int) -> None:
    lengths = (3, 0, 1, 4, 0, 2)
    ids = chain(api, *lengths)
    everything = told(ids, lengths)
    assert read(api, ids[-1], page_size=size) == everything
    assert read(api, ids[-1], page_size=size, order=DESCENDING) == everything[::-1]
    assert read(api, ids[3], page_size=size) == everything[:8]
    assert read(api, ids[-1], page_size=size, from_seq=2) == everything[-1:]
    assert read(api, ids[-1], page_size=size, from_seq=1, order=DESCENDING) == everything[-2::-1]


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_to_seq_stops_a_conversation_in_its_last_session(api: Api, size: int) -> None:
    lengths = (3, 0, 4, 5)
    ids = chain(api, *lengths)
    everything = told(ids, lengths)
    assert read(api, ids[-1], page_size=size, to_seq=3) == everything[:-2]
    assert read(api, ids[-1], page_size=size, from_seq=2, to_seq=3) == everything[-4:-2]
    descending: dict[str, Any] = {"page_size": size, "order": DESCENDING}
    assert read(api, ids[-1], to_seq=3, **descending) == everything[-1:-4:-1]
    assert read(api, ids[-1], to_seq=1, **descending) == everything[-1:-6:-1]
    assert read(api, ids[-1], from_seq=4, to_seq=2, **descending) == everything[-2:-5:-1]
    long_ago = Timestamp(seconds=1)
    assert read(api, ids[-1], start_time=long_ago, to_seq=2, page_size=size) == everything[:-3]
    assert read(api, ids[-1], start_time=long_ago, to_seq=2, **descending) == []


def test_to_seq_is_not_reached_from_an_earlier_session(api: Api) -> None:
    ids = chain(api, 2)
    time.sleep(0.01)
    between = Timestamp()
    between.GetCurrentTime()
    time.sleep(0.01)
    ids.append(api.child(ids[-1], kind=CONTINUATION).id)
    api.append(ids[-1], said(), said())
    assert len(read(api, ids[-1], start_time=between, order=DESCENDING)) == 2
    assert read(api, ids[-1], start_time=between, to_seq=1, order=DESCENDING) == []


@pytest.mark.parametrize("seq", [1, 2, 3])
def test_a_page_around_a_seq_reaches_into_what_it_continues(api: Api, seq: int) -> None:
    lengths = (2, 5, 3)
    ids = chain(api, *lengths)
    everything = told(ids, lengths)
    request = v1.ListMessagesRequest(
        session_id=ids[-1], continuations=True, around_seq=seq, page_size=4
    )
    page = api.messages.ListMessages(request)
    place = everything.index((ids[-1], seq))
    assert [(m.session_id, m.seq) for m in page.messages] == everything[place - 2 : place + 2]
    earlier: list[Told] = []
    request.page_token = page.previous_page_token
    while request.page_token:
        answer = api.messages.ListMessages(request)
        earlier += [(m.session_id, m.seq) for m in answer.messages]
        request.page_token = answer.next_page_token
    assert earlier == everything[: place - 2][::-1]


def test_continuations_can_be_read_from_a_time(api: Api) -> None:
    ids = chain(api, 2)
    between: list[Timestamp] = []
    for _ in range(3):
        time.sleep(0.01)
        between.append(Timestamp())
        between[-1].GetCurrentTime()
        time.sleep(0.01)
        ids.append(api.child(ids[-1], kind=CONTINUATION).id)
        api.append(ids[-1], said(), said())
    everything = told(ids, (2, 2, 2, 2))
    for number, moment in enumerate(between):
        later = 2 * number + 2
        assert read(api, ids[-1], start_time=moment) == everything[later:]
        backwards = read(api, ids[-1], start_time=moment, order=DESCENDING)
        assert backwards == everything[:later][::-1]
    now = Timestamp()
    now.FromSeconds(4 * 10**9)
    assert read(api, ids[-1], start_time=now) == []
    assert read(api, ids[-1], start_time=Timestamp(seconds=1), order=DESCENDING) == []


def test_continuations_keep_the_views_and_filters(api: Api) -> None:
    ids = chain(api, 5, 4)
    api.rewind(ids[0], 3)
    api.compact(ids[1], 1, 2)
    api.append(ids[1], calling("a"))
    assert read(api, ids[1]) == [*told(ids, (3, 4)), (ids[1], 6)]
    assert len(read(api, ids[1], view=ALL)) == 5 + 6
    everything = [m for page in pages(api, ids[1], view=ALL, page_size=4) for m in page.messages]
    assert [m.seq for m in everything if m.rewound] == [4, 5]
    assert [m.compacted_by_seq for m in everything[5:]] == [5, 5, 0, 0, 0, 0]
    assistants = read(api, ids[1], roles=[v1.Role.ROLE_ASSISTANT], page_size=1)
    assert assistants == [(ids[1], 6)]


def test_continuations_read_offloaded_messages_as_hot_ones(api: Api) -> None:
    lengths = (40, 30, 20)
    ids = chain(api, *lengths)
    for id in ids[:2]:
        moved = api.storage.OffloadMessages(v1.OffloadMessagesRequest(session_id=id, all=True))
        assert moved.message_count > 0
    everything = told(ids, lengths)
    for size in (7, 100):
        assert read(api, ids[2], page_size=size, view=ALL) == everything
        backwards = read(api, ids[2], page_size=size, view=ALL, order=DESCENDING)
        assert backwards == everything[::-1]


def test_only_what_a_session_continues_belongs_to_its_continuations(api: Api) -> None:
    (root,) = chain(api, 2)
    child = api.child(root).id
    api.append(child, said())
    going_on = api.child(child, kind=CONTINUATION).id
    fork = api.fork(root).id
    after_fork = api.child(fork, kind=CONTINUATION).id
    api.append(after_fork, said())
    assert read(api, going_on) == [(child, 1)]
    assert read(api, root) == [(root, 1), (root, 2)]
    assert read(api, after_fork) == [(fork, 1), (fork, 2), (after_fork, 1)]
    api.delete(fork)
    assert read(api, after_fork) == [(after_fork, 1)]
    assert refused(lambda: read(api, "nobody")).reason == "SESSION_NOT_FOUND"


def test_a_session_that_goes_while_its_continuations_are_read_ends_or_shortens_it(api: Api) -> None:
    def rest(id: str, middle: str, **fields: Any) -> list[Told]:
        request = v1.ListMessagesRequest(session_id=id, continuations=True, page_size=3, **fields)
        request.page_token = api.messages.ListMessages(request).next_page_token
        api.delete(middle)
        answer = api.messages.ListMessages(request)
        assert answer.next_page_token == ""
        return [(m.session_id, m.seq) for m in answer.messages]

    ids = chain(api, 2, 2, 2)
    assert rest(ids[2], ids[1], order=DESCENDING) == []
    ids = chain(api, 2, 2, 1)
    assert rest(ids[2], ids[1]) == [(ids[2], 1)]


def test_P15_a_page_of_many_continuations_is_cut_and_goes_on(api: Api) -> None:
    chance = random.Random(2)
    lengths = (*(chance.choice([0, 0, 0, 1]) for _ in range(130)), 1)
    ids = chain(api, *lengths)
    assert read(api, ids[-1]) == told(ids, lengths)
    assert read(api, ids[-1], order=DESCENDING) == told(ids, lengths)[::-1]


def test_a_page_of_continuations_stays_within_its_bytes(api: Api) -> None:
    def large() -> v1.Message:
        return said("x" * 1_500_000)

    ids = [api.create().id]
    api.append(ids[0], large())
    ids.append(api.child(ids[0], kind=CONTINUATION).id)
    api.append(ids[1], large())
    sizes: Callable[..., list[int]] = lambda **fields: [  # noqa: E731
        len(page.messages) for page in pages(api, ids[1], **fields)
    ]
    assert sizes() == sizes(order=DESCENDING) == [1, 1]

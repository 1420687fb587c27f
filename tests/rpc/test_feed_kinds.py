"""P9: a watch costs what it asks for: small changes of facts, some kinds of events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from sessiond import Client, v1
from sessiond.cli.options import FeedKind
from sessiond.v1 import FeedEventKind
from tests.rpc.api import Api, new, said
from tests.rpc.refusals import refusal
from tests.support.processes import ServerProcess

APPENDED = FeedEventKind.FEED_EVENT_KIND_MESSAGE_APPENDED
UPDATED = FeedEventKind.FEED_EVENT_KIND_MESSAGE_UPDATED
CHANGED = FeedEventKind.FEED_EVENT_KIND_SESSION_CHANGED
COMPACTED = FeedEventKind.FEED_EVENT_KIND_COMPACTED
SMALL = 2000


def past(api: Api, id: str, **target: Any) -> list[v1.WatchResponse]:
    """The frames of all that has happened, the last of which says that it was all."""
    call = watching(api, id, **target)
    try:
        return list(_until_caught_up(call))
    finally:
        call.cancel()


def watching(api: Api, id: str, **target: Any) -> Any:
    wanted = v1.WatchTarget(session_id=id, **target)
    return api.feeds.Watch(v1.WatchRequest(targets=[wanted]), timeout=60)


def _until_caught_up(frames: Iterator[v1.WatchResponse]) -> Iterator[v1.WatchResponse]:
    for frame in frames:
        yield frame
        if "caught_up" in kinds([frame]):
            return


def kinds(frames: list[v1.WatchResponse]) -> list[str]:
    return [str(event.WhichOneof("event")) for frame in frames for event in frame.events]


def behind(frame: v1.WatchResponse) -> dict[str, Any]:
    return {"resume": v1.WatchResume(tokens=[frame.resume_token])}


def touched(frames: list[v1.WatchResponse]) -> list[set[str]]:
    events = [event for frame in frames for event in frame.events]
    changes = [it.session_changed for it in events if it.HasField("session_changed")]
    return [set(it.changed_fields.paths) for it in changes]


def test_P15_a_change_of_facts_is_small_whatever_the_session_holds(
    api: Api, server: ServerProcess
) -> None:
    id = new()
    with Client(server.target) as client:
        client.create_session(id, system_prompt="p" * 500_000, metadata={"k": "v" * 60_000})
        call = watching(api, id)
        list(_until_caught_up(call))
        for pinned in (True, False, True):
            client.update_session(id, pinned=pinned)
            frame = next(call)
            (event,) = frame.events
            assert event.session_changed.session.pinned is pinned
            assert list(event.session_changed.changed_fields.paths) == ["pinned"]
            assert frame.ByteSize() < SMALL
        client.update_session(id, system_prompt="q" * 500_000)
        frame = next(call)
        assert touched([frame]) == [{"system_prompt"}]
        assert frame.ByteSize() < SMALL
        call.cancel()


def test_P9_changes_told_as_one_name_all_fields_that_they_touched(
    api: Api, server: ServerProcess
) -> None:
    id = api.talk()
    with Client(server.target) as client:
        client.update_session(id, title="One", pinned=True)
        client.update_session(id, title="Two", labels={"team": "a"})
        client.end_session(id, reason="done")
        client.reopen_session(id)
        client.append(id, said())
        client.update_session(id, metadata={"a": 1}, model="m", config='{"t": 1}')
        client.update_session(id, pinned=True)
    frames = past(api, id)
    assert kinds(frames) == [
        *("message_appended", "session_changed", "message_appended", "session_changed"),
        "caught_up",
    ]
    assert touched(frames) == [
        {"title", "title_source", "pinned", "labels", "state", "end_reason", "end_time"},
        {"metadata", "model", "config"},
    ]


def test_P9_a_deleted_parent_is_told_to_all_that_come_from_it(
    api: Api, server: ServerProcess
) -> None:
    parent, child, grandchild, agent = (new() for _ in range(4))
    with Client(server.target) as client:
        client.create_session(parent)
        client.create_session(child, parent_id=parent, parent_kind="continuation")
        client.create_session(grandchild, parent_id=child, parent_kind="continuation")
        client.create_session(agent, parent_id=parent, parent_kind="subagent", lifecycle="detached")
        client.delete_session(parent)
    assert touched(past(api, child)) == [{"parent", "root_id"}]
    assert touched(past(api, grandchild)) == [{"root_id"}]
    assert touched(past(api, agent)) == [{"parent", "root_id", "spawn_depth"}]


def test_P9_a_watch_gets_the_kinds_that_it_asks_for_and_its_tokens_cover_the_others(
    api: Api, server: ServerProcess
) -> None:
    id = api.talk()
    with Client(server.target) as client:
        client.append(id, [said("1"), said("2")])
        client.update_session(id, pinned=True)
        client.append(id, said("3"))
    frames = past(api, id, event_kinds=[CHANGED, COMPACTED])
    assert kinds(frames) == ["session_changed", "caught_up"]
    for (
        frame
    ) in frames:  # the first one brought the change, and its token covers the message behind it
        assert kinds(past(api, id, **behind(frame))) == ["caught_up"]
    messages = past(api, id, event_kinds=[APPENDED])
    assert kinds(messages) == ["message_appended"] * 4 + ["caught_up"]


def test_P9_a_watch_that_wants_none_of_what_happens_still_makes_progress(
    api: Api, server: ServerProcess
) -> None:
    """After 1000 events that are left out a bookmark comes; who resumes with it gets the later ones alone."""
    id = api.talk()
    call = watching(api, id, event_kinds=[CHANGED])
    list(_until_caught_up(call))
    with Client(server.target) as client:
        for _ in range(11):
            client.append(id, [said() for _ in range(100)])
        bookmark = next(call)
        call.cancel()
        assert (len(bookmark.events), bookmark.fragment) == (0, False)
        assert (bookmark.session_id, bool(bookmark.resume_token)) == (id, True)
        left = kinds(past(api, id, **behind(bookmark)))
    assert left[-1] == "caught_up"
    assert len(left) <= 1101 + 1 - 1000


def test_P9_a_session_s_deletion_is_told_whatever_is_asked_for(
    api: Api, server: ServerProcess
) -> None:
    id = api.talk()
    call = watching(api, id, event_kinds=[COMPACTED])
    list(_until_caught_up(call))
    with Client(server.target) as client:
        client.delete_session(id)
    assert kinds(list(call)) == ["session_deleted"]


def test_P9_descendants_are_followed_though_nobody_asks_for_their_creation(
    api: Api, server: ServerProcess
) -> None:
    id, child = api.talk(), new()
    with Client(server.target) as client:
        call = watching(api, id, include_descendants=True, event_kinds=[APPENDED])
        list(_until_caught_up(call))
        client.create_session(child, parent_id=id, parent_kind="continuation")
        client.append(child, said())
        found = next(it for it in call if "message_appended" in kinds([it]))
        call.cancel()
    assert found.session_id == child


def test_P9_the_library_asks_for_kinds_by_their_names(api: Api, server: ServerProcess) -> None:
    id = api.talk()
    with Client(server.target) as client:
        client.update_session(id, title="Trip")
        events = iter(client.watch(id, kinds=["session_changed"]))
        assert [next(events).kind for _ in range(2)] == ["session_changed", "caught_up"]
        with pytest.raises(ValueError, match="'session_changes' isn't one of message_appended"):
            client.watch(id, kinds=["session_changes"])


@pytest.mark.parametrize(
    ("target", "field"),
    [
        ({"event_kinds": [0]}, "event_kinds[0]"),
        ({"event_kinds": [CHANGED, 77]}, "event_kinds[1]"),
        ({"event_kinds": [CHANGED, APPENDED, CHANGED]}, "event_kinds"),
        ({"event_kinds": [CHANGED] * 101}, "event_kinds"),
        ({"from_now": False}, "from_now"),
        ({"from_beginning": False}, "from_beginning"),
    ],
)
def test_P14_kinds_and_starts_that_make_no_sense_are_refused(
    api: Api, target: dict[str, Any], field: str
) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        next(watching(api, api.talk(), **target))
    fields = [name for name, _ in refusal(refused.value).violations]
    assert fields[0] == f"targets[0].{field}"


def test_P9_a_watch_from_the_beginning_is_one_without_a_start(api: Api) -> None:
    id = api.talk()
    asked, left_out = past(api, id, from_beginning=True), past(api, id)
    assert kinds(asked) == kinds(left_out) == ["message_appended", "caught_up"]


def test_every_kind_of_event_can_be_asked_for_or_is_sent_to_all() -> None:
    """By the number of its field; the command line knows all of them."""
    to_all = {"session_deleted", "caught_up", "fell_behind", "heartbeat", "goodbye"}
    drafts = {"draft_changed", "draft_ended"}
    fields = {it.name: it.number for it in v1.FeedEvent.DESCRIPTOR.fields}
    kinds = {
        name.removeprefix("FEED_EVENT_KIND_").lower(): number
        for name, number in FeedEventKind.items()
        if number
    }
    assert kinds == {name: fields[name] for name in fields.keys() - to_all - drafts}
    assert {it.value for it in FeedKind} == kinds.keys()

"""Sessions: finding them, their titles, their end, and the retries of what makes them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from sessiond import v1
from tests.rpc.api import Api, answering, calling, new, refused, said
from tests.support.patience import wait_for

AUTOMATIC = v1.TitleSource.TITLE_SOURCE_AUTOMATIC
PERSON = v1.TitleSource.TITLE_SOURCE_PERSON
ENDED = v1.SessionState.SESSION_STATE_ENDED


def ids(api: Api, **fields: Any) -> list[str]:
    """What a list holds, page by page."""
    order = fields.pop("order_by", None)
    wanted = v1.SessionFilter(**fields)
    request, found = v1.ListSessionsRequest(filter=wanted, order_by=order, page_size=3), []
    while True:
        page = api.sessions.ListSessions(request)
        found += [summary.session.id for summary in page.sessions]
        request.page_token = page.next_page_token
        if not request.page_token:
            return found


def resolve(api: Api, query: str, owner: str = "", *, exact_title: bool = False) -> str:
    request = v1.ResolveSessionRequest(query=query, owner=owner, exact_title=exact_title)
    return api.sessions.ResolveSession(request).session.id


def next_title(api: Api, title: str, owner: str = "") -> str:
    return api.sessions.NextTitle(v1.NextTitleRequest(title=title, owner=owner)).title


# Facts that only the server says


def test_what_only_the_server_says_is_ignored_in_requests(api: Api) -> None:
    id, request_id = new(), new("request")
    plain = v1.Session(source="cli")
    claims = v1.Session(
        source="cli", incarnation="x", root_id="other", spawn_depth=3, next_seq=9, message_count=4
    )
    claims.create_time.seconds = 1
    newer = v1.Session.FromString(claims.SerializeToString() + bytes.fromhex("b80c07"))  # field 199
    made = [
        api.sessions.CreateSession(v1.CreateSessionRequest(session=session, request_id=request_id))
        for session in (plain, claims, newer)
    ]
    assert [answer.created for answer in made] == [True, False, False]
    assert len({answer.session.SerializeToString(deterministic=True) for answer in made}) == 1
    facts = made[0].session
    assert (facts.root_id, facts.spawn_depth, facts.next_seq) == (facts.id, 0, 1)
    newer.id = id
    api.append(id, said(), create_session=newer)
    assert (api.get(id).root_id, api.get(id).next_seq) == (id, 2)
    fork = api.fork(id, fork=v1.Session(root_id="other", message_count=4))
    assert (fork.root_id, fork.message_count) == (id, 1)


# Lists


def test_lists_filter_by_every_fact(api: Api) -> None:
    owner = new("owner")
    one = api.create(owner=owner, source="cli", agent="p", labels={"a": "1", "b": "2"}).id
    two = api.create(owner=owner, source="web", labels={"a": "1"}).id
    api.create(owner=new("owner"), source="cli", agent="p", labels={"a": "1"})
    assert ids(api, owner=owner) == [two, one]
    assert ids(api, owner=owner, sources=["cli", "mail"]) == [one]
    assert ids(api, owner=owner, exclude_sources=["cli"]) == [two]
    assert ids(api, owner=owner, sources=["cli"], exclude_sources=["cli"]) == []
    assert ids(api, owner=owner, agents=["p", "q"]) == [one]
    assert ids(api, owner=owner, labels={"a": "1"}) == [two, one]
    assert ids(api, owner=owner, labels={"a": "1", "b": "2"}) == [one]
    assert ids(api, owner=owner, labels={"a": "%"}) == []
    assert ids(api, owner=f"{owner[:-1]}_") == []


def test_lists_show_children_only_when_asked(api: Api) -> None:
    owner = new("owner")
    root = api.create(owner=owner).id
    child = api.child(root, owner=owner).id
    grandchild = api.child(child, owner=owner).id
    going_on = api.child(root, kind=v1.ParentKind.PARENT_KIND_CONTINUATION, owner=owner).id
    fork = api.fork(root).id
    assert ids(api, owner=owner) == [fork, going_on, root]
    everything = [fork, going_on, grandchild, child, root]
    assert ids(api, owner=owner, include_subagents=True) == everything
    assert ids(api, parent_id=root) == [fork, going_on, child]
    assert ids(api, subtree_of=root) == everything
    assert ids(api, subtree_of=child) == [grandchild, child]
    assert ids(api, subtree_of="nobody") == []


def test_lists_filter_by_state(api: Api) -> None:
    owner = new("owner")
    active, ended, archived = (api.create(owner=owner).id for _ in range(3))
    api.end(ended)
    api.archive(archived)
    assert ids(api, owner=owner) == [ended, active]
    assert ids(api, owner=owner, archived=True) == [archived]
    assert ids(api, owner=owner, states=[ENDED, ENDED]) == [ended]
    assert ids(api, owner=owner, states=[ENDED], archived=True) == []


def test_lists_filter_by_idleness(api: Api) -> None:
    owner = new("owner")
    idle = api.create(owner=owner).id
    time.sleep(0.02)
    since = Timestamp()
    since.GetCurrentTime()
    time.sleep(0.02)
    api.create(owner=owner)
    before = v1.TimeRange(end_time=since)
    assert ids(api, owner=owner, last_activity_time=before) == [idle]
    api.append(idle, said())
    assert ids(api, owner=owner, last_activity_time=before) == []


def test_lists_come_newest_first_and_pinned_before_all(api: Api) -> None:
    owner, by_creation = new("owner"), v1.SessionOrder.SESSION_ORDER_CREATE_TIME
    made = [api.create(owner=owner).id for _ in range(5)]
    newest_first = made[::-1]
    assert ids(api, owner=owner) == ids(api, owner=owner, order_by=by_creation) == newest_first
    api.append(made[1], said(), said())
    api.rewind(made[1], 1)
    active_first = [made[1], *(id for id in newest_first if id != made[1])]
    wait_for(lambda: ids(api, owner=owner) == active_first, "the list isn't in order")
    api.update(made[0], "pinned", pinned=True)
    assert ids(api, owner=owner) == [made[0], *active_first[:-1]]
    assert ids(api, owner=owner, order_by=by_creation) == [made[0], *newest_first[:-1]]


def test_lists_hold_what_the_view_says(api: Api) -> None:
    owner = new("owner")
    id = api.create(owner=owner, system_prompt="be kind", config="{ }", model="m").id
    long = "what   \n is " + "x" * 90
    api.append(id, said("  first\tquestion "), calling("a"), answering("a"), said(long))
    request = v1.ListSessionsRequest(filter=v1.SessionFilter(owner=owner))
    basic = api.sessions.ListSessions(request).sessions[0]
    assert (basic.opening, basic.preview) == ("first question", f"what is {'x' * 90}"[:60])
    assert (basic.session.system_prompt, basic.session.config) == ("", "")
    assert (basic.session.model, basic.session.message_count) == ("m", 4)
    request.view = v1.SessionView.SESSION_VIEW_FULL
    full = api.sessions.ListSessions(request).sessions[0].session
    assert full == api.full(id)
    assert basic.session == api.get(id)
    assert (full.system_prompt, full.config) == ("be kind", "{ }")


# Finding


def test_resolve_prefers_the_id_then_a_prefix_then_a_title(api: Api) -> None:
    id = new()
    api.create(id)
    longer = api.create(f"{id}-longer").id
    titled = api.create(title=id).id
    assert resolve(api, id) == id
    assert resolve(api, f"{id}-l") == longer
    api.delete(id)
    api.delete(longer)
    assert resolve(api, id) == titled
    assert resolve(api, f" {id}\u200b ") == titled


def test_resolve_takes_the_newest_of_a_series(api: Api) -> None:
    name = new("Trip")
    first, third, second = (api.create(title=f"{name}{n}").id for n in ("", " #3", " #2"))
    assert resolve(api, name) == third
    assert resolve(api, f"{name} #2") == second
    assert resolve(api, name, exact_title=True) == first
    assert resolve(api, f"{name} #2", exact_title=True) == second
    api.delete(third)
    assert resolve(api, name) == second
    api.delete(second)
    assert resolve(api, name) == first
    assert refused(lambda: resolve(api, f"{name} #2")).reason == "SESSION_NOT_FOUND"
    api.create(title=f"{name} #4")
    api.delete(first)
    gone = refused(lambda: resolve(api, name, exact_title=True))
    assert gone.reason == "SESSION_NOT_FOUND"


def test_resolve_says_which_sessions_fit(api: Api) -> None:
    name, mine, theirs = new("Trip"), new("owner"), new("owner")
    made = {owner: api.create(title=name, owner=owner).id for owner in (mine, theirs)}
    found = refused(lambda: resolve(api, name))
    assert sorted(json.loads(found.metadata["candidates"])) == sorted(made.values())
    assert resolve(api, name, mine) == made[mine]
    assert refused(lambda: resolve(api, made[mine], theirs)).reason == "SESSION_NOT_FOUND"
    many = new()
    for n in range(21):
        api.create(f"{many}-{n}")
    found = refused(lambda: resolve(api, many))
    assert len(json.loads(found.metadata["candidates"])) == 20
    assert resolve(api, f"{many}-20") == f"{many}-20"


@pytest.mark.parametrize("wild", ["%", "_", "*", "?"])
def test_resolve_takes_wildcards_as_they_are(api: Api, wild: str) -> None:
    name = new("Trip")
    api.create(f"{name}-a")
    api.create(title=f"{name} a")
    assert refused(lambda: resolve(api, f"{name}{wild}")).reason == "SESSION_NOT_FOUND"
    assert refused(lambda: resolve(api, f"{name[:-1]}{wild}-a")).reason == "SESSION_NOT_FOUND"
    meant = api.create(title=f"{name}{wild}").id
    assert resolve(api, f"{name}{wild}") == meant


# Titles


def test_next_title_is_the_next_free_one(api: Api) -> None:
    name, owner = new("Trip"), new("owner")
    assert next_title(api, name, owner) == name
    api.create(title=name, owner=owner)
    assert next_title(api, name, owner) == f"{name} #2"
    api.create(title=f"{name} #4", owner=owner)
    assert next_title(api, f" {name} #2", owner) == f"{name} #5"
    assert next_title(api, name, new("owner")) == name


def test_next_title_is_free_however_long(api: Api) -> None:
    owner, title = new("owner"), "x" * 100
    for n in range(1, 12):
        assert api.create(title=title, owner=owner).title == title
        title = next_title(api, title, owner)
        assert len(title) <= 100
        assert title.endswith(f"x #{n + 1}")


def test_a_person_s_title_stands(api: Api) -> None:
    id, name = api.create().id, new("T")
    set_ = {"title_source": AUTOMATIC}
    assert api.update(id, "title", title=f"{name}1", **set_).title_source == AUTOMATIC
    assert api.update(id, "title", title=f"{name}2", **set_).title == f"{name}2"
    assert api.update(id, "title", title=f"{name}3").title_source == PERSON
    assert refused(lambda: api.update(id, "title", title="x", **set_)).reason == (
        "TITLE_ALREADY_SET"
    )
    assert api.update(id, "title", title="").title_source == 0
    assert api.update(id, "title", title=f"{name}4", _title_only_if_unset=True, **set_).title


def test_a_title_is_free_when_its_session_gives_it_up(api: Api) -> None:
    name = new("T")
    one = api.create(title=name)
    api.update(one.id, "title", title=f"{name} b")
    two = api.create(title=name)
    api.delete(two.id)
    assert api.update(one.id, "title", title=name).title == name


# The end


def test_the_first_end_wins(api: Api) -> None:
    id = api.create().id
    first = api.end(id, "done")
    assert (first.session.state, first.session.end_reason, first.deleted) == (ENDED, "done", False)
    again = api.end(id, "crashed")
    assert (again.session, again.replayed) == (first.session, True)
    reopened = api.reopen(id)
    assert (reopened.state, reopened.end_reason, reopened.HasField("end_time")) == (1, "", False)
    assert api.reopen(id) == reopened
    assert api.end(id, "crashed").session.end_reason == "crashed"


def test_an_archived_session_is_only_left_out_of_lists(api: Api) -> None:
    owner = new("owner")
    id = api.create(owner=owner, archived=True).id
    assert api.get(id).archived
    assert ids(api, owner=owner) == []
    assert api.append(id, said()).first_seq == 1
    ended = api.end(id).session
    assert (ended.state, ended.archived) == (ENDED, True)
    assert refused(lambda: api.append(id, said())).reason == "SESSION_ENDED"
    assert ids(api, owner=owner, archived=True, states=[ENDED]) == [id]
    reopened = api.reopen(id)
    assert (reopened.state, reopened.archived) == (v1.SessionState.SESSION_STATE_ACTIVE, True)
    assert api.append(id, said()).first_seq == 2
    api.end(id)
    back = api.update(id, "archived")
    assert (back.state, back.archived) == (ENDED, False)
    assert ids(api, owner=owner) == [id]


def test_P11_an_ephemeral_session_is_gone_when_it_ends(api: Api) -> None:
    root = api.create().id
    child = api.child(root, v1.Lifecycle.LIFECYCLE_EPHEMERAL).id
    api.append(child, said())
    ended = api.end(child, "done")
    assert (ended.deleted, ended.session.end_reason, ended.session.message_count) == (
        True,
        "done",
        1,
    )
    assert refused(lambda: api.get(child)).reason == "SESSION_NOT_FOUND"
    assert ids(api, parent_id=root) == []


# Retries and etags


def _creations(id: str) -> Iterator[v1.CreateSessionRequest]:
    yield v1.CreateSessionRequest(session=v1.Session(id=id), request_id=new())
    yield v1.CreateSessionRequest(session=v1.Session(owner=id), request_id=new())


def test_a_creation_can_be_retried(api: Api) -> None:
    for request in _creations(new()):
        first = api.sessions.CreateSession(request)
        again = api.sessions.CreateSession(request)
        assert (first.created, again.created) == (True, False)
        assert again.session == first.session
        other = v1.CreateSessionRequest(session=first.session, request_id=new())
        found = refused(partial(api.sessions.CreateSession, other))
        assert found.reason == "SESSION_EXISTS"
        other.if_exists = v1.IfExists.IF_EXISTS_RETURN
        assert api.sessions.CreateSession(other) == again


def test_the_same_request_id_of_another_owner_makes_another_session(api: Api) -> None:
    requests = [
        v1.CreateSessionRequest(session=v1.Session(owner=new("owner")), request_id="1")
        for _ in range(2)
    ]
    made = {api.sessions.CreateSession(request).session.id for request in requests}
    assert len(made) == 2


def test_a_fork_can_be_retried(api: Api) -> None:
    id, request_id = api.talk(3), new()
    first = api.fork(id, 2, request_id=request_id)
    api.append(id, said())
    assert api.fork(id, 2, request_id=request_id) == first
    assert (first.next_seq, first.parent.fork_seq, first.root_id) == (3, 2, id)


def test_the_etag_changes_with_facts_and_not_with_appends(api: Api) -> None:
    session = api.create()
    api.append(session.id, said())
    assert api.get(session.id).etag == session.etag
    changed = api.update(session.id, "model", model="m", etag=session.etag)
    assert changed.etag != session.etag
    api.delete(session.id, etag=changed.etag)
    assert api.create(session.id).etag not in (session.etag, changed.etag)


def test_an_update_changes_what_its_mask_names_and_nothing_else(api: Api) -> None:
    session = api.create(model="a", system_prompt="p", labels={"k": "v"}, turn_index=3)
    api.update(session.id, "model", "labels", model="b", system_prompt="ignored", pinned=True)
    changed = api.full(session.id)
    assert (changed.model, changed.system_prompt, changed.pinned) == ("b", "p", False)
    assert (dict(changed.labels), changed.turn_index) == ({}, 3)


def test_what_is_deleted_can_be_deleted_again_if_allowed(api: Api) -> None:
    id = api.create().id
    assert api.delete(id).session_count == 1
    assert refused(lambda: api.delete(id)).reason == "SESSION_NOT_FOUND"
    assert api.delete(id, allow_missing=True).session_count == 0

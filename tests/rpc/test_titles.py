"""Titles that repeat, and those that must not, however many ask for them at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from sessiond import v1
from tests.rpc.api import Api, new, refused
from tests.rpc.refusals import refusal

ALLOW = v1.TitleConflict.TITLE_CONFLICT_ALLOW
REFUSE = v1.TitleConflict.TITLE_CONFLICT_REFUSE
NUMBER = v1.TitleConflict.TITLE_CONFLICT_NUMBER


def create(api: Api, title: str, owner: str, conflict: v1.TitleConflict.ValueType) -> v1.Session:
    request = v1.CreateSessionRequest(
        session=v1.Session(id=new(), title=title, owner=owner), title_conflict=conflict
    )
    return api.sessions.CreateSession(request).session


def resolve(api: Api, query: str, owner: str, *, exact: bool = False) -> str:
    request = v1.ResolveSessionRequest(query=query, owner=owner, exact_title=exact)
    return api.sessions.ResolveSession(request).session.id


def next_title(api: Api, title: str, owner: str) -> str:
    return api.sessions.NextTitle(v1.NextTitleRequest(title=title, owner=owner)).title


def test_titles_repeat_and_are_ambiguous_then(api: Api) -> None:
    name, owner = new("Trip"), new("owner")
    one, two = (create(api, name, owner, conflict).id for conflict in (0, ALLOW))  # type: ignore[arg-type]
    for exact in (False, True):
        found = refused(lambda: resolve(api, name, owner, exact=exact))  # noqa: B023
        assert found.reason == "SESSION_AMBIGUOUS"
        assert all(id in found.metadata["candidates"] for id in (one, two))
    third = create(api, name, owner, NUMBER)
    assert third.title == f"{name} #2" == next_title(api, name, owner).replace("#3", "#2")
    assert resolve(api, name, owner) == third.id
    api.delete(third.id)
    api.update(one, "title", title="other")
    assert resolve(api, name, owner) == two


def test_a_fork_and_an_update_are_numbered_too(api: Api) -> None:
    name, owner = new("Trip"), new("owner")
    source = create(api, name, owner, REFUSE).id
    fork = v1.Session(id=new(), title=name)
    assert api.fork(source, fork=fork, title_conflict=NUMBER).title == f"{name} #2"
    fork.id = new()
    taken = refused(lambda: api.fork(source, fork=fork, title_conflict=REFUSE))
    assert (taken.reason, taken.metadata) == ("TITLE_TAKEN", {"title": name, "session_id": source})
    assert refused(lambda: api.get(fork.id)).reason == "SESSION_NOT_FOUND"
    other = api.create(owner=owner).id
    for _ in range(2):  # the same again comes to the same
        assert api.update(other, "title", title=name, _title_conflict=NUMBER).title == f"{name} #3"
    assert (
        api.update(other, "title", title=f"{name} #3", _title_conflict=REFUSE).title == f"{name} #3"
    )
    assert api.update(other, "title", title=name, _title_conflict=ALLOW).title == name
    assert refused(
        lambda: api.update(other, "title", title=name, _title_conflict=REFUSE)
    ).reason == ("TITLE_TAKEN")


@pytest.mark.parametrize("length", [10, 99, 100])
def test_numbered_titles_are_never_given_twice(api: Api, length: int) -> None:
    """By creations and updates at once, of long names too, which are shortened to make room."""
    name, owner, writers = new("").ljust(length, "x")[:length], new("owner"), 8

    def take(number: int) -> str:
        if number % 2:
            return create(api, name, owner, NUMBER).title
        id = api.create(owner=owner).id
        return api.update(id, "title", title=name, _title_conflict=NUMBER).title

    with ThreadPoolExecutor(writers) as threads:
        found = list(threads.map(take, range(3 * writers)))
    assert len(set(found)) == len(found)
    assert {title.partition(" #")[2] for title in found} == {
        "",
        *map(str, range(2, len(found) + 1)),
    }
    assert next_title(api, name, owner).endswith(f" #{len(found) + 1}")


def test_a_title_that_is_refused_is_given_to_one_session(api: Api) -> None:
    owner, writers = new("owner"), 6

    def take(title: str) -> str:
        try:
            return create(api, title, owner, REFUSE).id
        except grpc.RpcError as error:
            return refusal(error).reason

    with ThreadPoolExecutor(writers) as threads:
        for _ in range(5):
            title = new("T")
            outcomes = list(threads.map(take, [title] * writers))
            made = resolve(api, title, owner, exact=True)
            assert sorted(outcomes) == sorted([made] + ["TITLE_TAKEN"] * (writers - 1))


def test_a_series_beyond_the_largest_number_goes_on(api: Api) -> None:
    owner, last = new("owner"), f"x #{10**18 - 1}"
    assert create(api, last, owner, NUMBER).title == last
    found = [create(api, last, owner, NUMBER).title for _ in range(3)]
    assert len(set(found)) == 3

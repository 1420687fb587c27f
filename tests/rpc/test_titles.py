"""Titles that repeat, and those that must not, however many ask for them at once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import grpc
import pytest

from sessiond import v1
from tests.rpc.api import Api, new, refused
from tests.rpc.refusals import refusal
from tests.support.postgres import Databases
from tests.support.processes import ServerProcess

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


def test_an_update_that_is_numbered_keeps_the_number_that_it_has(api: Api) -> None:
    name, owner = new("Trip"), new("owner")
    one, two, three = (create(api, name, owner, NUMBER).id for _ in range(3))
    assert api.update(two, "title", title=name, _title_conflict=NUMBER).title == f"{name} #2"
    assert api.update(three, "title", title=name, _title_conflict=NUMBER).title == f"{name} #3"
    api.update(one, "title", title=f"{name} #2", _title_conflict=ALLOW)
    create(api, name, owner, REFUSE)
    shared = api.update(two, "title", title=name, _title_conflict=NUMBER)
    assert shared.title == f"{name} #4", "a number that another one has too isn't kept"
    assert (
        api.update(two, "title", title=f"{name} #3", _title_conflict=NUMBER).title == shared.title
    )
    api.update(one, "title", title="")
    assert (
        api.update(two, "title", title=f"{name} #2", _title_conflict=NUMBER).title == f"{name} #2"
    )


def test_gaps_of_a_series_are_not_filled(api: Api) -> None:
    name, owner = new("Trip"), new("owner")
    ids = [create(api, name, owner, NUMBER).id for _ in range(4)]
    api.delete(ids[1])
    assert create(api, name, owner, NUMBER).title == f"{name} #5"
    assert create(api, f"{name} #3", owner, NUMBER).title == f"{name} #6"
    assert create(api, f"{name} #2", owner, NUMBER).title == f"{name} #2", "it is free"


def test_each_owner_has_titles_of_its_own(api: Api) -> None:
    name, owner = new("Trip"), new("owner")
    for it in (owner, new("owner"), ""):
        assert create(api, name, it, REFUSE).title == name
    assert refused(lambda: create(api, name, "", REFUSE)).reason == "TITLE_TAKEN"


def test_P14_a_conflict_that_is_unknown_is_refused(api: Api) -> None:
    source = api.create().id
    fork = v1.Session(id=new(), title="x")
    for call in (
        lambda: create(api, "x", "", 9),  # type: ignore[arg-type]
        lambda: api.fork(source, fork=fork, title_conflict=9),
        lambda: api.update(source, "title", title="x", _title_conflict=9),
    ):
        found = refused(call)
        assert (found.reason, found.fields) == ("INVALID_FIELD", ["title_conflict"])


def test_P4_a_creation_that_is_retried_keeps_its_number(api: Api) -> None:
    name, owner = new("Trip"), new("owner")
    create(api, name, owner, REFUSE)
    for conflict, title in ((NUMBER, name), (REFUSE, f"{name} #9")):
        session = v1.Session(id=new(), title=title, owner=owner)
        request = v1.CreateSessionRequest(
            session=session, title_conflict=conflict, request_id=new()
        )
        made = api.sessions.CreateSession(request)
        again = api.sessions.CreateSession(request)
        assert (made.created, again.created) == (True, False)
        assert made.session.title == again.session.title


@pytest.fixture(scope="module")
def two(databases: Databases) -> Iterator[list[Api]]:
    """Two servers on one database."""
    dsn = databases.migrated()
    servers = [ServerProcess(SESSIOND_DSN=dsn) for _ in range(2)]
    with ExitStack() as stack:
        channels = [stack.enter_context(grpc.insecure_channel(it.target)) for it in servers]
        yield [Api(channel) for channel in channels]
    assert [(server.stop(), server.bugs()) for server in servers] == [(0, [])] * 2


@pytest.mark.parametrize("length", [10, 99, 100])
def test_numbered_titles_are_never_given_twice(two: list[Api], length: int) -> None:
    """By creations, updates and forks at once, on two servers, of long names too, which are shortened to make
    room."""
    name, owner, writers = new("").ljust(length, "x")[:length], new("owner"), 8

    def take(number: int) -> str:
        api = two[number % 2]
        if number % 3 == 0:
            return create(api, name, owner, NUMBER).title
        id = api.create(owner=owner).id
        if number % 3 == 1:
            return api.fork(id, fork=v1.Session(title=name), title_conflict=NUMBER).title
        return api.update(id, "title", title=name, _title_conflict=NUMBER).title

    with ThreadPoolExecutor(writers) as threads:
        found = list(threads.map(take, range(5 * writers)))
    numbers = {title.partition(" #")[2] for title in found}
    assert numbers == {"", *map(str, range(2, len(found) + 1))}
    assert len({title.partition(" #")[0] for title in found}) == (1 if length < 98 else 3)
    assert max(map(len, found)) <= 100
    assert next_title(two[0], name, owner).endswith(f" #{len(found) + 1}")


def test_a_title_that_is_refused_is_given_to_one_session(two: list[Api]) -> None:
    """Of those who ask at once for it on two servers."""
    owner, writers = new("owner"), 8

    def take(number: int, title: str) -> str:
        api = two[number % 2]
        try:
            if number % 4 < 2:
                return create(api, title, owner, REFUSE).id
            id = api.create(owner=owner).id
            return api.update(id, "title", title=title, _title_conflict=REFUSE).id
        except grpc.RpcError as error:
            return refusal(error).reason

    with ThreadPoolExecutor(writers) as threads:
        for _ in range(10):
            title = new("T")
            outcomes = list(threads.map(take, range(writers), [title] * writers))
            made = resolve(two[0], title, owner, exact=True)
            assert sorted(outcomes) == sorted([made] + ["TITLE_TAKEN"] * (writers - 1))


def test_a_series_beyond_the_largest_number_goes_on(api: Api) -> None:
    owner, last = new("owner"), f"x #{10**18 - 1}"
    assert create(api, last, owner, NUMBER).title == last
    found = [create(api, last, owner, NUMBER).title for _ in range(3)]
    assert len(set(found)) == 3

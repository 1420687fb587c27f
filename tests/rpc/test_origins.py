"""Sessions that are created unless they exist: whoever means another one is refused, at any time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from sessiond import v1
from tests.rpc.api import Api, new, refused, said
from tests.rpc.refusals import refusal

RETURN = v1.IfExists.IF_EXISTS_RETURN
CONTINUATION = v1.ParentKind.PARENT_KIND_CONTINUATION
SUBAGENT = v1.ParentKind.PARENT_KIND_SUBAGENT


def ensure(api: Api, session: v1.Session) -> v1.CreateSessionResponse:
    return api.sessions.CreateSession(v1.CreateSessionRequest(session=session, if_exists=RETURN))


@pytest.mark.parametrize("field", ["owner", "source", "agent", "parent"])
def test_a_session_that_differs_in_where_it_comes_from_is_refused(api: Api, field: str) -> None:
    parents = [api.create().id, api.create().id]
    one, other = (
        {"parent": v1.SessionParent(id=id, kind=SUBAGENT)} if field == "parent" else {field: id}
        for id in parents
    )
    for facts, wrong in ((one, other), ({}, other)):
        id = api.create(**facts).id
        api.append(id, said())
        for differing in [wrong] + ([_as_continuation(facts)] if "parent" in facts else []):
            session = v1.Session(id=id, **differing)
            for call in (
                lambda session=session: ensure(api, session),
                lambda session=session: api.append(session.id, said(), create_session=session),
            ):
                found = refused(call)
                assert found.reason == "SESSION_DIFFERS"
                assert found.metadata == {"session_id": id, "field": field}
        assert api.get(id).next_seq == 2
        for same in (facts, {}):
            session = v1.Session(id=id, title="ignored", **same)
            assert not ensure(api, session).created
            api.append(id, said(), create_session=session)
        assert (api.get(id).next_seq, api.get(id).title) == (4, "")


def _as_continuation(facts: dict[str, Any]) -> dict[str, Any]:
    return {"parent": v1.SessionParent(id=facts["parent"].id, kind=CONTINUATION)}


def test_a_replay_for_another_session_is_refused_too(api: Api) -> None:
    id = api.create(owner="ann").id
    message = said()
    api.append(id, message)
    again = refused(lambda: api.append(id, message, create_session=v1.Session(owner="bob")))
    assert again.reason == "SESSION_DIFFERS"
    assert api.append(id, message, create_session=v1.Session(owner="ann")).replayed


@pytest.mark.parametrize("by_append", [False, True, None])
def test_P1_two_owners_who_create_an_id_at_once_never_share_a_session(
    api: Api, by_append: bool | None
) -> None:
    """One wins, the other is refused, and none of its messages is in the other's session."""
    writers = 6

    def write(number: int, id: str, start: threading.Barrier) -> tuple[str, str]:
        owner = f"owner-{number % 3}"
        session = v1.Session(id=id, owner=owner)
        start.wait()
        try:
            if by_append is False or (by_append is None and number % 2):
                ensure(api, session)
            api.append(id, said(owner), said(owner), create_session=session)
        except grpc.RpcError as error:
            return owner, refusal(error).reason
        return owner, ""

    with ThreadPoolExecutor(writers) as threads:
        for _ in range(8):
            id, start = new(), threading.Barrier(writers)
            outcomes = list(threads.map(lambda n: write(n, id, start), range(writers)))  # noqa: B023
            winner = api.get(id).owner
            for owner, reason in outcomes:
                assert reason == ("" if owner == winner else "SESSION_DIFFERS")
            texts = [_text(message) for message in api.log(id)]
            assert texts == [winner] * 4


def _text(message: v1.Message) -> str:
    return message.parts[0].text


def test_sessions_are_read_in_batches(api: Api) -> None:
    made = [api.create(system_prompt=f"prompt {n}", config="{}").id for n in range(3)]
    asked = [made[1], "nobody", made[0], made[1], new()]
    request = v1.BatchGetSessionsRequest(session_ids=asked)
    found = api.sessions.BatchGetSessions(request)
    assert list(found.sessions) == [api.get(made[1]), api.get(made[0])]
    assert list(found.missing_ids) == ["nobody", asked[-1]]
    request.view = v1.SessionView.SESSION_VIEW_FULL
    found = api.sessions.BatchGetSessions(request)
    assert [it.system_prompt for it in found.sessions] == ["prompt 1", "prompt 0"]
    assert not found.remaining_ids
    for ids, field in (
        ([], "session_ids"),
        ([new()] * 101, "session_ids"),
        (["\n"], "session_ids[0]"),
    ):
        wrong = v1.BatchGetSessionsRequest(session_ids=ids)
        assert refused(lambda: api.sessions.BatchGetSessions(wrong)).fields == [field]  # noqa: B023


def test_a_batch_that_is_too_large_says_what_is_left(api: Api) -> None:
    made = [api.create(system_prompt=f"{n}" * 2**19).id for n in range(6)]
    request = v1.BatchGetSessionsRequest(
        session_ids=[*made, "nobody"], view=v1.SessionView.SESSION_VIEW_FULL
    )
    found: list[str] = []
    while request.session_ids:
        answer = api.sessions.BatchGetSessions(request)
        assert answer.sessions
        assert answer.ByteSize() <= 2 * 2**20
        found += [it.id for it in answer.sessions]
        del request.session_ids[:]
        request.session_ids.extend(answer.remaining_ids)
    assert found == made

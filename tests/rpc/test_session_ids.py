"""Ids of any printable text: through every kind of call that names a session."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond import v1
from sessiond_server.sessions import session_ids
from tests.rpc.api import Api, new, refused, said
from tests.support.processes import ServerProcess

ODD = {
    "spaces": " two  words ",
    "quotes": """a'b"c`d\\e""",
    "commas": "a,b;c",
    "patterns": "%_*?[a]{b}",
    "combining": "e\u0301\u0323",
    "emoji": "👩\u200d👩\u200d👧",
    "right to left": "\u202eשלום\u200f",
    "words": "بيت 家 🙂",
    "longest": "é" * 200,
    "dash": "--help",
    "path": "../../etc/passwd",
}


@pytest.fixture(params=ODD)
def id(request: pytest.FixtureRequest) -> str:
    """An odd id that nobody else uses, as long as ids may be if it is the longest."""
    found = f"{ODD[request.param]}{new()}"
    if request.param == "longest":
        found += "x" * (session_ids.MAX_BYTES - len(found.encode()))
    return found


def test_P14_a_session_of_an_odd_id_is_like_any_other(api: Api, id: str) -> None:
    missing = refused(lambda: api.get(id))
    assert (missing.reason, missing.metadata) == ("SESSION_NOT_FOUND", {"session_id": id})
    owner = new("owner")
    assert api.create(id, owner=owner).id == id
    again = refused(lambda: api.create(id))
    assert (again.reason, again.metadata) == ("SESSION_EXISTS", {"session_id": id})
    differs = v1.Session(owner="another")
    other = refused(lambda: api.append(id, said(), create_session=differs))
    assert other.metadata == {"session_id": id, "field": "owner"}
    assert api.append(id, said("findme"), said()).last_seq == 2
    assert api.update(id, "labels", labels={"a": "1"}).id == id
    assert api.log(id)[0].session_id in ("", id)
    assert len(api.context(id)) == 2
    assert api.compact(id, 1, 1).compaction.id == 3
    assert api.watch(id).ByteSize()
    child, fork = api.child(id, owner=owner).id, api.fork(id).id
    assert (api.get(child).parent.id, api.get(fork).parent.id) == (id, id)
    found = api.upload(id, b"content", "file").attachment
    assert api.download(id, found.id) == b"content"
    usage = v1.UsageRecord(usage=v1.Usage(input_tokens=1))
    api.spend(id, usage)
    api.journal_records(id, b"{}")
    reminder = api.reminder(id, type=(kind := new("type")))
    (claim,) = api.claim(kind)
    assert (claim.reminder.session_id, claim.reminder.id) == (id, reminder.id)
    api.complete(claim)
    api.consumers.SetCursor(v1.SetCursorRequest(session_id=id, consumer_id="memory", seq=1))
    api.storage.OffloadMessages(v1.OffloadMessagesRequest(session_id=id, before_seq=2))
    api.indexed(id)
    assert [hit.session_id for hit in api.search("findme", session_id=id).hits] == [id]
    assert api.end(id).session.id == id
    assert refused(lambda: api.append(id, said())).metadata == {"session_id": id}


def test_a_session_of_an_odd_id_is_found_and_listed(api: Api, id: str) -> None:
    owner = new("owner")
    ids = [api.create(f"{id[:-2]}{n}", owner=owner).id for n in range(5)]
    for whole in ids:
        request = v1.ResolveSessionRequest(query=whole)
        assert api.sessions.ResolveSession(request).session.id == whole
    found = refused(lambda: api.sessions.ResolveSession(v1.ResolveSessionRequest(query=id[:-2])))
    assert found.reason == "SESSION_AMBIGUOUS"
    candidates = json.loads(found.metadata["candidates"])
    assert candidates
    assert set(candidates) <= set(ids)
    assert int(found.metadata["candidate_count"]) == 5
    root = ids[0]
    children = [api.child(root, owner=owner).id for _ in range(3)]
    page = v1.ListSessionsRequest(page_size=2, filter=v1.SessionFilter(parent_id=root))
    listed: list[str] = []
    while True:
        answer = api.sessions.ListSessions(page)
        listed += [it.session.id for it in answer.sessions]
        page.page_token = answer.next_page_token
        if not page.page_token:
            break
    assert listed == children[::-1]
    batch = v1.BatchGetSessionsRequest(session_ids=[*ids, id])
    read = api.sessions.BatchGetSessions(batch)
    assert ([it.id for it in read.sessions], list(read.missing_ids)) == (ids, [id])


def test_a_session_of_an_odd_id_moves(api: Api, id: str) -> None:
    api.create(id)
    api.append(id, said("hello"))
    child = api.child(id).id
    records = api.export(session_ids=[id, child])
    api.delete(id)
    outcomes = api.bring(*records)
    assert [(it.session_id, it.created, it.parent_missing) for it in outcomes] == [
        (id, True, False),
        (child, True, False),
    ]
    assert api.get(child).parent.id == id
    assert api.export(session_ids=[id])[0].session.session.id == id


def test_sessionctl_takes_and_shows_odd_ids(api: Api, server: ServerProcess, id: str) -> None:
    api.create(id)
    api.append(id, said("hello"))
    command = [sys.executable, "-m", "sessiond.cli", "show", "-o", "json", "--", id]
    environment = {"SESSIOND_TARGET": server.target, "PATH": "", "PYTHONUTF8": "1"}
    shown = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["session"]["id"] == id
    command[-1] = f"{id[:-1]}?"
    refused_ = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert b"SESSION_NOT_FOUND" in refused_.stderr


@given(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=3),
    st.lists(st.text(st.characters(codec="utf-8"), max_size=3), max_size=5),
)
def test_what_begins_like_a_prefix_lies_before_what_is_behind_it(
    prefix: str, others: list[str]
) -> None:
    end = session_ids.behind(prefix)
    for other in [*others, prefix, *(prefix + it for it in others)]:
        inside = prefix <= other and (end is None or other < end)
        assert inside == other.startswith(prefix)
        assert (prefix <= other) == (prefix.encode() <= other.encode())

"""Ids of any printable text: through every kind of call that names a session, and what no id may have."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond import v1
from sessiond_server.rpc import limits
from sessiond_server.sessions import session_ids
from tests.rpc.api import Api, new, refused, said
from tests.rpc.refusals import refusal
from tests.support.processes import ServerProcess

ODD = {
    "spaces": " two  words ",
    "quotes": """a'b"c`d\\e""",
    "commas": "a,b;c",
    "patterns": "%_*?[a]{b}",
    "combining": "e\u0301\u0323",
    "emoji": "👩\u200d👩\u200d👧",
    "right to left": "שלום - بيت",
    "colon": "a: b",
    "words": "بيت 家 🙂",
    "longest": "é" * 200,
    "longest beyond the BMP": "𝕏🙂" * 55,
    "dash": "--help",
    "path": "../../etc/passwd",
}


@pytest.fixture(params=ODD)
def id(request: pytest.FixtureRequest) -> str:
    """An odd id that nobody else uses, as long as ids may be if it is the longest."""
    found = f"{ODD[request.param]}{new()}"
    if request.param.startswith("longest"):
        found += "x" * (limits.SESSION_ID_BYTES - len(found.encode()))
    return found


REFUSED = [
    *("\0", "\t", "\n", "\x1f", "\x7f", "\x80", "\x9f", "\u2028", "\u2029"),
    *(
        "\u061c",
        "\u200e",
        "\u200f",
        "\u202a",
        "\u202e",
        "\u2066",
        "\u2069",
        "\ufdd0",
        "\ufdef",
        "\ufffe",
        "\uffff",
    ),
    *("\U0001fffe", "\U0001ffff", "\U000affff", "\U0010fffe", "\U0010ffff"),
]
ALLOWED = [
    *(" ", "!", "~", "\xa0", "\xad", "\u0301", "\u061b", "\u061d", "\u200b", "\u200d", "\u2010"),
    *("\u2027", "\u202f", "\u2065", "\u206a", "\ud7ff", "\ue000", "\ufdcf", "\ufdf0", "\ufeff"),
    *("\ufffd", "\U00010000", "\U0001fffd", "\U000e0001", "\U0010fffd"),
]
"""What can be printed, or shapes what can: the neighbours of what is refused among them."""


@pytest.mark.parametrize("character", REFUSED, ids=ascii)
def test_P14_what_cannot_be_printed_is_refused_in_an_id(api: Api, character: str) -> None:
    for text in (character, f"a{character}b"):
        calls: list[tuple[str, Callable[[], object]]] = [
            ("session_id", partial(api.get, text)),
            ("session_id", partial(api.append, text, said())),
            ("session.id", partial(api.create, text)),
            ("session.parent.id", partial(api.child, text)),
        ]
        for field, call in calls:
            found = refused(call)
            assert (found.reason, found.fields) == ("INVALID_FIELD", [field])
            assert limits.SESSION_ID_FORM in found.message


@pytest.mark.parametrize("character", ALLOWED, ids=ascii)
def test_what_can_be_printed_is_taken_as_it_is(api: Api, character: str) -> None:
    id = f"{character}{new()}{character}"
    assert api.create(id).id == api.get(id).id == id


def test_P14_an_id_of_513_bytes_is_refused_and_says_so(api: Api) -> None:
    fits = new().ljust(512, "x")
    assert api.create(fits).id == fits
    for text in (f"{fits}x", "é" * 257, "", "𝕏" * 10_000):
        found = refused(lambda: api.get(text))  # noqa: B023
        assert (found.reason, found.fields) == ("INVALID_FIELD", ["session_id"])
        assert "1–512 bytes" in found.message


@pytest.mark.parametrize("bad", [b"\xff", b"\xed\xa0\x80", b"\xc0\x80"], ids=repr)
def test_P14_an_id_that_is_not_utf_8_is_refused(server: ServerProcess, bad: bytes) -> None:
    """Lone surrogates too, which a client in another language could send."""
    with grpc.insecure_channel(server.target) as channel:
        call: Any = channel.unary_unary("/sessiond.v1.SessionService/GetSession")
        with pytest.raises(grpc.RpcError) as error:
            call(b"\x0a" + bytes([len(bad)]) + bad, timeout=60)
    found = refusal(error.value)
    assert found.reason == "INVALID_FIELD"
    assert "isn't UTF-8" in found.message


def test_ids_are_the_same_if_their_bytes_are(api: Api) -> None:
    tail = new()
    ids = [
        f"{it}{tail}"
        for it in ("\xe9", "e\u0301", "E\u0301", " e", "e", "\u212b", "\xc5", "ﬁ", "fi")
    ]
    ids += [f"{tail} ", tail, f"{tail}\u200b"]
    for id in ids:
        assert api.create(id, owner=tail).id == id
    page = v1.ListSessionsRequest(filter=v1.SessionFilter(owner=tail))
    assert {it.session.id for it in api.sessions.ListSessions(page).sessions} == set(ids)
    for id in ids:
        api.delete(id)
        assert refused(lambda: api.get(id)).reason == "SESSION_NOT_FOUND"  # noqa: B023


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
    made = {(it.session_id, it.created, it.parent_missing) for it in outcomes}
    assert made == {(id, True, False), (child, True, False)}
    assert api.get(child).parent.id == id
    assert api.export(session_ids=[id])[0].session.session.id == id


@pytest.mark.parametrize("id", ["quotes", "colon", "dash", "longest beyond the BMP"], indirect=True)
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
    also, command[-1] = api.create(f"{id[:-1]}!").id, id[:-1]
    ambiguous = subprocess.run(command, env=environment, capture_output=True, check=False)
    _, *candidates = ambiguous.stderr.decode().splitlines()
    assert sorted(it.removeprefix("  ") for it in candidates) == sorted([id, also])


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

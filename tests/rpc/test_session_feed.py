"""WatchSessions: which sessions it tells, how they are, and what it refuses."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg
import grpc
import pytest

from sessiond import v1
from tests.rpc.api import EVERYTHING, Api, answering, calling, new, said
from tests.rpc.refusals import Refusal, refusal
from tests.rpc.session_tokens import ahead
from tests.support.processes import ServerProcess

BOUND = 30.0
"""Seconds to wait for what takes 5 on a machine that isn't loaded."""


class Stream:
    """A stream of sessions, read by a thread of its own."""

    def __init__(self, api: Api, **request: Any) -> None:
        self.now: dict[str, v1.Session] = {}
        self.deleted: list[str] = []
        self.gone: dict[str, v1.SessionTombstone] = {}
        self.token = ""
        self.caught_up = False
        self.frames: list[v1.WatchSessionsResponse] = []
        self._frames: queue.SimpleQueue[v1.WatchSessionsResponse | Exception] = queue.SimpleQueue()
        self._call = api.feeds.WatchSessions(v1.WatchSessionsRequest(**request))
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for frame in self._call:
                self._frames.put(frame)
        except grpc.RpcError as error:
            self._frames.put(error)

    def take(self, seconds: float = BOUND) -> v1.WatchSessionsResponse:
        """The next frame."""
        frame = self._frames.get(timeout=seconds)
        if isinstance(frame, Exception):
            raise frame
        self.frames.append(frame)
        for change in frame.changes:
            if change.HasField("session"):
                session, version = change.session, change.version
                assert (version.next_seq, version.revision, version.context_token_count) == (
                    session.next_seq,
                    session.revision,
                    session.context_token_count,
                )
                self.now[session.id] = session
            else:
                self.now.pop(change.deleted.id, None)
                self.deleted.append(change.deleted.id)
                self.gone[change.deleted.id] = change.deleted
        self.token = frame.resume_token or self.token
        self.caught_up |= frame.caught_up
        return frame

    def until(self, condition: Callable[[], object]) -> None:
        """Take frames until something holds."""
        end = time.monotonic() + BOUND
        while not condition():
            self.take(end - time.monotonic())

    def catch_up(self) -> None:
        self.until(lambda: self.caught_up)

    def close(self) -> None:
        self._call.cancel()
        self._thread.join(10)


@contextmanager
def following(api: Api, **request: Any) -> Iterator[Stream]:
    stream = Stream(api, **request)
    try:
        yield stream
    finally:
        stream.close()


def of_owner(owner: str, **fields: Any) -> v1.SessionFilter:
    return v1.SessionFilter(owner=owner, **fields)


@contextmanager
def replicas(dsn: str, start_server: Callable[..., ServerProcess]) -> Iterator[tuple[Api, Api]]:
    """Two servers on a database of their own, that hear of each other by looking alone."""
    settings = {"SESSIOND_DSN": dsn, "SESSIOND_FEED_HINTS": "poll", "SESSIOND_FEED_HEARTBEAT": "1"}
    one, two = (start_server(**settings) for _ in range(2))
    with grpc.insecure_channel(one.target) as here, grpc.insecure_channel(two.target) as there:
        yield Api(here), Api(there)


def test_a_stream_begins_with_the_sessions_as_they_are_and_goes_on_with_changes(api: Api) -> None:
    owner = new("owner")
    long = f"{new()}{'x' * 512}"[:512]
    made = [api.create(it, owner=owner, title=owner).id for it in (new(), long, new())]
    api.append(made[1], said())
    api.create(owner=new("owner"))
    with following(api, filter=of_owner(owner)) as stream:
        stream.catch_up()
        assert stream.now.keys() == set(made)
        assert stream.now[made[1]].next_seq == 2
        incarnation = stream.now[made[1]].incarnation
        api.append(made[0], said(), said())
        stream.until(lambda: stream.now[made[0]].next_seq == 3)
        renamed = api.update(made[2], "title", title=f"{owner} new")
        stream.until(lambda: stream.now[made[2]].etag == renamed.etag)
        later = api.create(owner=owner).id
        stream.until(lambda: later in stream.now)
        api.delete(made[1])
        stream.until(lambda: stream.deleted == [made[1]])
        assert stream.gone[made[1]].incarnation == incarnation
    assert stream.now.keys() == {made[0], made[2], later}


def test_from_now_leaves_out_what_there_is(api: Api) -> None:
    owner = new("owner")
    with following(api, filter=of_owner(owner), from_now=True) as stream:
        stream.catch_up()
        there = api.create(owner=owner).id
        stream.until(lambda: there in stream.now)
        with following(api, filter=of_owner(owner), from_now=True) as late:
            late.catch_up()
            made = api.create(owner=owner).id
            late.until(lambda: late.now)
            assert late.now.keys() == {made}


_FILTERS: list[tuple[dict[str, Any], set[str]]] = [
    ({}, {"plain", "web", "coder", "fork", "cont", "grandfork"}),
    ({"include_subagents": True}, {"plain", "web", "coder", "sub", "fork", "cont", "grandfork"}),
    ({"sources": ["web", "none"]}, {"web"}),
    ({"exclude_sources": ["web", "cli"]}, {"fork", "cont", "grandfork"}),
    ({"agents": ["coder"]}, {"coder"}),
    ({"agents": ["coder", "writer"]}, {"coder", "web"}),
    ({"parent_id": "plain"}, {"sub", "fork", "cont"}),
    ({"subtree_of": "plain"}, {"plain", "sub", "fork", "cont", "grandfork"}),
    ({"subtree_of": "fork"}, {"fork", "grandfork"}),
]


@pytest.mark.parametrize(("given", "wanted"), _FILTERS)
def test_filters_hold_for_what_there_is_and_for_what_changes(
    api: Api, given: dict[str, Any], wanted: set[str]
) -> None:
    mark = new()[-12:]
    for field in given.keys() & {"parent_id", "subtree_of"}:
        given = {field: f"{mark}-{given[field]}"}
    wanted_now = of_owner(mark, **given)
    with following(api, filter=wanted_now, from_now=True) as later:
        later.catch_up()
        _family(api, mark)
        with following(api, filter=wanted_now) as stream:
            stream.catch_up()
            names = {f"{mark}-{name}" for name in wanted}
            assert stream.now.keys() == names
            later.until(lambda: later.now.keys() == names)
            last = api.create(f"{mark}-end", owner=mark)
            api.delete(f"{mark}-fork")
            api.delete(last.id)
            with following(api, filter=of_owner(mark)) as everything:
                everything.until(lambda: len(everything.now) == 5)
            for name in ("plain", "web", "coder", "cont"):
                api.update(f"{mark}-{name}", "pinned", pinned=True)
            changed = names & {f"{mark}-{name}" for name in ("plain", "web", "coder", "cont")}
            for it in (stream, later):
                it.until(lambda: all(it.now[id].pinned for id in changed))  # noqa: B023
                it.until(lambda: f"{mark}-fork" in it.deleted or f"{mark}-fork" not in names)  # noqa: B023
                assert set(it.deleted) <= names | {last.id}


def _family(api: Api, mark: str) -> None:
    """Sessions of all kinds of one owner."""
    api.create(f"{mark}-plain", owner=mark, source="cli")
    api.create(f"{mark}-web", owner=mark, source="web", agent="writer")
    api.create(f"{mark}-coder", owner=mark, source="cli", agent="coder")
    sub, cont = v1.ParentKind.PARENT_KIND_SUBAGENT, v1.ParentKind.PARENT_KIND_CONTINUATION
    api.child(f"{mark}-plain", kind=sub, id=f"{mark}-sub", owner=mark)
    api.child(f"{mark}-plain", kind=cont, id=f"{mark}-cont", owner=mark)
    api.child(f"{mark}-plain", kind=cont, id=f"{mark}-fork", owner=mark)
    api.child(f"{mark}-fork", kind=cont, id=f"{mark}-grandfork", owner=mark)


def _refused(api: Api, **request: Any) -> Refusal:
    with pytest.raises(grpc.RpcError) as raised:
        api.watch_sessions(**request)
    return refusal(raised.value)


@pytest.mark.parametrize(
    "given",
    [
        {"states": [v1.SessionState.SESSION_STATE_ACTIVE]},
        {"archived": False},
        {"labels": {"a": "b"}},
        {"create_time": v1.TimeRange()},
        {"last_activity_time": v1.TimeRange()},
        {"end_time": v1.TimeRange()},
    ],
)
def test_P14_what_can_change_is_no_filter(api: Api, given: dict[str, Any]) -> None:
    (name,) = given
    found = _refused(api, filter=v1.SessionFilter(whole_tenant=True, **given))
    assert (found.reason, found.fields) == ("INVALID_FIELD", [f"filter.{name}"])


def test_P14_a_filter_says_whose_sessions(api: Api) -> None:
    for request in ({}, {"filter": v1.SessionFilter(sources=["cli"])}):
        found = _refused(api, **request)
        assert (found.reason, found.fields) == ("INVALID_FIELD", ["filter"])
    token = api.watch_sessions(filter=of_owner("x"), from_now=True).resume_token
    found = _refused(api, filter=of_owner("x"), from_now=True, resume_token=token)
    assert (found.reason, found.fields) == ("INVALID_FIELD", ["from_now"])


def test_P9_a_stream_is_resumed_at_another_replica_with_deletions(
    dsn: str, start_server: Callable[..., ServerProcess]
) -> None:
    with replicas(dsn, start_server) as (here, there):
        ids = [here.create(owner="ann").id for _ in range(4)]
        with following(here, filter=of_owner("ann")) as stream:
            stream.until(lambda: stream.caught_up and len(stream.now) == 4)
            stream.until(lambda: not stream.take().changes)  # a heartbeat: all is settled
        there.delete(ids[0])
        here.append(ids[1], said())
        made = there.create(owner="ann").id
        there.create(owner="ben")
        with following(there, filter=of_owner("ann"), resume_token=stream.token) as again:
            again.until(lambda: again.deleted == [ids[0]] and again.now.keys() == {ids[1], made})
            again.catch_up()
            assert again.now[ids[1]].next_seq == 2


def test_P9_a_token_of_a_lost_history_is_refused(
    dsn: str, start_server: Callable[..., ServerProcess]
) -> None:
    """A position that was never given: the database was restored from an older backup."""
    with replicas(dsn, start_server) as (api, _):
        api.create()
        with following(api, filter=EVERYTHING) as stream:
            stream.until(lambda: stream.caught_up and stream.now)
            stream.until(lambda: not stream.take().changes)
        found = _refused(api, filter=EVERYTHING, resume_token=ahead(stream.token, 60))
        assert (found.reason, found.metadata) == ("HISTORY_DIVERGED", {})


@pytest.mark.parametrize("count", [700])
def test_P13_what_there_is_comes_in_pages_and_a_break_in_between_loses_nothing(
    dsn: str, start_server: Callable[..., ServerProcess], count: int
) -> None:
    with replicas(dsn, start_server) as (here, there):
        ids = {here.create(labels={"l": "x" * 256}).id for _ in range(count)}
        with following(here, filter=EVERYTHING) as stream:
            stream.take()
        assert 0 < len(stream.now) < count
        here.append(min(stream.now), said())
        gone = max(stream.now)
        here.delete(gone)
        with following(there, filter=EVERYTHING, resume_token=stream.token) as rest:
            rest.catch_up()
            assert len(rest.frames) > 2
            assert all(len(it.changes) <= 1000 for it in rest.frames)
            rest.until(lambda: gone in rest.deleted)
            seen = (stream.now.keys() | rest.now.keys()) - {gone}
            rest.until(lambda: rest.now.get(min(stream.now), v1.Session()).next_seq == 2)
        assert seen == ids - {gone}


def test_a_stopping_server_says_goodbye(
    dsn: str, start_server: Callable[..., ServerProcess]
) -> None:
    server = start_server(SESSIOND_DSN=dsn)
    with (
        grpc.insecure_channel(server.target) as channel,
        following(Api(channel), filter=EVERYTHING) as stream,
    ):
        stream.catch_up()
        assert server.stop() == 0
        stream.until(lambda: stream.frames[-1].HasField("goodbye"))


def test_every_kind_of_change_is_told(api: Api) -> None:
    """After each, the stream comes to show what the list shows."""
    owner = new("owner")
    id = api.create(owner=owner).id
    calls = [said(), said(), said(), calling("c1"), answering("c1"), calling("c2")]
    with following(api, filter=of_owner(owner)) as stream:
        for number, change in enumerate(_changes(api, id, calls)):
            change()
            wanted = _listed(api, owner)
            assert wanted, number
            stream.until(lambda: _same(stream.now, wanted))  # noqa: B023


def _changes(api: Api, id: str, calls: list[v1.Message]) -> Iterator[Callable[[], object]]:
    yield lambda: api.append(id, *calls)
    yield lambda: api.append(id, said(), said())
    yield lambda: api.compact(id, 1, 2)
    request = v1.RevertCompactionRequest(session_id=id, compaction_id=9)
    yield lambda: api.compactions.RevertCompaction(request)
    yield lambda: api.rewind(id, 7)
    yield lambda: api.messages.RevertRewind(v1.RevertRewindRequest(session_id=id, newest=True))
    hidden = v1.MessageUpdate(message=v1.Message(seq=1, hidden_from_model=True))
    hidden.update_mask.paths.append("hidden_from_model")
    update = v1.UpdateMessagesRequest(session_id=id, updates=[hidden])
    yield lambda: api.messages.UpdateMessages(update)
    used = v1.UsageRecord(model="m", usage=v1.Usage(model_calls=1, input_tokens=5))
    yield lambda: api.spend(id, used)
    yield lambda: api.spend(id, used)
    yield lambda: api.update(id, "title", title=f"title {id}"[:90])
    yield lambda: api.update(id, "labels", labels={"a": "b"})
    yield lambda: api.update(id, "pinned", pinned=True)
    yield lambda: api.archive(id)
    yield lambda: api.update(id, "archived", archived=False)
    yield lambda: api.update(id, "system_prompt", system_prompt="changes the revision alone")
    yield lambda: api.end(id)
    yield lambda: api.reopen(id)
    offload = v1.OffloadMessagesRequest(session_id=id, before_seq=3)
    yield lambda: api.storage.OffloadMessages(offload)
    yield lambda: api.storage.RestoreMessages(v1.RestoreMessagesRequest(session_id=id, all=True))
    yield lambda: api.fork(id)
    kind = v1.ParentKind.PARENT_KIND_CONTINUATION
    child = new("child")
    yield lambda: api.child(id, kind=kind, id=child, owner=api.get(id).owner)
    yield lambda: api.child(child, kind=kind, owner=api.get(id).owner)
    yield lambda: api.messages.ClearMessages(v1.ClearMessagesRequest(session_id=id))
    yield lambda: api.delete(id)  # its fork and its continuation are the roots of their own trees


def _listed(api: Api, owner: str) -> dict[str, v1.Session]:
    found: dict[str, v1.Session] = {}
    for archived in (False, True):
        wanted = of_owner(owner, include_subagents=True, archived=archived)
        listed = api.sessions.ListSessions(v1.ListSessionsRequest(filter=wanted))
        found |= {it.session.id: it.session for it in listed.sessions}
    return found


def _same(told: dict[str, v1.Session], listed: dict[str, v1.Session]) -> bool:
    return told == listed


def test_P11_tombstones_are_swept_when_no_token_asks_for_them(
    dsn: str, start_server: Callable[..., ServerProcess]
) -> None:
    day = 86_400 * 1_000_000
    ages = {"old": 8 * day, "young": 6 * day}

    async def there(*ages: int) -> list[str]:
        connection = await asyncpg.connect(dsn)
        try:
            for number, age in enumerate(ages):
                await connection.execute(_TOMBSTONE, number, age)
            rows = await connection.fetch("SELECT session_id FROM session_tombstone ORDER BY 1")
            return [row[0] for row in rows]
        finally:
            await connection.close()

    assert asyncio.run(there(*ages.values())) == ["0", "1"]
    start_server(SESSIOND_DSN=dsn)
    end = time.monotonic() + BOUND
    while asyncio.run(there()) != ["1"]:
        assert time.monotonic() < end
        time.sleep(0.1)


_TOMBSTONE = """
INSERT INTO session_tombstone
SELECT
    1, gen_random_uuid(), gen_random_uuid(), 'default', $1::integer::text, '', '', '', NULL, 0,
    (extract(epoch FROM now()) * 1000000)::bigint - $2::bigint, now()
"""

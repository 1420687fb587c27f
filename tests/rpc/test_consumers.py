"""Cursors: sessions that have been idle are handed to one worker of a consumer at a time."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from threading import Thread
from typing import Any
from uuid import UUID

import asyncpg
import grpc
import pytest

import sessiond
from sessiond import Client, v1
from sessiond_server.sessions.filters import SessionFilter
from sessiond_server.store import consumers as store
from sessiond_server.store import filters, keys
from sessiond_server.store.sql import query
from tests.rpc.api import EVERYTHING, Api, new, refused, said
from tests.support.patience import PATIENCE, wait_for
from tests.support.processes import ServerProcess
from tests.support.timeline import pass_time

MINUTE, HOUR = 60.0, 3600.0
AUTOMATIC = v1.TitleSource.TITLE_SOURCE_AUTOMATIC


@dataclass(frozen=True)
class Place:
    """A server on a database of its own, for which time can pass."""

    api: Api
    dsn: str
    target: str

    def claim(
        self,
        consumer: str = "memory",
        *,
        idle: float = 30 * MINUTE,
        ttl: float = 600,
        wait: float = 0,
        **how: Any,
    ) -> dict[str, v1.ClaimedSession]:
        owner, subagents = how.pop("owner", "") or None, how.pop("include_subagents", False)
        wanted = v1.SessionFilter(
            owner=owner, whole_tenant=owner is None, include_subagents=subagents
        )
        fields = {"max_count": 100, **how}
        request = v1.ClaimSessionsRequest(consumer_id=consumer, filter=wanted, **fields)
        request.idle_for.FromMilliseconds(int(idle * 1000))
        request.lease_ttl.FromMilliseconds(int(ttl * 1000))
        request.wait.FromMilliseconds(int(wait * 1000))
        answer = self.api.consumers.ClaimSessions(request)
        found = {it.session_id: it for it in answer.sessions}
        assert len(found) == len(answer.sessions)
        return found

    @contextmanager
    def claiming(self, *args: Any, **how: Any) -> Iterator[dict[str, v1.ClaimedSession]]:
        """A claim that waits in the background, whose answer is there behind the block."""
        found: dict[str, v1.ClaimedSession] = {}
        waiting = Thread(target=lambda: found.update(self.claim(*args, wait=60, **how)))
        waiting.start()
        yield found
        waiting.join(PATIENCE)
        assert not waiting.is_alive()

    def extend(
        self, claimed: v1.ClaimedSession, ttl: float | None = None, *, give_up: bool = False
    ) -> datetime:
        request = v1.ExtendSessionClaimRequest(
            session_id=claimed.session_id,
            consumer_id="memory",
            claim_token=claimed.claim_token,
            give_up=give_up,
        )
        if ttl is not None:
            request.lease_ttl.FromMilliseconds(int(ttl * 1000))
        answer = self.api.consumers.ExtendSessionClaim(request)
        return answer.expire_time.ToDatetime(UTC)

    def done(self, claimed: v1.ClaimedSession, consumer: str = "memory", **how: Any) -> v1.Cursor:
        request = v1.SetCursorRequest(
            session_id=claimed.session_id,
            consumer_id=consumer,
            seq=claimed.next_seq - 1,
            claim_token=claimed.claim_token,
        )
        request.MergeFrom(v1.SetCursorRequest(**how))
        return self.api.consumers.SetCursor(request).cursor

    def set(self, session_id: str, seq: int, consumer: str = "memory", **how: Any) -> v1.Cursor:
        request = v1.SetCursorRequest(session_id=session_id, consumer_id=consumer, seq=seq, **how)
        return self.api.consumers.SetCursor(request).cursor

    def get(self, session_id: str, consumer: str = "memory") -> v1.Cursor:
        request = v1.GetCursorRequest(session_id=session_id, consumer_id=consumer)
        return self.api.consumers.GetCursor(request).cursor

    def wait(self, seconds: float) -> None:
        pass_time(self.dsn, seconds)

    def ask(self, sql: str, *arguments: object) -> Any:
        async def fetch() -> Any:
            connection = await asyncpg.connect(self.dsn)
            try:
                return await connection.fetchval(sql, *arguments)
            finally:
                await connection.close()

        return asyncio.run(fetch())


@pytest.fixture
def place(start_server: Callable[..., ServerProcess], dsn: str) -> Iterator[Place]:
    server = start_server(SESSIOND_DSN=dsn)
    with grpc.insecure_channel(server.target) as channel:
        yield Place(Api(channel), dsn, server.target)
    assert not server.bugs()


def test_A_stale_sessions_idle_over_30_min_and_not_processed_since(place: Place) -> None:
    talked, empty, busy = place.api.talk(3), place.api.create().id, place.api.talk(1)
    assert place.claim() == {}
    place.wait(31 * MINUTE)
    place.api.append(busy, said())
    claims = place.claim()
    assert set(claims) == {talked}
    claimed = claims[talked]
    assert (claimed.cursor_seq, claimed.next_seq, claimed.attempt) == (0, 4, 1)
    assert place.claim() == {}, "it is worked on"
    assert place.get(talked).HasField("expire_time")
    mark = place.done(claimed)
    assert (mark.seq, mark.next_seq, mark.holder) == (3, 4, "")
    assert not mark.HasField("expire_time")
    assert place.claim() == {}
    place.wait(31 * MINUTE)
    assert set(place.claim()) == {busy}
    place.api.append(talked, said())
    place.wait(31 * MINUTE)
    again = place.claim()[talked]
    assert (again.cursor_seq, again.next_seq) == (3, 5)
    assert empty not in place.claim()


def test_A_stale_sessions_failures_do_not_stop_it(place: Place) -> None:
    ids = [place.api.talk(1) for _ in range(3)]
    place.wait(HOUR)
    for attempt in (1, 2):
        for _ in ids:
            (claimed,) = place.claim(max_count=1).values()
            assert claimed.attempt == attempt
            if claimed.session_id != ids[0] and attempt == 2:
                place.done(claimed)
        assert place.claim() == {}
        place.wait(HOUR)
    assert set(place.claim()) == {ids[0]}


def test_A_stale_sessions_lost_claims_set_nothing(place: Place) -> None:
    id = place.api.talk(2)
    place.wait(HOUR)
    first = place.claim(ttl=600)[id]
    place.wait(HOUR)
    second = place.claim()[id]
    lost = refused(partial(place.done, first))
    assert (lost.reason, lost.metadata) == ("CLAIM_LOST", {"session_id": id})
    assert place.get(id).seq == 0
    assert place.done(second).seq == 2
    assert place.done(second).seq == 2, "saying it twice changes nothing"
    assert refused(partial(place.done, first)).reason == "CLAIM_LOST"


def test_A_stale_sessions_a_claim_stays_good_until_another_worker_gets_its_session(
    place: Place,
) -> None:
    """A call that finds the session written to again, or done, leaves the claim to its worker."""
    id = place.api.talk(2)
    place.wait(HOUR)
    claimed = place.claim(ttl=600, holder="first")[id]
    place.wait(HOUR)
    place.api.append(id, said())
    assert place.claim(holder="second") == {}, "written to a moment ago"
    late = place.get(id)
    assert (late.holder, late.HasField("expire_time")) == ("", False), "its lease has ended"
    assert place.done(claimed).seq == 2
    place.wait(HOUR)
    again = place.claim()[id]
    assert (again.cursor_seq, again.next_seq, again.attempt) == (2, 4, 1)
    place.wait(HOUR)
    place.set(id, 3)
    assert place.claim() == {}, "nothing is left to do"
    assert place.done(again).seq == 3


def test_A_stale_sessions_a_lease_lasts_though_the_cursor_is_set_without_it(place: Place) -> None:
    """The session has no work for a while, and then work again: still nobody else gets it."""
    id = place.api.talk(2)
    place.wait(HOUR)
    claimed = place.claim(idle=1, ttl=HOUR, holder="first")[id]
    assert place.set(id, 2).holder == "first"
    place.api.append(id, said())
    place.wait(HOUR / 2)
    assert place.claim(idle=1) == {}
    assert place.get(id).holder == "first"
    place.wait(HOUR)
    assert set(place.claim(idle=1)) == {id}
    assert refused(partial(place.done, claimed)).reason == "CLAIM_LOST"


def test_A_stale_sessions_wake_who_waits_for_them(place: Place) -> None:
    """It comes to rest, a lease ends, a claim is given up, a cursor goes back."""
    id = place.api.talk(1)
    assert place.claim() == {}, (
        "nor is the consumer new, which time doesn't pass for while it is made"
    )
    with place.claiming(ttl=1) as found:
        place.wait(HOUR)
    assert found[id].attempt == 1
    again = place.claim(wait=30)[id]
    assert again.attempt == 2
    with place.claiming() as found:
        place.extend(again, give_up=True)
    assert found[id].attempt == 2
    place.done(found[id])
    with place.claiming() as found:
        place.set(id, 0, allow_decrease=True)
    assert (found[id].cursor_seq, found[id].attempt) == (0, 1)


def test_A_stale_sessions_wake_who_waits_for_an_owners(place: Place) -> None:
    id = place.api.create(owner="ann").id
    place.api.append(place.api.create(owner="ben").id, said())
    with place.claiming(idle=0.5, owner="ann") as found:
        place.api.append(id, said())
    assert set(found) == {id}
    place.done(found[id])
    with place.claiming(idle=0.5, owner="ann") as found:
        place.api.append(id, said())
    assert set(found) == {id}, "soon after the first"


def test_A_stale_sessions_a_wait_ends_with_none_before_the_deadline(place: Place) -> None:
    assert place.claim(wait=0.2) == {}
    everyone = v1.SessionFilter(whole_tenant=True)
    request = v1.ClaimSessionsRequest(consumer_id="memory", filter=everyone)
    request.wait.FromSeconds(60)
    assert not place.api.consumers.ClaimSessions(request, timeout=2).sessions
    request.wait.FromSeconds(61)
    long = refused(lambda: place.api.consumers.ClaimSessions(request))
    assert (long.reason, long.fields) == ("INVALID_FIELD", ["wait"])


def test_P13_claims_that_wait_hold_no_connection_and_end_with_their_call_and_the_service(
    start_server: Callable[..., ServerProcess], dsn: str
) -> None:
    server = start_server(SESSIOND_DSN=dsn, SESSIOND_CONNECTIONS="2")
    with grpc.insecure_channel(server.target) as channel:
        place = Place(Api(channel), dsn, server.target)
        request = v1.ClaimSessionsRequest(filter=v1.SessionFilter(whole_tenant=True))
        request.wait.FromSeconds(60)
        calls = []
        for number in range(9):
            request.consumer_id = f"c{number}"
            calls.append(place.api.consumers.ClaimSessions.future(request))
        consumers = partial(place.ask, "SELECT count(*) FROM consumer")
        wait_for(lambda: consumers() == 9, "all have looked")
        id = place.api.talk(1)
        gone = calls.pop(0)
        gone.cancel()
        place.wait(HOUR)
        for call in calls:
            assert [it.session_id for it in call.result(PATIENCE).sessions] == [id]
        (claimed,) = place.claim("c0").values()
        assert claimed.attempt == 1, "who is gone claims nothing"
        request.consumer_id = "last"
        request.idle_for.FromSeconds(24 * 3600)
        last = place.api.consumers.ClaimSessions.future(request)
        wait_for(lambda: consumers() == 10, "the last has looked")
        assert server.stop() == 0
        assert list(last.result(PATIENCE).sessions) == []
    assert not server.bugs()


def test_A_stale_sessions_claims_can_be_extended_and_given_up(place: Place) -> None:
    id = place.api.talk(2)
    place.wait(HOUR)
    claimed = place.claim(ttl=60)[id]
    longer = place.extend(claimed, HOUR)
    assert longer - claimed.expire_time.ToDatetime(UTC) > timedelta(minutes=50)
    assert place.get(id).expire_time.ToDatetime(UTC) == longer
    place.wait(HOUR / 2)
    assert place.claim() == {}
    place.wait(HOUR)
    place.extend(claimed)
    assert place.claim() == {}, "a late worker has it still, if nobody else got it"
    place.extend(claimed, 600, give_up=True)
    assert place.get(id).holder == ""
    assert place.claim() == {}, "it is due again later"
    lost = refused(partial(place.extend, claimed))
    assert (lost.reason, lost.metadata) == ("CLAIM_LOST", {"session_id": id})
    place.wait(700)
    again = place.claim()[id]
    assert again.attempt == 1, "what was given up didn't fail"
    assert refused(partial(place.extend, claimed)).reason == "CLAIM_LOST"
    assert refused(partial(place.done, claimed)).reason == "CLAIM_LOST"
    place.done(again)
    assert refused(partial(place.extend, again)).reason == "CLAIM_LOST", "it is over"
    place.api.delete(id)
    assert refused(partial(place.extend, again)).reason == "SESSION_NOT_FOUND"


def test_A_stale_sessions_cursors_go_back_only_on_demand(place: Place) -> None:
    id = place.api.talk(5)
    assert place.get(id).seq == 0
    assert not place.get(id).HasField("update_time")
    assert place.set(id, 4).seq == 4
    assert place.set(id, 2).seq == 4
    beyond = refused(lambda: place.set(id, 6))
    assert (beyond.reason, beyond.metadata["next_seq"]) == ("SEQ_OUT_OF_RANGE", "6")
    assert place.set(id, 5).seq == 5
    place.wait(HOUR)
    assert place.claim() == {}
    assert place.set(id, 1, allow_decrease=True).seq == 1
    claimed = place.claim()[id]
    assert (claimed.cursor_seq, claimed.next_seq) == (1, 6)


def test_A_stale_sessions_of_two_consumers_are_apart(place: Place) -> None:
    id = place.api.talk(2)
    place.wait(HOUR)
    memory, titles = place.claim("memory")[id], place.claim("titles")[id]
    place.done(memory)
    place.set(id, 1, "search")
    listed = place.api.consumers.ListCursors(v1.ListCursorsRequest(session_id=id))
    assert [(it.consumer_id, it.seq) for it in listed.cursors] == [
        *(("memory", 2), ("search", 1), ("titles", 0)),
    ]
    place.done(titles, "titles")
    assert place.claim("memory") == place.claim("titles") == {}
    first = v1.ListCursorsRequest(session_id=id, page_size=2)
    page = place.api.consumers.ListCursors(first)
    first.page_token = page.next_page_token
    assert [it.consumer_id for it in place.api.consumers.ListCursors(first).cursors] == ["titles"]


def test_A_stale_sessions_of_sub_agents_and_owners(place: Place) -> None:
    mine = place.api.create(owner="ann").id
    theirs = place.api.create(owner="ben").id
    child = place.api.child(mine, owner="ann").id
    for id in (mine, theirs, child):
        place.api.append(id, said())
    place.wait(HOUR)
    assert set(place.claim(owner="ann")) == {mine}
    assert set(place.claim()) == {theirs}
    assert set(place.claim(include_subagents=True)) == {child}


def test_A_stale_sessions_an_owners_consumer_and_the_tenants_of_one_name(place: Place) -> None:
    """Each looks through its own sessions; in a session they share the cursor."""
    mine, theirs = (place.api.create(owner=owner).id for owner in ("ann", "ben"))
    for id in (mine, theirs):
        place.api.append(id, said())
    place.wait(HOUR)
    place.done(place.claim(owner="ann")[mine])
    assert place.ask("SELECT count(*) FROM consumer_cursor WHERE session_id = $1", theirs) == 0
    assert set(place.claim()) == {theirs}
    place.api.append(mine, said())
    place.wait(HOUR)
    place.done(place.claim(owner="ann")[mine])
    assert mine not in place.claim()
    assert place.get(mine).seq == 2


def test_P13_consumers_are_counted_by_owner_listed_and_deleted(place: Place) -> None:
    def listed(**request: Any) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        wanted = v1.ListConsumersRequest(page_size=70, **request)
        while True:
            page = place.api.consumers.ListConsumers(wanted)
            found += [(it.owner, it.id) for it in page.consumers]
            wanted.page_token = page.next_page_token
            if not page.next_page_token:
                return found

    def forget(consumer: str, owner: str = "") -> bool:
        request = v1.DeleteConsumerRequest(consumer_id=consumer, owner=owner, allow_missing=True)
        return place.api.consumers.DeleteConsumer(request).deleted

    full = [("ann", f"c{n:02}") for n in range(100)]
    for owner, consumer in full:
        place.claim(consumer, owner=owner)
    beyond = refused(lambda: place.claim("more", owner="ann"))
    assert (beyond.reason, beyond.metadata) == ("TOO_MANY_CONSUMERS", {"limit": "100"})
    place.claim("c00", owner="ann")
    place.claim("more", owner="ben")
    place.claim("more")
    assert listed() == [("", "more"), *full, ("ben", "more")]
    assert listed(owner="ann") == full
    assert listed(owner="") == [("", "more")]
    assert [forget("c07", "ann"), forget("c07", "ann"), forget("c08")] == [True, False, False]
    place.claim("more", owner="ann")
    assert listed(owner="ann") == [*full[:7], *full[8:], ("ann", "more")]


def test_A_stale_sessions_of_a_forgotten_consumer_are_those_it_was_not_done_with(
    place: Place,
) -> None:
    done, open = place.api.talk(1), place.api.talk(1)
    place.wait(HOUR)
    place.done(place.claim()[done])
    place.api.consumers.DeleteConsumer(v1.DeleteConsumerRequest(consumer_id="memory", owner=""))
    place.wait(HOUR)
    assert set(place.claim()) == {open}


def test_A_stale_sessions_ended_ones_are_worked_on_and_deleted_ones_gone(place: Place) -> None:
    ended, deleted, forked = (place.api.talk(1) for _ in range(3))
    fork = place.api.fork(forked).id
    place.api.end(ended)
    place.wait(HOUR)
    claims = place.claim()
    assert set(claims) == {ended, deleted, forked, fork}
    place.done(claims[ended])
    place.api.delete(deleted)
    assert refused(partial(place.done, claims[deleted])).reason == "SESSION_NOT_FOUND"
    place.wait(HOUR)
    assert set(place.claim()) == {forked, fork}


def test_A_stale_sessions_messages_that_follow_each_other_soon_are_not_overlooked(
    place: Place,
) -> None:
    id = place.api.talk(1)
    for _ in range(3):
        place.wait(15)
        place.done(place.claim(idle=10)[id])
        place.api.append(id, said())
    place.wait(15)
    place.done(place.claim(idle=10)[id])
    place.wait(HOUR)
    assert place.claim(idle=10) == {}


def test_A_stale_sessions_that_are_imported_are_not_overlooked(place: Place) -> None:
    """Their times lie in the past, where the consumer has looked already."""
    id, other = place.api.create(owner="ann").id, place.api.talk(1)
    place.api.append(id, *(said() for _ in range(3)))
    place.wait(HOUR)
    with Client(place.target) as client:
        records = list(client.export_sessions([id]))
        for claimed in place.claim().values():
            place.done(claimed)
        client.delete_session(id)
        place.wait(HOUR)
        place.api.append(other, said())
        place.wait(HOUR)
        assert place.claim(owner="ann") == {}
        assert set(place.claim()) == {other}
        list(client.import_sessions(records))
    place.wait(HOUR)
    claimed = place.claim()[id]
    assert (claimed.cursor_seq, claimed.next_seq) == (0, 4)


def test_A_name_from_the_first_messages(start_server: Any, dsn: str) -> None:
    """Only if it has none; by a model, outside of the store; a person is never overruled."""
    server = start_server(SESSIOND_DSN=dsn)
    with Client(server.target) as client:
        unnamed, named = new(), new()
        for id in (unnamed, named):
            client.create_session(id)
            client.append(id, sessiond.message("user", "Fly me to Lisbon"))
        pass_time(dsn, HOUR)
        answer = client.claim_sessions("titles", EVERYTHING, max_count=10)
        assert {it.session_id for it in answer.sessions} == {unnamed, named}
        client.update_session(named, title="Mine")
        refusals = []
        for claimed in answer.sessions:
            (first,) = client.list_messages_page(claimed.session_id, page_size=1).messages
            proposal = client.next_title(sessiond.text_of(first)[:9])
            try:
                client.update_session(
                    claimed.session_id,
                    title=proposal,
                    title_source="automatic",
                    title_only_if_unset=True,
                )
            except Exception as error:
                refusals.append(type(error).__name__)
            client.set_cursor(
                claimed.session_id, "titles", claimed.next_seq - 1, claim_token=claimed.claim_token
            )
        assert refusals == ["TitleAlreadySet"]
        assert client.get_session(named).title == "Mine"
        session = client.get_session(unnamed)
        assert session.title.startswith("Fly me to")
        assert session.title_source == AUTOMATIC
        assert not client.claim_sessions("titles", EVERYTHING).sessions


@pytest.mark.parametrize("seed", range(3))
def test_A_stale_sessions_as_a_model_has_them(place: Place, seed: int) -> None:
    """Appends, pauses, claims, successes and failures at random: who is handed out is known at every step."""
    chance = random.Random(seed)
    idle, lease = 10 * HOUR, HOUR / 2
    now = 0.0
    ids = [place.api.create(pinned=chance.random() < 0.3).id for _ in range(12)]
    length = dict.fromkeys(ids, 0)
    written = dict.fromkeys(ids, 0.0)
    marks = dict.fromkeys(ids, 0)
    leases: dict[str, tuple[float, v1.ClaimedSession]] = {}
    handed_out = 0
    for _ in range(90):
        action = chance.choice(["append", "append", "wait", "wait", "claim", "done", "back"])
        id = chance.choice(ids)
        if action == "append":
            place.api.append(id, said())
            length[id] += 1
            written[id] = now
        elif action == "wait":
            seconds = chance.choice([0.7, 2.3, 4.1, 11.3]) * HOUR
            place.wait(seconds)
            now += seconds
        elif action == "claim":
            due = {
                it
                for it in ids
                if length[it] > marks[it]
                and written[it] <= now - idle
                and not (it in leases and leases[it][0] > now)
            }
            most = chance.choice([3, 100])
            got = place.claim(idle=idle, ttl=lease, max_count=most)
            assert set(got) <= due
            assert len(got) == min(most, len(due))
            for name, claimed in got.items():
                assert (claimed.cursor_seq, claimed.next_seq) == (marks[name], length[name] + 1)
                leases[name] = (now + lease, claimed)
            handed_out += len(got)
        elif action == "done" and leases:
            name = chance.choice(sorted(leases))
            claimed = leases.pop(name)[1]
            place.done(claimed)
            marks[name] = max(marks[name], claimed.next_seq - 1)
        elif action == "back" and marks[id] and id not in leases:
            marks[id] = place.set(id, chance.randrange(marks[id]), allow_decrease=True).seq
    assert handed_out > 5


def test_P15_what_a_consumer_is_done_with_is_not_looked_at_again(place: Place) -> None:
    """What a call looks at is what was written since the last, of however many sessions."""
    ids = [place.api.talk(1) for _ in range(30)]
    place.wait(HOUR)
    for claimed in place.claim().values():
        place.done(claimed)
    place.api.append(ids[7], said())
    place.wait(HOUR)
    assert place.ask("SELECT count(*) FROM consumer_cursor WHERE queued") == 0
    behind = (
        "SELECT count(*) FROM session AS s JOIN consumer AS c USING (tenant)"
        " WHERE s.position > c.scanned_position"
    )
    assert place.ask(behind) == 1
    assert set(place.claim()) == {ids[7]}
    assert place.ask(behind) == 0


_MANY = """
WITH made AS (
    INSERT INTO session (
        bucket, session_key, tenant, session_id, incarnation, owner, source, agent, title, title_source,
        pinned, archived, state, end_reason, labels, metadata, parent_id, parent_kind,
        spawn_tool_call_id, fork_seq, root_id, spawn_depth, lifecycle, turn_index, fact_changes,
        create_request_id, create_time, update_time, listed_time, end_time
    )
    SELECT
        (n % 1024)::smallint, gen_random_uuid(), tenant, 'made-' || n, incarnation, owner, source,
        agent, '', title_source, n % 5 = 0, archived, state, end_reason, labels, metadata, NULL, 0, '', 0,
        'made-' || n, 0, lifecycle, 0, 1, '', create_time, update_time,
        listed_time - make_interval(secs => n / 700), NULL
    FROM session, generate_series(1, $1::integer) AS n
    WHERE session_id = $2
    RETURNING bucket, session_key, listed_time
)
INSERT INTO session_head (
    bucket, session_key, state, first_seq, next_seq, next_change, message_count, tool_call_count,
    context_message_count, context_token_count, activity_time, writer_epoch, writer_token,
    writer_holder, writer_expire_time, compactor_token, compactor_holder, compactor_expire_time
)
SELECT
    made.bucket, made.session_key, 1, 1, 2, 1, 1, 0, 1, 0, made.listed_time, 0, '', '',
    'epoch', '', '', 'epoch'
FROM made
"""


def test_P15_more_sessions_than_a_look_holds_are_all_handed_out(place: Place) -> None:
    count = store.PAGE + 300
    place.ask(_MANY, count, place.api.talk(1))
    place.wait(HOUR)
    found: list[str] = []
    request = v1.ClaimSessionsRequest(
        consumer_id="all", filter=v1.SessionFilter(whole_tenant=True), max_count=100
    )
    more = True
    while more:
        answer = place.api.consumers.ClaimSessions(request)
        found += [it.session_id for it in answer.sessions]
        more = answer.more
    assert len(found) == len(set(found)) == count + 1


def test_P15_plans_of_claims_read_no_table_whole(place: Place) -> None:
    """Even where the statistics make a join of all heads look cheap."""
    place.ask(_MANY, 3000, place.api.talk(1))
    place.ask("ANALYZE")
    tenant, now = keys.DEFAULT_TENANT, datetime.now(UTC)
    statements: dict[str, list[object]] = {
        "written_sessions": [tenant, "memory", 1],
        "written_sessions_of_owner": [tenant, "memory", 1, "ann"],
        "due_sessions": [tenant, "memory", [False, True], 100],
        "due_sessions_of_owner": [tenant, "memory", [False], 100, "ann"],
        "next_session": [tenant, "memory", [False, True]],
        "next_session_of_owner": [tenant, "memory", [False], "ann"],
        "next_due_reminder": [tenant],
    }
    texts = {query(name): arguments for name, arguments in statements.items()}
    everyone = SessionFilter(tenant)
    some = SessionFilter(tenant, agents=("coder",), labels_json="{}", subagents=False)
    for wanted in (everyone, some):
        for reminders, arguments in (
            ("due_reminders", [tenant, 100]),
            ("due_reminders_of_types", [tenant, 100, ["a", "b"]]),
            ("due_reminders_of_owner", [tenant, 100, "ann", None]),
            ("list_reminders", [tenant, 1, 3, 0, now, UUID(int=0), "", 100, 2**20]),
        ):
            text, values = filters.fitting(reminders, wanted, *arguments)
            texts[text] = values

    async def plans() -> dict[str, str]:
        settings = {"plan_cache_mode": "force_generic_plan"}
        connection = await asyncpg.connect(place.dsn, server_settings=settings)
        try:
            found = {}
            for text, arguments in texts.items():
                rows = await connection.fetch(f"EXPLAIN {text}", *arguments)
                found[text] = "\n".join(row[0] for row in rows)
            return found
        finally:
            await connection.close()

    for name, plan in asyncio.run(plans()).items():
        assert not re.search(r"Seq Scan on (session|session_head)\b", plan), (name, plan)

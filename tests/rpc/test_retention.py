"""Retention: what fits a rule goes, and nothing else; never what is in use, and never silently."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import grpc
import pytest
from structlog.testing import capture_logs

from sessiond import v1
from sessiond_server.jobs.retention import RetentionJob
from sessiond_server.operations import policies as following_policies
from sessiond_server.operations import pruning
from sessiond_server.operations.pruning import FIRST, Done, Pruning
from sessiond_server.rpc.retention_io import stored_rule
from sessiond_server.sessions.filters import SessionFilter
from sessiond_server.sessions.retention import Rule
from sessiond_server.store import policies as policies_store
from sessiond_server.store.database import Database
from tests.rpc.api import Api, new, refused, said
from tests.support.processes import ServerProcess

ACTIVE, ENDED = 1, 2
_STATES = list(v1.SessionState.values())[1:]
DELETED, WOULD, IN_USE, FOR_DESCENDANT = 1, 2, 3, 4
EPHEMERAL = v1.Lifecycle.LIFECYCLE_EPHEMERAL
DETACHED = v1.Lifecycle.LIFECYCLE_DETACHED
CONTINUATION = v1.ParentKind.PARENT_KIND_CONTINUATION


@pytest.fixture
def own(start_server: Callable[..., ServerProcess], dsn: str) -> Iterator[Api]:
    """A server on the test's own database."""
    with grpc.insecure_channel(start_server(SESSIOND_DSN=dsn).target) as channel:
        yield Api(channel)


def execute(dsn: str, sql: str, *arguments: object) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute(sql, *arguments)
        finally:
            await connection.close()

    asyncio.run(run())


_AGE = """
WITH head AS (
    UPDATE session_head SET activity_time = now() - $3::interval
    WHERE session_key = (SELECT session_key FROM session WHERE session_id = $1)
)
UPDATE session
SET create_time = now() - $2::interval,
    end_time = CASE WHEN end_time IS NOT NULL THEN now() - $4::interval END
WHERE session_id = $1
"""


def age(dsn: str, id: str, created: float, idle: float = 0, ended: float = 0) -> None:
    """Make a session so many days old."""
    days = (timedelta(days=value) for value in (created, idle, ended))
    execute(dsn, _AGE, id, *days)


def rule(
    older: float | None = None, idle: float | None = None, ended: float | None = None, **rest: Any
) -> v1.RetentionRule:
    """A rule in days."""
    pinned = rest.pop("include_pinned", False)
    everybody = "owner" not in rest
    sessions = v1.SessionFilter(whole_tenant=everybody, **rest)
    made = v1.RetentionRule(sessions=sessions, include_pinned=pinned)
    for field, days in (("older_than", older), ("idle_for", idle), ("ended_for", ended)):
        if days is not None:
            getattr(made, field).FromTimedelta(timedelta(days=days))
    return made


def prune(
    api: Api, wanted: v1.RetentionRule, *, dry: bool = False, page_size: int = 7
) -> list[v1.PrunedSession]:
    """All pages of a prune."""
    request = v1.PruneSessionsRequest(rule=wanted, force=not dry, page_size=page_size)
    found: list[v1.PrunedSession] = []
    while True:
        page = api.retention.PruneSessions(request)
        found += page.sessions
        assert page.session_count == sum(it.session_count for it in page.sessions)
        assert page.message_count == sum(it.message_count for it in page.sessions)
        request.page_token = page.next_page_token
        if not request.page_token:
            return found


def all_ids(api: Api) -> set[str]:
    found: set[str] = set()
    for archived in (False, True):
        found |= _listed(api, archived=archived)
    return found


def _listed(api: Api, *, archived: bool) -> set[str]:
    wanted = v1.SessionFilter(whole_tenant=True, include_subagents=True, archived=archived)
    request = v1.ListSessionsRequest(filter=wanted, page_size=200)
    found: set[str] = set()
    while True:
        page = api.sessions.ListSessions(request)
        found |= {it.session.id for it in page.sessions}
        request.page_token = page.next_page_token
        if not request.page_token:
            return found


# What fits


@dataclass(frozen=True)
class Made:
    """A session as the test knows it; times in days."""

    id: str
    state: int
    archived: bool
    source: str
    owner: str
    label: str
    pinned: bool
    created: float
    idle: float
    ended: float

    def fits(self, wanted: v1.RetentionRule) -> bool:
        """The rule once more, in other words."""

        def old_enough(field: str, days: float) -> bool:
            least = getattr(wanted, field).ToTimedelta()
            return not wanted.HasField(field) or timedelta(days=days) >= least  # type: ignore[arg-type]

        sessions = wanted.sessions
        return (
            self.state in (sessions.states or [ENDED])
            and (not sessions.HasField("archived") or sessions.archived == self.archived)
            and old_enough("older_than", self.created)
            and old_enough("idle_for", self.idle)
            and (not wanted.HasField("ended_for") or self.state == ENDED)
            and old_enough("ended_for", self.ended)
            and (not sessions.sources or self.source in sessions.sources)
            and self.source not in sessions.exclude_sources
            and (not sessions.HasField("owner") or sessions.owner == self.owner)
            and (not sessions.labels or sessions.labels["k"] == self.label)
            and (wanted.include_pinned or not self.pinned)
        )


def _make(api: Api, dsn: str, chance: random.Random) -> Made:
    created = chance.uniform(1, 100)
    idle = chance.uniform(0.5, created)
    made = Made(
        new(),
        chance.choice([ACTIVE, ENDED, ENDED]),
        chance.random() < 0.2,
        chance.choice(["cli", "web", ""]),
        chance.choice(["ann", "bob"]),
        chance.choice(["1", "2"]),
        chance.random() < 0.2,
        created,
        idle,
        chance.uniform(0.5, idle),
    )
    api.create(
        made.id, source=made.source, owner=made.owner, labels={"k": made.label}, pinned=made.pinned
    )
    if made.state == ENDED:
        api.end(made.id)
    if made.archived:
        api.archive(made.id)
    age(dsn, made.id, created, idle, made.ended)
    return made


def _rule(chance: random.Random) -> v1.RetentionRule:
    times = {
        name: chance.uniform(0, 60) for name in ("older", "idle", "ended") if chance.random() < 0.4
    } or {"older": 0.0}
    wanted = rule(**times)
    sessions = wanted.sessions
    if chance.random() < 0.5:
        sessions.states.extend(chance.sample(_STATES, chance.randint(1, 2)))
    if chance.random() < 0.3:
        sessions.archived = chance.random() < 0.5
    if chance.random() < 0.3:
        sessions.sources.extend(chance.sample(["cli", "web"], 1))
    if chance.random() < 0.3:
        sessions.exclude_sources.append("web")
    if chance.random() < 0.3:
        sessions.owner = "ann"
    if chance.random() < 0.3:
        sessions.labels["k"] = "1"
    wanted.include_pinned = chance.random() < 0.3
    return wanted


def test_B_prune_deletes_what_the_rule_says_as_it_was_told_without_force(
    own: Api, dsn: str
) -> None:
    chance = random.Random(4)
    there = [_make(own, dsn, chance) for _ in range(120)]
    for _ in range(25):
        wanted = _rule(chance)
        fitting = sorted(
            (made for made in there if made.fits(wanted)),
            key=lambda made: (made.pinned, -made.created),
        )
        would = prune(own, wanted, dry=True)
        assert [it.session_id for it in would] == [made.id for made in fitting], wanted
        assert {it.outcome for it in would} <= {WOULD}
    wanted = rule(ended=20, sources=["cli"])
    going = {made.id for made in there if made.fits(wanted)}
    assert going
    assert {it.session_id for it in prune(own, wanted, page_size=3)} == going
    assert all_ids(own) == {made.id for made in there} - going
    assert prune(own, wanted) == []


def test_a_rule_needs_a_time(own: Api) -> None:
    found = refused(lambda: prune(own, rule(sources=["cli"])))
    assert (found.reason, found.fields) == ("INVALID_FIELD", ["rule"])


def test_a_rule_says_whose_sessions(own: Api) -> None:
    wanted = rule(older=1)
    for forgotten in (v1.SessionFilter(), v1.SessionFilter(include_subagents=True)):
        wanted.sessions.CopyFrom(forgotten)
        found = refused(lambda: prune(own, wanted))
        assert (found.reason, found.fields) == ("INVALID_FIELD", ["rule.sessions"])


# Families


def test_P11_pruning_takes_the_family_as_deleting_does(own: Api, dsn: str) -> None:
    root = own.create(title="Trip", owner="ann", source="cli").id
    own.append(root, said(), said())
    linked = own.child(root).id
    ephemeral = own.child(linked, EPHEMERAL).id
    own.append(ephemeral, said())
    staying = own.child(root, DETACHED).id
    own.end(root)
    for id in (root, linked, ephemeral):
        age(dsn, id, 9, 8, 7)
    wanted = rule(ended=5)
    (would,) = prune(own, wanted, dry=True)
    assert (would.session_id, would.outcome, would.title, would.owner) == (
        root,
        WOULD,
        "Trip",
        "ann",
    )
    assert (would.session_count, would.message_count, would.detached_count) == (3, 3, 1)
    assert would.end_time.ToDatetime(UTC) < datetime.now(UTC) - timedelta(days=6.9)
    (went,) = prune(own, wanted)
    would.outcome = v1.PruneOutcome.PRUNE_OUTCOME_DELETED
    assert went == would
    assert all_ids(own) == {staying}
    assert not own.get(staying).HasField("parent")


def test_sub_agents_go_alone_only_when_asked(own: Api, dsn: str) -> None:
    root = own.create().id
    child = own.child(root).id
    own.end(child)
    age(dsn, child, 9, 8, 7)
    assert prune(own, rule(ended=5), dry=True) == []
    (went,) = prune(own, rule(ended=5, include_subagents=True))
    assert (went.session_id, went.session_count) == (child, 1)
    assert own.get(root).message_count == 0


def test_a_sub_agent_that_goes_with_its_parent_is_counted_once(own: Api, dsn: str) -> None:
    root = own.create().id
    child = own.child(root).id
    for id in (child, root):
        own.end(id)
        age(dsn, id, 9 if id == root else 8, 7, 7)
    wanted = rule(ended=5, include_subagents=True)
    for dry in (True, False):
        (found,) = prune(own, wanted, dry=dry)
        assert (found.session_id, found.session_count) == (root, 2)


@pytest.mark.parametrize("page_size", [1, 2, 7])
def test_B_a_prune_that_detaches_children_deletes_them_as_it_was_told_without_force(
    own: Api, dsn: str, page_size: int
) -> None:
    """Detached sub-agents and continuations, also of one another: what it changes itself is no use."""
    root = own.create().id
    detached = own.child(root, DETACHED).id
    continued = own.create(parent=v1.SessionParent(id=root, kind=CONTINUATION)).id
    below = own.child(detached, DETACHED).id
    last = own.create(parent=v1.SessionParent(id=below, kind=CONTINUATION)).id
    ids = [root, detached, continued, below, last]
    for days, id in zip(range(20, 0, -1), ids, strict=False):
        own.end(id)
        age(dsn, id, days, 8, 7)
    wanted = rule(ended=5, include_subagents=True)
    would = prune(own, wanted, dry=True, page_size=page_size)
    assert [(it.session_id, it.outcome) for it in would] == [(id, WOULD) for id in ids]
    went = prune(own, wanted, page_size=page_size)
    assert [(it.session_id, it.outcome) for it in went] == [(id, DELETED) for id in ids]
    assert all_ids(own) == set()


@pytest.mark.parametrize("reason", ["pinned", "active", "lease"])
def test_a_family_stays_for_one_of_its_members(own: Api, dsn: str, reason: str) -> None:
    root = own.create().id
    child = own.child(root, pinned=reason == "pinned").id
    own.end(root)
    age(dsn, root, 9, 8, 7)
    age(dsn, child, 9, 1 if reason == "active" else 8)
    if reason == "lease":
        own.lease(child)
    wanted = rule(idle=5)
    for dry in (True, False):
        (found,) = prune(own, wanted, dry=dry)
        assert (found.session_id, found.outcome) == (root, FOR_DESCENDANT)
        assert (found.session_count, found.message_count) == (0, 0)
    assert all_ids(own) == {root, child}


# What is in use


def _pruning(wanted: v1.RetentionRule) -> Pruning:
    made = Rule(
        sessions=SessionFilter("default", states=(ACTIVE, ENDED), subagents=False),
        older_than=wanted.older_than.ToTimedelta(),
        idle_for=None,
        ended_for=None,
        include_pinned=False,
    )
    return Pruning(made, False, 50)


def test_what_is_changed_between_selection_and_deletion_stays(own: Api, dsn: str) -> None:
    changes: dict[str, Callable[[str], object]] = {
        "written to": lambda id: own.append(id, said()),
        "pinned": lambda id: own.update(id, "pinned", pinned=True),
        "rewound": lambda id: own.rewind(id, 1),
        "given a child": own.child,
        "leased": own.lease,
        "made again": lambda id: (own.delete(id), own.create(id)),
        "gone": own.delete,
    }
    ids = {name: own.talk(2) for name in (*changes, "left alone")}
    for id in ids.values():
        age(dsn, id, 9)

    async def run() -> dict[str, int]:
        database = Database(dsn, connections=2, queue=10)
        await database.open()
        try:
            wanted = _pruning(rule(older=5))
            async with database.connection() as connection:
                selection = await pruning.select(connection, wanted, FIRST)
            assert {it.session_id for it in selection.candidates} == set(ids.values())
            for name, change in changes.items():
                await asyncio.to_thread(change, ids[name])
            found = {}
            for candidate in selection.candidates:
                it = await pruning.prune(database, wanted, candidate, selection.now, Done())
                found[candidate.session_id] = 0 if it is None else it.outcome
            return found
        finally:
            await database.close()

    outcomes = asyncio.run(run())
    told = {name: outcomes[id] for name, id in ids.items()}
    nobody = {"made again": 0, "gone": 0, "left alone": DELETED}
    assert told == {name: nobody.get(name, IN_USE) for name in ids}
    assert all_ids(own) >= {ids[name] for name in changes if name != "gone"}


def test_a_long_look_goes_on_where_it_was_cut(own: Api, dsn: str) -> None:
    execute(
        dsn,
        """
        INSERT INTO session (
            bucket, session_key, tenant, session_id, incarnation, owner, source, agent, title,
            title_source, pinned, archived, state, end_reason, labels, metadata, parent_id, parent_kind,
            spawn_tool_call_id, fork_seq, root_id, spawn_depth, lifecycle, turn_index, fact_changes,
            create_request_id, create_time, update_time, listed_time, end_time
        )
        SELECT
            n % 1024, gen_random_uuid(), 'default', 'x' || n, gen_random_uuid(), '', 'other', '', '',
            0, false, false, 2, '', '{}', '', NULL, 0, '', 0, 'x' || n, 0, 2, 0, 1,
            '', now() - interval '50 days' + n * interval '1 s', now(), now(), now() - interval '10 days'
        FROM generate_series(1, 45000) AS n
        """,
    )
    execute(
        dsn,
        """
        INSERT INTO session_head (
            bucket, session_key, state, first_seq, next_seq, next_change, message_count,
            tool_call_count, context_message_count, context_token_count, activity_time,
            writer_epoch, writer_token, writer_holder, writer_expire_time, compactor_token,
            compactor_holder, compactor_expire_time
        )
        SELECT
            bucket, session_key, 2, 1, 1, 1, 0, 0, 0, 0, create_time, 0, '', '', 'epoch',
            '', '', 'epoch'
        FROM session
        """,
    )
    last = own.create(source="cli").id
    own.end(last)
    age(dsn, last, 40, 39, 38)
    request = v1.PruneSessionsRequest(rule=rule(ended=20, sources=["cli"]), force=True)
    pages: list[v1.PruneSessionsResponse] = []
    while not pages or request.page_token:
        pages.append(own.retention.PruneSessions(request))
        request.page_token = pages[-1].next_page_token
    assert [[it.session_id for it in page.sessions] for page in pages] == [[], [], [last]]


# Policies


@pytest.fixture
def following(start_server: Callable[..., ServerProcess], dsn: str) -> Iterator[Api]:
    """A server that follows policies all the time."""
    server = start_server(SESSIOND_DSN=dsn, SESSIOND_RETENTION_INTERVAL="0.1")
    with grpc.insecure_channel(server.target) as channel:
        yield Api(channel)
    assert not server.bugs()


def set_policy(
    api: Api, name: str, wanted: v1.RetentionRule, *, dry: bool = False
) -> v1.RetentionPolicy:
    policy = v1.RetentionPolicy(id=name, rule=wanted, dry_run=dry)
    return api.retention.SetRetentionPolicy(v1.SetRetentionPolicyRequest(policy=policy)).policy


def policies(api: Api, page_size: int = 2) -> list[v1.RetentionPolicy]:
    request = v1.ListRetentionPoliciesRequest(page_size=page_size)
    found: list[v1.RetentionPolicy] = []
    while True:
        page = api.retention.ListRetentionPolicies(request)
        found += page.policies
        request.page_token = page.next_page_token
        if not request.page_token:
            return found


def reports(api: Api, policy: str = "", page_size: int = 1) -> list[v1.RetentionReport]:
    request = v1.ListRetentionReportsRequest(policy_id=policy, page_size=page_size)
    found: list[v1.RetentionReport] = []
    while True:
        page = api.retention.ListRetentionReports(request)
        found += page.reports
        request.page_token = page.next_page_token
        if not request.page_token:
            return found


def until(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.05)


def was_followed(api: Api, name: str) -> bool:
    return any(it.id == name and it.HasField("last_run_time") for it in policies(api))


def test_policies_are_kept_replaced_and_deleted(own: Api) -> None:
    wanted = rule(ended=30, sources=["cli"], labels={"k": "v"})
    made = [set_policy(own, name, wanted, dry=name == "b") for name in ("b", "c", "a")]
    assert [it.id for it in policies(own)] == ["a", "b", "c"]
    assert sorted(policies(own), key=lambda it: it.id) == sorted(made, key=lambda it: it.id)
    replaced = set_policy(own, "b", rule(idle=7))
    assert (replaced.create_time, replaced.dry_run) == (made[0].create_time, False)
    assert replaced.etag != made[0].etag
    reading = v1.GetRetentionPolicyRequest(policy_id="b")
    assert own.retention.GetRetentionPolicy(reading).policy == replaced
    assert replaced.rule == rule(idle=7)
    own.retention.DeleteRetentionPolicy(v1.DeleteRetentionPolicyRequest(policy_id="a"))
    again = v1.DeleteRetentionPolicyRequest(policy_id="a", allow_missing=True)
    own.retention.DeleteRetentionPolicy(again)
    assert [it.id for it in policies(own)] == ["b", "c"]


def test_a_policy_deletes_by_itself_and_reports_every_session(following: Api, dsn: str) -> None:
    old = [following.talk(2) for _ in range(205)]
    young, pinned = following.talk(1), following.create(pinned=True).id
    child = following.child(old[0]).id
    following.append(child, said())
    for id in (*old, pinned, child):
        following.end(id)
    execute(dsn, "UPDATE session SET create_time = now() - interval '9 days', end_time = now() - interval"
        " '8 days' WHERE state = 2")  # fmt: skip
    set_policy(following, "old-ones", rule(ended=5))
    until(lambda: was_followed(following, "old-ones"))
    assert all_ids(following) == {young, pinned}
    found = reports(following, "old-ones")
    assert sum(it.session_count for it in found) == 206
    assert sum(it.message_count for it in found) == 411
    told = [session for report in found for session in report.sessions]
    assert sorted(it.session_id for it in told) == sorted(old)
    assert {it.outcome for it in told} == {DELETED}
    assert {it.session_id: it.session_count for it in told}[old[0]] == 2
    assert all(len(it.sessions) <= 100 for it in found)
    assert {(it.policy_id, it.dry_run, it.kept_count) for it in found} == {("old-ones", False, 0)}
    assert found == reports(following, page_size=100)
    assert reports(following, "another") == []


def test_a_dry_policy_only_reports(following: Api, dsn: str) -> None:
    root = following.create(owner="ann", title="Trip").id
    child = following.child(root, pinned=True).id
    other = following.talk(3)
    for id in (root, other):
        following.end(id)
        age(dsn, id, 9, 8, 7)
    set_policy(following, "dry", rule(ended=5), dry=True)
    until(lambda: was_followed(following, "dry"))
    assert all_ids(following) == {root, child, other}
    newest = reports(following, "dry")[0]
    assert (newest.dry_run, newest.rule) == (True, rule(ended=5))
    assert (newest.session_count, newest.message_count, newest.kept_count) == (1, 3, 1)
    by_id = {it.session_id: it for it in newest.sessions}
    assert (by_id[root].outcome, by_id[other].outcome) == (FOR_DESCENDANT, WOULD)
    assert (by_id[root].title, by_id[root].owner) == ("", ""), "of sessions only ids are kept"
    assert by_id[other].end_time.ToDatetime(UTC) < datetime.now(UTC) - timedelta(days=6)


def test_a_policy_that_is_deleted_while_it_is_followed_deletes_nothing_more(
    own: Api, dsn: str
) -> None:
    ids = [own.talk(1) for _ in range(6)]
    for id in ids:
        own.end(id)
        age(dsn, id, 9, 8, 7)
    set_policy(own, "old", rule(ended=5))
    deleted = v1.DeleteRetentionPolicyRequest(policy_id="old")

    async def run() -> None:
        database = Database(dsn, connections=3, queue=10)
        await database.open()
        original = policies_store.report

        async def report(*arguments: Any) -> None:
            await original(*arguments)
            if arguments[2].item_no == 3:  # answered only when this session's deletion is committed
                ending = asyncio.to_thread(own.retention.DeleteRetentionPolicy, deleted)
                others.append(asyncio.ensure_future(ending))
                await asyncio.sleep(0.3)

        others: list[asyncio.Future[Any]] = []
        try:
            async with database.connection() as connection:
                (policy,) = await policies_store.every(connection)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(policies_store, "report", report)
                await following_policies.follow(
                    database, policy, stored_rule(policy.tenant, policy.rule)
                )
            await asyncio.gather(*others)
        finally:
            await database.close()

    asyncio.run(run())
    assert all_ids(own) == set(ids[3:])
    (report,) = reports(own)
    assert [it.session_id for it in report.sessions] == ids[:3]


def test_two_replicas_that_follow_a_policy_at_once_report_each_session_once(
    own: Api, dsn: str
) -> None:
    ids = [own.talk(1) for _ in range(40)]
    for id in ids:
        own.end(id)
    execute(dsn, "UPDATE session SET create_time = now() - interval '9 days',"
        " end_time = now() - interval '8 days'")  # fmt: skip
    set_policy(own, "old", rule(ended=5))

    async def run() -> None:
        databases = [Database(dsn, connections=2, queue=10) for _ in range(3)]
        for database in databases:
            await database.open()
        try:
            jobs = (RetentionJob(database, stored_rule, 1) for database in databases)
            await asyncio.gather(*(job.run() for job in jobs))
        finally:
            for database in databases:
                await database.close()

    asyncio.run(run())
    assert all_ids(own) == set()
    told = [session for report in reports(own) for session in report.sessions]
    assert sorted(it.session_id for it in told) == sorted(ids)
    assert {it.outcome for it in told} == {DELETED}


async def _follow_all(dsn: str, lock_timeout: float = 10) -> list[str]:
    """Run the job once; what it logged about what it couldn't do."""
    database = Database(dsn, connections=2, queue=10, lock_timeout=lock_timeout)
    await database.open()
    with capture_logs() as logs:
        await RetentionJob(database, stored_rule, 1).run()
    await database.close()
    return [entry["event"] for entry in logs if entry["log_level"] in ("warning", "error")]


def test_a_policy_that_fails_keeps_no_other_from_being_followed(own: Api, dsn: str) -> None:
    id = own.talk(1)
    own.end(id)
    age(dsn, id, 9, 8, 7)
    for name in ("a-broken", "b-good"):
        set_policy(own, name, rule(ended=5))
    execute(dsn, "UPDATE retention_policy SET rule = '\\xff' WHERE policy_id = 'a-broken'")
    assert asyncio.run(_follow_all(dsn)) == ["retention policy not followed"]
    assert all_ids(own) == set()
    execute(dsn, "UPDATE retention_policy SET rule = '' WHERE policy_id = 'a-broken'")
    assert was_followed(own, "a-broken"), "so that it isn't the first one the next time"


def test_a_session_that_cannot_be_deleted_keeps_no_other_from_it(own: Api, dsn: str) -> None:
    ids = [own.talk(1) for _ in range(3)]
    for days, id in enumerate(ids):
        own.end(id)
        age(dsn, id, 9 - days, 8, 7)
    set_policy(own, "old", rule(ended=5))

    async def run() -> list[str]:
        connection = await asyncpg.connect(dsn)
        async with connection.transaction():
            await connection.execute(
                "SELECT FROM session_head JOIN session USING (bucket, session_key)"
                " WHERE session_id = $1 FOR UPDATE", ids[0])  # fmt: skip
            told = await _follow_all(dsn, lock_timeout=0.1)
        await connection.close()
        return told

    assert asyncio.run(run()) == ["session not pruned"]
    assert all_ids(own) == {ids[0]}
    assert asyncio.run(_follow_all(dsn)) == []
    assert all_ids(own) == set()

"""Lists against a model: every filter, alone and together, in both orders, page by page, with totals."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import grpc
import pytest

from sessiond import v1
from tests.rpc.api import Api, new, said
from tests.support.processes import ServerProcess
from tests.support.timeline import until_settled

STATES = list(v1.SessionState.values())[1:]
ACTIVE, ENDED, ARCHIVED = STATES
CREATED = v1.SessionOrder.SESSION_ORDER_CREATE_TIME
LINKED = v1.Lifecycle.LIFECYCLE_LINKED
SUBAGENT, CONTINUATION, FORK = list(v1.ParentKind.values())[1:]
NOW = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture
def own(start_server: Callable[..., ServerProcess], dsn: str) -> Iterator[Api]:
    """A server on the test's own database."""
    with grpc.insecure_channel(start_server(SESSIOND_DSN=dsn).target) as channel:
        yield Api(channel)


@dataclass
class Made:
    """A session as the test knows it."""

    id: str
    owner: str
    source: str
    agent: str
    labels: dict[str, str]
    state: int
    pinned: bool
    created: datetime
    listed: datetime
    parent: Made | None = None
    kind: int = 0

    def ancestors(self) -> list[str]:
        return [] if self.parent is None else [self.parent.id, *self.parent.ancestors()]

    def fits(self, wanted: v1.ListSessionsRequest) -> bool:
        """The request's comments once more."""
        family = wanted.include_children or wanted.parent_id or wanted.subtree_of
        return (
            wanted.owner in ("", self.owner)
            and (not wanted.sources or self.source in wanted.sources)
            and self.source not in wanted.exclude_sources
            and wanted.agent in ("", self.agent)
            and (not wanted.parent_id or self.ancestors()[:1] == [wanted.parent_id])
            and (not wanted.subtree_of or wanted.subtree_of in self.ancestors())
            and self.state in (wanted.states or [ACTIVE, ENDED])
            and dict(wanted.labels).items() <= self.labels.items()
            and (
                not wanted.HasField("idle_since") or self.listed < wanted.idle_since.ToDatetime(UTC)
            )
            and bool(family or self.kind != SUBAGENT)
        )


def _make(api: Api, chance: random.Random, there: list[Made]) -> Made:
    unlike = timedelta(microseconds=len(there))  # any other session's times
    created = NOW - timedelta(minutes=chance.randrange(10_000)) + unlike
    parent = chance.choice(there) if there and chance.random() < 0.6 else None
    made = Made(
        new(),
        chance.choice(["ann", "bob"]),
        chance.choice(["cli", "web", "mail", ""]),
        chance.choice(["coder", "writer"]),
        {key: chance.choice("12") for key in ("a", "b") if chance.random() < 0.5},
        chance.choice([ACTIVE, ACTIVE, ENDED, ARCHIVED]),
        chance.random() < 0.2,
        created,
        created + timedelta(minutes=chance.randrange(500)),
    )
    facts: dict[str, Any] = {
        "owner": made.owner,
        "source": made.source,
        "agent": made.agent,
        "labels": made.labels,
        "pinned": made.pinned,
    }
    if parent is None:
        api.create(made.id, **facts)
        return made
    made.parent, made.kind = parent, chance.choice([SUBAGENT, SUBAGENT, CONTINUATION, FORK])
    if made.kind == FORK:
        api.fork(parent.id, fork=v1.Session(id=made.id, **facts))
        made.source, made.agent = made.source or parent.source, made.agent or parent.agent
        made.labels = made.labels or parent.labels
    else:
        origin = v1.SessionParent(id=parent.id, kind=made.kind)
        api.create(made.id, parent=origin, lifecycle=LINKED, **facts)
    return made


def _settle(api: Api, dsn: str, made: Made) -> None:
    """Its state, and its times."""
    if made.state == ENDED:
        api.end(made.id)
    elif made.state == ARCHIVED:
        api.archive(made.id)

    async def run() -> None:
        connection = await asyncpg.connect(dsn)
        try:
            await until_settled(connection)
            await connection.execute(
                "UPDATE session SET create_time = $2, listed_time = $3 WHERE session_id = $1",
                *(made.id, made.created, made.listed),
            )
            await connection.execute(
                "UPDATE session_head AS h SET activity_time = $2 FROM session AS s"
                " WHERE s.session_id = $1 AND s.session_key = h.session_key",
                *(made.id, made.listed),
            )
        finally:
            await connection.close()

    asyncio.run(run())


def _request(chance: random.Random, there: list[Made], likely: float) -> v1.ListSessionsRequest:
    def maybe() -> bool:
        return chance.random() < likely

    wanted = v1.ListSessionsRequest(page_size=chance.choice([1, 3, 20, 200]))
    if maybe():
        wanted.owner = chance.choice(["ann", "bob", "nobody"])
    if maybe():
        wanted.sources.extend(
            chance.choices(["cli", "web", "mail", "none"], k=chance.choice([1, 3]))
        )
    if maybe():
        wanted.exclude_sources.extend(chance.sample(["cli", "web", ""], 2))
    if maybe():
        wanted.agent = chance.choice(["coder", "writer"])
    if maybe():
        wanted.parent_id = chance.choice(there).id
    if maybe():
        wanted.subtree_of = chance.choice(there[:20]).id
    if maybe():
        wanted.states.extend(chance.choices(STATES, k=2))
    if maybe():
        wanted.labels.update(dict.fromkeys(chance.sample("ab", chance.choice([1, 2])), "1"))
    if maybe():
        wanted.idle_since.FromDatetime(NOW - timedelta(minutes=chance.randrange(10_000)))
    wanted.include_children = maybe()
    wanted.order_by = chance.choice(list(v1.SessionOrder.values()))
    return wanted


def _listed(api: Api, wanted: v1.ListSessionsRequest, size: int) -> list[v1.SessionSummary]:
    """All pages of a list, each of which tells the total."""
    found: list[v1.SessionSummary] = []
    wanted.with_total = True
    while True:
        page = api.sessions.ListSessions(wanted)
        assert (page.total_size, page.total_size_partial) == (size, False)
        found += page.sessions
        wanted.page_token = page.next_page_token
        if not wanted.page_token:
            return found


def _model(there: list[Made], wanted: v1.ListSessionsRequest) -> list[str]:
    def place(made: Made) -> tuple[bool, datetime]:
        return made.pinned, made.created if wanted.order_by == CREATED else made.listed

    fitting = sorted((it for it in there if it.fits(wanted)), key=place, reverse=True)
    return [it.id for it in fitting]


@pytest.mark.parametrize("seed", range(3))
def test_A_and_B_lists_hold_what_fits_in_order_with_totals_and_children(
    own: Api, dsn: str, seed: int
) -> None:
    chance = random.Random(seed)
    there: list[Made] = []
    for _ in range(70):
        there.append(_make(own, chance, there))
    for made in there:
        _settle(own, dsn, made)
    children = {it.id: sum(other.parent is it for other in there) for it in there}
    for number in range(120):
        wanted = _request(chance, there, (0.1, 0.3)[number % 2])
        told = str(wanted)
        expected = _model(there, wanted)
        found = _listed(own, wanted, len(expected))
        ids = [it.session.id for it in found]
        assert ids == expected, told
        assert {it.session.id: it.child_count for it in found} == {id: children[id] for id in ids}


def test_children_are_counted_as_they_come_and_go(api: Api) -> None:
    root = api.create(owner=new("owner"))
    wanted = v1.ListSessionsRequest(owner=root.owner)
    made = [api.child(root.id).id for _ in range(3)]
    made.append(api.fork(root.id).id)
    assert api.sessions.ListSessions(wanted).sessions[-1].child_count == 4
    api.append(made[0], said())
    api.delete(made[0])
    assert api.sessions.ListSessions(wanted).sessions[-1].child_count == 3

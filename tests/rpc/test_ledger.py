"""The ledger against a model: whatever happens to sessions, every sum is what was recorded, exactly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Context, Decimal
from typing import Any, NamedTuple

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sessiond import v1
from tests.rpc.api import Api, new, said
from tests.support.examples import examples
from tests.support.processes import ServerProcess

EXACT = Context(prec=400)
SHARED = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
"""All examples have the same API."""
SUBAGENT, CONTINUATION = v1.ParentKind.PARENT_KIND_SUBAGENT, v1.ParentKind.PARENT_KIND_CONTINUATION
EPHEMERAL, LINKED, DETACHED = 1, 2, 3
TURN = v1.UsageGrouping.USAGE_GROUPING_TURN
DAY_AND_MODEL = v1.UsageGrouping.USAGE_GROUPING_DAY_AND_MODEL
BY = {
    v1.UsageGrouping.USAGE_GROUPING_OWNER: "owner",
    v1.UsageGrouping.USAGE_GROUPING_AGENT: "agent",
    v1.UsageGrouping.USAGE_GROUPING_SOURCE: "source",
}
DAYS = ["2025-12-31", "2026-01-01", "2026-01-02"]
MODELS = ["", "a", "b"]
DEPTH = 3

money = st.from_regex(r"\A[0-9]{1,12}(\.[0-9]{1,12})?\Z", alphabet="0123456789.")


@pytest.fixture(scope="module")
def api(server: ServerProcess) -> Iterator[Api]:
    with grpc.insecure_channel(server.target) as channel:
        yield Api(channel)


@dataclass(frozen=True)
class Spent:
    """A record, as the model keeps it."""

    tokens: int
    model: str
    day: str
    turn: int | None
    set_turn: bool
    currency: str
    estimated: str
    actual: str

    def record(self, tag: str, request_id: str = "") -> v1.UsageRecord:
        usage = v1.Usage(input_tokens=self.tokens, model_calls=1)
        if self.estimated or self.actual:
            usage.costs.add(currency=self.currency, estimated=self.estimated, actual=self.actual)
        record = v1.UsageRecord(
            usage=usage, model=tag + self.model, set_turn=self.set_turn, request_id=request_id
        )
        record.time.FromJsonString(f"{self.day}T23:59:59Z")
        if self.turn is not None:
            record.turn_index = self.turn
        return record


def spending() -> st.SearchStrategy[Spent]:
    """A record of a few days, models and turns."""

    def made(turn: int | None, set_turn: bool, **fields: Any) -> Spent:
        return Spent(turn=turn, set_turn=set_turn and turn is not None, **fields)

    return st.builds(
        made,
        tokens=st.integers(0, 10**12),
        model=st.sampled_from(MODELS),
        day=st.sampled_from(DAYS),
        turn=st.sampled_from([None, 0, 1]),
        set_turn=st.booleans(),
        currency=st.sampled_from(["USD", "EUR"]),
        estimated=st.one_of(st.just(""), money),
        actual=st.one_of(st.just(""), money),
    )


class Facts(NamedTuple):
    """What is known of a session after it is deleted."""

    owner: str
    agent: str
    source: str


@dataclass
class Node:
    """A session of the model."""

    id: str
    facts: Facts
    parent: Node | None = None
    kind: int = 0
    lifecycle: int = LINKED
    own: list[Spent] = field(default_factory=list)
    inherited: list[Spent] = field(default_factory=list)
    messages: set[str] = field(default_factory=set)
    requests: set[str] = field(default_factory=set)
    ended: bool = False

    @property
    def depth(self) -> int:
        above = self.parent.depth if self.parent else 0
        return above + (self.kind == SUBAGENT)

    def spend(self, spent: Spent) -> None:
        if spent.set_turn:
            self.own = [it for it in self.own if it.turn != spent.turn]
        self.own.append(spent)


Sums = dict[tuple[str, str], tuple[int, int, dict[str, tuple[str, str]]]]


def text(values: list[str]) -> str:
    """The sum of decimals as the API says it."""
    if not values:
        return ""
    total = Decimal(0)
    for value in values:
        total = EXACT.add(total, Decimal(value))
    digits = format(total, "f")
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


def sums(spent: list[Spent]) -> Sums:
    """What the ledger must say by day and model."""
    found: Sums = {}
    for key in {(it.day, it.model) for it in spent}:
        of_key = [it for it in spent if (it.day, it.model) == key]
        costs = {
            currency: (
                text([it.estimated for it in of_key if it.currency == currency and it.estimated]),
                text([it.actual for it in of_key if it.currency == currency and it.actual]),
            )
            for currency in {it.currency for it in of_key if it.estimated or it.actual}
        }
        found[key] = (sum(it.tokens for it in of_key), len(of_key), costs)
    return found


def told(groups: Any, tag: str) -> Sums:
    """What the ledger says."""
    return {
        (g.day, g.model.removeprefix(tag)): (
            g.usage.total_tokens,
            g.usage.model_calls,
            {c.currency: (c.estimated, c.actual) for c in g.usage.costs},
        )
        for g in groups
        if g.model.startswith(tag)
    }


class World:
    """Sessions of one example, in the store and in the model."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.tag = new("model-")
        self.nodes: list[Node] = []
        self.all: list[Spent] = []
        """What all that ever was has spent in the end: of sessions that are gone, what they left."""
        self.gone: list[tuple[Facts, bool, Spent]] = []
        """What sessions that are gone spent themselves, and whether they were sub-agents'."""
        self.create(None, 0, LINKED)

    def create(self, parent: Node | None, kind: int, lifecycle: int) -> None:
        if parent is not None and kind == SUBAGENT and parent.depth == DEPTH:
            return
        number = len(self.nodes) + len(self.gone)
        facts = Facts(*(f"{self.tag}{number % few}" for few in (2, 3, 2)))
        node = Node(new(), facts, parent, kind, lifecycle)
        if parent is None:
            self.api.create(node.id, **facts._asdict())
        else:
            origin = v1.SessionParent(id=parent.id, kind=kind)  # type: ignore[arg-type]
            self.api.create(node.id, parent=origin, lifecycle=lifecycle, **facts._asdict())
        self.nodes.append(node)

    def record(self, node: Node, spent: list[tuple[Spent, str]]) -> None:
        records = [it.record(self.tag, request_id) for it, request_id in spent]
        answer = self.api.spend(node.id, *records)
        new_ones = 0
        for it, request_id in spent:
            if not request_id or request_id not in node.requests:
                node.spend(it)
                new_ones += 1
            node.requests |= {request_id} - {""}
        assert answer.replayed_count == len(spent) - new_ones

    def append(self, node: Node, client_id: str, spent: Spent) -> None:
        if node.ended and client_id not in node.messages:
            return
        message = said("hello", client_id=client_id)
        answer = self.api.append(node.id, message, usage=spent.record(self.tag))
        assert answer.replayed == (client_id in node.messages)
        if client_id not in node.messages:
            node.spend(spent)
            node.messages.add(client_id)

    def children(self, node: Node) -> list[Node]:
        return [it for it in self.nodes if it.parent is node]

    def subtree(self, node: Node) -> list[Spent]:
        below = [it for child in self.children(node) for it in self.subtree(child)]
        return node.own + node.inherited + below

    def end(self, node: Node) -> None:
        deleted = self.api.end(node.id).deleted
        node.ended = True
        assert deleted == (node.kind == SUBAGENT and node.lifecycle == EPHEMERAL)
        if deleted:
            self.forget(node)

    def delete(self, node: Node) -> None:
        self.api.delete(node.id)
        self.forget(node)

    def forget(self, node: Node) -> None:
        heir = node.parent
        going = [node]
        for it in going:
            for child in self.children(it):
                if child.kind == SUBAGENT and child.lifecycle != DETACHED:
                    going.append(child)
                else:
                    child.parent, child.kind = None, 0
        for it in going:
            left = it.own + it.inherited
            self.gone += [(it.facts, it.kind == SUBAGENT, spent) for spent in it.own]
            if heir is not None:
                heir.inherited += left
            else:
                self.all += left
            self.nodes.remove(it)

    def clear(self, node: Node) -> None:
        if not node.ended:
            self.api.messages.ClearMessages(v1.ClearMessagesRequest(session_id=node.id))
            node.messages.clear()

    def fork(self, node: Node) -> None:
        fork = self.api.fork(node.id)
        self.nodes.append(Node(fork.id, node.facts, node, 3, messages=set(node.messages)))

    def check(self) -> None:
        for node in self.nodes:
            own = self.api.spent(node.id, group_by=DAY_AND_MODEL)
            assert told(own.groups, self.tag) == sums(node.own)
            whole = self.api.spent(subtree_of=node.id, group_by=DAY_AND_MODEL)
            assert told(whole.groups, self.tag) == sums(self.subtree(node))
            session = self.api.get(node.id)
            assert session.usage.own == own.total
            turns = self.api.spent(node.id, group_by=TURN).groups
            assert {
                (g.turn_index, g.model.removeprefix(self.tag)): g.usage.total_tokens for g in turns
            } == by_turn(node.own)
        everything = self.all + [it for n in self.nodes for it in n.own + n.inherited]
        assert told(self.of_tenant(), self.tag) == sums(everything)
        for subagents in (False, True):
            self.check_filter(v1.SessionFilter(whole_tenant=True, include_subagents=subagents))
            active = [v1.SessionState.SESSION_STATE_ACTIVE, v1.SessionState.SESSION_STATE_ENDED]
            self.check_filter(
                v1.SessionFilter(owner=f"{self.tag}1", include_subagents=subagents, states=active)
            )

    def check_filter(self, wanted: v1.SessionFilter) -> None:
        """Sums of sessions that fit, and of those that are gone if they are known well enough to fit."""
        wanted.sources.extend(f"{self.tag}{n}" for n in (0, 1))
        known = [(it.facts, it.kind == SUBAGENT, spent) for it in self.nodes for spent in it.own]
        if not wanted.states:
            known += self.gone
        fitting = [
            (facts, spent)
            for facts, subagent, spent in known
            if (wanted.include_subagents or not subagent) and wanted.owner in ("", facts.owner)
        ]
        found = self.api.spent(sessions=wanted, group_by=DAY_AND_MODEL, page_size=1000)
        assert told(found.groups, self.tag) == sums([spent for _, spent in fitting])
        assert found.total.total_tokens == sum(spent.tokens for _, spent in fitting)
        for grouping, name in BY.items():
            groups = self.api.spent(sessions=wanted, group_by=grouping, page_size=1000).groups
            expected: Counter[str] = Counter()
            for facts, spent in fitting:
                expected[getattr(facts, name)] += spent.tokens
            assert {getattr(it, name): it.usage.total_tokens for it in groups} == expected

    def of_tenant(self) -> list[v1.UsageGroup]:
        found, token = list[v1.UsageGroup](), ""
        while not found or token:
            page = self.api.spent(group_by=DAY_AND_MODEL, page_size=1000, page_token=token)
            found += page.groups
            token = page.next_page_token
        return found


def by_turn(spent: list[Spent]) -> dict[tuple[int, str], int]:
    found: Counter[tuple[int, str]] = Counter()
    for it in spent:
        if it.turn is not None:
            found[it.turn, it.model] += it.tokens
    return dict(found)


@settings(max_examples=examples(40), suppress_health_check=SHARED)
@given(data=st.data())
def test_P11_every_sum_is_what_was_recorded_whatever_happens_to_sessions(
    api: Api, data: st.DataObject
) -> None:
    world = World(api)
    named = {name: data.draw(spending()) for name in ("r1", "r2")}
    for _ in range(data.draw(st.integers(3, 25))):
        if not world.nodes:
            world.create(None, 0, LINKED)
        node = data.draw(st.sampled_from(world.nodes))
        match data.draw(st.sampled_from("rrrraaacccedfx")):
            case "r":
                plain = st.tuples(spending(), st.just(""))
                known = st.sampled_from(sorted(named)).map(lambda name: (named[name], name))
                world.record(node, data.draw(st.lists(plain | known, min_size=1, max_size=4)))
            case "a":
                client_id = data.draw(st.sampled_from(["m1", "m2", "m3"]))
                world.append(node, client_id, data.draw(spending()))
            case "c":
                kind = data.draw(st.sampled_from([SUBAGENT, SUBAGENT, CONTINUATION]))
                world.create(node, kind, data.draw(st.sampled_from([EPHEMERAL, LINKED, DETACHED])))
            case "e":
                world.end(node)
            case "d":
                world.delete(node)
            case "f":
                world.fork(node)
            case "x":
                world.clear(node)
    world.check()


@settings(max_examples=examples(60), suppress_health_check=SHARED)
@given(costs=st.lists(st.tuples(money, money), min_size=1, max_size=40))
def test_B_token_and_cost_counters_are_exact_decimals(
    api: Api, costs: list[tuple[str, str]]
) -> None:
    id = api.create().id
    records = [
        v1.UsageRecord(usage=v1.Usage(costs=[v1.Cost(estimated=one, actual=other)]))
        for one, other in costs
    ]
    half = len(records) // 2
    for part in (records[:half], records[half:]):
        if part:
            api.spend(id, *part)
    found = api.get(id).usage.own.costs[0]
    assert found.estimated == text([one for one, _ in costs])
    assert found.actual == text([other for _, other in costs])

"""The ledger of usage: increments, turns, appends with usage, and sums that survive what they are about."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import asyncpg
import grpc
import pytest

import sessiond
from sessiond import v1
from tests.rpc.api import Api, new, refused, said
from tests.support import streamed
from tests.support.processes import ServerProcess

EPHEMERAL, DETACHED = v1.Lifecycle.LIFECYCLE_EPHEMERAL, v1.Lifecycle.LIFECYCLE_DETACHED
CONTINUATION = v1.ParentKind.PARENT_KIND_CONTINUATION
TURN = v1.UsageGrouping.USAGE_GROUPING_TURN
MODEL = v1.UsageGrouping.USAGE_GROUPING_MODEL
DAY = v1.UsageGrouping.USAGE_GROUPING_DAY
DAY_AND_MODEL = v1.UsageGrouping.USAGE_GROUPING_DAY_AND_MODEL
SESSION = v1.UsageGrouping.USAGE_GROUPING_SESSION


def used(input: int = 0, output: int = 0, **fields: Any) -> v1.UsageRecord:
    """A record: `cost`, `billing` and counts of other kinds are fields of their own."""
    record = v1.UsageRecord(usage=v1.Usage(input_tokens=input, output_tokens=output))
    for name, value in fields.items():
        if name == "cost":
            record.usage.costs.add(estimated=value)
        elif name == "billing":
            record.billing.CopyFrom(v1.Billing(**value))
        elif name == "day":
            record.time.FromJsonString(f"{value}T12:00:00Z")
        elif name in v1.Usage.DESCRIPTOR.fields_by_name:
            setattr(record.usage, name, value)
        else:
            setattr(record, name, value)
    return record


def test_B_token_and_cost_counters_are_increments(api: Api) -> None:
    id = api.create().id
    assert not api.get(id).HasField("usage")
    kinds = {"cache_read_tokens": 30, "cache_write_tokens": 4, "reasoning_tokens": 5}
    api.spend(id, used(100, 20, model_calls=1, **kinds, cost="0.0321"))
    last = v1.Cost(currency="USD", estimated="0.10", actual="0.009")
    api.spend(id, v1.UsageRecord(usage=v1.Usage(input_tokens=1, model_calls=2, costs=[last])))
    own = api.get(id).usage.own
    assert (own.input_tokens, own.output_tokens, own.model_calls) == (101, 20, 3)
    assert (own.cache_read_tokens, own.cache_write_tokens, own.reasoning_tokens) == (30, 4, 5)
    assert own.total_tokens == 155
    assert list(own.costs) == [v1.Cost(currency="USD", estimated="0.1321", actual="0.009")]
    assert api.spent(id).total == own


def test_B_billing_facts_and_the_model_are_filled_if_they_are_empty(api: Api) -> None:
    id = api.create().id
    first = {"provider": "openai", "mode": "api_key", "cost_status": "estimated"}
    api.spend(id, used(1), used(1, model="gpt-4o", billing=first))
    etag = api.get(id).etag
    second = {
        "provider": "other",
        "base_url": "https://api.example.com/v1",
        "cost_status": "final",
        "cost_source": "invoice",
        "pricing_version": "2026-03",
    }
    answer = api.spend(id, used(1, model="other", billing=second))
    assert answer.usage.billing == v1.Billing(**{**second, **first, "cost_status": "final"})
    session = api.get(id)
    assert session.usage.billing == answer.usage.billing
    assert (session.model, session.etag) == ("gpt-4o", etag)
    named = api.create(model="mine").id
    api.spend(named, used(1, model="gpt-4o"))
    assert api.get(named).model == "mine"


def test_C_usage_per_turn_is_listed_and_a_turn_may_be_recorded_again(api: Api) -> None:
    id = api.create().id
    days = ["2026-01-30", "2026-01-31", "2026-02-01"]
    for turn, day in enumerate(days):
        api.spend(id, used(100, 10, model="m", turn_index=turn, set_turn=True, day=day))
    api.spend(id, used(5, turn_index=2, model="m", day=days[2]), used(7))
    again = used(60, 6, total_tokens=70, model="n", turn_index=1, set_turn=True, day=days[1])
    for _ in range(2):
        api.spend(id, again)
    answer = api.spent(id, group_by=TURN)
    found = [(g.turn_index, g.model, g.usage.input_tokens) for g in answer.groups]
    assert found == [(0, "m", 100), (1, "n", 60), (2, "m", 105)]
    assert answer.groups[1].usage.total_tokens == 70
    assert answer.groups[1].time.ToJsonString() == "2026-01-31T12:00:00Z"
    assert answer.total.input_tokens == 100 + 60 + 105 + 7
    by_day = api.spent(id, group_by=DAY, to_day=days[2]).groups
    assert [(g.day, g.usage.input_tokens) for g in by_day] == [
        *zip(days, (100, 60, 105), strict=True)
    ]


def test_C_a_turn_is_replaced_within_a_call_in_the_order_of_its_records(api: Api) -> None:
    id = api.create().id
    replaced = used(5, turn_index=1, set_turn=True)
    api.spend(id, used(1, turn_index=1), replaced, used(2, turn_index=1, model="m"))
    assert api.spent(id).total.input_tokens == 7
    api.spend(id, used(1, turn_index=1), used(3, turn_index=1, set_turn=True))
    assert api.spent(id).total.input_tokens == 3
    assert [g.usage.input_tokens for g in api.spent(id, group_by=TURN).groups] == [3]


def test_D_usage_per_model_and_day(api: Api) -> None:
    id = api.create().id
    first, second = "2025-12-31", "2026-01-01"
    api.spend(id, used(1, model="a", day=first), used(2, model="b", day=first))
    api.spend(id, used(4, model="a", day=second), used(8, day=second))

    def groups(**fields: Any) -> list[tuple[str, str, int]]:
        answer = api.spent(id, **fields)
        assert not answer.next_page_token
        return [(g.day, g.model, g.usage.input_tokens) for g in answer.groups]

    assert groups(group_by=MODEL) == [("", "", 8), ("", "a", 5), ("", "b", 2)]
    assert groups(group_by=DAY) == [(first, "", 3), (second, "", 12)]
    assert groups(group_by=DAY_AND_MODEL)[1:] == [
        (first, "b", 2),
        (second, "", 8),
        (second, "a", 4),
    ]
    assert groups(group_by=MODEL, from_day=second) == [("", "", 8), ("", "a", 4)]
    assert refused(lambda: groups(from_day="2026-12-01", to_day="2026-11-01")).fields == ["to_day"]
    assert api.spent(id, to_day=first).total.input_tokens == 3
    assert groups() == []


def test_costs_in_several_currencies_stay_apart(api: Api) -> None:
    id = api.create().id
    for currency, cost in (("EUR", "1"), ("", "2.50"), ("EUR", "0.5")):
        costs = [v1.Cost(currency=currency, actual=cost)]
        api.spend(id, v1.UsageRecord(usage=v1.Usage(input_tokens=1, costs=costs)))
    own = api.get(id).usage.own
    assert [(c.currency, c.estimated, c.actual) for c in own.costs] == [
        ("EUR", "", "1.5"),
        ("USD", "", "2.5"),
    ]
    assert own.input_tokens == 3
    groups = api.spent(id, group_by=MODEL).groups
    assert [g.usage for g in groups] == [own]


def test_P4_a_record_counts_once_by_its_request_id(api: Api) -> None:
    id = api.create().id
    record = used(5, request_id="r1")
    assert api.spend(id, record).replayed_count == 0
    assert api.spend(id, record, used(1, request_id="r2"), record).replayed_count == 2
    assert api.spent(id).total.input_tokens == 6
    reused = refused(partial(api.spend, id, used(1), used(6, request_id="r1")))
    assert (reused.reason, reused.metadata) == ("REQUEST_ID_REUSED", {"request_id": "r1"})
    assert api.spent(id).total.input_tokens == 6
    other = api.create().id
    assert api.spend(other, record).replayed_count == 0


def test_P4_usage_on_an_append_counts_once(api: Api) -> None:
    id = api.create().id
    messages = [said(client_id="a"), said(client_id="b")]
    turn = used(50, 5, model="m", cost="0.001", turn_index=1)
    for _ in range(3):
        answer = api.append(id, *messages, usage=turn)
    assert answer.replayed
    assert api.get(id).usage.own.input_tokens == 50
    grown = [*messages, said(client_id="c")]
    assert refused(partial(api.append, id, *grown, usage=turn)).reason == "PARTIAL_REPLAY"
    assert refused(
        partial(api.append, id, *grown[2:], usage=turn, guard=v1.WriteGuard(expected_next_seq=9))
    )
    assert api.get(id).usage.own.input_tokens == 50
    api.append(id, *grown, usage=turn, on_known=v1.OnKnown.ON_KNOWN_SKIP)
    own = api.get(id).usage.own
    assert (own.input_tokens, own.costs[0].estimated) == (100, "0.002")
    known = used(9, request_id="r")
    for client_id in "de":
        assert api.append(id, said(client_id=client_id), usage=known).replayed is False
    assert api.get(id).usage.own.input_tokens == 109
    assert api.get(id).message_count == 5


def test_usage_on_an_append_goes_with_a_new_session_and_keeps_the_order(api: Api) -> None:
    id = new()
    appends = [
        v1.AppendMessagesRequest(
            session_id=id, messages=[said(str(n))], create_session=v1.Session()
        )
        for n in range(60)
    ]
    for append in appends[::7]:
        append.usage.CopyFrom(used(1))
    frames = [
        streamed.frame(appends[:31]),
        streamed.frame(appends[31:]),
    ]
    results = [r for f in api.messages.AppendStream(iter(frames)) for r in f.results]
    assert [r.ack.first_seq for r in results] == [*range(1, 61)]
    assert [sessiond.text_of(m) for m in api.log(id)] == [str(n) for n in range(60)]
    assert api.get(id).usage.own.input_tokens == 9


def test_P11_the_usage_of_what_is_deleted_goes_to_where_it_came_from(api: Api) -> None:
    root = api.create().id
    middle = api.child(root).id
    low = api.child(middle, EPHEMERAL).id
    beside = api.child(root, kind=CONTINUATION).id
    for n, id in enumerate((root, middle, low, beside)):
        api.spend(id, used(10**n, model="m", day="2026-01-31", cost=f"0.{n}1"))

    def subtree(id: str) -> v1.Usage:
        return api.spent(subtree_of=id).total

    below, whole = subtree(middle), subtree(root)
    assert (below.input_tokens, whole.input_tokens) == (110, 1111)
    assert whole.costs[0].estimated == "0.64"
    assert api.end(low).deleted
    assert subtree(middle) == below
    groups = api.spent(subtree_of=root, group_by=SESSION).groups
    assert {g.session_id: g.usage.input_tokens for g in groups} == {
        root: 1,
        middle: 110,
        beside: 1000,
    }
    api.delete(middle)
    api.delete(beside)
    assert subtree(root) == whole
    assert api.spent(root).total.input_tokens == 1
    by_day = api.spent(subtree_of=root, group_by=DAY_AND_MODEL).groups
    assert [(g.day, g.model, g.usage) for g in by_day] == [("2026-01-31", "m", whole)]


def test_P11_the_tenant_remembers_what_deleted_sessions_used(api: Api) -> None:
    model = new("model")

    def of_tenant() -> int:
        groups = api.spent(group_by=MODEL, page_size=1000).groups
        return sum(g.usage.input_tokens for g in groups if g.model == model)

    root = api.create().id
    api.spend(root, used(3, model=model))
    api.spend(api.child(root).id, used(4, model=model))
    assert of_tenant() == 7
    api.delete(root)
    assert of_tenant() == 7
    assert api.spent().total.input_tokens >= 7
    again = api.create(root).id
    assert not api.get(again).HasField("usage")


def test_P14_the_longest_texts_of_a_deleted_session_are_remembered(api: Api) -> None:
    owner, source, agent, model = (new("long") + "𠀀𝄞" * 100 for _ in range(4))
    id = api.create(owner=owner, source=source, agent=agent).id
    api.spend(id, used(3, model=model))
    api.delete(id)
    wanted = v1.SessionFilter(owner=owner, sources=[source], agents=[agent])
    (group,) = api.spent(sessions=wanted, group_by=MODEL).groups
    assert (group.model, group.usage.input_tokens) == (model, 3)


def test_P11_what_a_pruned_session_used_is_not_forgotten(api: Api) -> None:
    root, source = api.create().id, new("source")
    child = api.child(root, source=source).id
    api.spend(child, used(4))
    api.end(child)
    gone = v1.SessionFilter(whole_tenant=True, sources=[source], include_subagents=True)
    rule = v1.RetentionRule(sessions=gone)
    rule.older_than.FromMicroseconds(1)
    request = v1.PruneSessionsRequest(rule=rule, force=True)
    pruned = list[str]()
    for _ in range(1000):
        page = api.retention.PruneSessions(request)
        pruned += [it.session_id for it in page.sessions]
        request.page_token = page.next_page_token
        if not request.page_token:
            break
    assert pruned == [child]
    assert api.spent(subtree_of=root).total.input_tokens == 4


def test_B_compacting_clearing_and_forking_change_no_usage(api: Api) -> None:
    id = api.talk(6)
    api.spend(id, used(5, turn_index=1, billing={"provider": "p"}, request_id="r"))
    api.compact(id, 1, 3)
    fork = api.fork(id).id
    assert not api.get(fork).HasField("usage")
    assert api.spent(subtree_of=id).total.input_tokens == 5
    before = api.get(id).usage
    api.messages.ClearMessages(v1.ClearMessagesRequest(session_id=id))
    assert api.get(id).usage == before
    assert api.spend(id, used(5, turn_index=1, billing={"provider": "p"}, request_id="r"))
    assert api.get(id).usage == before


def test_a_detached_child_takes_its_usage_along(api: Api) -> None:
    root = api.create().id
    middle = api.child(root).id
    stays = api.child(middle, DETACHED).id
    for id in (root, middle, stays):
        api.spend(id, used(1))
    api.delete(middle)
    assert api.spent(subtree_of=root).total.input_tokens == 2
    assert api.spent(subtree_of=stays).total.input_tokens == 1


def test_usage_is_recorded_of_ended_and_archived_sessions_and_without_a_lease(api: Api) -> None:
    ended, archived, leased = (api.create().id for _ in range(3))
    api.end(ended)
    api.archive(archived)
    api.lease(leased)
    for id in (ended, archived, leased):
        assert api.spend(id, used(1)).usage.own.input_tokens == 1
    gone = api.create().id
    api.delete(gone)
    assert refused(partial(api.spend, gone, used(1))).reason == "SESSION_NOT_FOUND"
    assert refused(partial(api.spent, gone)).reason == "SESSION_NOT_FOUND"


@pytest.mark.parametrize("group_by", [TURN, MODEL, DAY, DAY_AND_MODEL, SESSION])
@pytest.mark.parametrize("size", [1, 2, 1000])
def test_groups_come_in_pages(api: Api, group_by: v1.UsageGrouping.ValueType, size: int) -> None:
    root = api.create().id
    for id in (root, api.child(root).id, api.child(root).id):
        api.spend(
            id,
            *(
                used(1, model=f"m{n % 3}", turn_index=n % 4, day=f"2026-01-0{n % 5 + 1}", cost=cost)
                for n in range(12)
                for cost in ("1", "")
            ),
        )
    scope = "session_id" if group_by == TURN else "subtree_of"
    fields: dict[str, Any] = {"group_by": group_by, scope: root}
    whole = api.spent(**fields, page_size=1000)
    found, token = list[v1.UsageGroup](), ""
    while True:
        page = api.spent(**fields, page_size=size, page_token=token)
        assert len(page.groups) <= size
        assert page.total == whole.total
        found += page.groups
        token = page.next_page_token
        if not token:
            break
    assert found == list(whole.groups)
    count = {TURN: 12, MODEL: 3, DAY: 5, DAY_AND_MODEL: 12, SESSION: 3}[group_by]
    assert len({(g.session_id, g.day, g.model, g.turn_index) for g in found}) == count
    assert sum(g.usage.input_tokens for g in found) == whole.total.input_tokens


@pytest.mark.parametrize(
    ("record", "field"),
    [
        (used(-1), "usage.input_tokens"),
        (used(0, 10**12 + 1), "usage.output_tokens"),
        (used(cost="-1"), "usage.costs[0].estimated"),
        (used(cost="1e3"), "usage.costs[0].estimated"),
        (used(cost="1" * 13), "usage.costs[0].estimated"),
        (used(cost="0." + "1" * 13), "usage.costs[0].estimated"),
        (used(cost="٣"), "usage.costs[0].estimated"),
        (used(set_turn=True), "turn_index"),
        (used(turn_index=-1), "turn_index"),
        (used(model="m" * 257), "model"),
        (used(request_id="a b"), "request_id"),
        (used(billing={"base_url": "x" * 2049}), "billing.base_url"),
        (
            v1.UsageRecord(usage=v1.Usage(costs=[v1.Cost(currency="usd")])),
            "usage.costs[0].currency",
        ),
        (v1.UsageRecord(usage=v1.Usage(costs=[v1.Cost()] * 2)), "usage.costs"),
    ],
)
def test_P14_a_wrong_record_is_refused_by_its_field(
    api: Api, record: v1.UsageRecord, field: str
) -> None:
    id = api.create().id
    assert refused(partial(api.spend, id, used(1), record)).fields == [f"records[1].{field}"]
    assert refused(partial(api.append, id, said(), usage=record)).fields == [f"usage.{field}"]
    assert not api.get(id).HasField("usage")
    assert api.get(id).message_count == 0


def test_P14_sums_beyond_64_bits_are_refused(
    start_server: Callable[..., ServerProcess], dsn: str
) -> None:
    with grpc.insecure_channel(start_server(SESSIOND_DSN=dsn).target) as channel:
        api = Api(channel)
        id = api.create().id
        api.spend(id, used(1))

        async def enlarge() -> None:
            connection = await asyncpg.connect(dsn)
            await connection.execute(f"UPDATE usage_sum SET input_tokens = {2**63 - 1}")
            await connection.close()

        asyncio.run(enlarge())
        assert refused(partial(api.spend, id, used(1))).fields == ["records"]
        assert refused(partial(api.append, id, said(), usage=used(1))).fields == ["usage"]
        assert api.get(id).usage.own.input_tokens == 2**63 - 1
        assert api.get(id).message_count == 0

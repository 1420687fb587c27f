"""Every RPC that takes a filter of sessions against one naive model: every field, alone and with others."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from google.protobuf.duration_pb2 import Duration

from sessiond import v1
from tests.filters import varied
from tests.filters.conftest import World
from tests.filters.varied import Made
from tests.rpc.api import Api, new, refused

Wanted = v1.SessionFilter
MODEL, SESSION = v1.UsageGrouping.USAGE_GROUPING_MODEL, v1.UsageGrouping.USAGE_GROUPING_SESSION
_BY = {
    v1.UsageGrouping.USAGE_GROUPING_OWNER: "owner",
    v1.UsageGrouping.USAGE_GROUPING_AGENT: "agent",
    v1.UsageGrouping.USAGE_GROUPING_SOURCE: "source",
}


class Probe:
    """Asks an RPC for sessions; `fitting` are those that fit by the model."""

    archived: bool | None = None
    """What the RPC means where a filter doesn't say."""
    serves = frozenset(v1.SessionFilter.DESCRIPTOR.fields_by_name)
    refuses_no_owner = False
    path = "filter"

    def check(self, world: World, wanted: Wanted, fitting: list[Made]) -> None:
        found = self.ids(world.api, wanted)
        listed = list(found)
        assert len(listed) == len(set(listed))
        assert set(listed) == {it.id for it in self.among(fitting, wanted)}

    def ids(self, api: Api, wanted: Wanted) -> Iterable[str]:
        """The sessions that it finds."""
        raise NotImplementedError

    def among(self, fitting: list[Made], _: Wanted) -> list[Made]:
        """Those of them of which the RPC tells."""
        return fitting


class ListSessions(Probe):
    archived = False

    def ids(self, api: Api, wanted: Wanted) -> Iterable[str]:
        request = v1.ListSessionsRequest(filter=wanted, page_size=200)
        return [it.session.id for it in api.sessions.ListSessions(request).sessions]


class ListSessionsByText(ListSessions):
    """What is listed is found by a word that all have."""

    def ids(self, api: Api, wanted: Wanted) -> Iterable[str]:
        request = v1.ListSessionsRequest(filter=wanted, page_size=200, text=varied.WORD)
        return [it.session.id for it in api.sessions.ListSessions(request).sessions]


class SearchMessages(Probe):
    def ids(self, api: Api, wanted: Wanted) -> Iterable[str]:
        request = v1.SearchMessagesRequest(query=varied.WORD, filter=wanted, page_size=30)
        while True:
            page = api.searches.SearchMessages(request)
            yield from (hit.session_id for hit in page.hits)
            request.page_token = page.next_page_token
            if not request.page_token:
                return


class PruneSessions(Probe):
    path = "rule.sessions"

    def ids(self, api: Api, wanted: Wanted) -> Iterable[str]:
        rule = v1.RetentionRule(sessions=wanted, older_than=Duration(), include_pinned=True)
        request = v1.PruneSessionsRequest(rule=rule, page_size=40)
        while True:
            page = api.retention.PruneSessions(request)
            yield from (it.session_id for it in page.sessions)
            request.page_token = page.next_page_token
            if not request.page_token:
                return

    def check(self, world: World, wanted: Wanted, fitting: list[Made]) -> None:
        """In a dry run a sub-agent's session may be told of with its parent's alone."""
        found = list(self.ids(world.api, wanted))
        expected = {it.id for it in fitting if wanted.states or it.ended}
        assert set(found) <= expected
        assert len(found) == len(set(found))
        for it in fitting:
            if it.id in expected - set(found):
                assert it.kind == varied.SUBAGENT
                assert set(it.ancestors()) & set(found)


class ExportSessions(Probe):
    def ids(self, api: Api, wanted: Wanted) -> Iterable[str]:
        records = api.export(filter=wanted)
        return [it.session.session.id for it in records if it.HasField("session")]


class ListReminders(Probe):
    def ids(self, api: Api, wanted: Wanted) -> Iterable[str]:
        request = v1.ListRemindersRequest(filter=wanted, page_size=40)
        while True:
            page = api.reminders.ListReminders(request)
            yield from (it.session_id for it in page.reminders)
            request.page_token = page.next_page_token
            if not request.page_token:
                return


class ClaimReminders(Probe):
    types: tuple[str, ...] = ()

    def ids(self, api: Api, wanted: Wanted) -> Iterable[str]:
        request = v1.ClaimRemindersRequest(filter=wanted, max_count=100, types=self.types)
        return [_given_up(api, it) for it in api.reminders.ClaimReminders(request).claims]

    def among(self, fitting: list[Made], _: Wanted) -> list[Made]:
        """Reminders of other sessions are paused."""
        return [it for it in fitting if not it.ended]


class ClaimRemindersOfTypes(ClaimReminders):
    types = ("wake", "none")


def _given_up(api: Api, claim: v1.ClaimedReminder) -> str:
    reminder = claim.reminder
    request = v1.ExtendReminderClaimRequest(
        session_id=reminder.session_id,
        reminder_id=reminder.id,
        claim_token=claim.claim_token,
        give_up=True,
    )
    api.reminders.ExtendReminderClaim(request)
    return reminder.session_id


class ClaimSessions(Probe):
    serves = frozenset({"owner", "include_subagents", "whole_tenant"})
    refuses_no_owner = True

    def ids(self, api: Api, wanted: Wanted) -> Iterable[str]:
        request = v1.ClaimSessionsRequest(consumer_id=new("c"), filter=wanted, max_count=100)
        request.idle_for.FromSeconds(0)
        answer = api.consumers.ClaimSessions(request)
        delete = v1.DeleteConsumerRequest(consumer_id=request.consumer_id, owner=wanted.owner)
        api.consumers.DeleteConsumer(delete)
        return [it.session_id for it in answer.sessions]


class GetUsage(Probe):
    path = "sessions"

    def ids(self, api: Api, wanted: Wanted) -> Iterable[str]:
        return [it.session_id for it in api.spent(sessions=wanted, group_by=SESSION).groups]

    def check(self, world: World, wanted: Wanted, fitting: list[Made]) -> None:
        super().check(world, wanted, fitting)
        found = world.api.spent(sessions=wanted, group_by=MODEL)
        assert found.total.input_tokens == sum(it.tokens for it in fitting)
        assert {it.model: it.usage.input_tokens for it in found.groups} == _sums(
            (f"model-{it.tokens % 2}", it.tokens) for it in fitting
        )
        for grouping, name in _BY.items():
            groups = world.api.spent(sessions=wanted, group_by=grouping).groups
            assert {getattr(it, name): it.usage.input_tokens for it in groups} == _sums(
                (getattr(it, name), it.tokens) for it in fitting
            )


def _sums(amounts: Iterable[tuple[str, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, amount in amounts:
        found[name] = found.get(name, 0) + amount
    return found


class GetTenantStats(Probe):
    def check(self, world: World, wanted: Wanted, fitting: list[Made]) -> None:
        found = world.api.tenants.GetTenantStats(v1.GetTenantStatsRequest(filter=wanted))
        assert found.session_count == len(fitting)
        assert found.subagent_session_count == sum(it.kind == varied.SUBAGENT for it in fitting)
        assert found.message_count == sum(it.messages for it in fitting)
        assert bool(found.hot_bytes) == bool(fitting)

    def ids(self, api: Api, wanted: Wanted) -> Iterable[str]:
        return [str(api.tenants.GetTenantStats(v1.GetTenantStatsRequest(filter=wanted)))]


PROBES: list[Probe] = [
    ListSessions(),
    ListSessionsByText(),
    SearchMessages(),
    PruneSessions(),
    ExportSessions(),
    ListReminders(),
    ClaimReminders(),
    ClaimRemindersOfTypes(),
    ClaimSessions(),
    GetUsage(),
    GetTenantStats(),
]
rpcs = pytest.mark.parametrize("probe", PROBES, ids=lambda probe: type(probe).__name__)


@rpcs
def test_each_field_takes_what_the_model_takes(world: World, probe: Probe) -> None:
    for field, wanted in varied.each_field(world.there, 1):
        _compare(probe, world, wanted, field)


@rpcs
def test_fields_hold_together(world: World, probe: Probe) -> None:
    for wanted in varied.mixed(world.there, 2, 60):
        _compare(probe, world, wanted, "mixed")


@rpcs
def test_a_filter_must_say_whose_sessions(world: World, probe: Probe) -> None:
    """Nothing that is forgotten means everybody's."""
    for wanted in (Wanted(), Wanted(include_subagents=True)):
        found = refused(lambda wanted=wanted: list(probe.ids(world.api, wanted)))  # type: ignore[misc]
        assert (found.reason, found.fields) == ("INVALID_FIELD", [probe.path])


def _compare(probe: Probe, world: World, wanted: Wanted, told: str) -> None:
    unserved = {it.name for it, _ in wanted.ListFields()} - probe.serves
    no_owner = wanted.HasField("owner") and not wanted.owner
    if unserved or (probe.refuses_no_owner and no_owner):
        found = refused(lambda: list(probe.ids(world.api, wanted)))
        assert found.reason == "INVALID_FIELD"
        named = {f"{probe.path}.{name}" for name in unserved}
        assert named <= set(found.fields) <= named | {probe.path, f"{probe.path}.owner"}
        return
    fitting = [it for it in world.there if it.fits(wanted, archived=probe.archived)]
    try:
        probe.check(world, wanted, fitting)
    except AssertionError as error:
        error.add_note(f"{told}: {wanted}")
        raise

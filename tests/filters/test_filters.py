"""Every RPC that takes a filter of sessions against one naive model: every field, alone and with others."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sessiond import v1
from tests.filters import varied
from tests.filters.conftest import World
from tests.filters.varied import Made

Wanted = v1.SessionFilter


class Probe:
    """Asks an RPC for sessions, and compares what it answers with the sessions that fit."""

    archived: bool | None = None
    """What it means where a filter doesn't say."""

    def check(self, world: World, wanted: Wanted, fitting: list[Made]) -> None:
        raise NotImplementedError


class Stats(Probe):
    def check(self, world: World, wanted: Wanted, fitting: list[Made]) -> None:
        found = world.api.tenants.GetTenantStats(v1.GetTenantStatsRequest(filter=wanted))
        assert found.session_count == len(fitting)
        assert found.subagent_session_count == sum(it.kind == varied.SUBAGENT for it in fitting)
        assert found.message_count == sum(it.messages for it in fitting)
        assert bool(found.hot_bytes) == bool(fitting)


PROBES: dict[str, Callable[[], Probe]] = {"GetTenantStats": Stats}


@pytest.mark.parametrize("rpc", PROBES)
def test_each_field_takes_what_the_model_takes(world: World, rpc: str) -> None:
    probe = PROBES[rpc]()
    for field, wanted in varied.each_field(world.there, 1):
        _compare(probe, world, wanted, field)


@pytest.mark.parametrize("rpc", PROBES)
def test_fields_hold_together(world: World, rpc: str) -> None:
    probe = PROBES[rpc]()
    for wanted in varied.mixed(world.there, 2, 60):
        _compare(probe, world, wanted, str(wanted))


def _compare(probe: Probe, world: World, wanted: Wanted, told: str) -> None:
    fitting = [it for it in world.there if it.fits(wanted, archived=probe.archived)]
    try:
        probe.check(world, wanted, fitting)
    except AssertionError as error:
        error.add_note(f"{told}: {wanted}")
        raise

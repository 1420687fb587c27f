"""Targets, options, and what gRPC may repeat by itself."""

from __future__ import annotations

import json
import time
import uuid

import grpc
import pytest

import sessiond
from sessiond import _channel, v1
from sessiond._ids import uuid7
from sessiond._policies import is_set, methods, policy_of
from tests.client.scripted import ScriptedServer

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
HELLO = sessiond.message("user", "hello")


def test_P4_every_rpc_with_one_request_is_repeated_as_the_api_says() -> None:
    config = json.loads(_channel.service_config())["methodConfig"]
    repeated = {
        f"{name['service']}.{name['method']}": it["retryPolicy"]["retryableStatusCodes"]
        for it in config
        for name in it["name"]
    }
    wanted = {}
    for method in methods():
        always = policy_of(method).retry == v1.Retry.RETRY_ALWAYS
        if not method.client_streaming:
            wanted[method.full_name] = [*(["UNAVAILABLE"] if always else []), "RESOURCE_EXHAUSTED"]
    assert repeated == wanted
    assert len(wanted) > 50


def test_options_override_the_defaults() -> None:
    options = dict(sessiond.channel_options([("grpc.keepalive_time_ms", 7), ("mine", "x")]))
    assert (options["grpc.keepalive_time_ms"], options["mine"]) == (7, "x")
    codes = [
        config["retryPolicy"]["retryableStatusCodes"]
        for config in json.loads(options["grpc.service_config"])["methodConfig"]
    ]
    assert codes == [["UNAVAILABLE", "RESOURCE_EXHAUSTED"], ["RESOURCE_EXHAUSTED"]]


def test_the_target_comes_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, scripted: ScriptedServer
) -> None:
    monkeypatch.delenv("SESSIOND_TARGET", raising=False)
    assert _channel.default_target() == "127.0.0.1:7443"
    monkeypatch.setenv("SESSIOND_TARGET", scripted.target)
    with sessiond.Client() as client:
        assert client.get_session("a").id == "a"


def test_P4_repeated_appends_carry_the_same_client_ids(scripted: ScriptedServer) -> None:
    scripted.script.failures.extend([UNAVAILABLE, EXHAUSTED, UNAVAILABLE])
    with sessiond.Client(scripted.target) as client:
        answer = client.append("a", [HELLO, HELLO])
    assert answer.last_seq == 2
    calls = scripted.script.calls
    assert len(calls) == 4
    assert all(call == calls[0] for call in calls)
    assert not HELLO.client_id


async def test_P4_the_asynchronous_client_repeats_likewise(scripted: ScriptedServer) -> None:
    scripted.script.failures.extend([UNAVAILABLE, UNAVAILABLE])
    async with sessiond.AsyncClient(scripted.target) as client:
        await client.append("a", HELLO)
    assert len(scripted.script.calls) == 3
    assert all(call == scripted.script.calls[0] for call in scripted.script.calls)


def test_calls_are_repeated_four_times_at_most(scripted: ScriptedServer) -> None:
    scripted.script.failures.extend([UNAVAILABLE] * 9)
    options = [("grpc.service_config", _channel.service_config().replace("0.1s", "0.01s"))]
    with (
        sessiond.Client(scripted.target, options=options) as client,
        pytest.raises(sessiond.Unavailable),
    ):
        client.get_session("a")
    assert len(scripted.script.calls) == 5


def test_what_is_unsafe_to_repeat_is_repeated_only_if_nothing_was_done(
    scripted: ScriptedServer,
) -> None:
    scripted.script.failures.extend([EXHAUSTED, UNAVAILABLE])
    with sessiond.Client(scripted.target) as client, pytest.raises(sessiond.Unavailable) as raised:
        client.update_session("a", pinned=True)
    assert len(scripted.script.calls) == 2
    assert isinstance(raised.value.__cause__, grpc.RpcError)


def test_P4_what_may_be_repeated_if_a_field_is_set_is_repeated_then(
    scripted: ScriptedServer,
) -> None:
    scripted.script.failures.extend([UNAVAILABLE, EXHAUSTED, UNAVAILABLE])
    with sessiond.Client(scripted.target) as client:
        assert client.create_session("a").id == "a"
    calls = scripted.script.calls
    assert len(calls) == 4
    assert all(call == calls[0] for call in calls)


async def test_P4_the_asynchronous_client_repeats_that_likewise(scripted: ScriptedServer) -> None:
    scripted.script.failures.extend([UNAVAILABLE] * 9)
    async with sessiond.AsyncClient(scripted.target) as client:
        with pytest.raises(sessiond.Unavailable):
            await client.with_timeout(2.0).create_session("a")
    assert 2 <= len(scripted.script.calls) <= 5


def test_P4_what_may_be_repeated_if_a_field_is_set_is_not_repeated_without_it(
    scripted: ScriptedServer,
) -> None:
    scripted.script.failures.append(UNAVAILABLE)
    with sessiond.Client(scripted.target) as client, pytest.raises(sessiond.Unavailable):
        client.revert_rewind("a", newest=True)
    assert len(scripted.script.calls) == 1


def test_a_field_is_set_behind_repeated_ones_if_it_is_in_each() -> None:
    paths = ["records.request_id", "records.set_turn"]
    named, turn, neither = (
        v1.UsageRecord(request_id="a"),
        v1.UsageRecord(set_turn=True),
        v1.UsageRecord(),
    )
    assert is_set(v1.RecordUsageRequest(records=[named, turn]), paths)
    assert not is_set(v1.RecordUsageRequest(records=[named, neither]), paths)
    assert not is_set(v1.RecordUsageRequest(), paths)
    reminder = v1.CreateReminderRequest(reminder=v1.Reminder(id="a"))
    assert is_set(reminder, ["reminder.id"])
    assert not is_set(v1.CreateReminderRequest(), ["reminder.id"])


def test_other_errors_are_not_repeated(scripted: ScriptedServer) -> None:
    scripted.script.failures.append(grpc.StatusCode.ABORTED)
    with sessiond.Client(scripted.target) as client, pytest.raises(sessiond.Conflict):
        client.append("a", HELLO)
    assert len(scripted.script.calls) == 1


def test_a_given_channel_stays_open(scripted: ScriptedServer) -> None:
    with grpc.insecure_channel(scripted.target, options=sessiond.channel_options()) as channel:
        for _ in range(2):
            with sessiond.Client(channel=channel) as client:
                assert client.get_session("a").id == "a"


async def test_a_given_asynchronous_channel_stays_open(scripted: ScriptedServer) -> None:
    async with grpc.aio.insecure_channel(scripted.target) as channel:
        for _ in range(2):
            async with sessiond.AsyncClient(channel=channel) as client:
                assert (await client.get_session("a")).id == "a"


def test_an_asynchronous_client_can_be_made_without_a_loop() -> None:
    assert sessiond.AsyncClient("127.0.0.1:1").with_timeout(1.0)


def test_ids_are_uuids_of_version_7_in_order_of_time() -> None:

    ids = []
    for _ in range(5):
        ids.append(uuid7())
        time.sleep(0.002)
    assert ids == sorted(ids)
    assert len({uuid7() for _ in range(10_000)}) == 10_000
    parsed = uuid.UUID(ids[0])
    assert (parsed.version, parsed.variant, str(parsed)) == (7, uuid.RFC_4122, ids[0])
    assert abs((parsed.int >> 80) / 1000 - time.time()) < 5

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
from tests.client.scripted import ScriptedServer

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
HELLO = v1.Message(role=v1.Role.ROLE_USER, text="hello")


def test_it_is_decided_for_every_rpc_whether_it_is_repeated() -> None:
    decided: list[str] = []
    for table in (_channel.SAFE_TO_REPEAT, _channel.UNSAFE_TO_REPEAT):
        decided += [f"{service}/{name}" for service, names in table.items() for name in names]
    for service, methods in _channel.REPEATED_BY_THE_CLIENT.items():
        decided += [f"{service}/{name}" for name in methods]
    messages = (
        v1.GetSessionRequest,
        v1.GetMessageRequest,
        v1.GetContextRequest,
        v1.PlanCompactionRequest,
        v1.AcquireWriterRequest,
        v1.SearchMessagesRequest,
        v1.OffloadMessagesRequest,
        v1.GetTenantStatsRequest,
        v1.WatchRequest,
        v1.GetAttachmentRequest,
        v1.GetUsageRequest,
        v1.ExportSessionsRequest,
        v1.ListJournalRequest,
        v1.SetRetentionPolicyRequest,
        v1.GetReminderRequest,
        v1.GetCursorRequest,
    )
    files = {message.DESCRIPTOR.file for message in messages}
    services = [service for file in files for service in file.services_by_name.values()]
    there = [
        f"{service.full_name}/{method.name}" for service in services for method in service.methods
    ]
    assert sorted(decided) == sorted(there)


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

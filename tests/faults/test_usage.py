"""Usage under concurrency and kills: what was acknowledged counts, and once."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import grpc
import pytest

from sessiond import v1
from tests.rpc.api import Api, new, said
from tests.rpc.refusals import refusal
from tests.support.processes import ServerProcess

EPHEMERAL = v1.Lifecycle.LIFECYCLE_EPHEMERAL
Start = Callable[..., ServerProcess]


def _record(tokens: int, request_id: str = "") -> v1.UsageRecord:
    cost = v1.Cost(estimated=f"0.{tokens:012d}")
    usage = v1.Usage(input_tokens=tokens, model_calls=1, costs=[cost])
    return v1.UsageRecord(usage=usage, model=f"m{tokens % 3}", request_id=request_id)


def _check(usage: v1.Usage, tokens: list[int]) -> None:
    assert (usage.input_tokens, usage.model_calls) == (sum(tokens), len(tokens))
    cost = Decimal(sum(tokens)) / 10**12
    assert usage.costs[0].estimated == format(cost.normalize(), "f")


def test_P1_increments_of_many_writers_at_two_servers_are_never_lost(
    start_server: Start, dsn: str
) -> None:
    servers = [start_server(SESSIOND_DSN=dsn) for _ in range(2)]
    channels = [grpc.insecure_channel(server.target) for server in servers]
    apis = [Api(channel) for channel in channels]
    ids = [apis[0].create().id for _ in range(3)]

    def work(worker: int) -> list[tuple[str, int]]:
        mine, api = random.Random(worker), apis[worker % 2]
        done = []
        for n in range(40):
            id, tokens = mine.choice(ids), mine.randrange(1, 10**9)
            if n % 4:
                api.spend(id, _record(tokens))
            else:
                api.append(id, said(), usage=_record(tokens))
            done.append((id, tokens))
        return done

    with ThreadPoolExecutor(10) as threads:
        done = [it for found in threads.map(work, range(10)) for it in found]
    for id in ids:
        _check(apis[1].get(id).usage.own, [tokens for its, tokens in done if its == id])
        assert apis[0].get(id).message_count == len(apis[0].log(id))
    _check(apis[0].spent().total, [tokens for _, tokens in done])
    for channel in channels:
        channel.close()


def test_P11_a_deletion_that_races_with_increments_loses_nothing(
    start_server: Start, dsn: str
) -> None:
    """Sub-agents are recorded for, end and are deleted, in a tree of three levels whose middle goes too."""
    servers = [start_server(SESSIOND_DSN=dsn) for _ in range(2)]
    channels = [grpc.insecure_channel(server.target) for server in servers]
    apis = [Api(channel) for channel in channels]
    root = apis[0].create().id
    counted: list[int] = []
    targets: list[str] = [root]
    stop = threading.Event()

    def spend(worker: int) -> None:
        mine, api = random.Random(worker), apis[worker % 2]
        while not stop.is_set():
            id, tokens = mine.choice(targets[-6:]), mine.randrange(1, 10**6)
            try:
                if mine.random() < 0.5:
                    api.spend(id, _record(tokens))
                else:
                    api.append(id, said(), usage=_record(tokens))
            except grpc.RpcError as error:
                assert refusal(error).reason in ("SESSION_NOT_FOUND", "SESSION_ENDED")  # noqa: PT017
            else:
                counted.append(tokens)

    def live(worker: int) -> None:
        mine, api = random.Random(100 + worker), apis[worker % 2]
        for _ in range(12):
            middle = api.child(root).id
            low = [api.child(middle, EPHEMERAL).id for _ in range(2)]
            targets.extend([middle, *low])
            time.sleep(0.05)
            ends: list[Callable[[], object]] = [
                lambda id=low[0]: api.end(id),  # type: ignore[misc]
                lambda id=low[1]: api.delete(id, allow_missing=True),  # type: ignore[misc]
                lambda id=middle: api.delete(id),  # type: ignore[misc]
            ]
            mine.shuffle(ends)
            with ThreadPoolExecutor(3) as threads:
                for future in [threads.submit(end) for end in ends]:
                    error = future.exception()
                    if error is not None:
                        assert isinstance(error, grpc.RpcError)
                        assert refusal(error).reason == "SESSION_NOT_FOUND"

    with ThreadPoolExecutor(8) as threads:
        spending = [threads.submit(spend, n) for n in range(4)]
        for future in [threads.submit(live, n) for n in range(3)]:
            future.result()
        stop.set()
        for future in spending:
            future.result()
    whole = apis[0].spent(subtree_of=root)
    assert len(counted) > 20
    _check(whole.total, counted)
    _check(apis[0].spent().total, counted)
    assert apis[0].delete(root).session_count == 1
    _check(apis[0].spent().total, counted)
    assert not any(server.bugs() for server in servers)
    for channel in channels:
        channel.close()


@pytest.mark.parametrize("seed", range(2))
def test_P4_usage_counts_once_when_a_server_is_killed_and_all_is_sent_again(
    start_server: Start, dsn: str, seed: int
) -> None:
    servers = [start_server(SESSIOND_DSN=dsn) for _ in range(2)]
    channels = [grpc.insecure_channel(server.target) for server in servers]
    first, second = (Api(channel) for channel in channels)
    ids = [new() for _ in range(4)]
    for id in ids:
        first.create(id)
    chosen = random.Random(seed)
    sent: list[tuple[str, int]] = []

    def write(worker: int) -> None:
        for n in range(400):
            id, tokens = ids[worker], worker * 1000 + n + 1
            sent.append((id, tokens))
            try:
                _write(first, id, tokens)
            except grpc.RpcError:
                return

    threads = [threading.Thread(target=write, args=[n]) for n in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.2 + chosen.random() / 2)
    servers[0].kill()
    for thread in threads:
        thread.join()
    for id, tokens in sent:
        _write(second, id, tokens)
    for id in ids:
        _check(second.get(id).usage.own, [tokens for its, tokens in sent if its == id])
    for channel in channels:
        channel.close()


def _write(api: Api, id: str, tokens: int) -> None:
    """A turn with its usage, and usage by itself, both as they would be sent again."""
    if tokens % 2:
        api.append(id, said(client_id=f"m{tokens}"), usage=_record(tokens))
    else:
        api.spend(id, _record(tokens, request_id=f"r{tokens}"))

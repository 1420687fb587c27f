"""What runs for as long as the server does goes on after failures that nobody expected."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

import asyncpg
import grpc
from structlog.testing import capture_logs

from sessiond import v1
from sessiond_server.store.hints import NotifyHints
from tests.rpc.api import Api, said
from tests.support.processes import ServerProcess

Start = Callable[..., ServerProcess]


def _until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def _execute(dsn: str, sql: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(dsn)
        await connection.execute(sql)
        await connection.close()

    asyncio.run(run())


def test_P9_watches_and_waiting_workers_outlive_a_database_that_answers_nonsense(
    start_server: Start, dsn: str
) -> None:
    """Tables that aren't there, as for somebody who restores a backup in place. What another replica then
    does is still heard of."""
    alone = {"SESSIOND_FEED_HINTS": "poll", "SESSIOND_FEED_SWEEP": "0.2"}
    other, server = (start_server(SESSIOND_DSN=dsn, **alone) for _ in range(2))
    with (
        grpc.insecure_channel(other.target) as elsewhere,
        grpc.insecure_channel(server.target) as channel,
        ThreadPoolExecutor() as pool,
    ):
        there, here = Api(elsewhere), Api(channel)
        id = there.talk(1)
        target = v1.WatchTarget(session_id=id)
        watch = here.feeds.Watch(v1.WatchRequest(targets=[target]))
        seqs: list[int] = []
        reading = pool.submit(_read, watch, seqs)
        try:
            _until(lambda: seqs == [1])
            claims = pool.submit(here.claim, wait=60)
            time.sleep(1)
            for table, told in (
                ("session_head", "feed sweep failed"),
                ("reminder", "look for what is due failed"),
            ):
                _execute(dsn, f"ALTER TABLE {table} RENAME TO elsewhere")
                _until(partial(_told, server, told))
                _execute(dsn, f"ALTER TABLE elsewhere RENAME TO {table}")
            there.append(id, said())
            there.reminder(id)
            assert len(claims.result(60)) == 1
            _until(lambda: seqs == [1, 2])
        finally:
            watch.cancel()
        reading.result(60)


def _told(server: ServerProcess, event: str) -> bool:
    return any(event in line for line in server.bugs())


def _read(watch: Iterable[v1.WatchResponse], seqs: list[int]) -> None:
    with suppress(grpc.RpcError):
        for frame in watch:
            seqs += [it.message_appended.seq for it in frame.events if it.message_appended.seq]


async def test_hints_are_heard_again_after_a_failure(dsn: str) -> None:
    heard: list[None] = []
    again = asyncio.Event()

    def sweep() -> None:
        heard.append(None)
        if len(heard) == 1:
            raise ValueError("not yet")
        again.set()

    hints = NotifyHints(dsn, lambda keys: None, lambda keys: None, sweep)
    with capture_logs() as logs:
        hints.start()
        await asyncio.wait_for(again.wait(), 60)
        await hints.stop()
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == [
        "hints interrupted"
    ]

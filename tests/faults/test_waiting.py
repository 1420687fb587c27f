"""P13: calls that would wait for long are refused, and say how long they waited or how many do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager

import asyncpg
import pytest

import sessiond
from sessiond import AsyncClient, v1
from tests.support.processes import ServerProcess


def said(text: str) -> v1.Message:
    return sessiond.message("user", text)


@asynccontextmanager
async def held(dsn: str) -> AsyncIterator[None]:
    """Every session is locked, as by calls that take long."""
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            await connection.execute("SELECT FROM session_head FOR UPDATE")
            yield
    finally:
        await connection.close()


async def test_P13_a_session_that_is_held_for_too_long_is_busy(
    start_server: Callable[..., ServerProcess], dsn: str
) -> None:
    server = start_server(SESSIOND_DSN=dsn, SESSIOND_LOCK_TIMEOUT="0.3")
    once = [("grpc.enable_retries", 0)]
    async with AsyncClient(server.target, options=once) as client:
        await client.create_session("busy")
        async with held(dsn):
            for call in (
                client.append("busy", said("hi")),
                client.acquire_writer("busy", "me"),
                client.clear_messages("busy"),
            ):
                with pytest.raises(sessiond.SessionBusy) as raised:
                    await call
                assert raised.value.metadata == {"limit": "0.3"}
                assert raised.value.retry_delay is not None
        assert (await client.append("busy", said("hi"))).first_seq == 1, "nothing was half done"
    assert not server.bugs()


async def test_P13_contexts_that_wait_for_a_snapshot_are_bounded(
    start_server: Callable[..., ServerProcess], dsn: str
) -> None:
    """One caller doesn't read its context and keeps the only snapshot; the queue behind it is full soon."""
    server = start_server(SESSIOND_DSN=dsn, SESSIOND_CONNECTIONS="2", SESSIOND_READ_QUEUE="3")
    once = [("grpc.enable_retries", 0), ("grpc.http2.bdp_probe", 0)]
    async with AsyncClient(server.target, options=once) as client:
        await client.create_session("long")
        for _ in range(30):
            await client.append("long", said("x" * 1_000_000))
        slow = client.stream_context("long")
        assert isinstance(slow, AsyncGenerator)
        await anext(slow)
        waiting = [
            asyncio.create_task(client.get_context("long", max_context_messages=1))
            for _ in range(9)
        ]
        done, rest = await asyncio.wait(waiting, timeout=5)
        assert len(rest) == 3, "as many as the setting says go on waiting"
        for task in done:
            error = task.exception()
            assert isinstance(error, sessiond.ReadQueueFull)
            assert error.metadata == {"limit": "3"}
        await slow.aclose()
        answers = await asyncio.gather(*rest)
        assert all(len(answer.messages) == 1 for answer in answers)
    assert not server.bugs()

"""Offloading: what real conversations take offloaded, and what reading them then costs.

The conversations are those of an airline's agent with tool calls: once, where what a table takes that is
nearly empty counts for a third of the segments, and several times over, which also is more than the server
keeps expanded in memory.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from bench.measure import Ratio, compare_latency
from bench.postgres import create_database
from bench.processes import sessiond
from sessiond import AsyncClient, from_openai
from tests.support.data import airline_sessions

_COPIES = 12

_HOT = ("message", "open_tool_call", "tool_result")
_OFFLOADED = ("message_segment", "segment_dictionary", "message_offload")


def _conversations() -> list[list[dict[str, Any]]]:
    return [session["messages"] for session in airline_sessions()]


async def _bytes(connection: asyncpg.Connection[asyncpg.Record], tables: tuple[str, ...]) -> int:
    """What tables take with their indexes and TOAST."""
    await connection.execute("VACUUM (ANALYZE)")
    total: int = await connection.fetchval(
        "SELECT sum(pg_total_relation_size(name::regclass))::bigint FROM unnest($1::text[]) AS name",
        list(tables),
    )
    return total


async def ratios(dsn: str, rounds: int, times: int) -> list[Ratio]:
    """What offloaded conversations take, and the p50 of reading a page of one, both over hot ones."""
    async with _database(dsn, "offload_once") as (client, connection):
        once = await _sizes(client, connection, "offloaded_bytes_once_vs_hot", 1)
    async with _database(dsn, "offload") as (client, connection):
        often = await _sizes(client, connection, "offloaded_bytes_vs_hot", _COPIES)
        return [once, often, await _pages(client, rounds, times)]


@asynccontextmanager
async def _database(
    dsn: str, name: str
) -> AsyncIterator[tuple[AsyncClient, asyncpg.Connection[asyncpg.Record]]]:
    """A service on a database of its own."""
    own = await create_database(dsn, name)
    with sessiond(own, SESSIOND_SEARCH="false") as address:
        connection = await asyncpg.connect(own)
        async with AsyncClient(address) as client:
            yield client, connection
        await connection.close()


async def _fill(
    client: AsyncClient, kind: str, conversations: list[list[dict[str, Any]]], copies: int
) -> None:
    for copy, (number, conversation) in itertools.product(range(copies), enumerate(conversations)):
        name = f"{kind}-{copy}-{number}"
        await client.create_session(name)
        await client.append(name, from_openai(conversation))


async def _sizes(
    client: AsyncClient, connection: asyncpg.Connection[asyncpg.Record], name: str, copies: int
) -> Ratio:
    conversations = _conversations()
    await _fill(client, "cold", conversations, copies)
    hot = await _bytes(connection, _HOT)
    changes = await _bytes(connection, ("session_change",))
    for copy, number in itertools.product(range(copies), range(len(conversations))):
        await client.offload_messages(f"cold-{copy}-{number}", all_messages=True)
    offloaded = await _bytes(connection, _OFFLOADED)
    offloaded += await _bytes(connection, ("session_change",)) - changes
    return Ratio(
        name,
        f"bytes on disk of {len(conversations)} real conversations{_times(copies)}: offloaded / hot",
        0.2,
        at_most=True,
        values=[offloaded / hot],
        scale=f"{offloaded / 2**20:,.1f} and {hot / 2**20:,.1f} MiB",
    )


def _times(copies: int) -> str:
    return "" if copies == 1 else f", {copies} times each"


async def _pages(client: AsyncClient, rounds: int, times: int) -> Ratio:
    conversations = _conversations()
    await _fill(client, "hot", conversations, _COPIES)
    return await compare_latency(
        Ratio(
            "offloaded_page_vs_hot",
            "page of a real conversation, p50: offloaded, not cached / hot",
            2,
            at_most=True,
        ),
        _reader(client, "cold", len(conversations)),
        _reader(client, "hot", len(conversations)),
        rounds=rounds,
        times=times,
    )


def _reader(client: AsyncClient, kind: str, count: int) -> Callable[[], Awaitable[object]]:
    """Reads one conversation after the other, so that each is read again only after all others."""
    names = itertools.cycle([f"{kind}-{copy}-{n}" for copy in range(_COPIES) for n in range(count)])

    async def read() -> object:
        page = await client.list_messages_page(next(names), view="all")
        assert page.messages
        return page

    return read

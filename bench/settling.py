"""Lists in the order of the last activity, and positions for WatchSessions: what they cost appends."""

from __future__ import annotations

import itertools
import re
from collections.abc import Awaitable, Callable
from contextlib import ExitStack

import asyncpg

from bench.loads import Service, message, session
from bench.measure import Ratio, compare
from bench.processes import sessiond
from sessiond import v1

SESSIONS = 256
_CALLERS = 64


async def _database(dsn: str, name: str) -> str:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(f"CREATE DATABASE {name}")
    finally:
        await connection.close()
    return re.sub(r"(://[^/?]*/)[^?]*", rf"\g<1>{name}", dsn)


def _appends(service: Service) -> Callable[[int], Awaitable[int]]:
    """Appends of one message, to one session after the other: none is busier than the others."""
    numbers = itertools.count()

    async def step(_: int) -> int:
        name = session(next(numbers) % SESSIONS)
        request = v1.AppendMessagesRequest(session_id=name, messages=[message()])
        await service.messages.AppendMessages(request)
        return 1

    return step


async def ratio(dsn: str, rounds: int, seconds: float) -> Ratio:
    """Appends to a server that settles sessions, and to one that doesn't."""
    found = Ratio(
        "list_order_vs_none",
        f"append of 1 message, 64 callers, {SESSIONS} sessions in turn, with lists kept in order / without",
        0.97,
    )
    with ExitStack() as parts:
        services = []
        for jobs in ("true", "false"):
            own = await _database(dsn, f"settling_{jobs}")
            address = parts.enter_context(
                sessiond(own, SESSIOND_SEARCH="false", SESSIOND_JOBS=jobs)
            )
            services.append(Service(address))
        for service in services:
            await service.make_sessions(SESSIONS)
        settling, bare = (_appends(service) for service in services)
        await compare(found, settling, bare, workers=_CALLERS, rounds=rounds, seconds=seconds)
        for service in services:
            await service.close()
    return found

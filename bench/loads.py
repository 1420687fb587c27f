"""The loads: appends through the service, the echo, and asyncpg straight into the same tables."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import Awaitable, Callable

import asyncpg
import grpc

import sessiond
from bench import echo
from sessiond import AsyncAppendStream, AsyncClient, v1
from sessiond_server.store.keys import session_key

TEXT = "x" * 440
"""With its client id, role and counts a message of it is encoded in 500 bytes."""

USAGE = v1.UsageRecord(
    model="a-model",
    usage=v1.Usage(
        model_calls=1,
        input_tokens=1200,
        output_tokens=340,
        cache_read_tokens=1000,
        costs=[v1.Cost(estimated="0.0123", currency="USD")],
    ),
    turn_index=3,
)

_WINDOW = 16

RUN = uuid.uuid4().hex[:12]
_numbers = itertools.count()


def message() -> v1.Message:
    return sessiond.message(
        "user", TEXT, client_id=f"{RUN}-{next(_numbers):012}", token_count=100, turn_index=3
    )


def session(number: int) -> str:
    return f"{RUN}-{number}"


class Service:
    """Appends through the service, by the generated stub and by the client library."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.aio.insecure_channel(address)
        self.messages = v1.MessageServiceStub(self.channel)
        self.client = AsyncClient(address)

    async def make_sessions(self, count: int) -> None:
        for number in range(count):
            await self.client.create_session(session(number))

    def unary(
        self, messages: int, usage: v1.UsageRecord | None = None
    ) -> Callable[[int], Awaitable[int]]:
        """AppendMessages with so many messages."""

        async def step(worker: int) -> int:
            request = v1.AppendMessagesRequest(
                session_id=session(worker),
                messages=[message() for _ in range(messages)],
                usage=usage,
            )
            await self.messages.AppendMessages(request)
            return messages

        return step

    def pipelined(
        self, stream: AsyncAppendStream, *, hot: bool = False
    ) -> Callable[[int], Awaitable[int]]:
        """Appends of one message each, many under way at once, on one stream."""

        async def step(worker: int) -> int:
            name = session(999 if hot else worker)
            await asyncio.gather(*[stream.append(name, message()) for _ in range(_WINDOW)])
            return _WINDOW

        return step

    async def close(self) -> None:
        await self.client.close()
        await self.channel.close()


class Echo:
    """The same requests to the echo."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.aio.insecure_channel(address)
        self._call: grpc.aio.UnaryUnaryMultiCallable[v1.AppendMessagesRequest, bytes] = (
            self.channel.unary_unary(
                f"/{echo.SERVICE}/{echo.METHOD}",
                request_serializer=v1.AppendMessagesRequest.SerializeToString,
            )
        )

    def unary(self, messages: int) -> Callable[[int], Awaitable[int]]:
        async def step(worker: int) -> int:
            request = v1.AppendMessagesRequest(
                session_id=session(worker), messages=[message() for _ in range(messages)]
            )
            await self._call(request)
            return messages

        return step

    async def close(self) -> None:
        await self.channel.close()


_TABLES = """
CREATE TABLE direct_message (LIKE message INCLUDING ALL);
CREATE TABLE direct_head (LIKE session_head INCLUDING ALL) WITH (fillfactor = 70);
INSERT INTO direct_head SELECT * FROM session_head;
"""

_BATCH = """
INSERT INTO direct_message
SELECT $1, $2, seq, now(), 100, 3, 1, true, true, false, client_id, NULL, NULL, payload
FROM unnest($3::bigint[], $4::text[], $5::bytea[]) AS m (seq, client_id, payload)
"""

_APPEND = """
WITH head AS (
    UPDATE direct_head
    SET next_seq = next_seq + 1, message_count = message_count + 1, activity_time = now()
    WHERE bucket = $1 AND session_key = $2
    RETURNING next_seq - 1 AS seq
)
INSERT INTO direct_message
SELECT $1, $2, seq, now(), 100, 3, 1, true, true, false, $3, NULL, NULL, $4
FROM head
RETURNING seq
"""


class Direct:
    """The same rows straight into copies of the tables, with their indexes; a connection a task."""

    def __init__(self, connections: list[asyncpg.Connection[asyncpg.Record]]) -> None:
        self._connections = connections
        self._seqs = [itertools.count(1) for _ in connections]

    @classmethod
    async def connect(cls, dsn: str, tasks: int) -> Direct:
        connections = [await asyncpg.connect(dsn) for _ in range(tasks)]
        await connections[0].execute(_TABLES)
        return cls(connections)

    def batches(self, messages: int) -> Callable[[int], Awaitable[int]]:
        """Inserts of so many rows; nobody else writes to the session, so the seqs are given."""

        async def step(worker: int) -> int:
            rows = [message() for _ in range(messages)]
            await self._connections[worker].execute(
                _BATCH,
                *session_key("default", session(worker)),
                [next(self._seqs[worker]) for _ in rows],
                [row.client_id for row in rows],
                [row.SerializeToString() for row in rows],
            )
            return messages

        return step

    async def append_hot(self, worker: int) -> int:
        """One statement that takes the session's next seq and inserts one message."""
        row = message()
        await self._connections[worker].execute(
            _APPEND,
            *session_key("default", session(999)),
            row.client_id,
            row.SerializeToString(),
        )
        return 1

    async def close(self) -> None:
        for connection in self._connections:
            await connection.close()

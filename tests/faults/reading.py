"""Sessions read back, from the service and from the database itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import grpc.aio

import sessiond
from sessiond import v1
from sessiond_server.store.keys import DEFAULT_TENANT, session_key
from tests.faults.history import Counters, History, Log, Stored, check, digest
from tests.faults.stalls import connected


def stored(seq: int, message: v1.Message) -> Stored:
    """A message as the checker sees it."""
    return Stored(
        seq,
        message.client_id,
        digest(message),
        len(sessiond.tool_calls_of(message)),
        None if message.hidden_from_model else message.token_count,
    )


async def _from_service(channel: grpc.aio.Channel, session: str) -> list[Stored]:
    stub = v1.MessageServiceStub(channel)
    request = v1.ListMessagesRequest(
        session_id=session, view=v1.MessageView.MESSAGE_VIEW_ALL, page_size=1000
    )
    found: list[Stored] = []
    while True:
        try:
            page = await stub.ListMessages(request, timeout=30)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND and not found:
                return found
            raise
        found += [stored(message.seq, message) for message in page.messages]
        request.page_token = page.next_page_token
        if not page.next_page_token:
            return found


async def _from_database(dsn: str) -> dict[str, Log]:
    """Every session that the database holds a head or messages of, by its key."""
    logs: dict[str, Log] = {}
    async with (
        connected(dsn) as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        for row in await connection.fetch(
            "SELECT session_key, next_seq, message_count, tool_call_count, context_message_count,"
            " context_token_count FROM session_head"
        ):
            logs[str(row[0])] = Log(counters=Counters(*row[1:]))
        for row in await connection.fetch(
            "SELECT session_key, seq, client_id, payload FROM message ORDER BY session_key, seq"
        ):
            message = v1.Message.FromString(row[3])
            assert message.client_id == row[2]
            logs.setdefault(str(row[0]), Log()).database.append(stored(row[1], message))
    return logs


async def read_logs(
    channel: grpc.aio.Channel, dsn: str, sessions: Iterable[str]
) -> Mapping[str, Log]:
    """The sessions by id, and what else the database holds, by its key."""
    by_key = await _from_database(dsn)
    logs: dict[str, Log] = {}
    for session in sessions:
        key = str(session_key(DEFAULT_TENANT, session).key)
        log = logs[session] = by_key.pop(key, Log())
        log.service = await _from_service(channel, session)
    return logs | {key: log for key, log in by_key.items() if log.database}


async def verify(history: History, channel: grpc.aio.Channel, dsn: str) -> None:
    """Fail with what is wrong, if anything is."""
    problems = check(history, await read_logs(channel, dsn, history.sessions))
    assert not problems, "\n".join(problems[:20])

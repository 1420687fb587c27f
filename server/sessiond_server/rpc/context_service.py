"""ContextService: check, translate, call, translate back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from sessiond.v1 import context_service_pb2 as rpc
from sessiond_server.operations import context
from sessiond_server.operations.context import Selection, Wanted
from sessiond_server.rpc import access, checks, limits, messages_out
from sessiond_server.rpc.checks import Checks
from sessiond_server.rpc.guards_io import version_out
from sessiond_server.rpc.registry import Context
from sessiond_server.store.database import Database

_MESSAGES_FIELD = rpc.GetContextResponse.DESCRIPTOR.fields_by_name["messages"].number


@dataclass(slots=True)
class ContextServicer:
    """Contexts over gRPC."""

    database: Database

    async def GetContext(self, request: rpc.GetContextRequest, _: Context) -> AsyncIterator[bytes]:
        session_id = checks.session_id(request.session_id)
        with Checks() as check:
            check.seq("as_of_seq", request.as_of_seq)
            check.not_negative("max_context_tokens", request.max_context_tokens)
            check.not_negative("max_context_messages", request.max_context_messages)
        wanted = Wanted(
            session_id,
            access.key_of(session_id),
            request.as_of_seq,
            request.max_context_tokens,
            request.max_context_messages,
        )
        async with self.database.snapshot() as connection:
            selection = await context.select(connection, wanted)
            answer = rpc.GetContextResponse(totals=_totals(selection))
            last = answer.SerializeToString()
            budget = limits.PAGE_BYTES - len(last)
            found = context.pages(connection, wanted, selection, budget)
            async for messages, marks, more in found:
                last = messages_out.with_messages(answer, _MESSAGES_FIELD, messages, marks)
                if more:  # the last piece leaves when the connection is free again
                    yield last
                answer = rpc.GetContextResponse()
        yield last


def _totals(selection: Selection) -> rpc.ContextTotals:
    setup = selection.setup
    return rpc.ContextTotals(
        message_count=selection.message_count,
        token_count=selection.token_count,
        omitted_message_count=selection.omitted,
        as_of_seq=selection.as_of_seq,
        version=version_out(selection.version),
        system_prompt=setup.system_prompt.decode(),
        model=setup.model,
        config=setup.config.decode(),
    )

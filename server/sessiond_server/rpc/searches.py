"""SearchMessages and ReindexSessions: check, translate, call, translate back."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from sessiond.v1 import message_service_pb2 as rpc
from sessiond_server.errors import SearchDisabled
from sessiond_server.operations import searching
from sessiond_server.rpc import access, limits, passages_in, search_io
from sessiond_server.rpc.checks import Checks
from sessiond_server.store.database import Database
from sessiond_server.store.keys import SessionKey


@dataclass(slots=True)
class Searches:
    """Searches of messages. `wake` tells the indexer of sessions; there is none where search is off."""

    database: Database
    timeout: float
    wake: Callable[[Collection[SessionKey]], None] | None

    async def search(self, request: rpc.SearchMessagesRequest) -> rpc.SearchMessagesResponse:
        wanted = search_io.search_in(request, self.timeout)
        if self.wake is None:
            raise SearchDisabled
        hits = await searching.search_messages(self.database, wanted, passages_in.searched)
        return search_io.answer(hits, request)

    async def reindex(self, request: rpc.ReindexSessionsRequest) -> rpc.ReindexSessionsResponse:
        ids = list(dict.fromkeys(request.session_ids))
        with Checks() as check:
            check.count("session_ids", len(request.session_ids), limits.REINDEXED)
            for place, session_id in enumerate(ids[: limits.REINDEXED]):
                check.session_id(f"session_ids[{place}]", session_id)
            if bool(ids) == request.all:
                check.wrong("session_ids", "must be given, or else all must be set")
        if self.wake is None:
            raise SearchDisabled
        keys = None if request.all else [access.key_of(session_id) for session_id in ids]
        count = await searching.index_again(self.database, access.tenant(), keys, self.wake)
        return rpc.ReindexSessionsResponse(session_count=count)

"""SearchService: check, translate, call, translate back."""

from __future__ import annotations

from dataclasses import dataclass

from sessiond.v1 import search_service_pb2 as rpc
from sessiond_server.errors import SearchDisabled
from sessiond_server.operations import searching
from sessiond_server.rpc import passages_in, search_io
from sessiond_server.rpc.registry import Context
from sessiond_server.store.database import Database


@dataclass(slots=True)
class SearchServicer:
    """Searches over gRPC. `timeout` is how many seconds one may take."""

    database: Database
    timeout: float
    enabled: bool

    async def SearchMessages(
        self, request: rpc.SearchMessagesRequest, _: Context
    ) -> rpc.SearchMessagesResponse:
        wanted = search_io.search_in(request, self.timeout)
        if not self.enabled:
            raise SearchDisabled
        hits = await searching.search_messages(self.database, wanted, passages_in.searched)
        return search_io.answer(hits, request)

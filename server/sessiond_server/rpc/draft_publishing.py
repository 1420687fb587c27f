"""PublishDraft: deltas in, relayed to watchers until the draft ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from sessiond.v1 import feed_service_pb2 as rpc
from sessiond_server.errors import Refused, ShuttingDown
from sessiond_server.feed.drafts import ABORTED, DraftHub, Publishing
from sessiond_server.rpc import access, limits
from sessiond_server.rpc.checks import Checks
from sessiond_server.rpc.feed_source import StoreSource


class Publishers:
    """The calls that publish drafts."""

    def __init__(self, drafts: DraftHub, source: StoreSource) -> None:
        self._drafts = drafts
        self._source = source
        self._open: set[Publishing] = set()
        self._closing = False

    def close(self) -> None:
        """Give up all drafts."""
        self._closing = True
        for publishing in self._open:
            publishing.give_up()

    async def publish(self, requests: AsyncIterator[rpc.PublishDraftRequest]) -> int:
        """Relay a draft until it ends; how it did."""
        first = await anext(requests, rpc.PublishDraftRequest())
        with Checks() as check:
            check.session_id("session_id", first.session_id)
            check.client_id("client_id", first.client_id)
        await self._source.begin_now(first.session_id)  # refuses if there is none
        key = access.key_of(first.session_id)
        publishing = self._drafts.begin(key, first.client_id)
        self._open.add(publishing)
        reader = asyncio.create_task(_read(first, requests, publishing), name="draft reader")
        try:
            if self._closing:
                publishing.give_up()
            how = await publishing.run()
            if reader.done() and (error := reader.exception()) is not None:
                raise error
            if how == ABORTED and self._closing:
                raise ShuttingDown
            return how
        finally:
            self._open.discard(publishing)
            self._drafts.finish(publishing, ABORTED)
            reader.cancel()
            with suppress(asyncio.CancelledError, Refused):
                await reader


async def _read(
    first: rpc.PublishDraftRequest,
    requests: AsyncIterator[rpc.PublishDraftRequest],
    publishing: Publishing,
) -> None:
    """Push what comes; that nothing more comes leaves the draft open for its append."""
    size = 0
    request: rpc.PublishDraftRequest | None = first
    try:
        while request is not None:
            size += _check(request, size)
            publishing.push(_encoded(request))
            if request.abort:
                publishing.give_up()
                return
            request = await anext(requests, None)
    except BaseException:
        publishing.give_up()
        raise


def _check(request: rpc.PublishDraftRequest, size: int) -> int:
    """How many bytes of deltas a request holds. Raises `InvalidFields`."""
    added = sum(delta.ByteSize() for delta in request.deltas)
    with Checks() as check:
        check.count("deltas", len(request.deltas), limits.DRAFT_DELTAS)
        check.size("deltas", size + added, limits.DRAFT_BYTES)
        for place, delta in enumerate(request.deltas[: limits.DRAFT_DELTAS]):
            where = f"deltas[{place}]"
            kind = delta.WhichOneof("delta")
            if not 0 <= delta.part_index < limits.PARTS:
                check.wrong(f"{where}.part_index", f"must be 0 to {limits.PARTS - 1}")
            if kind is None:
                check.wrong(where, "must have content")
            elif kind == "tool_call":
                check.tool_call_id(f"{where}.tool_call.id", delta.tool_call.id)
                check.text(f"{where}.tool_call.name", delta.tool_call.name)
    return added


def _encoded(request: rpc.PublishDraftRequest) -> bytes:
    """The deltas as `DraftChanged` holds them."""
    return rpc.DraftChanged(deltas=request.deltas).SerializeToString()

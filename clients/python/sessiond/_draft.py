"""Drafts: what a publisher has to send, apart from how it is sent; and the draft of `Client`."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

import grpc

from sessiond import v1
from sessiond._calls import Service
from sessiond._errors import SessiondError
from sessiond._ids import uuid7
from sessiond._status import error_from_call

PUBLISH = Service("sessiond.v1.FeedService").rpc(
    "PublishDraft", v1.PublishDraftRequest, v1.PublishDraftResponse
)

HEARTBEAT = 5.0
"""Seconds of silence after which the service is told that the publisher lives."""
PARTING = 1.0
"""Seconds in which the service may say how the draft ended."""
REQUEST_DELTAS = 1000


class DraftParts:
    """The pieces of a message that is being written."""

    def __init__(self, session_id: str, client_id: str | None) -> None:
        self.session_id = session_id
        self.client_id = client_id or uuid7()
        """The id to append the message with, so that it takes the draft's place."""
        self._kind, self._index = "", -1
        self.failure: SessiondError | None = None
        """Why watchers see no more of it, if so. A draft that fails doesn't disturb its writer."""

    def text(self, text: str, *, part: int | None = None) -> None:
        """More text was written, of the part with this index in the message.

        Left out, as in the other methods, it is the part that is being written, or the next one if that is
        of another kind.
        """
        self._push(v1.DraftDelta(part_index=self._place("text", part), text=text))

    def reasoning(self, text: str, *, part: int | None = None) -> None:
        """More reasoning was written."""
        self._push(v1.DraftDelta(part_index=self._place("reasoning", part), reasoning=text))

    def refusal(self, text: str, *, part: int | None = None) -> None:
        """More of a refusal was written."""
        self._push(v1.DraftDelta(part_index=self._place("refusal", part), refusal=text))

    def tool_call(
        self, arguments: str = "", *, id: str = "", name: str = "", part: int | None = None
    ) -> None:
        """More of a tool call was written; its id and name in the first piece of it, which begins a part."""
        if part is None and id:
            self._kind = ""
        call = v1.ToolCallDelta(id=id, name=name, arguments=arguments)
        self._push(v1.DraftDelta(part_index=self._place("tool_call", part), tool_call=call))

    def _place(self, kind: str, part: int | None) -> int:
        if part is not None:
            self._index = part
        elif kind != self._kind:
            self._index += 1
        self._kind = kind
        return self._index

    def _push(self, delta: v1.DraftDelta) -> None:
        raise NotImplementedError

    def _first(self) -> v1.PublishDraftRequest:
        return v1.PublishDraftRequest(session_id=self.session_id, client_id=self.client_id)


class Draft(DraftParts):
    """Shows watchers a message while it is being written, a context manager.

    Append the message with the draft's `client_id` before the block ends: it takes the draft's place.
    A block that ends without that, or with an exception, aborts the draft. Nothing here waits for the
    service or fails because of it: see `failure`.

    Example:
        with client.draft("chat-1") as draft:
            for piece in model(context):
                draft.text(piece)
            message = sessiond.message("assistant", text, client_id=draft.client_id)
            client.append("chat-1", message)
    """

    def __init__(self, connect: Callable[..., Any], session_id: str, client_id: str | None) -> None:
        super().__init__(session_id, client_id)
        self._connect = connect
        self._deltas: queue.Queue[v1.DraftDelta | None] = queue.Queue()
        self._abort = False
        self._lock = threading.Lock()
        self._call: Any = None

    def _push(self, delta: v1.DraftDelta) -> None:
        self._deltas.put(delta)

    def __enter__(self) -> Self:
        self._call = self._connect.future(self._requests())  # type: ignore[attr-defined]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._abort = error is not None
        self._deltas.put(None)
        try:
            self._call.result(timeout=PARTING)
        except grpc.FutureTimeoutError:
            self._call.cancel()  # it wasn't appended
        except grpc.FutureCancelledError:
            pass  # the client was closed
        except grpc.RpcError as failed:
            self.failure = error_from_call(failed)

    def _requests(self) -> Iterator[v1.PublishDraftRequest]:
        yield self._first()
        while True:
            try:
                deltas = self._waiting()
            except queue.Empty:
                yield v1.PublishDraftRequest()
                continue
            yield v1.PublishDraftRequest(deltas=[it for it in deltas if it is not None])
            if None in deltas:
                if self._abort:
                    yield v1.PublishDraftRequest(abort=True)
                return

    def _waiting(self) -> list[v1.DraftDelta | None]:
        """All that waits. Raises `queue.Empty` when nothing comes for a while."""
        deltas = [self._deltas.get(timeout=HEARTBEAT)]
        while len(deltas) < REQUEST_DELTAS and not self._deltas.empty():
            deltas.append(self._deltas.get())
        return deltas

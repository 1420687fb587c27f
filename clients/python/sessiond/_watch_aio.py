"""The watch of `AsyncClient`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Generic, TypeVar

import grpc

from sessiond._errors import SessiondError, Unavailable
from sessiond._session_watch import SessionUpdate, SessionWatchState
from sessiond._status import error_from_call
from sessiond._watch import Event, Progress, WatchState, worth_another_try

T = TypeVar("T")


class AsyncFollowing(Generic[T]):
    """A stream that goes on by itself when it breaks."""

    def __init__(
        self, connect: Callable[[Any], Any], state: Progress[Any, Any, T], timeout: float | None
    ) -> None:
        self._connect = connect
        self._state = state
        self._timeout = timeout

    async def __aiter__(self) -> AsyncIterator[T]:
        alive = time.monotonic()
        while True:
            call = self._connect(self._state.request())
            try:
                while True:
                    frame = await self._read(call)
                    if frame is None:
                        break
                    alive = time.monotonic()
                    for event in self._state.take(frame):
                        yield event
                    self._state.handled(frame)
                if not self._state.said_goodbye:
                    return
            except SessiondError as error:
                tried = time.monotonic() - alive
                out_of_time = self._timeout is not None and tried > self._timeout
                if out_of_time or not worth_another_try(error):
                    raise
            finally:
                call.cancel()
            await asyncio.sleep(self._state.pause())

    async def _read(self, call: Any) -> Any:
        """The next frame; `None` behind the last."""
        try:
            async with asyncio.timeout(self._state.silence):
                frame = await call.read()
        except TimeoutError:
            raise Unavailable(f"nothing came for {self._state.silence} s") from None
        except grpc.RpcError as error:
            raise error_from_call(error) from error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise Unavailable("the server ended the watch") from None
        return frame if isinstance(frame, self._state.frame_type) else None


class AsyncWatch(AsyncFollowing[Event]):
    """What happens in sessions, as it happens: iterate over it.

    A watch that breaks goes on by itself behind the last event that was dealt with, at any replica of
    the target, after the delay that a server which stops asks for, else with growing pauses of at most
    5 s; an event whose transaction was dealt with isn't received again, nor is any left out. It ends when
    nothing is left to watch, since all was deleted.

    Example:
        async for event in client.watch("chat-1", start="now"):
            if event.kind == "message_appended":
                print(event.value.text)
    """

    _state: WatchState

    @property
    def tokens(self) -> dict[str, str]:
        """How far the caller has come, by session: give it as `resume` to go on later, elsewhere."""
        return dict(self._state.tokens)


class AsyncSessionWatch(AsyncFollowing[SessionUpdate]):
    """Sessions as they are, and each one as it changes: iterate over it. See `watch_sessions`.

    Example:
        async for update in client.watch_sessions(session_filter(owner="ann")):
            if update.kind == "changed":
                print(update.session.title)
    """

    _state: SessionWatchState

    @property
    def token(self) -> str:
        """How far the caller has come: give it as `resume` to go on later, elsewhere."""
        return self._state.token

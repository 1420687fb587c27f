"""A watch comes back when the server that says goodbye wants it to, behind what was received."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from sessiond import AsyncClient, Client, v1

DELAY = 1.5
"""Seconds; far more than the library waits by itself."""


class Leaving(v1.FeedServiceServicer):
    """Says goodbye to its first watcher, and that the session is deleted to the next."""

    def __init__(self) -> None:
        self.requests: list[v1.WatchRequest] = []
        self.goodbye_time = 0.0
        self.return_time = 0.0

    def Watch(self, request: v1.WatchRequest, context: Any) -> Iterator[v1.WatchResponse]:
        self.requests.append(request)
        if len(self.requests) == 1:
            yield frame(v1.FeedEvent(caught_up=v1.CaughtUp(next_seq=1)), "behind")
            self.goodbye_time = time.monotonic()
            delay = Duration(seconds=1, nanos=500_000_000)
            reason = v1.GoodbyeReason.GOODBYE_REASON_SHUTTING_DOWN
            goodbye = v1.Goodbye(reason=reason, retry_delay=delay)
            yield v1.WatchResponse(events=[v1.FeedEvent(goodbye=goodbye)])
        else:
            self.return_time = time.monotonic()
            yield frame(v1.FeedEvent(session_deleted=v1.SessionDeleted()), "")


def frame(event: v1.FeedEvent, token: str) -> v1.WatchResponse:
    return v1.WatchResponse(watch_id="s", session_id="s", events=[event], resume_token=token)


def watched(target: str) -> list[str]:
    with Client(target) as client:
        return [event.kind for event in client.watch("s")]


def watched_async(target: str) -> list[str]:
    async def follow() -> list[str]:
        async with AsyncClient(target) as client:
            return [event.kind async for event in client.watch("s")]

    return asyncio.run(follow())


@pytest.mark.parametrize("follow", [watched, watched_async])
def test_P9_a_watch_comes_back_after_the_delay_that_a_goodbye_asks_for(
    follow: Callable[[str], list[str]],
) -> None:
    leaving = Leaving()  # type: ignore[abstract]
    server = grpc.server(ThreadPoolExecutor(4))
    v1.add_FeedServiceServicer_to_server(leaving, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        assert follow(f"127.0.0.1:{port}") == ["caught_up", "session_deleted"]
    finally:
        server.stop(0).wait()
    assert leaving.return_time - leaving.goodbye_time >= DELAY
    (target,) = leaving.requests[1].targets
    assert list(target.resume.tokens) == ["behind"]

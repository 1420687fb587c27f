"""Watchers that break off at any moment, and resume with their tokens at any server."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from typing import Any

import grpc
import grpc.aio

from sessiond import AsyncClient, Client, Event, SessiondError, Unavailable, v1
from tests.faults.load import channel, error_info, is_ending, is_unknown
from tests.faults.seen import Seen

Call = grpc.aio.UnaryStreamCall[v1.WatchRequest, v1.WatchResponse]
TRANSIENT = {"DATABASE_UNAVAILABLE", "READ_QUEUE_FULL", "SHUTTING_DOWN"}
SILENT = {"heartbeat", "goodbye"}


async def read(call: Call) -> v1.WatchResponse:
    """The next frame of a watch that hasn't ended."""
    frame = await call.read()
    assert isinstance(frame, v1.WatchResponse)
    return frame


class Watcher:
    """One watcher of some sessions, or of one and its descendants."""

    def __init__(
        self,
        targets: Sequence[str],
        sessions: Sequence[str],
        seed: int,
        *,
        start: str | int = "beginning",
        descendants: bool = False,
        life: float = 3.0,
    ) -> None:
        self.targets = targets
        self.sessions = sessions
        self.start = start
        self.descendants = descendants
        self.life = life
        """Seconds between two breaks, on the average; `inf` for none any more."""
        self.chance = random.Random(seed)
        self.seen: dict[str, Seen] = {id: self._blank() for id in sessions}
        for id, seen in self.seen.items():
            seen.session_id = id
        self.tokens: dict[str, str] = {}
        self.problems: list[str] = []
        self.breaks = 0
        self.events = 0
        self._held: dict[str, list[tuple[str, Any]]] = {}

    def _blank(self) -> Seen:
        if self.start == "now":
            return Seen("", 0, 0)
        first = self.start if isinstance(self.start, int) else 1
        return Seen("", first, first)

    async def run(self) -> None:
        """Watch, break off, go on, until cancelled, or until something is wrong."""
        while not self.problems:
            self.drop()
            try:
                async with asyncio.timeout(self.span()):
                    await self.watch(self.chance.choice(self.targets))
            except TimeoutError:
                self.breaks += 1
            except grpc.aio.AioRpcError as error:
                self._failed(error)
            except SessiondError as error:
                self.problems.append(repr(error))
            except asyncio.CancelledError:
                if is_ending():
                    raise
            await asyncio.sleep(self.chance.uniform(0, 0.3))

    def span(self) -> float | None:
        """How long to watch until the next break, in seconds; None for ever."""
        return self.chance.expovariate(1 / self.life) if self.life < 1e6 else None

    def _failed(self, error: grpc.aio.AioRpcError) -> None:
        reason = error_info(error).reason
        if (reason or not is_unknown(error)) and reason not in TRANSIENT:
            self.problems.append(f"{reason} {error.code().name}: {error.details()}")

    async def watch(self, target: str) -> None:
        """Watch until it ends."""
        raise NotImplementedError

    def drop(self) -> None:
        """Forget what isn't whole: the watch broke off."""
        self._held.clear()

    def hold(self, session: str, kind: str, value: Any) -> None:
        """An event of a transaction that may not be whole yet."""
        self.events += 1
        self._held.setdefault(session, []).append((kind, value))

    def commit(self, session: str, token: str) -> None:
        """What is held of a session is whole."""
        events = self._held.pop(session, [])
        self.seen.setdefault(session, Seen(session)).take(events)
        if token:
            self.tokens[session] = token
        else:
            self.tokens.pop(session, None)

    @property
    def all_problems(self) -> list[str]:
        return self.problems + [text for seen in self.seen.values() for text in seen.problems]


class Raw(Watcher):
    """Uses the bare stub."""

    async def watch(self, target: str) -> None:
        goodbye = False
        async with channel(target) as one:
            call = v1.FeedServiceStub(one).Watch(self.request())
            async for frame in call:
                goodbye = goodbye or any(e.WhichOneof("event") == "goodbye" for e in frame.events)
                if not goodbye:
                    self.take(frame)
        if not goodbye:
            self.problems.append("the watch ended without a goodbye")

    def request(self) -> v1.WatchRequest:
        request = v1.WatchRequest()
        for session in self.sessions:
            target = request.targets.add(
                watch_id=f"of-{session}", session_id=session, include_descendants=self.descendants
            )
            if session in self.tokens:
                own = self.tokens.values() if self.descendants else [self.tokens[session]]
                target.resume.tokens.extend(own)
            elif self.start == "now":
                target.from_now = True
            elif isinstance(self.start, int):
                target.from_seq = self.start
        return request

    def take(self, frame: v1.WatchResponse) -> None:
        session = frame.session_id
        watched = self.sessions[0] if self.descendants else session
        if frame.watch_id != f"of-{watched}":
            self.problems.append(f"a frame of {session} for {frame.watch_id!r}")
        kinds = [str(event.WhichOneof("event")) for event in frame.events]
        for kind, event in zip(kinds, frame.events, strict=True):
            if kind not in SILENT:
                self.hold(session, kind, getattr(event, kind))
        if frame.fragment:
            if frame.resume_token:
                self.problems.append("a fragment with a token")
        elif kinds == ["heartbeat"]:
            self.tokens[session] = frame.resume_token
        else:
            self.commit(session, frame.resume_token)


class Library(Watcher):
    """Uses the client library, which goes on by itself at the same server."""

    async def watch(self, target: str) -> None:
        async with AsyncClient(target) as client:
            watch = client.watch(
                *self.sessions,
                start=self.start,
                resume=self.tokens,
                descendants=self.descendants,
                silence=5,
            )
            events: AsyncIterator[Event] = aiter(watch)
            with suppress(Unavailable):
                async with aclosing(events):  # type: ignore[type-var]
                    async for event in events:
                        self.take(event)
                self.problems.append("the watch ended")

    def take(self, event: Event) -> None:
        self.hold(event.session_id, event.kind, event.value)
        if event.token or event.kind == "session_deleted":
            self.commit(event.session_id, event.token)


class Threaded(Library):
    """Uses the client library's synchronous half, in a thread; `close` ends it."""

    _client: Client | None = None
    _closed = False

    def span(self) -> None:
        """It breaks off after some events."""

    async def watch(self, target: str) -> None:
        self._closed = False
        count = self.chance.randrange(1, 60) if self.life < 1e6 else None
        with ThreadPoolExecutor(1) as pool:  # no other test's work waits for it
            loop = asyncio.get_running_loop()
            try:
                await loop.run_in_executor(pool, self._follow, target, count)
            finally:
                self.close()
        self.breaks += 1

    def _follow(self, target: str, count: int | None) -> None:
        with Client(target) as self._client:
            watch = self._client.watch(*self.sessions, resume=self.tokens, silence=5)
            try:
                for number, event in enumerate(watch):
                    self.take(event)
                    if count is not None and number >= count and event.token:
                        return
            except (Unavailable, ValueError) as error:
                if isinstance(error, ValueError) and not self._closed:
                    raise

    def close(self) -> None:
        """End what the thread waits for."""
        self._closed = True
        if self._client is not None:
            self._client.close()

"""FeedService: check, begin the watches, and send their frames."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

import grpc

from sessiond.v1 import feed_service_pb2 as rpc
from sessiond_server.errors import (
    HistoryDiverged,
    ResumeTokenInvalid,
    SessionNotFound,
    TooManyWatches,
)
from sessiond_server.feed.drafts import DraftHub
from sessiond_server.feed.hub import Hub
from sessiond_server.feed.source import Watched
from sessiond_server.feed.watching import Beginning, Stream, Tree, Wishes
from sessiond_server.rpc import access, feed_frames, limits, session_changes
from sessiond_server.rpc.checks import Checks
from sessiond_server.rpc.draft_publishing import Publishers
from sessiond_server.rpc.feed_source import StoreSource
from sessiond_server.rpc.registry import Context
from sessiond_server.rpc.session_watching import SessionWatching
from sessiond_server.store.changes import Start

_KINDS = frozenset(rpc.FeedEventKind.values()) - {rpc.FEED_EVENT_KIND_UNSPECIFIED}
_LAST_FRAME = 1.0
"""Seconds that a watcher has for each of its last frames when the server stops."""


@dataclass(frozen=True, slots=True)
class FeedLimits:
    """The settings that bound watches, see docs/operations.md."""

    watches: int
    watches_per_connection: int
    buffer_bytes: int
    heartbeat: float
    write_timeout: float


class _Open(Protocol):
    """A stream of frames."""

    writing_since: float | None

    @property
    def waiting_bytes(self) -> int: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Call:
    """A watch under way."""

    context: Context
    task: asyncio.Task[object] | None
    count: int


class FeedServicer:
    """Feeds over gRPC."""

    def __init__(
        self,
        hub: Hub,
        drafts: DraftHub,
        source: StoreSource,
        sessions: SessionWatching,
        bounds: FeedLimits,
    ) -> None:
        self._hub = hub
        self._drafts = drafts
        self._publishers = Publishers(drafts, source)
        self._source = source
        self._sessions = sessions
        self._bounds = bounds
        self._open: dict[_Open, _Call] = {}
        self._cutting: set[asyncio.Task[None]] = set()
        self._watches: Counter[str] = Counter()
        self._cuts = 0
        self._closing = False

    def figures(self) -> dict[str, float]:
        """What the metrics show; asked for by another thread."""
        streams = list(self._open)
        return {
            "watches": self._watches.total(),
            "watch_buffered_bytes": sum(stream.waiting_bytes for stream in streams),
            "watches_fell_behind": self._hub.fell_behind,
            "watches_cut_off": self._cuts,
            "drafts": self._drafts.published,
        }

    def close_streams(self) -> None:
        """Say goodbye to all watchers, and to those that still come."""
        self._closing = True
        self._publishers.close()
        for stream in self._open:
            stream.close()

    def end_stuck(self) -> None:
        """End the calls whose callers haven't taken a frame for too long."""
        now = asyncio.get_running_loop().time()
        patience = self._bounds.write_timeout
        if self._closing:
            patience = min(patience, _LAST_FRAME)
        for stream, call in list(self._open.items()):
            since = stream.writing_since
            if since is not None and now - since > patience:
                del self._open[stream]
                self._cuts += 1
                cutting = asyncio.create_task(self._cut_off(call), name="feed cut-off")
                self._cutting.add(cutting)
                cutting.add_done_callback(self._cutting.discard)

    async def _cut_off(self, call: _Call) -> None:
        """End a call whose caller doesn't read. gRPC keeps the frame that wasn't taken, and the status
        behind it, until it is, or until the connection ends; until then the call has its place."""
        with self._placed(call.context.peer(), call.count):
            if call.task is not None:
                call.task.cancel()
            with suppress(grpc.aio.AbortError, grpc.aio.InternalError):
                await call.context.abort(
                    grpc.StatusCode.UNAVAILABLE,
                    "nothing was taken for too long: resume the watch",
                )

    @access.says_goodbye(feed_frames.goodbye_of_key)
    @access.looks_itself
    async def Watch(self, request: rpc.WatchRequest, context: Context) -> AsyncIterator[bytes]:
        _check(request)
        with self._admitted(context.peer(), len(request.targets)):
            stream = Stream(
                self._hub,
                feed_frames.Notices(),
                buffer_bytes=self._bounds.buffer_bytes,
                heartbeat=self._bounds.heartbeat,
            )
            task = asyncio.current_task()
            self._open[stream] = _Call(context, task, len(request.targets))
            trees: list[Tree] = []
            try:
                beginnings = [await self._beginnings(target) for target in request.targets]
                for target, begun in zip(request.targets, beginnings, strict=True):
                    trees.append(self._begin(stream, target, begun))
                if self._closing:
                    stream.close()
                async with aclosing(stream.frames()) as frames:
                    async for frame in frames:
                        yield frame
            finally:
                self._open.pop(stream, None)
                for tree in trees:
                    tree.stop()

    @access.says_goodbye(session_changes.goodbye_of_key)
    @access.looks_itself
    async def WatchSessions(
        self, request: rpc.WatchSessionsRequest, context: Context
    ) -> AsyncIterator[bytes]:
        with self._admitted(context.peer(), 1):
            stream, told = await self._sessions.begin(request)
            self._open[stream] = _Call(context, asyncio.current_task(), 1)
            if self._closing:
                stream.close()
            try:
                async with aclosing(told) as frames:
                    async for frame in frames:
                        yield frame
            finally:
                self._open.pop(stream, None)

    @access.looks_itself
    async def PublishDraft(
        self, requests: AsyncIterator[rpc.PublishDraftRequest], _: Context
    ) -> rpc.PublishDraftResponse:
        how = await self._publishers.publish(requests)
        return rpc.PublishDraftResponse(end=how)  # type: ignore[arg-type]

    @contextmanager
    def _admitted(self, peer: str, count: int) -> Iterator[None]:
        bounds = self._bounds
        if self._watches.total() + count > bounds.watches:
            raise TooManyWatches(bounds.watches)
        if self._watches[peer] + count > bounds.watches_per_connection:
            raise TooManyWatches(bounds.watches_per_connection)
        with self._placed(peer, count):
            yield

    @contextmanager
    def _placed(self, peer: str, count: int) -> Iterator[None]:
        self._watches[peer] += count
        try:
            yield
        finally:
            self._watches[peer] -= count
            if not self._watches[peer]:
                del self._watches[peer]

    def _begin(self, stream: Stream, target: rpc.WatchTarget, beginnings: list[Beginning]) -> Tree:
        """Begin all watches of a target; when none is refused any more."""
        prefix = rpc.WatchResponse(watch_id=target.watch_id).SerializeToString()
        begin_child = self._begin_child if target.include_descendants else None
        tree = Tree(stream, prefix, begin_child, self._wishes(target))
        for number, beginning in enumerate(beginnings):
            tree.watch(beginning, beats=number == 0)
        return tree

    def _wishes(self, target: rpc.WatchTarget) -> Wishes:
        kinds = frozenset[int](target.event_kinds)
        drafts = self._drafts if target.include_drafts else None
        return Wishes(kinds, drafts, not kinds or rpc.FEED_EVENT_KIND_MESSAGE_APPENDED in kinds)

    async def _begin_child(self, session_id: str) -> Beginning | None:
        with suppress(SessionNotFound):
            return await self._source.begin(session_id)
        return None

    async def _beginnings(self, target: rpc.WatchTarget) -> list[Beginning]:
        """The session's beginning, then those of its descendants."""
        if not target.include_descendants:
            return [await self._root(target, await self._resumptions(target))]
        there: list[str] = []
        if target.from_now:
            there = await self._source.descendants(target.session_id)
        known = await self._resumptions(target)
        known[target.session_id] = await self._root(target, known)
        for session_id in there:
            with suppress(SessionNotFound):
                known[session_id] = await self._source.begin_now(session_id)
        for session_id in await self._source.descendants(target.session_id):
            if session_id not in known:  # with `from_now`, it was made since the look above
                with suppress(SessionNotFound):
                    known[session_id] = await self._source.begin(session_id)
        first = known.pop(target.session_id)
        return [first, *known.values()]

    async def _resumptions(self, target: rpc.WatchTarget) -> dict[str, Beginning]:
        """Where the tokens say that sessions are to go on."""
        found = [
            await self._resumed(text, f"resume.tokens[{number}]")
            for number, text in enumerate(target.resume.tokens)
        ]
        return {beginning.watched.session_id: beginning for beginning in found}

    async def _root(self, target: rpc.WatchTarget, resumed: dict[str, Beginning]) -> Beginning:
        """The beginning of the watched session itself."""
        if target.session_id in resumed:
            return resumed[target.session_id]
        if resumed and not target.include_descendants:
            raise ResumeTokenInvalid("resume.tokens")
        if target.from_now:
            return await self._source.begin_now(target.session_id)
        return await self._source.begin(target.session_id, target.from_seq or 1)

    async def _resumed(self, text: str, where: str) -> Beginning:
        found = feed_frames.resume(text, where)
        start = await self._source.at(found.session_id, found.place)
        if start is not None and not _fits(found, start):
            raise HistoryDiverged(found.session_id)
        key = access.key_of(found.session_id)
        watched = Watched(found.session_id, key, found.incarnation)
        return Beginning(watched, found.place, found.from_seq)


def _fits(found: feed_frames.Resume, start: Start) -> bool:
    """Whether a session's history is the one that a token was made in."""
    if start.incarnation != found.incarnation:
        return False
    place = found.place
    if place.seq >= start.next_seq or place.change_no >= start.next_change:
        return False
    cleared = place.seq < start.first_seq  # and with the messages what happened to them
    marks = (
        (place.seq_mark, feed_frames.mark(start.seq_time)),
        (place.change_mark, feed_frames.mark(start.change_time)),
    )
    return all(then in (0, there) or (cleared and not there) for then, there in marks)


def _check(request: rpc.WatchRequest) -> None:
    with Checks() as check:
        check.count("targets", len(request.targets), limits.WATCH_TARGETS, least=1)
        seen: set[str] = set()
        for number, target in enumerate(request.targets[: limits.WATCH_TARGETS]):
            where = f"targets[{number}]"
            check.session_id(f"{where}.session_id", target.session_id)
            if not limits.WATCH_ID.fullmatch(target.watch_id):
                check.wrong(f"{where}.watch_id", limits.WATCH_ID_FORM)
            if target.watch_id in seen:
                check.wrong(f"{where}.watch_id", "is that of another target")
            seen.add(target.watch_id)
            _check_start(target, where, check)
            _check_kinds(target, where, check)


def _check_start(target: rpc.WatchTarget, where: str, check: Checks) -> None:
    start = target.WhichOneof("start")
    if start in ("from_beginning", "from_now") and not getattr(target, start):
        check.wrong(f"{where}.{start}", "must be true, or be left out")
    if start == "from_seq":
        check.seq(f"{where}.from_seq", target.from_seq, least=1)
    if start == "resume":
        most = limits.RESUME_TOKENS if target.include_descendants else 1
        check.count(f"{where}.resume.tokens", len(target.resume.tokens), most, least=1)


def _check_kinds(target: rpc.WatchTarget, where: str, check: Checks) -> None:
    check.count(f"{where}.event_kinds", len(target.event_kinds), limits.EVENT_KINDS)
    for number, kind in enumerate(target.event_kinds[: limits.EVENT_KINDS]):
        check.enum(f"{where}.event_kinds[{number}]", kind, _KINDS)
    if len(set(target.event_kinds)) < len(target.event_kinds):
        check.wrong(f"{where}.event_kinds", "holds a kind twice")

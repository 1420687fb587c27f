"""WatchSessions: check, find where to begin, and make the stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from sessiond.v1 import feed_service_pb2 as rpc
from sessiond_server.errors import HistoryDiverged, ResumeTokenExpired
from sessiond_server.feed.hub import Hub
from sessiond_server.feed.session_stream import SessionStream, Standing
from sessiond_server.feed.session_tails import Tails
from sessiond_server.rpc.checks import Checks
from sessiond_server.rpc.session_changes import SessionFrames, SessionSource, resumed
from sessiond_server.rpc.session_filters import FIXED, filter_in
from sessiond_server.sessions.filters import SessionFilter
from sessiond_server.store.lists import ListPlace
from sessiond_server.store.settling import State


@dataclass(frozen=True, slots=True)
class SessionWatching:
    """Makes the streams of WatchSessions."""

    hub: Hub
    tails: Tails
    source: SessionSource
    heartbeat: float
    kept: float
    """Seconds for which a token resumes."""

    async def begin(
        self, request: rpc.WatchSessionsRequest
    ) -> tuple[SessionStream[ListPlace], AsyncGenerator[bytes, None]]:
        """A stream and its frames. Refuses with `ResumeTokenInvalid`, `ResumeTokenExpired` and
        `HistoryDiverged`."""
        with Checks() as check:
            wanted = filter_in(request.filter, "filter", check, serves=FIXED)
            if request.from_now and request.resume_token:
                check.wrong("from_now", "can't be given with a resume_token")
        bound = bound_to(wanted)
        state = await self.source.history()
        start = await self._start(request, wanted, state, bound)
        stream = SessionStream[ListPlace](
            self.tails,
            self.source,
            SessionFrames(state.history, bound),
            self.hub.patiently,
            heartbeat=self.heartbeat,
        )
        return stream, stream.frames(wanted, start)

    async def _start(
        self,
        request: rpc.WatchSessionsRequest,
        wanted: SessionFilter,
        state: State,
        bound: bytes,
    ) -> Standing[ListPlace]:
        if request.resume_token:
            history, standing = resumed(request.resume_token, bound)
            if history != state.history or standing.position > state.position:
                raise HistoryDiverged
            if standing.time < state.time - round(self.kept * 1_000_000):
                raise ResumeTokenExpired(self.kept)
            return standing
        position = await self.source.last_position(wanted.tenant, wanted.owner)
        return Standing(position, state.time, listing=not request.from_now)


def bound_to(wanted: SessionFilter) -> bytes:
    """What the tokens of a stream are good for."""
    values = (
        wanted.tenant,
        wanted.owner,
        sorted(wanted.sources),
        sorted(wanted.exclude_sources),
        sorted(wanted.agents),
        wanted.parent_id,
        wanted.subtree_of,
        wanted.subagents,
    )
    return b"WatchSessions\0" + repr(values).encode()

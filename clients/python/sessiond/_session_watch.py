"""What a stream of sessions has told, apart from how it is read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from google.protobuf.timestamp_pb2 import Timestamp

from sessiond import v1
from sessiond._calls import Service
from sessiond._watch import SILENCE, Progress

WATCH_SESSIONS = Service("sessiond.v1.FeedService").rpc(
    "WatchSessions", v1.WatchSessionsRequest, v1.WatchSessionsResponse
)


@dataclass(frozen=True, slots=True)
class SessionUpdate:
    """What became of a session, or that all have been told."""

    kind: str
    """`changed`, `deleted` or `caught_up`."""
    session_id: str = ""
    """Empty in `caught_up`."""
    session: v1.Session | None = None
    """The session as it is now, in the basic view, if it `changed`."""
    delete_time: Timestamp | None = None
    """When it was `deleted`."""


class SessionWatchState(Progress[v1.WatchSessionsRequest, v1.WatchSessionsResponse, SessionUpdate]):
    """What is followed, and how far the caller has come."""

    frame_type = v1.WatchSessionsResponse

    def __init__(
        self, wanted: v1.SessionFilter, resume: str, silence: float, *, from_now: bool
    ) -> None:
        super().__init__()
        self.token = resume
        self.silence = silence
        self._wanted = wanted
        self._from_now = from_now

    def request(self) -> v1.WatchSessionsRequest:
        self.said_goodbye = False
        return v1.WatchSessionsRequest(
            filter=self._wanted,
            resume_token=self.token,
            from_now=self._from_now and not self.token,
        )

    def take(self, frame: v1.WatchSessionsResponse) -> list[SessionUpdate]:
        self.heard()
        self.said_goodbye = frame.HasField("goodbye")
        told = [_update(change) for change in frame.changes]
        if frame.caught_up:
            told.append(SessionUpdate("caught_up"))
        return told

    def handled(self, frame: v1.WatchSessionsResponse) -> None:
        self.token = frame.resume_token or self.token


def _update(change: v1.SessionChange) -> SessionUpdate:
    if change.HasField("deleted"):
        return SessionUpdate("deleted", change.deleted.id, None, change.deleted.delete_time)
    return SessionUpdate("changed", change.session.id, change.session)


def watch_sessions(
    *,
    owner: str | None = None,
    sources: Iterable[str] = (),
    exclude_sources: Iterable[str] = (),
    agents: Iterable[str] = (),
    parent_id: str = "",
    subtree_of: str = "",
    include_subagents: bool = False,
    whole_tenant: bool = False,
    resume: str = "",
    from_now: bool = False,
    silence: float = SILENCE,
) -> SessionWatchState:
    """Follows sessions: all that fit, as they are, then each one as it changes. Iterate over it.

    It gives a `SessionUpdate` for each session and change, and one of the kind `caught_up` when all
    sessions that there were have been told. Every change is told within 5 s as the session is by then;
    what is told of a session never goes back. A stream that breaks goes on by itself. Its `token` says
    how far the caller has come: give it as `resume` to go on later, within 7 days.

    Args:
        owner: Only this owner's sessions; empty, those without one. One of `owner`, `parent_id`,
            `subtree_of` and `whole_tenant` must be given, unless the API key is bound to an owner.
        sources: Only sessions from these sources.
        exclude_sources: No sessions from these.
        agents: Only sessions of these agents.
        parent_id: Only the direct children of this session.
        subtree_of: Only the descendants of this session.
        include_subagents: Whether sub-agents' sessions are among them.
        whole_tenant: All of the tenant's sessions that fit the rest.
        resume: The `token` of an earlier stream with the same filter.
        from_now: Leaves out the sessions as they are.
        silence: Seconds without a sign of life after which another connection is tried; more than the
            service's setting `feed_heartbeat`, which is 15.

    Raises, while iterating:
        ResumeTokenExpired: The token is too old: begin without one.
        HistoryDiverged: The token is of another database: forget what was received.
        Unavailable: The service was out of reach for longer than the client's timeout.
    """
    wanted = v1.SessionFilter(
        owner=owner,
        sources=sources,
        exclude_sources=exclude_sources,
        agents=agents,
        parent_id=parent_id,
        subtree_of=subtree_of,
        include_subagents=include_subagents,
        whole_tenant=whole_tenant,
    )
    return SessionWatchState(wanted, resume, silence, from_now=from_now)

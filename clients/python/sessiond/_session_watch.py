"""What a stream of sessions has told, apart from how it is read."""

from __future__ import annotations

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
    incarnation: str = ""
    """Which creation of the id it is about."""
    session: v1.Session | None = None
    """The session as it is now, in the basic view, if it `changed`,"""
    version: v1.SessionVersion | None = None
    """and how far it has come."""
    delete_time: Timestamp | None = None
    """When it was `deleted`."""


class SessionWatchState(Progress[v1.WatchSessionsRequest, v1.WatchSessionsResponse, SessionUpdate]):
    """What is followed, and how far the caller has come."""

    frame_type = v1.WatchSessionsResponse

    def __init__(
        self, wanted: v1.SessionFilter | None, resume: str, silence: float, *, from_now: bool
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
        if frame.HasField("goodbye"):
            self.goodbye(frame.goodbye)
        told = [_update(change) for change in frame.changes]
        if frame.caught_up:
            told.append(SessionUpdate("caught_up"))
        return told

    def handled(self, frame: v1.WatchSessionsResponse) -> None:
        self.token = frame.resume_token or self.token


def _update(change: v1.SessionChange) -> SessionUpdate:
    if change.HasField("deleted"):
        gone = change.deleted
        return SessionUpdate("deleted", gone.id, gone.incarnation, delete_time=gone.delete_time)
    session = change.session
    return SessionUpdate("changed", session.id, session.incarnation, session, change.version)


def watch_sessions(
    filter: v1.SessionFilter | None = None,
    *,
    resume: str = "",
    from_now: bool = False,
    silence: float = SILENCE,
) -> SessionWatchState:
    """Follows sessions: all that fit, as they are, then each one as it changes. Iterate over it.

    It gives a `SessionUpdate` for each session and change, and one of the kind `caught_up` when all
    sessions that there were have been told. Every change is told within 5 s, with the session as it is by
    then; what is told of a session never goes back. A stream that breaks goes on by itself. Its `token` says
    how far the caller has come: give it as `resume` to go on later, within 7 days.

    Args:
        filter: Which sessions: a `session_filter` by what never changes in a session, which is `owner`,
            `sources`, `exclude_sources`, `agents`, `parent_id`, `subtree_of`, `include_subagents` and
            `whole_tenant`. Required, but with an API key that is bound to an owner.
        resume: The `token` of an earlier stream with the same filter.
        from_now: Leaves out the sessions as they are.
        silence: Seconds without a sign of life after which another connection is tried; more than the
            service's setting `feed_heartbeat`, which is 15.

    Raises, while iterating:
        ResumeTokenExpired: The token is too old: forget what was received, and begin without one.
        HistoryDiverged: The token is of another database: likewise.
        Unavailable: The service was out of reach for longer than the client's timeout.
    """
    return SessionWatchState(filter, resume, silence, from_now=from_now)

"""What a watch has received, apart from how it is read: events, tokens, when to try again."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sessiond import v1
from sessiond._calls import Service
from sessiond._errors import (
    Cancelled,
    InternalError,
    Overloaded,
    ServerBug,
    SessiondError,
    Unavailable,
)

WATCH = Service("sessiond.v1.FeedService").rpc("Watch", v1.WatchRequest, v1.WatchResponse)

SILENCE = 60.0
_FIRST_BACKOFF = 0.1
_LONGEST_BACKOFF = 5.0
_KIND = "FEED_EVENT_KIND_"
_NOT_EVENTS = {"heartbeat", "goodbye"}


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a watched session."""

    session_id: str
    """Where it happened: the watched session, or a descendant."""
    kind: str
    """`message_appended`, `message_updated`, `compacted`, `compaction_reverted`, `rewound`,
    `rewind_reverted`, `messages_cleared`, `session_changed`, `session_deleted`, `child_created`,
    `reminder_changed`, `messages_offloaded`, `attachment_changed`, `usage_recorded`,
    `writer_changed`, `caught_up` or `fell_behind`; `draft_changed` and `draft_ended` if drafts
    are watched. A newer server may know others: pass them over."""
    value: Any
    """What `sessiond.v1.FeedEvent` holds in the field of that name: a Message, a Compaction …"""
    token: str
    """Resumes the session's watch behind this event. The last event of each piece that the server sends at
    once has one, never one in the middle of a transaction; otherwise, and of drafts, it is empty."""


Q = TypeVar("Q")
F = TypeVar("F")
T = TypeVar("T")


class Progress(Generic[Q, F, T]):
    """How far the caller of a stream has come, so that it can go on when it breaks."""

    frame_type: type[F]
    silence: float

    def __init__(self) -> None:
        self._failures = 0
        self._retry_delay: float | None = None
        """How long the server that said goodbye wants the next attempt to wait."""
        self.said_goodbye = False

    def request(self) -> Q:
        """The call that goes on behind what was received."""
        raise NotImplementedError

    def take(self, frame: F) -> list[T]:
        """What a frame tells."""
        raise NotImplementedError

    def handled(self, frame: F) -> None:
        """The caller has dealt with all that a frame told."""
        raise NotImplementedError

    def heard(self) -> None:
        """Something came."""
        self._failures = 0

    def goodbye(self, goodbye: v1.Goodbye) -> None:
        """The server ends the stream."""
        self.said_goodbye = True
        if goodbye.HasField("retry_delay"):
            self._retry_delay = goodbye.retry_delay.ToNanoseconds() / 1e9

    def pause(self) -> float:
        """Seconds to wait before the next attempt: as the server said, or longer after each failure."""
        if self._retry_delay is not None:
            delay, self._retry_delay = self._retry_delay, None
            return delay
        self._failures += 1
        longest: float = min(_FIRST_BACKOFF * 2 ** (self._failures - 1), _LONGEST_BACKOFF)
        return random.uniform(0.5, 1) * longest


class WatchState(Progress[v1.WatchRequest, v1.WatchResponse, Event]):
    """What is watched, and how far the caller has come."""

    frame_type = v1.WatchResponse

    def __init__(
        self,
        session_ids: Sequence[str],
        start: str | int,
        resume: Mapping[str, str] | None,
        descendants: bool,
        drafts: bool,
        silence: float,
        kinds: Collection[str] = (),
    ) -> None:
        super().__init__()
        if not session_ids:
            raise ValueError("give the id of at least one session")
        if len(set(session_ids)) < len(session_ids):
            raise ValueError("a session is given twice")
        if descendants and len(session_ids) > 1:
            raise ValueError("descendants are watched of one session at a time")
        if not (start in ("beginning", "now") or (isinstance(start, int) and start >= 1)):
            raise ValueError("start is 'beginning', 'now', or a seq from 1 on")
        self.tokens: dict[str, str] = dict(resume or {})
        self._session_ids = list(session_ids)
        self._start = start
        self._descendants = descendants
        self._drafts = drafts
        self._kinds = [_kind(name) for name in kinds]
        self._begun: dict[str, list[Event]] = {}
        self._deleted: set[str] = set()
        self.silence = silence

    def request(self) -> v1.WatchRequest:
        self._begun.clear()
        self.said_goodbye = False
        return v1.WatchRequest(targets=[self._target(it) for it in self._session_ids])

    def _target(self, session_id: str) -> v1.WatchTarget:
        target = v1.WatchTarget(
            watch_id=session_id,
            session_id=session_id,
            include_descendants=self._descendants,
            include_drafts=self._drafts,
            event_kinds=self._kinds,
        )
        tokens = self.tokens if self._descendants else {session_id: self.tokens.get(session_id)}
        known = [token for token in tokens.values() if token]
        if known:
            target.resume.tokens.extend(known)
        elif self._start == "now":
            target.from_now = True
        elif isinstance(self._start, int):
            target.from_seq = self._start
        return target

    def take(self, frame: v1.WatchResponse) -> list[Event]:
        """The events of a frame. A transaction in several frames is held back until it is whole."""
        self.heard()
        session_id = frame.session_id
        told: list[Event] = []
        for event in frame.events:
            kind = event.WhichOneof("event")
            if kind == "goodbye":
                self.goodbye(event.goodbye)
            elif kind is not None and kind not in _NOT_EVENTS and session_id not in self._deleted:
                told.append(Event(session_id, kind, getattr(event, kind), ""))
        if frame.fragment:
            self._begun.setdefault(session_id, []).extend(told)
            return []
        told = self._begun.pop(session_id, []) + told
        if told:
            last = told[-1]
            told[-1] = Event(session_id, last.kind, last.value, frame.resume_token)
        return told

    def handled(self, frame: v1.WatchResponse) -> None:
        if frame.resume_token:
            self.tokens[frame.session_id] = frame.resume_token
        if any(event.HasField("session_deleted") for event in frame.events):
            self._deleted.add(frame.session_id)
            if frame.session_id not in self._session_ids:
                self.tokens.pop(frame.session_id, None)


def _kind(name: str) -> v1.FeedEventKind.ValueType:
    """The kind of events with this name. Raises `ValueError`."""
    names = {it.removeprefix(_KIND).lower(): it for it in v1.FeedEventKind.keys()[1:]}
    if name not in names:
        raise ValueError(f"{name!r} isn't one of {', '.join(names)}")
    return v1.FeedEventKind.Value(names[name])


def worth_another_try(error: SessiondError) -> bool:
    """Whether a broken watch can go on later or elsewhere."""
    if isinstance(error, ServerBug):
        return False
    return isinstance(error, Unavailable | Overloaded | InternalError | Cancelled)

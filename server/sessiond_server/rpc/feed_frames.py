"""Frames of feeds: events packed and encoded once for all watchers, and the machine's own notices."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import NamedTuple
from uuid import UUID

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from sessiond.v1 import feed_service_pb2 as rpc
from sessiond_server.errors import PageTokenInvalid, ResumeTokenInvalid
from sessiond_server.feed.drafts import News
from sessiond_server.feed.source import Frame, Kinds, Place, Watched
from sessiond_server.rpc import limits, page_tokens
from sessiond_server.rpc.messages_out import as_field

MOST_RETRY_DELAY = 1000
"""Milliseconds within which the watchers of a server that stops come back."""
_CALL = b"Watch"
_DRAFT_CHANGED, _DRAFT_ENDED = (
    rpc.FeedEvent.DESCRIPTOR.fields_by_name[name].number
    for name in ("draft_changed", "draft_ended")
)
_EVENTS = rpc.WatchResponse.DESCRIPTOR.fields_by_name["events"].number


def mark(time: datetime | None) -> int:
    """What tells a message or a change from another one of the same number."""
    return 0 if time is None else round(time.timestamp() * 1_000_000)


def token(watched: Watched, place: Place, from_seq: int = 0) -> str:
    """The resume token of a place."""
    return page_tokens.encode(
        [watched.session_id, watched.incarnation.hex, *place, from_seq], _CALL
    )


@dataclass(frozen=True, slots=True)
class Resume:
    """What a token says: which session, behind which place, and not before which message."""

    session_id: str
    incarnation: UUID
    place: Place
    from_seq: int


def resume(text: str, where: str) -> Resume:
    """A decoded token. Raises `ResumeTokenInvalid`."""
    try:
        found = page_tokens.decode(text, _CALL, str, str, int, int, int, int, int)
    except PageTokenInvalid as error:
        raise ResumeTokenInvalid(where) from error
    session_id, incarnation, *numbers = found
    seq, change_no, seq_mark, change_mark, from_seq = (int(number or 0) for number in numbers)
    place = Place(seq, change_no, seq_mark, change_mark)
    try:
        return Resume(str(session_id), UUID(str(incarnation)), place, from_seq)
    except ValueError as error:
        raise ResumeTokenInvalid(where) from error


class Encoded(NamedTuple):
    """A `FeedEvent` as a frame holds it, and its kind."""

    kind: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Step:
    """A message or a change on its way into a frame."""

    seq: int
    """That of the message, or of the message behind which the change stands."""
    place: Place
    """Behind it."""
    events: list[Encoded]
    """None if it isn't told, several for updates of several messages."""
    whole: bool
    """Whether a transaction ends with it."""
    child: str = ""
    client_id: str = ""


@dataclass(slots=True)
class _Packing:
    watched: Watched
    place: Place
    whole: bool = True
    first_seq: int = 0
    frames: list[Frame] = field(default_factory=list)
    events: list[Encoded] = field(default_factory=list)
    children: list[str] = field(default_factory=list)
    client_ids: list[str] = field(default_factory=list)
    size: int = 0

    def begin(self, transaction: Sequence[Step]) -> None:
        """Close the frame before a transaction that isn't whole or doesn't fit: who has it can resume."""
        count = sum(len(step.events) for step in transaction)
        size = sum(len(event.data) for step in transaction for event in step.events)
        fits = len(self.events) + count <= limits.FRAME_EVENTS
        fits = fits and self.size + size <= limits.PAGE_BYTES
        if self.events and not (transaction[-1].whole and fits):
            self.close(True)

    def add(self, step: Step) -> None:
        for number, event in enumerate(step.events):
            full = len(self.events) == limits.FRAME_EVENTS
            if self.events and (full or self.size + len(event.data) > limits.PAGE_BYTES):
                self.close(self.whole and number == 0)
            if not self.events:
                self.first_seq = step.seq
            self.events.append(event)
            self.size += len(event.data)
        if step.child:
            self.children.append(step.child)
        if step.client_id:
            self.client_ids.append(step.client_id)
        self.place, self.whole = step.place, step.whole

    def close(self, whole: bool) -> None:
        pick = partial(_body, self._header(whole) if self.events else b"", tuple(self.events))
        frame = Frame(
            self.place,
            pick(frozenset()),
            self.first_seq,
            whole,
            tuple(self.children),
            tuple(self.client_ids),
            len(self.events),
            pick,
        )
        self.frames.append(frame)
        self.events, self.children, self.client_ids, self.size = [], [], [], 0

    def _header(self, whole: bool) -> bytes:
        header = rpc.WatchResponse(session_id=self.watched.session_id, fragment=not whole)
        if whole:
            header.resume_token = token(self.watched, self.place)
        return header.SerializeToString()


def _body(header: bytes, events: Sequence[Encoded], kinds: Kinds) -> bytes:
    """A frame of those events that are of these kinds, or of all; empty without any."""
    wanted = [event.data for event in events if not kinds or event.kind in kinds]
    return b"".join([header, *wanted]) if wanted else b""


def pack(watched: Watched, place: Place, steps: Iterable[Step]) -> list[Frame]:
    """Frames of what follows a place. What isn't told still moves the place of the last one."""
    packing = _Packing(watched, place)
    for transaction in _transactions(steps):
        packing.begin(transaction)
        for step in transaction:
            if not packing.events:
                packing.first_seq = step.seq
            packing.add(step)
    if packing.events or packing.place != place:
        packing.close(packing.whole)
    return packing.frames


def _transactions(steps: Iterable[Step]) -> Iterator[list[Step]]:
    """What belongs together; the last may not be whole."""
    gathered: list[Step] = []
    for step in steps:
        gathered.append(step)
        if step.whole:
            yield gathered
            gathered = []
    if gathered:
        yield gathered


def event_field(kind: int, event: bytes) -> Encoded:
    """An encoded `FeedEvent` of a kind as a frame holds it."""
    return Encoded(kind, as_field(_EVENTS, event))


class Notices:
    """Encodes what the machine itself has to say."""

    def caught_up(self, watched: Watched, place: Place, from_seq: int, next_seq: int) -> bytes:
        event = rpc.FeedEvent(caught_up=rpc.CaughtUp(next_seq=next_seq))
        return _notice(watched, event, token(watched, place, from_seq))

    def fell_behind(self, watched: Watched, place: Place, from_seq: int) -> bytes:
        event = rpc.FeedEvent(fell_behind=rpc.FellBehind())
        return _notice(watched, event, token(watched, place, from_seq))

    def heartbeat(self, watched: Watched, place: Place, from_seq: int) -> bytes:
        time = Timestamp()
        time.GetCurrentTime()
        event = rpc.FeedEvent(heartbeat=rpc.Heartbeat(time=time))
        return _notice(watched, event, token(watched, place, from_seq))

    def bookmark(self, watched: Watched, place: Place, from_seq: int) -> bytes:
        header = rpc.WatchResponse(session_id=watched.session_id)
        header.resume_token = token(watched, place, from_seq)
        return header.SerializeToString()

    def deleted(self, watched: Watched) -> bytes:
        return _notice(watched, rpc.FeedEvent(session_deleted=rpc.SessionDeleted()), "")

    def drafts(self, watched: Watched, news: list[News]) -> bytes:
        header = rpc.WatchResponse(session_id=watched.session_id)
        events = (as_field(_EVENTS, as_field(*_draft_event(item))) for item in news)
        return b"".join([header.SerializeToString(), *events])

    def goodbye(self) -> bytes:
        return _goodbye(stopping())


def stopping() -> rpc.Goodbye:
    """What a server that stops says."""
    retry_delay = Duration()
    retry_delay.FromMilliseconds(random.randrange(MOST_RETRY_DELAY))
    return rpc.Goodbye(reason=rpc.GOODBYE_REASON_SHUTTING_DOWN, retry_delay=retry_delay)


REVOKED = rpc.Goodbye(reason=rpc.GOODBYE_REASON_CREDENTIALS_INVALID)
"""What is said to a watcher whose API key isn't good any more."""


def goodbye_of_key() -> bytes:
    """The last frame of a watch whose API key isn't good any more."""
    return _goodbye(REVOKED)


def _goodbye(goodbye: rpc.Goodbye) -> bytes:
    return rpc.WatchResponse(events=[rpc.FeedEvent(goodbye=goodbye)]).SerializeToString()


def _draft_event(news: News) -> tuple[int, bytes]:
    """The number and the encoding of a draft's event; pieces are encoded deltas already."""
    if news.ended:
        ended = rpc.DraftEnded(client_id=news.client_id, end=news.ended)  # type: ignore[arg-type]
        return _DRAFT_ENDED, ended.SerializeToString()
    changed = rpc.DraftChanged(client_id=news.client_id, begins=news.begins)
    return _DRAFT_CHANGED, b"".join([changed.SerializeToString(), *news.pieces])


def _notice(watched: Watched, event: rpc.FeedEvent, resume_token: str) -> bytes:
    return rpc.WatchResponse(
        session_id=watched.session_id, events=[event], resume_token=resume_token
    ).SerializeToString()

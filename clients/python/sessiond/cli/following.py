"""What `tail` reads: what happened in a session or its subtree lately, then what happens."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

import sessiond
from sessiond import Client, Event, session_filter, v1
from sessiond._watch import worth_another_try

_SILENTLY = 2.0
"""Seconds without a server before a person is told."""
_MAX_PAGE = 200
_END = 2**63
"""The time of what stands behind everything, in nanoseconds."""
_DRAFTS = {"draft_changed", "draft_ended"}
_WITHOUT_TOKEN = {"session_deleted", *_DRAFTS}


class Follower:
    """Reads a session's events, or its subtree's, in groups: of one session, and of one time.

    First comes the past: of a session what happened from the last `lines` messages on; of a subtree
    likewise, of all its sessions by time. With `follow` it goes on until all is deleted, however
    long the server is away; `on_change` is told that it went, and that it is back. With `drafts` too,
    events of messages that are being written come among the others, behind the past.
    """

    def __init__(
        self,
        client: Client,
        session: v1.Session,
        *,
        lines: int,
        subtree: bool,
        follow: bool,
        drafts: bool = False,
        kinds: Collection[str] = (),
        on_change: Callable[[str], None],
    ) -> None:
        self._client = client
        self._session = session
        self._lines = lines
        self._subtree = subtree
        self._follow = follow
        self._drafts = drafts and follow
        self._kinds = kinds
        self._on_change = on_change

    def __iter__(self) -> Iterator[list[Event]]:
        groups = _groups(self._events())
        yield from self._past_of_tree(groups) if self._subtree else self._past(groups)
        if self._follow:
            yield from groups

    def _past(self, groups: Iterator[list[Event]]) -> Iterator[list[Event]]:
        for group in groups:
            yield group
            if _ends_the_past(group):
                return

    def _past_of_tree(self, groups: Iterator[list[Event]]) -> Iterator[list[Event]]:
        """Descendants are watched from their beginning: all is read, and the last of it told."""
        past: dict[str, list[Event]] = {}
        drafts: list[Event] = []
        unread: set[str] | None = None
        there_before = self._descendants()
        for group in groups:
            if unread is None:
                # Those that were there before and after the watch began are a part of it for sure.
                unread = {self._session.id} | (there_before & self._descendants())
            drafts = list(_still_written(drafts, group))
            if group[0].kind in _DRAFTS:
                continue
            id = group[0].session_id
            past[id] = self._kept([*past.get(id, ()), *group])
            if _ends_the_past(group):
                unread.discard(id)
            if not unread:
                break
        merged = list(heapq.merge(*(_timed(events) for events in past.values()), key=_time))
        for _, run in groupby(self._kept([it for _, it in merged]), lambda it: it.session_id):
            yield list(run)
        yield from ([event] for event in drafts)

    def _kept(self, events: list[Event]) -> list[Event]:
        """The events from the last messages on; all if they begin now."""
        messages = [n for n, it in enumerate(events) if it.kind == "message_appended"]
        return events[messages[-self._lines] :] if 0 < self._lines < len(messages) else events

    def _descendants(self) -> set[str]:
        found: set[str] = set()
        for archived in (False, True):
            wanted = session_filter(subtree_of=self._session.id, archived=archived)
            listed = self._client.list_sessions(wanted, page_size=_MAX_PAGE)
            found |= {summary.session.id for summary in listed}
        return found

    def _start(self) -> str | int:
        session = self._session
        if not self._lines:
            return "now"
        return max(session.first_seq, session.next_seq - self._lines, 1)

    def _events(self) -> Iterator[Event]:
        """All events; with `follow`, of one watch after the other while the server is away."""
        client = self._client.with_timeout(_SILENTLY) if self._follow else self._client
        resume: Mapping[str, str] | None = None
        heard = lost = deleted = False
        while not (deleted and not self._subtree):
            watch = client.watch(
                self._session.id,
                start=self._start(),
                resume=resume,
                descendants=self._subtree,
                drafts=self._drafts,
                kinds=self._kinds,
            )
            try:
                for event in watch:
                    if lost:
                        self._on_change("connected again")
                    heard, lost = True, False
                    if event.kind == "session_deleted" and event.session_id == self._session.id:
                        if deleted:
                            continue  # A resumed watch says it again.
                        deleted = True
                    yield event
                return
            except sessiond.SessiondError as error:
                if not (self._follow and heard and worth_another_try(error)):
                    raise
            if not lost:
                self._on_change("connection lost, trying again …")
            lost, resume = True, watch.tokens


def _groups(events: Iterable[Event]) -> Iterator[list[Event]]:
    """The events of a frame, and so of a transaction, together: all but the last have no token."""
    begun: dict[str, list[Event]] = {}
    for event in events:
        begun.setdefault(event.session_id, []).append(event)
        if event.token or event.kind in _WITHOUT_TOKEN:
            yield begun.pop(event.session_id)


def _still_written(drafts: Iterable[Event], group: list[Event]) -> Iterator[Event]:
    """The events of drafts that a group of events leaves, and those that it adds."""
    session_id = group[0].session_id
    over = {it.value.client_id for it in group if it.kind in ("message_appended", "draft_ended")}
    deleted = any(event.kind == "session_deleted" for event in group)
    for event in drafts:
        if event.session_id != session_id or not (deleted or event.value.client_id in over):
            yield event
    yield from (event for event in group if event.kind == "draft_changed")


def _ends_the_past(group: list[Event]) -> bool:
    return any(event.kind in ("caught_up", "session_deleted") for event in group)


def _timed(events: Iterable[Event]) -> Iterator[tuple[int, Event]]:
    """The events with their times, which never decrease."""
    latest = 0
    for event in events:
        latest = max(latest, _stamp(event).ToNanoseconds())
        if event.kind == "caught_up":
            latest = latest or _END
        yield latest, event


def _time(timed: tuple[int, Event]) -> int:
    return timed[0]


def _stamp(event: Event) -> Timestamp:
    value: Any = event.value
    match event.kind:
        case "message_appended" | "compacted" | "rewound" | "messages_offloaded":
            found = value.create_time
        case "compaction_reverted":
            found = value.revert_time
        case "rewind_reverted":
            found = value.revert_time
        case "session_changed":
            found = value.session.update_time
        case _:
            return Timestamp()
    assert isinstance(found, Timestamp)
    return found

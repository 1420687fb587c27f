"""What the machine reads from, and the coordinates that it moves in."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeAlias
from uuid import UUID

from sessiond_server.store.keys import SessionKey

Kinds: TypeAlias = frozenset[int]
"""Kinds of events: the numbers of `sessiond.v1.FeedEventKind`. Empty stands for all."""


class Place(NamedTuple):
    """A place in a session's order: behind a message and behind a change (0 is the beginning), with what
    tells each from another one of the same number: the microsecond in which it was made."""

    seq: int = 0
    change_no: int = 0
    seq_mark: int = 0
    change_mark: int = 0


class Watched(NamedTuple):
    """A session as it is watched: one that is made anew under the same id is another."""

    session_id: str
    key: SessionKey
    incarnation: UUID


class Version(NamedTuple):
    """How far a session has come."""

    incarnation: UUID
    next_seq: int
    next_change: int


@dataclass(frozen=True, slots=True)
class Frame:
    """Events that follow each other, encoded once for all watchers of their session."""

    place: Place
    """Behind the last of them."""
    body: bytes
    """A `WatchResponse` without its `watch_id`; empty if it has no events."""
    first_seq: int
    """What stands first: the seq of the message, or the seq behind which the change stands."""
    whole: bool
    """Whether a transaction ends with it."""
    children: tuple[str, ...] = ()
    """The sessions that were made from this one."""
    client_ids: tuple[str, ...] = ()
    """Those of the messages that were appended."""
    count: int = 0
    """How many events it has."""
    pick: Callable[[Kinds], bytes] | None = None
    """Makes the body for watchers that want some kinds of events alone; empty if it has none of these."""
    _picked: dict[Kinds, bytes] = field(default_factory=dict, init=False, compare=False)

    def body_of(self, kinds: Kinds) -> bytes:
        """The body for those who want these kinds of events, made once for all of them."""
        if not kinds or self.pick is None:
            return self.body
        body = self._picked.get(kinds)
        if body is None:
            body = self._picked[kinds] = self.pick(kinds)
        return body


@dataclass(frozen=True, slots=True)
class Batch:
    """What followed a place."""

    frames: list[Frame]
    more: bool
    version: Version


class Source(Protocol):
    """Reads sessions. Any call may fail with `DatabaseUnavailable` or `ReadQueueFull`; it is repeated."""

    async def read(self, watched: Watched, place: Place, from_seq: int) -> Batch | None:
        """What follows a place, a page at most, without what stands before the message `from_seq`.
        `None` if the session is gone."""

    async def versions(self, keys: Collection[SessionKey]) -> Mapping[SessionKey, Version]:
        """How far sessions have come; those that are gone are left out."""

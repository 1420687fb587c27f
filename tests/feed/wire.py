"""Frames as JSON, so that a test can read them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import NamedTuple

from sessiond_server.feed.drafts import News
from sessiond_server.feed.source import Place, Watched


class Token(NamedTuple):
    """What resumes a watch of a session."""

    incarnation: str
    place: Place
    from_seq: int


@dataclass(frozen=True, slots=True)
class Received:
    """A frame as a watcher gets it."""

    watch_id: str
    session_id: str
    incarnation: str
    events: tuple[str, ...] = ()
    notice: str = ""
    token: Token | None = None
    fragment: bool = False
    next_seq: int = 0

    @property
    def key(self) -> tuple[str, str]:
        return self.session_id, self.incarnation


def encode(
    watched: Watched,
    events: list[str],
    place: Place | None,
    *,
    padding: int = 0,
    from_seq: int = 0,
    notice: str = "",
    next_seq: int = 0,
) -> bytes:
    """A frame without its watch id; one without a place is a fragment."""
    token = None if place is None else [*place, from_seq]
    head = [watched.session_id, watched.incarnation.hex]
    return json.dumps([*head, events, token, notice, next_seq, "." * padding]).encode()


def decode(data: bytes) -> Received:
    """A frame with its watch id before it."""
    watch_id, _, body = data.partition(b" ")
    session_id, incarnation, events, numbers, notice, next_seq, _ = json.loads(body)
    token = None if numbers is None else Token(incarnation, Place(*numbers[:4]), numbers[4])
    fragment = token is None and not notice
    names = (session_id, incarnation, tuple(events), notice)
    return Received(watch_id.decode(), *names, token, fragment, next_seq)


def is_notice(data: bytes) -> bool:
    """Whether the machine itself says something."""
    return bool(decode(data).notice)


class JsonNotices:
    """What the machine itself has to say, as JSON."""

    def caught_up(self, watched: Watched, place: Place, from_seq: int, next_seq: int) -> bytes:
        return encode(watched, [], place, from_seq=from_seq, notice="caught_up", next_seq=next_seq)

    def fell_behind(self, watched: Watched, place: Place, from_seq: int) -> bytes:
        return encode(watched, [], place, from_seq=from_seq, notice="fell_behind")

    def heartbeat(self, watched: Watched, place: Place, from_seq: int) -> bytes:
        return encode(watched, [], place, from_seq=from_seq, notice="heartbeat")

    def bookmark(self, watched: Watched, place: Place, from_seq: int) -> bytes:
        return encode(watched, [], place, from_seq=from_seq, notice="bookmark")

    def deleted(self, watched: Watched) -> bytes:
        return encode(watched, [], None, notice="deleted")

    def drafts(self, watched: Watched, news: list[News]) -> bytes:
        return encode(watched, [item.client_id for item in news], None, notice="drafts")

    def goodbye(self) -> bytes:
        return b' ["", "", [], null, "goodbye", 0, ""]'

"""Checks what a watcher receives against what happened: the six guarantees of P9."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from sessiond_server.feed.source import Kinds, Place
from tests.feed.history import CHILD, KINDS, MESSAGE, TOLD_AS_ONE, History, Item
from tests.feed.wire import Received, Token


class Violation(AssertionError):
    """A guarantee is broken."""


class _State(NamedTuple):
    """How far a watcher has come: what it has, or need not get, of the history's first items."""

    cursor: int
    cleared: int
    owed: tuple[str, ...]


@dataclass
class Follower:
    """What a watcher has received of a session, frame by frame.

    It need not get what stands before its start, what was cleared before it came so far, kinds of events
    that it doesn't want, and of changes of facts, or records of usage, that follow each other all but the
    last, which stands for all."""

    history: History
    place: Place
    from_seq: int = 0
    kinds: Kinds = frozenset()
    bookmark_events: int = 1000
    """So many events that were left out are covered by a token at last."""
    tokens: list[Token] = field(default_factory=list)
    deleted: bool = False
    caught_up: bool = False
    _cursor: int = 0
    _cleared: int = 0
    _owed: tuple[str, ...] = ()
    """Changes that were skipped: the next one must stand for them."""
    _begun: bool = False
    _start: int = 0
    _states: dict[Token, _State] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._cursor = sum(item.within(self.place) for item in self.history.items)
        self._start = self._cursor

    def resume(self, token: Token) -> None:
        """Go back to where a token was received."""
        self._cursor, self._cleared, self._owed = self._states[token]
        self._start = self._cursor
        self._begun = self.caught_up = self.deleted = False
        del self.tokens[self.tokens.index(token) + 1 :]

    def take(self, frame: Received) -> None:
        """Check the next frame."""
        if self.deleted:
            raise Violation(f"something follows the deletion: {frame}")
        if frame.notice == "deleted":
            self.deleted = True
            return
        if frame.notice not in ("", "bookmark") and self._begun:
            raise Violation(f"torn: a notice within a transaction: {frame}")
        if frame.notice == "drafts":
            return
        for name in frame.events:
            self._event(name)
        self._begun = frame.fragment
        if frame.token is not None:
            self._token(frame.token)
        if frame.notice == "caught_up":
            self._caught_up(frame.next_seq)
        elif frame.notice == "fell_behind":
            self.caught_up = False

    def _event(self, name: str) -> None:
        *before, name = name.split("+")
        index = self.history.index.get(name)
        if index is None:
            raise Violation(f"{name} never happened in this session")
        item = self.history.items[index]
        if index < self._cursor:
            raise Violation(f"{name} comes twice or late")
        if item.seq < self.from_seq:
            raise Violation(f"{name} stands before the watch's start")
        if not self._wants(item):
            raise Violation(f"{name} ({item.kind}) is of no kind that is wanted")
        if self.history.gone(index) and index < self._cleared:
            raise Violation(f"{name} was cleared, and what stands before it was left out")
        self._skip_to(index)
        self._cursor = index + 1
        if not set(self._owed) <= set(before):
            raise Violation(f"{name} tells of {before}, not of {self._owed}")
        if any(not self._is_earlier(it, index) for it in before):
            raise Violation(f"{name} doesn't stand for {before}")
        self._owed = ()

    def _wants(self, item: Item) -> bool:
        return not self.kinds or KINDS[item.kind] in self.kinds

    def _is_earlier(self, name: str, index: int) -> bool:
        """Whether it is a change with which another one may be told."""
        found = self.history.index.get(name, index)
        kinds = {self.history.items[place].kind for place in (found, index)}
        return found < index and len(kinds) == 1 and kinds <= set(TOLD_AS_ONE)

    def _skip_to(self, end: int) -> None:
        for index in range(self._cursor, end):
            item = self.history.items[index]
            if item.seq < self.from_seq or not self._wants(item):
                continue
            if self.history.gone(index):
                self._cleared = self.history.next_clear(index)
            elif item.kind in TOLD_AS_ONE:
                self._owed += (item.id,)
            else:
                raise Violation(f"{item.id} ({item.kind}) is missing")
        self._cursor = max(self._cursor, end)

    def _token(self, token: Token) -> None:
        if token.incarnation != self.history.watched.incarnation.hex:
            raise Violation("a token of another incarnation")
        items = self.history.items
        if any(not item.within(token.place) for item in items[: self._cursor]):
            raise Violation(f"{token} doesn't cover what was sent")
        self._skip_to(sum(item.within(token.place) for item in items))
        if self._owed:
            raise Violation(f"{token} covers {self._owed}, which weren't told")
        if self._within_transaction():
            raise Violation(f"{token} lies within a transaction")
        self.tokens.append(token)
        self._states[token] = _State(self._cursor, self._cleared, self._owed)

    def _within_transaction(self) -> bool:
        items, end = self.history.items, self._cursor
        if end in (0, self._start, len(items)) or self.history.gone(end):
            return False
        return items[end - 1].transaction == items[end].transaction

    def _caught_up(self, next_seq: int) -> None:
        self.caught_up = True
        if self._owed:
            raise Violation("caught up without the last changes")
        for index in range(self._cursor, len(self.history.items)):
            item = self.history.items[index]
            wanted = item.kind == MESSAGE and self.from_seq <= item.seq < next_seq
            if wanted and self._wants(item) and not self.history.gone(index):
                raise Violation(f"caught up without {item.id}")
        if self._cursor and self.history.items[self._cursor - 1].seq >= next_seq:
            raise Violation(f"caught up with less than was sent: {next_seq}")

    def finish(self) -> None:
        """Check that it has everything, now that nothing happens any more."""
        who = self.history.watched.session_id
        if self.history.deleted:
            if not self.deleted:
                raise Violation(f"{who}: the deletion is missing")
            return
        self._skip_to(len(self.history.items))
        if self._owed:
            raise Violation(f"{who}: the last changes are missing")
        if self._begun:
            raise Violation(f"{who}: a transaction has no end")
        if not self.caught_up:
            raise Violation(f"{who}: it was never told that it had caught up")
        behind = self._behind(self.tokens[-1].place)
        if behind >= self.bookmark_events:
            raise Violation(f"{who}: no token covers the last {behind} events")

    def _behind(self, place: Place) -> int:
        """How many events there are behind a place, but for those that may be told with another one."""
        return sum(
            not (item.within(place) or self.history.gone(index) or item.kind in TOLD_AS_ONE)
            and item.seq >= self.from_seq
            for index, item in enumerate(self.history.items)
        )

    def children(self) -> set[str]:
        """The children that were made from this session, if it can still be read."""
        if self.history.deleted:
            return set()
        return {item.child for item in self.history.items if item.kind == CHILD}

"""What happened in a session, in order, and pages of it."""

from __future__ import annotations

import zlib
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from sessiond_server.feed.source import Batch, Frame, Kinds, Place, Version, Watched
from tests.feed import wire

MESSAGE, UPDATE, FACTS, CHILD, CLEAR = "message", "update", "facts", "child", "clear"
ATTACHMENT, USAGE, WRITER = "attachment", "usage", "writer"
TOLD_AS_ONE = (FACTS, USAGE)
"""Kinds of changes of which those that follow each other are told as one."""
KINDS = {
    MESSAGE: 1,
    UPDATE: 2,
    CLEAR: 7,
    FACTS: 8,
    CHILD: 10,
    ATTACHMENT: 19,
    USAGE: 20,
    WRITER: 21,
}
"""The kinds that a watch can ask for."""
FRAME_OVERHEAD = 200
"""At most so many bytes are a frame of one event without padding."""
CLEARED_KINDS = (MESSAGE, UPDATE)
"""What a clear removes for good."""


class Item(NamedTuple):
    """A message, or a change behind a message."""

    id: str
    kind: str
    seq: int
    change_no: int
    mark: int
    transaction: int
    child: str = ""

    def within(self, place: Place) -> bool:
        """Whether it stands before a place."""
        if self.kind == MESSAGE:
            return self.seq <= place.seq
        return self.change_no <= place.change_no

    def behind(self, place: Place) -> Place:
        """The place behind it, coming from another place."""
        if self.kind == MESSAGE:
            return place._replace(seq=self.seq, seq_mark=self.mark)
        seq_mark = place.seq_mark if self.seq == place.seq else 0
        return Place(self.seq, self.change_no, seq_mark, self.mark)


@dataclass(frozen=True, slots=True)
class Paging:
    """How pages are cut: items on a page, events in a frame, and whether that is done with an eye to where
    transactions end: a frame then holds whole ones, or a part of one."""

    items: int = 1000
    events: int = 1000
    minds_ends: bool = True
    padding: int = 0
    """At most so many bytes are added to an event."""


@dataclass
class History:
    """All that ever happened in an incarnation of a session."""

    watched: Watched
    items: list[Item] = field(default_factory=list)
    index: dict[str, int] = field(default_factory=dict)
    next_seq: int = 1
    next_change: int = 1
    cleared: int = 0
    """So many of the first items were cleared, as far as a clear removes them."""
    deleted: bool = False

    def add(self, kind: str, transaction: int, mark: int, child: str = "") -> None:
        """The next message or change."""
        change_no = 0
        if kind == MESSAGE:
            self.next_seq += 1
        else:
            change_no, self.next_change = self.next_change, self.next_change + 1
        if kind == CLEAR:
            self.cleared = len(self.items)
        name = f"{self.watched.incarnation.hex[:4]}.{len(self.items)}"
        self.index[name] = len(self.items)
        seq = self.next_seq - 1
        self.items.append(Item(name, kind, seq, change_no, mark, transaction, child))

    def gone(self, index: int) -> bool:
        """Whether an item was cleared."""
        return index < self.cleared and self.items[index].kind in CLEARED_KINDS

    def next_clear(self, index: int) -> int:
        """The index of the first clear behind an item that was cleared."""
        return next(
            place for place in range(index, self.cleared + 1) if self.items[place].kind == CLEAR
        )

    def version(self) -> Version:
        return Version(self.watched.incarnation, self.next_seq, self.next_change)

    def start(self, from_seq: int | None) -> Place:
        """The beginning (0), before a message if there is one with this seq, or behind everything."""
        if from_seq == 0:
            return Place()
        behind = from_seq is None or from_seq >= self.next_seq
        place = Place()
        for index, item in enumerate(self.items):
            if behind or from_seq is None or item.seq < from_seq:
                place = item.behind(place)
                if self.gone(index):
                    place = place._replace(seq_mark=0)
        return place

    def page(self, place: Place, from_seq: int, paging: Paging) -> Batch:
        """What follows a place, as far as it is still there."""
        left = [
            item
            for index, item in enumerate(self.items)
            if not item.within(place) and not self.gone(index)
        ]
        items = left[: paging.items]
        packing = _Packing(self.watched, paging, place)
        for number, item in enumerate(items):
            ends = self._ends(left, number)
            if number + 1 == len(items) < len(left):
                ends = ends and paging.minds_ends
            if paging.minds_ends:
                packing.make_room(_rest(left, number, len(items)))
            later = item.kind in TOLD_AS_ONE
            later = later and item.kind in [it.kind for it in items[number + 1 : number + 2]]
            told = item.seq >= from_seq and not later
            name = "+".join(it.id for it in _run(items[: number + 1])) if told else ""
            packing.add(item, name, ends=ends and not later)
        return Batch(packing.frames_of(), len(left) > len(items), self.version())

    @staticmethod
    def _ends(left: list[Item], number: int) -> bool:
        if number + 1 == len(left):
            return True
        return left[number].transaction != left[number + 1].transaction


def _run(items: list[Item]) -> list[Item]:
    """The items with which the last one is told: those of its kind that it follows, or it alone."""
    start, kind = len(items) - 1, items[-1].kind
    while kind in TOLD_AS_ONE and start and items[start - 1].kind == kind:
        start -= 1
    return items[start:]


def _rest(left: list[Item], number: int, count: int) -> int:
    """How many items of a transaction are left on a page of so many; as good as endless if it is cut."""
    transaction = left[number].transaction
    end = number
    while end < len(left) and left[end].transaction == transaction:
        end += 1
    return end - number if end <= count else 1_000_000


@dataclass
class _Packing:
    """Packs events into frames, as the service does."""

    watched: Watched
    paging: Paging
    place: Place
    whole: bool = True
    first_seq: int = 0
    moved: bool = False
    frames: list[Frame] = field(default_factory=list)
    events: list[tuple[str, str]] = field(default_factory=list)
    """Their names and kinds."""
    children: list[str] = field(default_factory=list)

    def make_room(self, rest: int) -> None:
        """End the frame if the transaction that begins doesn't fit into it."""
        if self.whole and self.events and len(self.events) + rest > self.paging.events:
            self.close()

    def add(self, item: Item, name: str, *, ends: bool) -> None:
        if name and len(self.events) == self.paging.events:
            self.close()
        if not self.events:
            self.first_seq = item.seq
        if name:
            self.events.append((name, item.kind))
        if item.child:
            self.children.append(item.child)
        self.place, self.whole, self.moved = item.behind(self.place), ends, True

    def close(self) -> None:
        events, place = list(self.events), self.place if self.whole else None

        def pick(kinds: Kinds) -> bytes:
            names = [name for name, kind in events if not kinds or KINDS[kind] in kinds]
            padding = sum(_padding(name, self.paging.padding) for name in names)
            return wire.encode(self.watched, names, place, padding=padding) if names else b""

        children = tuple(self.children)
        body = pick(frozenset())
        self.frames.append(
            Frame(
                self.place,
                body,
                self.first_seq,
                self.whole,
                children,
                count=len(events),
                pick=pick,
            )
        )
        self.events, self.children, self.moved = [], [], False

    def frames_of(self) -> list[Frame]:
        if self.events or self.moved:
            self.close()
        return self.frames


def _padding(name: str, most: int) -> int:
    return zlib.crc32(name.encode()) % (most + 1)


def largest_transaction(history: History, padding: int) -> int:
    """At most so many bytes are the frames of a transaction of this history."""
    counts = Counter(item.transaction for item in history.items)
    return max(counts.values(), default=0) * (padding + FRAME_OVERHEAD)

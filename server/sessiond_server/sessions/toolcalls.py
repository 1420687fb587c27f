"""Tool calls and their results: which belong together, and which ranges keep them together (P8)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple


class Item(NamedTuple):
    """A message of the context without its content. `position` is where it stands."""

    position: int
    seq: int
    note: bool
    role: int
    tokens: int
    calls: tuple[str, ...] = ()
    answers: str | None = None


class Link(NamedTuple):
    """A call and one of its results, by their places in the context."""

    call: int
    result: int
    tool_call_id: str


class Split(NamedTuple):
    """A tool call that a range would separate from its results, and the nearest range that wouldn't."""

    tool_call_id: str
    nearest: tuple[int, int] | None


def links(items: Sequence[Item]) -> list[Link]:
    """Each result with the newest call before it that has its id."""
    newest: dict[str, int] = {}
    found = []
    for place, item in enumerate(items):
        if item.answers is not None and item.answers in newest:
            found.append(Link(newest[item.answers], place, item.answers))
        for call in item.calls:
            newest[call] = place
    return found


class ToolCalls:
    """The pairs of a context, and what a range does to them.

    `open_seqs` are the messages that hold a call without a result: such a call can't be compacted, since
    its result would come alone.
    """

    def __init__(self, items: Sequence[Item], open_seqs: Collection[int]) -> None:
        self.items = items
        self.links = links(items)
        self.open = [place for place, item in enumerate(items) if item.seq in open_seqs]

    def split(self, first: int, last: int) -> Split | None:
        """The call that the range of places `first` to `last` would split, if it would."""
        call = self._crossing(first, last)
        if call is None:
            return None
        nearest = self.shrink(first, last) or self._grow(first, last)
        return Split(call, nearest)

    def _crossing(self, first: int, last: int) -> str | None:
        for link in self.links:
            if (first <= link.call <= last) != (first <= link.result <= last):
                return link.tool_call_id
        for place in self.open:
            if first <= place <= last:
                return self.items[place].calls[0]
        return None

    def shrink(self, first: int, last: int) -> tuple[int, int] | None:
        """The largest range within the given one, or nearly so, that splits nothing."""
        while first <= last:
            before = (first, last)
            for place in self.open:
                if first <= place <= last:
                    first, last = _larger(first, place - 1, place + 1, last)
            for link in self.links:
                if first <= link.call <= last < link.result:
                    last = link.call - 1
                elif link.call < first <= link.result <= last:
                    first = link.result + 1
            if (first, last) == before:
                return before
        return None

    def _grow(self, first: int, last: int) -> tuple[int, int] | None:
        while True:
            before = (first, last)
            for link in self.links:
                if (first <= link.call <= last) != (first <= link.result <= last):
                    first, last = min(first, link.call), max(last, link.result)
            if (first, last) == before:
                break
        return None if any(first <= place <= last for place in self.open) else (first, last)


def _larger(first: int, left: int, right: int, last: int) -> tuple[int, int]:
    return (first, left) if left - first >= last - right else (right, last)


def suffix_start(items: Sequence[Item], start: int) -> int:
    """Where a context that is cut at `start` may begin, so that no pair is torn."""
    moved = True
    found = links(items)
    while moved:
        moved = False
        for link in found:
            if link.call < start <= link.result:
                start, moved = link.result + 1, True
    return start

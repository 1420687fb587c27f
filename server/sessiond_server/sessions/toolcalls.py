"""Tool calls and their results: which belong together, and which ranges keep them together (P8)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import accumulate
from operator import xor
from random import getrandbits
from typing import NamedTuple


class Item(NamedTuple):
    """A message of the context without its content. `position` is where it stands."""

    position: int
    seq: int
    summary: bool
    role: int
    tokens: int
    calls: tuple[str, ...] = ()
    results: tuple[str, ...] = ()
    """The ids of its calls, and those that its results answer."""


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
    """The calls with their results: a result answers every open call with its id, in the messages before and
    in its own; one that finds none open belongs to the newest call with its id."""
    waiting: dict[str, list[int]] = {}
    newest: dict[str, int] = {}
    found = []
    for place, item in enumerate(items):
        for call in dict.fromkeys(item.calls):
            waiting.setdefault(call, []).append(place)
            newest[call] = place
        for result in item.results:
            if result in newest:
                calls = waiting.pop(result, None) or [newest[result]]
                found += [Link(call, place, result) for call in calls]
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
        self.halves = _halves(self.links, len(items))
        """Before each place, and behind the last: which links have begun and not ended, as a number. A
        range splits no link exactly if this is the same before it and behind it."""

    def split(self, first: int, last: int) -> Split | None:
        """The call that the range of places `first` to `last` would split, if it would."""
        call = self._crossing(first, last)
        if call is None:
            return None
        within = self.safe(first, last)
        nearest = max(within, key=lambda r: r[1] - r[0]) if within else self._grow(first, last)
        return Split(call, nearest)

    def _crossing(self, first: int, last: int) -> str | None:
        for link in self.links:
            if (first <= link.call <= last) != (first <= link.result <= last):
                return link.tool_call_id
        for place in self.open:
            if first <= place <= last:
                return self.items[place].calls[0]
        return None

    def safe(self, first: int, last: int) -> list[tuple[int, int]]:
        """The ranges within the given one that split nothing, in order: every other such range lies in
        one of them."""
        found: dict[tuple[int, int], tuple[int, int]] = {}
        stretch = 0
        held = {place for place in self.open if first <= place <= last}
        begins: dict[tuple[int, int], int] = {}
        for place in range(first, last + 1):
            if place in held:
                stretch += 1
                continue
            begins.setdefault((stretch, self.halves[place]), place)
            behind = (stretch, self.halves[place + 1])
            if behind in begins:
                found[behind] = (begins[behind], place)
        return sorted(found.values())

    def _grow(self, first: int, last: int) -> tuple[int, int] | None:
        while True:
            before = (first, last)
            for link in (*self.links, *reversed(self.links)):
                if (first <= link.call <= last) != (first <= link.result <= last):
                    first, last = min(first, link.call), max(last, link.result)
            if (first, last) == before:
                break
        return None if any(first <= place <= last for place in self.open) else (first, last)


def _halves(found: Sequence[Link], size: int) -> list[int]:
    """Every link is a random number, in at its call and out again behind its result."""
    change = [0] * size
    for link in found:
        number = getrandbits(64)
        change[link.call] ^= number
        change[link.result] ^= number
    return list(accumulate(change, xor, initial=0))


def suffix_start(items: Sequence[Item], start: int) -> int:
    """Where a context that is cut at `start` may begin, so that no result stands without its newest call."""
    newest: dict[str, int] = {}
    for place, item in enumerate(items):
        newest |= dict.fromkeys(item.calls, place)
        if place >= start and any(newest.get(result, start) < start for result in item.results):
            start = place + 1
    return start

"""What of a log can be seen: the ranges that compactions and rewinds hide, now or as of a seq.

A change is recorded with the session's next seq at its time, its *effective seq*: it counts in the
context as of message n if its effective seq is n at most. A compaction's effective seq is that of its
summary. Nothing here changes messages; hiding is a matter of ranges, which is why a compaction of a
million messages costs one row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple


class Compaction(NamedTuple):
    """A compaction as far as it hides: `summary_seq` stands for `from_seq` to `to_seq`."""

    summary_seq: int
    from_seq: int
    to_seq: int
    revert_effective_seq: int | None = None


class Rewind(NamedTuple):
    """A rewind as far as it hides: everything from `after_seq` + 1 to `to_seq`."""

    rewind_id: int
    after_seq: int
    to_seq: int
    effective_seq: int
    revert_effective_seq: int | None = None


class Span(NamedTuple):
    """A hidden range. `summary_seq` is 0 where a rewind hides; `covered` inside a compaction."""

    from_seq: int
    to_seq: int
    summary_seq: int = 0
    covered: bool = False


class Segment(NamedTuple):
    """A piece of what is seen: the messages `low` to `high`, or a summary that stands at `position`."""

    low: int
    high: int
    summary: bool
    position: int


class PartialOverlap(Exception):
    """Two compactions would count of which neither contains the other; carries the later summary."""

    def __init__(self, summary_seq: int) -> None:
        super().__init__(summary_seq)
        self.summary_seq = summary_seq


def _counts(effective: int, over: int | None, as_of: int | None) -> bool:
    if as_of is None:
        return over is None
    return effective <= as_of and (over is None or over > as_of)


def rewound_spans(rewinds: Iterable[Rewind], as_of: int | None = None) -> list[Span]:
    """The ranges that rewinds hide, merged, in order."""
    merged: list[Span] = []
    counting = (r for r in rewinds if _counts(r.effective_seq, r.revert_effective_seq, as_of))
    for low, high in sorted((r.after_seq + 1, r.to_seq) for r in counting):
        if merged and low <= merged[-1].to_seq + 1:
            merged[-1] = merged[-1]._replace(to_seq=max(high, merged[-1].to_seq))
        else:
            merged.append(Span(low, high))
    return merged


def _contains(spans: Sequence[Span], seq: int) -> bool:
    return any(span.from_seq <= seq <= span.to_seq for span in spans)


def compacted_spans(
    compactions: Iterable[Compaction], rewound: Sequence[Span], as_of: int | None = None
) -> list[Span]:
    """The ranges that compactions hide, in order, each only in its outermost one.

    A compaction whose summary is rewound doesn't count. Raises `PartialOverlap`.
    """
    counting = [
        c
        for c in compactions
        if _counts(c.summary_seq, c.revert_effective_seq, as_of)
        and not _contains(rewound, c.summary_seq)
    ]
    counting.sort(key=lambda c: (c.from_seq, -c.to_seq, -c.summary_seq))
    outer: list[Span] = []
    enclosing: list[Compaction] = []
    for compaction in counting:
        while enclosing and enclosing[-1].to_seq < compaction.from_seq:
            enclosing.pop()
        if not enclosing:
            outer.append(Span(compaction.from_seq, compaction.to_seq, compaction.summary_seq))
        elif compaction.to_seq > enclosing[-1].to_seq:
            raise PartialOverlap(max(compaction.summary_seq, enclosing[-1].summary_seq))
        enclosing.append(compaction)
    return outer


def hidden_spans(
    compactions: Iterable[Compaction], rewinds: Iterable[Rewind], as_of: int | None = None
) -> tuple[list[Span], list[Span]]:
    """What compactions hide and what rewinds hide, the latter marked where the former cover it."""
    rewound = rewound_spans(rewinds, as_of)
    compacted = compacted_spans(compactions, rewound, as_of)
    return compacted, list(_marked(rewound, compacted))


def _marked(rewound: Sequence[Span], compacted: Sequence[Span]) -> Iterator[Span]:
    places = iter(compacted)
    place = next(places, None)
    for span in rewound:
        while place is not None and place.to_seq < span.from_seq:
            place = next(places, None)
        covered = (
            place is not None and place.from_seq <= span.from_seq and span.to_seq <= place.to_seq
        )
        yield span._replace(covered=covered)


def shown(compacted: Sequence[Span], rewound: Sequence[Span]) -> list[Span]:
    """The spans that interrupt the context, in order."""
    return sorted([*compacted, *(span for span in rewound if not span.covered)])


def segments(spans: Sequence[Span], first_seq: int, last_seq: int) -> list[Segment]:
    """What is seen between ordered spans, each summary where the range that it replaces stood."""
    found: list[Segment] = []
    low = first_seq
    for span in spans:
        if span.from_seq > last_seq:
            break
        if low < span.from_seq:
            found.append(Segment(low, span.from_seq - 1, summary=False, position=low))
        if span.summary_seq:
            found.append(
                Segment(span.summary_seq, span.summary_seq, summary=True, position=span.from_seq)
            )
        low = max(low, span.to_seq + 1)
    if low <= last_seq:
        found.append(Segment(low, last_seq, summary=False, position=low))
    return found


def between(found: Sequence[Segment], low: int, high: int) -> list[Segment]:
    """The segments, cut to the positions `low` to `high`."""
    cut = []
    for segment in found:
        if segment.summary:
            if low <= segment.position <= high:
                cut.append(segment)
        elif segment.low <= high and segment.high >= low:
            start = max(segment.low, low)
            cut.append(Segment(start, min(segment.high, high), summary=False, position=start))
    return cut

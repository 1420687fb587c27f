"""What `show` shows: a window of a session's log, with the hidden ranges folded.

Hidden ranges are jumped over, not read, so a window costs what it shows.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field

from sessiond.v1.compaction_pb2 import Compaction
from sessiond.v1.message_pb2 import ROLE_TOOL, Message, Rewind

PAIR_LOOKBACK = 50
"""How many more messages a window takes in so as not to begin inside a tool call's results."""
WHOLE_PAGE = 500

Reader = Callable[[int, bool, int], Iterable[Message]]
"""Reads the whole log from a seq on, that one included; downwards if the flag is set; so many
messages a page."""


@dataclass
class Fold:
    """A compacted range. `summary` is its summary if it was read, `messages` the range if it is open."""

    compaction: Compaction
    summary: Message | None = None
    messages: list[Message] | None = None

    @property
    def span(self) -> tuple[int, int]:
        """The first and the last seq of the range."""
        return self.compaction.from_seq, self.compaction.to_seq


@dataclass
class Gap:
    """A range that rewinds hide."""

    from_seq: int
    to_seq: int

    @property
    def span(self) -> tuple[int, int]:
        """The first and the last seq of the range."""
        return self.from_seq, self.to_seq


Row = Message | Fold | Gap


@dataclass
class Window:
    """Rows in the log's order, and the seqs shown; `earlier` and `later` say that there is more."""

    rows: list[Row] = field(default_factory=list)
    earlier: bool = False
    later: bool = False

    @property
    def span(self) -> tuple[int, int]:
        """The first and the last seq of the window; (0, 0) when it is empty."""
        if not self.rows:
            return 0, 0
        return _span(self.rows[0])[0], _span(self.rows[-1])[1]


@dataclass(frozen=True)
class WindowOptions:
    """Which part of a session to show, and what not to hide. 0 is no `limit`, and no `to_seq`."""

    from_seq: int = 0
    limit: int = 50
    expand: bool = False
    show_all: bool = False
    to_seq: int = 0


def for_people(message: Message) -> bool:
    """Whether people are meant to see a message."""
    return not message.hidden_from_people


def hidden_ranges(
    compactions: Iterable[Compaction], rewinds: Iterable[Rewind], show_all: bool
) -> list[Fold | Gap]:
    """The ranges to jump over, by seq and disjoint: folds, and what is rewound outside of them."""
    folds = [Fold(c) for c in compactions if c.in_context and not c.HasField("revert_time")]
    gaps = [] if show_all else _merged_gaps(rewinds)
    outside = [g for g in gaps if not any(_inside(g.span, f.span) for f in folds)]
    return sorted([*folds, *outside], key=lambda hidden: hidden.span)


def read_window(
    read: Reader, hidden: list[Fold | Gap], last_seq: int, options: WindowOptions
) -> Window:
    """Reads rows: the newest up to `to_seq`, or those from `from_seq` on; folds with their summaries."""
    walk = _Walk(read, hidden, min(last_seq, options.to_seq or last_seq), options)
    take = _take_ascending if options.from_seq else _take_descending
    window = take(walk, options)
    for row in window.rows:
        if isinstance(row, Fold):
            _fill(row, read, options.expand)
    return window


def _take_ascending(walk: _Walk, options: WindowOptions) -> Window:
    window = Window(earlier=options.from_seq > 1)
    for row in walk.up(options.from_seq):
        if options.limit and len(window.rows) >= options.limit:
            window.later = True
            break
        window.rows.append(row)
    return window


def _take_descending(walk: _Walk, options: WindowOptions) -> Window:
    window = Window()
    for row in walk.down():
        if options.limit and len(window.rows) >= options.limit and _complete(window.rows, options):
            window.earlier = True
            break
        window.rows.append(row)
    window.rows.reverse()
    return window


def _complete(newest_first: list[Row], options: WindowOptions) -> bool:
    if len(newest_first) >= options.limit + PAIR_LOOKBACK:
        return True
    oldest = newest_first[-1]
    return not (isinstance(oldest, Message) and oldest.role == ROLE_TOOL)


@dataclass
class _Walk:
    read: Reader
    hidden: list[Fold | Gap]
    last_seq: int
    options: WindowOptions

    def down(self) -> Iterator[Row]:
        """Rows from the newest to the oldest."""
        position = self.last_seq
        while position > 0:
            found = self._hidden_at(position)
            if found:
                yield found
                position = found.span[0] - 1
            else:
                position = yield from self._run(position, descending=True)

    def up(self, start: int) -> Iterator[Row]:
        """Rows from a seq on to the newest."""
        position = start
        while position <= self.last_seq:
            found = self._hidden_at(position)
            if found:
                yield found
                position = found.span[1] + 1
            else:
                position = yield from self._run(position, descending=False)

    def _run(self, start: int, descending: bool) -> Generator[Row, None, int]:
        """Yields messages up to the next hidden range; returns the seq there, or past the end."""
        for message in self.read(start, descending, self.options.limit or WHOLE_PAGE):
            if message.seq > self.last_seq:
                break
            if self._hidden_at(message.seq):
                return message.seq
            if (self.options.show_all or for_people(message)) and not self._out_of_place(message):
                yield message
        return 0 if descending else self.last_seq + 1

    def _out_of_place(self, message: Message) -> bool:
        """A compaction's summary is shown where its range stood, or no longer."""
        if not message.replaces_from_seq:
            return False
        return not self.options.show_all or any(
            isinstance(f, Fold) and f.compaction.id == message.seq for f in self.hidden
        )

    def _hidden_at(self, seq: int) -> Fold | Gap | None:
        index = bisect_right(self.hidden, seq, key=lambda hidden: hidden.span[0]) - 1
        if index < 0 or self.hidden[index].span[1] < seq:
            return None
        return self.hidden[index]


def _fill(fold: Fold, read: Reader, expand: bool) -> None:
    summary_seq = fold.compaction.id
    fold.summary = next((m for m in read(summary_seq, False, 1) if m.seq == summary_seq), None)
    if not expand:
        return
    first, last = fold.span
    fold.messages = []
    for message in read(first, False, WHOLE_PAGE):
        if message.seq > last:
            break
        if not message.rewound and not message.replaces_from_seq and for_people(message):
            fold.messages.append(message)


def _merged_gaps(rewinds: Iterable[Rewind]) -> list[Gap]:
    spans = sorted((r.after_seq + 1, r.to_seq) for r in rewinds if not r.HasField("revert_time"))
    gaps: list[Gap] = []
    for first, last in spans:
        if gaps and first <= gaps[-1].to_seq + 1:
            gaps[-1].to_seq = max(gaps[-1].to_seq, last)
        else:
            gaps.append(Gap(first, last))
    return gaps


def _inside(inner: tuple[int, int], outer: tuple[int, int]) -> bool:
    return outer[0] <= inner[0] and inner[1] <= outer[1]


def _span(row: Row) -> tuple[int, int]:
    return (row.seq, row.seq) if isinstance(row, Message) else row.span

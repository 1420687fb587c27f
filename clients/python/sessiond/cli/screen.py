"""The terminal while a feed is followed: what happened, and beneath it the drafts as they grow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.text import Text

from sessiond import Event
from sessiond.cli.render.drafts import Drafts
from sessiond.cli.render.feed import FeedPainter

_LEAST = 3
"""Lines of a draft that are worth showing: a blank one, its heading, one more."""


class Screen:
    """Prints lines and, if told to, drafts in a region beneath them, which goes away in the end.

    The region is never higher than the terminal: of long drafts the last lines are shown. The cursor
    stands behind the last word that was written.
    """

    def __init__(self, console: Console, painter: FeedPainter, *, drafts: bool) -> None:
        self._console = console
        self._painter = painter
        self._drafts = Drafts() if drafts else None
        self._height = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._write("", [])

    def take(self, events: Sequence[Event]) -> Sequence[Event]:
        """Follows the drafts; the events that remain to be painted."""
        return events if self._drafts is None else self._drafts.take(events)

    def print(self, lines: Iterable[Text]) -> None:
        """Prints lines above the drafts, and the drafts as they are now, in one write."""
        if self._drafts is None:
            for line in lines:
                self._console.print(line, soft_wrap=True)
            return
        with self._console.capture() as above:
            for line in lines:
                self._console.print(line, soft_wrap=True)
        self._write(above.get(), list(self._region(self._drafts)))

    def say(self, text: str) -> None:
        """Says on stderr that the connection changed. Drafts go away, and come again with it."""
        if self._drafts is not None:
            self._drafts = Drafts()
            self._write("", [])
        say(text)

    def _write(self, above: str, region: list[str]) -> None:
        # Not rich's Live: an interrupt within its write makes it forget how high its region is.
        text = _erased(self._height) + above + "\n".join(region)
        self._height = len(region)
        if text:
            self._console.file.write(text)
            self._console.file.flush()

    def _region(self, drafts: Drafts) -> Iterator[str]:
        """The lines of the drafts, as they are written."""
        room = self._console.height - 1
        shown = list(drafts.open.items())[: max(1, room // _LEAST)]
        painted = [
            [Text(), *self._painter.draft(session_id, draft.message())]
            for (session_id, _), draft in shown
        ]
        heights = shares([len(lines) for lines in painted], room)
        for lines, height in zip(painted, heights, strict=True):
            for line in _end_of(lines, height):
                with self._console.capture() as written:
                    self._console.print(line, end="", no_wrap=True, overflow="crop")
                yield written.get()


def say(text: str) -> None:
    """Says something on stderr that isn't an error, dim."""
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    console.print(Text(text, style="dim"), soft_wrap=True)


def _erased(height: int) -> str:
    """Takes away the last lines, in the last of which the cursor stands."""
    up = f"\x1b[{height - 1}A" if height > 1 else ""
    return f"\r{up}\x1b[J" if height else ""


def shares(needs: Sequence[int], room: int) -> list[int]:
    """What each gets of so much room: as much as it needs, or the same as others who need more."""
    given = [0] * len(needs)
    by_need = sorted(range(len(needs)), key=needs.__getitem__)
    for position, which in enumerate(by_need):
        given[which] = min(needs[which], room // (len(needs) - position))
        room -= given[which]
    return given


def _end_of(lines: list[Text], height: int) -> list[Text]:
    """The blank line and the heading, and of what follows as much of the end as fits."""
    if len(lines) <= height:
        return lines
    if height < _LEAST:
        return lines[len(lines) - height :]
    heading = lines[1].copy().append("  the end of it:", style="dim")
    return [lines[0], heading, *lines[len(lines) - height + 2 :]]

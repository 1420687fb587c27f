"""Titles: what is kept of what was typed, and their series "x", "x #2", "x #3"."""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

MAX_LENGTH = 100
_ROOT = 64
_NUMBERED = re.compile(r"(?P<series>.*\S) #(?P<number>[1-9][0-9]{0,17})", re.DOTALL)
_WHITE = re.compile(r"\s+")


class SeriesTitle(NamedTuple):
    """A title as the number-th of its series; the first has no number in its text."""

    name: str
    number: int


def clean(title: str) -> str:
    """The title without control and format (zero-width, bidi) characters, white space collapsed. It may
    still be too long."""
    collapsed = _WHITE.sub(" ", title)
    kept = "".join(c for c in collapsed if unicodedata.category(c) not in {"Cc", "Cf"})
    return _WHITE.sub(" ", kept).strip()


def series(title: str) -> SeriesTitle:
    """The series that a title belongs to."""
    match = _NUMBERED.fullmatch(title)
    if match is None or int(match["number"]) < 2:
        return SeriesTitle(title, 1)
    return SeriesTitle(match["series"], int(match["number"]))


def root(title: str) -> str:
    """What all titles of a series begin with, those too for which a long name was shortened."""
    return series(title).name[:_ROOT]


def follows(title: str, other: str) -> bool:
    """Whether a title is a later one of the series of another one."""
    (name, number), (_, later) = series(other), series(title)
    return later > number and title == numbered(name, later)


def numbered(name: str, number: int) -> str:
    """The number-th title of a series, shortened to fit."""
    if number == 1:
        return name
    suffix = f" #{number}"
    return name[: MAX_LENGTH - len(suffix)].rstrip() + suffix

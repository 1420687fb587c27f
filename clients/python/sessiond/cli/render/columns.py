"""Rows in columns, none of which is cut but the first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text

_GAP = "  "
_NARROWEST = 16


def columns(
    names: Sequence[str], rows: Sequence[Sequence[Text]], width: int, right: Sequence[str] = ()
) -> Iterator[Text]:
    """A line of names and a line per row, for so many columns of the terminal.

    What doesn't fit is cut from the first column, down to 16 columns; `right` names those whose
    cells stand to the right.
    """
    heads = [Text(name, style="bold dim") for name in names]
    lines = [heads, *rows]
    needed = [max(line[i].cell_len for line in lines) for i in range(len(names))]
    others = sum(needed[1:]) + len(_GAP) * (len(names) - 1)
    needed[0] = min(needed[0], max(_NARROWEST, width - others))
    for line in lines:
        cells = [
            _cell(cell, size, name in right)
            for cell, size, name in zip(line, needed, names, strict=True)
        ]
        joined = Text(_GAP).join(cells)
        joined.rstrip()
        yield joined


def _cell(cell: Text, width: int, right: bool) -> Text:
    shown = cell.copy()
    shown.truncate(width, overflow="ellipsis")
    padding = Text(" " * (width - shown.cell_len))
    return Text.assemble(padding, shown) if right else Text.assemble(shown, padding)

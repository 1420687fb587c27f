"""Hits of a search for people: what was found, marked, with the messages around it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from rich.text import Text

from sessiond.cli.output import enum_name
from sessiond.cli.render.prose import one_line
from sessiond.cli.render.times import relative
from sessiond.v1.message_pb2 import Role
from sessiond.v1.search_service_pb2 import (
    SearchField,
    SearchHit,
    SearchNeighbor,
    SearchSnippet,
)

_MARK = "bold reverse"
_PLAIN = ("text", "unspecified")


def hit_lines(hit: SearchHit, now: datetime | None = None) -> Iterator[Text]:
    """Where it is, then the messages before it, the snippet and the messages after it."""
    yield _where(hit, now or datetime.now(UTC))
    for neighbor in hit.before:
        yield _neighbor(neighbor)
    yield Text("    ").append_text(snippet(hit.snippet))
    for neighbor in hit.after:
        yield _neighbor(neighbor)


def _where(hit: SearchHit, now: datetime) -> Text:
    line = Text(one_line(hit.session_title) or hit.session_id, style="bold")
    if hit.session_title:
        line.append(f"  {hit.session_id}", style="not bold dim")
    facts = [f"#{hit.seq}", enum_name(Role.DESCRIPTOR, hit.role)]
    field = enum_name(SearchField.DESCRIPTOR, hit.field)
    if field not in _PLAIN:
        facts.append(field.replace("_", " "))
    facts.append(relative(hit.create_time, now))
    if hit.compacted_by_seq:
        facts.append(f"compacted in #{hit.compacted_by_seq}")
    facts += [name for name in ("offloaded", "rewound") if getattr(hit, name)]
    return line.append("  " + " · ".join(facts), style="not bold cyan")


def _neighbor(neighbor: SearchNeighbor) -> Text:
    who = enum_name(Role.DESCRIPTOR, neighbor.role)
    cut = "…" if neighbor.cut else ""
    return Text(f"    {who}: {one_line(neighbor.text)}{cut}", style="dim")


def snippet(found: SearchSnippet) -> Text:
    """The snippet on one line, with what was found marked."""
    line = Text("…" if found.cut_before else "")
    for run in found.runs:
        line.append(_flat(run.text), style=_MARK if run.match else None)
    return line.append("…" if found.cut_after else "")


def _flat(text: str) -> str:
    """A piece of a line, whose ends may be spaces."""
    inner = one_line(text)
    if not inner:
        return " " if text else ""
    before = " " if text[0].isspace() else ""
    return f"{before}{inner}{' ' if text[-1].isspace() else ''}"

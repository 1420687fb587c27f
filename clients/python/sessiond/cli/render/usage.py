"""Usage and an agent's own records, for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

from rich.text import Text

from sessiond.cli.render.columns import columns
from sessiond.cli.render.prose import one_line
from sessiond.cli.render.times import relative
from sessiond.v1.journal_pb2 import JournalRecord
from sessiond.v1.usage_pb2 import Cost, Usage
from sessiond.v1.usage_service_pb2 import UsageGroup

_COUNTS = {
    "CALLS": "model_calls",
    "INPUT": "input_tokens",
    "OUTPUT": "output_tokens",
    "CACHE READ": "cache_read_tokens",
    "CACHE WRITE": "cache_write_tokens",
    "REASONING": "reasoning_tokens",
    "TOTAL": "total_tokens",
}
_MONEY = ("ESTIMATED", "ACTUAL")


def usage_lines(
    groups: Sequence[UsageGroup], total: Usage | None, by: Sequence[str], width: int
) -> Iterator[Text]:
    """A line per group, and one for the total. `by` are the names of the columns that tell them apart."""
    rows = [[*_names(it, by), *_amounts(it.usage)] for it in groups]
    if total is not None:
        label = [Text("(all)", style="bold"), *(Text() for _ in by[1:])]
        rows.append([*label, *(_bold(cell) for cell in _amounts(total))])
    numbers = (*_COUNTS, *_MONEY)
    return columns((*by, *numbers), rows, width, right=numbers)


def _names(group: UsageGroup, by: Sequence[str]) -> list[Text]:
    found = {
        "SESSION": group.session_id or "(deleted)",
        "OWNER": one_line(group.owner) or "(none)",
        "AGENT": one_line(group.agent) or "(none)",
        "SOURCE": one_line(group.source) or "(none)",
        "DAY": group.day,
        "MODEL": one_line(group.model) or "(none)",
        "TURN": str(group.turn_index),
    }
    return [Text(found[name]) for name in by]


def _amounts(usage: Usage) -> list[Text]:
    counts = [Text(f"{getattr(usage, field):,}") for field in _COUNTS.values()]
    costs = [
        Text(
            ", ".join(
                f"{getattr(it, name)} {it.currency}" for it in usage.costs if getattr(it, name)
            )
        )
        for name in ("estimated", "actual")
    ]
    return counts + costs


def _bold(cell: Text) -> Text:
    cell.stylize("bold")
    return cell


def usage_summary(usage: Usage) -> str:
    """Tokens and costs in a few words."""
    words = [f"{usage.total_tokens:,} tokens"]
    if usage.model_calls:
        plural = "" if usage.model_calls == 1 else "s"
        words.append(f"{usage.model_calls:,} model call{plural}")
    words += [_cost(it) for it in usage.costs]
    return ", ".join(words)


def _cost(cost: Cost) -> str:
    if cost.actual:
        return f"{cost.actual} {cost.currency}"
    return f"about {cost.estimated} {cost.currency}"


def records_lines(
    records: Iterable[JournalRecord], width: int, now: datetime | None = None
) -> Iterator[Text]:
    """A line per record: what it says, its number, kind, turn and time."""
    at = now or datetime.now(UTC)
    rows = [
        [
            Text(one_line(it.content.decode(errors="replace"))),
            Text(str(it.seq)),
            Text(one_line(it.kind)),
            Text(str(it.turn_index or "")),
            Text(relative(it.create_time, at), style="dim"),
        ]
        for it in records
    ]
    return columns(("RECORD", "N", "KIND", "TURN", "MADE"), rows, width, right=("N", "TURN"))

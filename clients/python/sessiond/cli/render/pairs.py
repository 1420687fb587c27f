"""Tool calls and their results, brought together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from sessiond.cli.transcript import Fold, Gap, Row
from sessiond.v1.message_pb2 import Message, ToolCall


@dataclass
class Call:
    """A tool call, its result if it is shown, and whether it still waits for one."""

    call: ToolCall
    result: Message | None = None
    is_open: bool = False


@dataclass
class Turn:
    """A message with its tool calls."""

    message: Message
    calls: list[Call] = field(default_factory=list)


Item = Turn | Fold | Gap


def pair(rows: Iterable[Row], open_calls: frozenset[tuple[int, str]]) -> list[Item]:
    """The rows with each result moved beneath the call that it answers.

    A result answers every earlier unanswered call with its id. One whose call isn't among the rows
    stays a turn of its own. `open_calls` holds the seq and the id of calls that wait.
    """
    items: list[Item] = []
    waiting: dict[tuple[str, bool], list[Call]] = {}
    for row in rows:
        if not isinstance(row, Message):
            items.append(row)
            continue
        answered = waiting.pop((row.tool_call_id, row.rewound), []) if row.tool_call_id else []
        for call in answered:
            call.result = row
        if answered:
            continue
        turn = Turn(row, [Call(c, is_open=(row.seq, c.id) in open_calls) for c in row.tool_calls])
        for call in turn.calls:
            waiting.setdefault((call.call.id, row.rewound), []).append(call)
        items.append(turn)
    return items

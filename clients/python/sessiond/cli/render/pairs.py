"""Tool calls and their results, brought together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from sessiond import tool_calls_of
from sessiond.cli.transcript import Fold, Gap, Row
from sessiond.v1.message_pb2 import Message, ToolCall, ToolResult


@dataclass
class Call:
    """A tool call, its result if it is shown, with its message's seq, and whether it still waits for one."""

    call: ToolCall
    result: ToolResult | None = None
    result_seq: int = 0
    is_open: bool = False


@dataclass
class Turn:
    """A message with its tool calls. `moved` are the places of results that stand beneath their calls."""

    message: Message
    calls: list[Call] = field(default_factory=list)
    moved: set[int] = field(default_factory=set)

    @property
    def is_empty(self) -> bool:
        """Whether nothing of it is left to be shown here."""
        return bool(self.moved) and len(self.moved) == len(self.message.parts)


Item = Turn | Fold | Gap


def pair(rows: Iterable[Row], open_calls: frozenset[tuple[int, str]]) -> list[Item]:
    """The rows with each result moved beneath the call that it answers.

    A result answers every unanswered call with its id, in the messages before and in its own. One whose call
    isn't among the rows stays where it is. `open_calls` holds the seq and the id of calls that wait.
    """
    items: list[Item] = []
    waiting: dict[tuple[str, bool], list[Call]] = {}
    for row in rows:
        if not isinstance(row, Message):
            items.append(row)
            continue
        calls = [Call(it, is_open=(row.seq, it.id) in open_calls) for it in tool_calls_of(row)]
        turn = Turn(row, calls)
        for call in turn.calls:
            waiting.setdefault((call.call.id, row.rewound), []).append(call)
        for place, part in enumerate(row.parts):
            id = part.tool_result.tool_call_id
            for call in waiting.pop((id, row.rewound), []) if id else []:
                call.result, call.result_seq = part.tool_result, row.seq
                turn.moved.add(place)
        if not turn.is_empty:
            items.append(turn)
    return items

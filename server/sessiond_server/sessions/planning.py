"""Which range of a context to compact: safe for its tool calls, and no larger than the goal asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from sessiond_server.sessions.toolcalls import Item, ToolCalls

LEADING_ROLES = frozenset({1, 2})
"""System and developer: at the very beginning of a context they stay."""
LEADING_LIMIT = 16


@dataclass(frozen=True, slots=True)
class Goal:
    """What the context should come down to; `None` is no goal of that kind."""

    max_context_tokens: int | None = None
    max_context_messages: int | None = None
    summary_tokens: int = 0
    keep_recent: int = 4

    def reached(self, tokens: int, messages: int) -> bool:
        return (self.max_context_tokens is None or tokens <= self.max_context_tokens) and (
            self.max_context_messages is None or messages <= self.max_context_messages
        )

    @property
    def given(self) -> bool:
        return self.max_context_tokens is not None or self.max_context_messages is not None

    def worth(self, plan: Plan) -> tuple[int, int]:
        """How much a plan does for the goal."""
        messages = plan.last - plan.first + 1
        in_messages = self.max_context_messages is not None
        return (messages, plan.tokens) if in_messages else (plan.tokens, messages)


@dataclass(frozen=True, slots=True)
class Plan:
    """Places `first` to `last` of the context, both included."""

    first: int
    last: int
    tokens: int
    reaches_goal: bool


WITHIN_GOAL, TOO_SHORT, OPEN_TOOL_CALL = 1, 2, 3
"""Why there is nothing to compact: the values of `sessiond.v1.NothingToCompact`."""


def leading(items: Sequence[Item], *, summaries: bool) -> int:
    """How many system and developer messages stand at the very beginning, with summaries or up to one."""
    count = 0
    for item in items[:LEADING_LIMIT]:
        if item.role not in LEADING_ROLES or (item.summary and not summaries):
            break
        count += 1
    return count


def plan(calls: ToolCalls, goal: Goal) -> Plan | int:
    """The range to compact, or why there is none."""
    items = calls.items
    tokens = sum(item.tokens for item in items)
    if goal.given and goal.reached(tokens, len(items)):
        return WITHIN_GOAL
    first, last = leading(items, summaries=False), len(items) - 1 - goal.keep_recent
    if not _worth_it(items, first, last):
        return TOO_SHORT
    found = [_within(calls, run, goal, tokens) for run in calls.safe(first, last)]
    plans = [each for each in found if each is not None]
    if not plans:
        return OPEN_TOOL_CALL
    enough = (each for each in plans if goal.given and each.reaches_goal)
    return next(enough, None) or max(plans, key=goal.worth)


def _worth_it(items: Sequence[Item], first: int, last: int) -> bool:
    return first < last or (first == last and not items[first].summary)


def _within(calls: ToolCalls, run: tuple[int, int], goal: Goal, tokens: int) -> Plan | None:
    """The beginning of a safe run that is enough for the goal, or all of it."""
    first, last = run
    if not _worth_it(calls.items, first, last):
        return None
    sums = list(accumulate(item.tokens for item in calls.items[first : last + 1]))
    for place in range(first, last + 1):
        if calls.halves[place + 1] != calls.halves[first]:
            continue
        removed = sums[place - first]
        left = len(calls.items) - (place - first + 1) + 1
        reached = goal.given and goal.reached(tokens - removed + goal.summary_tokens, left)
        if reached and _worth_it(calls.items, first, place):
            return Plan(first, place, removed, reaches_goal=True)
    return Plan(first, last, sums[-1], reaches_goal=not goal.given)

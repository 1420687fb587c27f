"""What a plan must be like, whatever way it was found: compared with all ranges that there are."""

from __future__ import annotations

from sessiond import v1
from tests.model.driver import Pair
from tests.model.log import Entry, Log, Refused, leading

WITHIN_GOAL = v1.NothingToCompact.NOTHING_TO_COMPACT_WITHIN_GOAL
TOO_SHORT = v1.NothingToCompact.NOTHING_TO_COMPACT_TOO_SHORT
OPEN_TOOL_CALL = v1.NothingToCompact.NOTHING_TO_COMPACT_OPEN_TOOL_CALL


def checked(pair: Pair, request: v1.PlanCompactionRequest) -> v1.PlanCompactionResponse:
    """The server's plan, which does what it says, and is none only where the model finds none."""
    request.session_id = pair.session_id
    model = pair.model
    answer = pair.stubs.outcome("PlanCompaction", request)
    if isinstance(answer, Refused):
        assert answer.reason == "COMPACTION_LEASE_HELD"
        assert model.compactor.holder not in ("", request.holder)
        return v1.PlanCompactionResponse()
    if answer.HasField("lease"):
        assert answer.lease.holder == request.holder
        model.compactor.take(request.holder, answer.lease.token)
    assert answer.HasField("lease") == (request.acquire_lease and answer.HasField("plan"))
    assert answer.version == model.version()
    assert isinstance(answer, v1.PlanCompactionResponse)
    check(pair.log, request, answer)
    return answer


def check(log: Log, request: v1.PlanCompactionRequest, answer: v1.PlanCompactionResponse) -> None:
    """Compare an answer with all ranges that there are."""
    if answer.HasField("plan"):
        _check_plan(log, request, answer.plan)
    else:
        assert answer.nothing == _nothing(log, request)


def _reached(request: v1.PlanCompactionRequest, tokens: int, messages: int) -> bool:
    goal = request.WhichOneof("goal")
    if goal == "max_context_tokens":
        return tokens <= request.max_context_tokens
    if goal == "max_context_messages":
        return messages <= request.max_context_messages
    return True


def _reaches(log: Log, request: v1.PlanCompactionRequest, inside: list[Entry]) -> bool:
    entries = log.context()
    tokens = sum(e.tokens for e in entries) - sum(e.tokens for e in inside)
    return _reached(request, tokens + request.summary_token_count, len(entries) - len(inside) + 1)


def _candidates(log: Log, request: v1.PlanCompactionRequest) -> list[Entry]:
    """What may be compacted at all: neither the leading messages nor those to keep."""
    entries = log.context()
    keep = request.keep_recent_messages or 4
    return entries[leading(entries, summaries=False) : max(len(entries) - keep, 0)]


def _worth(entries: list[Entry]) -> bool:
    return len(entries) > 1 or (len(entries) == 1 and entries[0].low == entries[0].message.seq)


def _safe(log: Log, request: v1.PlanCompactionRequest) -> list[list[Entry]]:
    candidates = _candidates(log, request)
    everything = log.context()
    ranges = [
        candidates[first : last + 1]
        for first in range(len(candidates))
        for last in range(first, len(candidates))
    ]
    return [r for r in ranges if _worth(r) and not log.splits(everything, r)]


def _nothing(log: Log, request: v1.PlanCompactionRequest) -> v1.NothingToCompact.ValueType:
    entries = log.context()
    tokens = sum(entry.tokens for entry in entries)
    if request.WhichOneof("goal") and _reached(request, tokens, len(entries)):
        return WITHIN_GOAL
    if not _worth(_candidates(log, request)):
        return TOO_SHORT
    assert not _safe(log, request), "a safe range was overlooked"
    return OPEN_TOOL_CALL


def _check_plan(log: Log, request: v1.PlanCompactionRequest, plan: v1.CompactionPlan) -> None:
    assert log.refusal(plan.from_seq, plan.to_seq) == ""
    candidates = _candidates(log, request)
    inside = [e for e in candidates if plan.from_seq <= e.low and e.high <= plan.to_seq]
    everything = [e for e in log.context() if plan.from_seq <= e.low and e.high <= plan.to_seq]
    assert inside == everything, "the plan takes in what must stay"
    assert _worth(inside)
    assert plan.message_count == len(inside)
    assert plan.token_count == sum(entry.tokens for entry in inside)
    assert plan.reaches_goal == _reaches(log, request, inside)
    if not plan.reaches_goal:
        better = [r for r in _safe(log, request) if _reaches(log, request, r)]
        assert not better, "a range that reaches the goal was overlooked"
    if not (plan.reaches_goal and request.WhichOneof("goal")):
        assert _worth_of(request, inside) == max(_worth_of(request, r) for r in _safe(log, request))


def _worth_of(request: v1.PlanCompactionRequest, entries: list[Entry]) -> int:
    """What compacting these does for the goal."""
    if request.WhichOneof("goal") == "max_context_messages":
        return len(entries)
    return sum(entry.tokens for entry in entries)

"""Usage on its way in and out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from decimal import Decimal

from sessiond.v1 import usage_pb2 as pb
from sessiond_server.rpc import checks, limits
from sessiond_server.rpc.checks import Checks
from sessiond_server.sessions.usage import Amounts, Record, decimal_text
from sessiond_server.store.sessions import SessionRow

_DEFAULT_CURRENCY = "USD"
COUNTS = (
    "model_calls",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "total_tokens",
)
BILLING = ("provider", "base_url", "mode", "cost_status", "cost_source", "pricing_version")
_LARGEST = 2**63 - 1


def record_in(record: pb.UsageRecord, where: str, check: Checks) -> Record | None:
    """A record to be counted; `check` gets what is wrong with it, and then there is none."""
    wrong = len(check.violations)
    _check_usage(record.usage, f"{where}.usage", check)
    check.text(f"{where}.model", record.model)
    for field in BILLING:
        most = limits.BASE_URL if field == "base_url" else limits.SHORT_TEXT
        check.text(f"{where}.billing.{field}", getattr(record.billing, field), most)
    check.not_negative(f"{where}.turn_index", record.turn_index)
    if record.set_turn and not record.HasField("turn_index"):
        check.wrong(f"{where}.turn_index", "is required to set a turn")
    if record.HasField("time"):
        check.timestamp(f"{where}.time", record.time)
    check.request_id(f"{where}.request_id", record.request_id)
    if len(check.violations) > wrong:
        return None
    cost = record.usage.costs[0] if record.usage.costs else pb.Cost()
    return Record(
        amounts=_amounts(record.usage, cost),
        model=record.model,
        currency=(cost.currency or _DEFAULT_CURRENCY) if cost.estimated or cost.actual else "",
        turn_index=record.turn_index if record.HasField("turn_index") else None,
        set_turn=record.set_turn,
        time=checks.moment(record.time) if record.HasField("time") else None,
        billing=tuple(getattr(record.billing, field) for field in BILLING),
        request_id=record.request_id,
        digest=hashlib.blake2b(
            record.SerializeToString(deterministic=True), digest_size=16
        ).digest(),
    )


def _check_usage(usage: pb.Usage, where: str, check: Checks) -> None:
    for field in COUNTS:
        if not 0 <= getattr(usage, field) <= limits.USAGE_COUNT:
            check.wrong(f"{where}.{field}", f"must be 0 to {limits.USAGE_COUNT}")
    check.count(f"{where}.costs", len(usage.costs), 1)
    for cost in usage.costs[:1]:
        check.money(f"{where}.costs[0].estimated", cost.estimated)
        check.money(f"{where}.costs[0].actual", cost.actual)
        if not limits.CURRENCY.fullmatch(cost.currency):
            check.wrong(f"{where}.costs[0].currency", limits.CURRENCY_FORM)


def _amounts(usage: pb.Usage, cost: pb.Cost) -> Amounts:
    kinds = (usage.input_tokens, usage.output_tokens)
    cached = (usage.cache_read_tokens, usage.cache_write_tokens)
    return Amounts(
        1,
        usage.model_calls,
        *kinds,
        *cached,
        usage.reasoning_tokens,
        usage.total_tokens or sum(kinds) + sum(cached),
        int(bool(cost.estimated)),
        Decimal(cost.estimated or 0),
        int(bool(cost.actual)),
        Decimal(cost.actual or 0),
    )


def usage_out(sums: Mapping[str, Amounts]) -> pb.Usage:
    """Sums by currency."""
    usage = pb.Usage()
    for field in COUNTS:
        total = sum(int(getattr(amounts, field)) for amounts in sums.values())
        setattr(usage, field, min(total, _LARGEST))
    for currency, amounts in sorted(sums.items()):
        if amounts.estimated_count or amounts.actual_count:
            usage.costs.add(
                currency=currency,
                estimated=decimal_text(amounts.estimated) if amounts.estimated_count else "",
                actual=decimal_text(amounts.actual) if amounts.actual_count else "",
            )
    return usage


def session_usage(row: SessionRow) -> pb.SessionUsage | None:
    """What a session used itself; `None` while nothing is recorded."""
    if row.usage_json is None and row.billing_json is None:
        return None
    sums = {
        currency: Amounts._make(
            [*amounts[:9], Decimal(amounts[9]), amounts[10], Decimal(amounts[11])]
        )
        for currency, *amounts in json.loads(row.usage_json or "[]")
    }
    facts = json.loads(row.billing_json or "[]")
    billing = pb.Billing(**dict(zip(BILLING, facts, strict=False)))
    return pb.SessionUsage(own=usage_out(sums), billing=billing)

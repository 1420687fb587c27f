"""The calls of UsageService."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from decimal import Decimal

from sessiond import v1
from sessiond._calls import Service, paged, unary, whole
from sessiond._ids import uuid7
from sessiond._requests import values
from sessiond._requests.values import enum_value

_rpc = Service("sessiond.v1.UsageService").rpc


def usage_record(
    *,
    input_tokens: int = 0,
    output_tokens: int = 0,
    cache_read_tokens: int = 0,
    cache_write_tokens: int = 0,
    reasoning_tokens: int = 0,
    total_tokens: int = 0,
    model_calls: int = 0,
    estimated_cost: Decimal | str | None = None,
    actual_cost: Decimal | str | None = None,
    currency: str = "",
    model: str = "",
    turn_index: int | None = None,
    set_turn: bool = False,
    provider: str = "",
    base_url: str = "",
    mode: str = "",
    cost_status: str = "",
    cost_source: str = "",
    pricing_version: str = "",
    time: datetime | None = None,
    request_id: str = "",
) -> v1.UsageRecord:
    """What calls of a model used, for `record_usage` and `append`.

    Args:
        input_tokens: Tokens that the model read, without those of the cache.
        output_tokens: Tokens that it wrote, its reasoning included.
        cache_read_tokens: Tokens that were read from the provider's cache.
        cache_write_tokens: Tokens that were written to it.
        reasoning_tokens: Tokens of the output that were reasoning.
        total_tokens: All tokens; left out, the sum of the first four.
        model_calls: How many calls of models it were.
        estimated_cost: By a price list. Decimals are kept exactly; floats aren't taken.
        actual_cost: As it was billed.
        currency: Of the costs, by three capital letters; left out, `USD`.
        model: The model. A session without one gets that of its first usage.
        turn_index: The agent's turn, if usage is kept by turns.
        set_turn: Whether to replace what is recorded of the turn.
        provider: Who is paid. Of this, `base_url` and `mode` the first that is recorded stays.
        base_url: Where the provider's API is.
        mode: In which way it is paid for.
        cost_status: What the costs are; of this and the next two the last that is recorded counts.
        cost_source: Where they are from.
        pricing_version: Which version of the prices.
        time: When it was used, with a time zone; left out, now.
        request_id: An id of this record, to make it safe to record again for ever.
    """
    usage = v1.Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cache_read_tokens=cache_read_tokens,
        cache_write_tokens=cache_write_tokens,
        reasoning_tokens=reasoning_tokens,
        total_tokens=total_tokens,
        model_calls=model_calls,
    )
    if estimated_cost is not None or actual_cost is not None:
        usage.costs.add(
            currency=currency, estimated=_money(estimated_cost), actual=_money(actual_cost)
        )
    billing = v1.Billing(
        provider=provider,
        base_url=base_url,
        mode=mode,
        cost_status=cost_status,
        cost_source=cost_source,
        pricing_version=pricing_version,
    )
    return v1.UsageRecord(
        usage=usage,
        model=model,
        set_turn=set_turn,
        billing=billing if billing.ByteSize() else None,
        time=values.timestamp(time),
        request_id=request_id,
        **values.given(turn_index=turn_index),
    )


def _money(value: Decimal | str | None) -> str:
    if value is None:
        return ""
    if not isinstance(value, Decimal | str):
        raise TypeError(f"a cost is a Decimal or a str, not {value!r}, which isn't exact")
    return format(value, "f") if isinstance(value, Decimal) else value


@unary(_rpc("RecordUsage", v1.RecordUsageRequest, v1.RecordUsageResponse), whole)
def record_usage(
    session_id: str, records: v1.UsageRecord | Iterable[v1.UsageRecord]
) -> v1.RecordUsageRequest:
    """Adds usage to a session, or sets that of turns; all records count or none.

    Args:
        session_id: The session's id.
        records: One record or 1–1000, made by `usage_record`. They aren't changed: one without
            `request_id` that doesn't set its turn gets a UUIDv7 in the copy that is sent, so that
            the library's own retries count once.

    Returns a `RecordUsageResponse`: what the session used in all, and how many of the records had
    been counted before.

    Raises:
        SessionNotFound: There is no such session.
        RequestIdReused: A record with one of the ids and other content was counted.
    """
    request = v1.RecordUsageRequest(
        session_id=session_id, records=values.one_or_many(records, v1.UsageRecord)
    )
    for record in request.records:
        if not record.request_id and not record.set_turn:
            record.request_id = uuid7()
    return request


@paged(_rpc("GetUsage", v1.GetUsageRequest, v1.GetUsageResponse), lambda page: page.groups)
def list_usage(
    session_id: str | None = None,
    group_by: values.UsageGrouping | None = None,
    *,
    subtree_of: str | None = None,
    sessions: v1.SessionFilter | None = None,
    from_day: date | str = "",
    to_day: date | str = "",
    page_size: int = 0,
    page_token: str = "",
) -> v1.GetUsageRequest:
    """Iterates over what was used by turn, model, day, session, owner, agent or source, as `UsageGroup`s.

    One of `session_id`, `subtree_of` and `sessions` says of what.

    Args:
        session_id: What this session used itself.
        group_by: `turn` (with the model; of one session), `model`, `day`, `day_and_model`, `session`,
            `owner`, `agent` or `source`. Left out there is only the total; see `get_usage`.
        subtree_of: What this session and all that come from it used, deleted ones too.
        sessions: What the sessions used that fit a `session_filter`. All that was ever used, by deleted
            sessions too, is `session_filter(whole_tenant=True, include_subagents=True)`.
        from_day: Only this day (UTC) or later: a date, or a text such as `2026-01-31`.
        to_day: Only this day or earlier.
        page_size: Groups a page: 0 is 100, at most 1000.
        page_token: Where to begin: a token of a page with the same arguments.

    Raises:
        SessionNotFound: There is no such session.
    """
    values.only_one(session_id=session_id, subtree_of=subtree_of, sessions=sessions)
    return v1.GetUsageRequest(
        **values.given(session_id=session_id, subtree_of=subtree_of, sessions=sessions),
        group_by=enum_value(v1.UsageGrouping, "USAGE_GROUPING_", group_by),
        from_day=str(from_day),
        to_day=str(to_day),
        page_size=page_size,
        page_token=page_token,
    )


get_usage = list_usage.page(
    "get_usage",
    """Reads what was used in all, and one page of `list_usage`: a `GetUsageResponse`.

    It takes the same arguments.
    """,
)

"""Counts on their way out."""

from __future__ import annotations

from sessiond.v1 import tenant_service_pb2 as rpc
from sessiond_server.operations.stats import Stats
from sessiond_server.rpc.times import optional_timestamp
from sessiond_server.store.stats import Count


def stats_out(stats: Stats) -> rpc.GetTenantStatsResponse:
    """The counts of the sessions that fit."""
    return rpc.GetTenantStatsResponse(
        session_count=stats.total.sessions,
        subagent_session_count=stats.total.subagents,
        states=[
            rpc.StateStats(
                state=count.state,  # type: ignore[arg-type]
                session_count=count.sessions,
                message_count=count.messages,
            )
            for count in stats.states
        ],
        sources=[_source(count) for count in stats.sources],
        other_sources=_source(stats.others) if stats.others.sessions else None,
        message_count=stats.total.messages,
        tool_call_count=stats.total.tool_calls,
        hot_bytes=stats.hot_bytes,
        hot_bytes_estimated=stats.estimated,
        offloaded_message_count=stats.offloaded.messages,
        offloaded_bytes=stats.offloaded.bytes,
        offloaded_stored_bytes=stats.offloaded.stored_bytes,
        partial=stats.partial,
        unindexed_session_count=stats.lag.sessions,
        unindexed_message_count=stats.lag.messages,
        indexed_through_time=optional_timestamp(stats.indexed_time),
    )


def _source(count: Count) -> rpc.SourceStats:
    return rpc.SourceStats(
        source=count.source or "", session_count=count.sessions, message_count=count.messages
    )

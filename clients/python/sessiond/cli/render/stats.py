"""Counts for people."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from sessiond.cli.output import enum_name
from sessiond.cli.render.columns import columns
from sessiond.cli.render.prose import one_line
from sessiond.v1.server_service_pb2 import GetServerInfoResponse
from sessiond.v1.session_pb2 import SessionState
from sessiond.v1.tenant_service_pb2 import GetTenantStatsResponse

_SETTING_WIDTH = 30
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def stats_lines(stats: GetTenantStatsResponse) -> Iterator[Text]:
    """Sessions by state, and what they hold."""
    states = [
        f"{it.session_count:,} {enum_name(SessionState.DESCRIPTOR, it.state)}"
        for it in stats.states
    ]
    line = Text("sessions    ", style="dim").append(
        f"{stats.session_count:,}{'+' if stats.partial else ''}", style="bold"
    )
    yield line.append(f"  {', '.join(states)}" if states else "", style="dim")
    for name, count in (
        ("of agents", stats.subagent_session_count),
        ("messages", stats.message_count),
        ("tool calls", stats.tool_call_count),
    ):
        yield Text(f"{name:12}", style="dim").append(f"{count:,}", style="bold")
    about = "about " if stats.hot_bytes_estimated else ""
    yield Text("size        ", style="dim").append(f"{about}{size(stats.hot_bytes)}", style="bold")
    if stats.offloaded_message_count:
        what = f"{stats.offloaded_message_count:,} messages, {size(stats.offloaded_bytes)}"
        line = Text("offloaded    ", style="dim").append(what, style="bold")
        yield line.append(f", {size(stats.offloaded_stored_bytes)} compressed")
    if stats.unindexed_message_count:
        line = Text("unindexed   ", style="dim").append(
            f"{stats.unindexed_message_count:,}", style="bold"
        )
        yield line.append(f"  messages of {stats.unindexed_session_count:,} sessions", style="dim")


def server_lines(info: GetServerInfoResponse) -> Iterator[Text]:
    """The version, then what is set, each on a line."""
    shown = [("version", info.version)]
    shown += [(name, "on" if on else "off") for name, on in sorted(info.features.items())]
    shown += [(name, f"{value:,.10g}") for name, value in sorted(info.limits.items())]
    for name, value in shown:
        line = Text(one_line(name).ljust(_SETTING_WIDTH), style="dim")
        yield line.append(one_line(value), style="bold")


def sources_lines(stats: GetTenantStatsResponse, width: int) -> Iterator[Text]:
    """A line per source."""
    rows = [
        _cells(it.source or "(none)", it.session_count, it.message_count) for it in stats.sources
    ]
    if stats.HasField("other_sources"):
        rest = stats.other_sources
        rows.append(_cells("(others)", rest.session_count, rest.message_count))
    names = ("SOURCE", "SESSIONS", "MESSAGES")
    return columns(names, rows, width, right=names[1:])


def _cells(name: str, sessions: int, messages: int) -> list[Text]:
    return [Text(one_line(name)), Text(f"{sessions:,}"), Text(f"{messages:,}")]


def size(count: int) -> str:
    """Bytes in their largest unit."""
    amount, unit = float(count), 0
    while amount >= 1024 and unit + 1 < len(_UNITS):
        amount, unit = amount / 1024, unit + 1
    return f"{amount:,.1f} {_UNITS[unit]}" if unit else f"{count:,} bytes"

"""Lists of compactions, rewinds, and offloads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from rich.text import Text

from sessiond.cli.render.columns import columns
from sessiond.cli.render.prose import one_line, span
from sessiond.cli.render.times import relative
from sessiond.v1.compaction_pb2 import Compaction
from sessiond.v1.message_pb2 import Rewind
from sessiond.v1.storage_pb2 import Offload


def compactions_lines(
    compactions: Iterable[Compaction], width: int, now: datetime | None = None
) -> Iterator[Text]:
    """A line per compaction: summary, range, sizes, who, when, whether it counts."""
    at = now or datetime.now(UTC)
    names = ("BY", "SUMMARY", "RANGE", "MESSAGES", "TOKENS", "MADE", "STATE")
    return columns(names, [_compaction(it, at) for it in compactions], width)


def rewinds_lines(
    rewinds: Iterable[Rewind], width: int, now: datetime | None = None
) -> Iterator[Text]:
    """A line per rewind: id, what it hid, who, when, whether it counts."""
    at = now or datetime.now(UTC)
    return columns(("BY", "ID", "HID", "MADE", "STATE"), [_rewind(it, at) for it in rewinds], width)


def offloads_lines(
    offloads: Iterable[Offload], width: int, now: datetime | None = None
) -> Iterator[Text]:
    """A line per move of messages: id, which way, range, sizes, who, when."""
    at = now or datetime.now(UTC)
    names = ("BY", "ID", "WAY", "RANGE", "BYTES", "STORED", "MADE")
    return columns(names, [_offload(it, at) for it in offloads], width)


def _offload(it: Offload, now: datetime) -> list[Text]:
    return _cells(
        _by(it.author, it.actor),
        str(it.id),
        "restored" if it.restored else "offloaded",
        span(it.from_seq, it.to_seq),
        f"{it.message_bytes:,}",
        f"{it.stored_bytes:,}",
        relative(it.create_time, now),
    )


def _compaction(it: Compaction, now: datetime) -> list[Text]:
    state = "in the context" if it.in_context else "replaced or hidden"
    if it.HasField("revert_time"):
        state = f"reverted {relative(it.revert_time, now)}"
    return _cells(
        _by(it.author, it.model, it.actor),
        str(it.id),
        span(it.from_seq, it.to_seq),
        f"{it.message_count:,}",
        f"{it.tokens_before:,} → {it.tokens_after:,}",
        relative(it.create_time, now),
        state,
    )


def _rewind(it: Rewind, now: datetime) -> list[Text]:
    reverted = it.HasField("revert_time")
    return _cells(
        _by(it.author, it.actor),
        str(it.id),
        span(it.after_seq + 1, it.to_seq),
        relative(it.create_time, now),
        f"reverted {relative(it.revert_time, now)}" if reverted else "in force",
    )


def _by(*words: str) -> str:
    return " ".join(word for word in words if word)


def _cells(*texts: str) -> list[Text]:
    return [Text(one_line(text)) for text in texts]

"""Which facts of a session a change touched: as the feed stores it, and as it is told."""

from __future__ import annotations

from collections.abc import Iterable

FIELDS = (
    "title",
    "title_source",
    "pinned",
    "archived",
    "system_prompt",
    "model",
    "config",
    "metadata",
    "labels",
    "turn_index",
    "state",
    "end_reason",
    "end_time",
    "parent",
    "root_id",
    "spawn_depth",
)
"""The fields of `sessiond.v1.Session` that a change of facts may touch. The place of each is that of its bit
in what is stored: add others at the end."""


def to_bits(fields: Iterable[str]) -> int:
    """Fields as they are stored."""
    return sum(1 << FIELDS.index(field) for field in set(fields))


def from_bits(bits: int) -> list[str]:
    """Stored fields, without those of a newer release."""
    return [field for place, field in enumerate(FIELDS) if bits >> place & 1]

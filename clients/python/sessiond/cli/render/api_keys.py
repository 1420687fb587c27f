"""API keys for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from rich.text import Text

from sessiond.cli.output import enum_name
from sessiond.cli.render.columns import columns
from sessiond.cli.render.prose import one_line
from sessiond.cli.render.times import relative
from sessiond.v1.api_key_pb2 import ApiKey
from sessiond.v1.options_pb2 import Permission

_NAMES = ("NAME", "ID", "SESSIONS", "PERMISSIONS", "CREATED", "BY", "UNTIL")


def keys_lines(keys: Iterable[ApiKey], width: int, now: datetime | None = None) -> Iterator[Text]:
    """A line per key: what it is for, what it allows, since when and until when."""
    at = now or datetime.now(UTC)
    return columns(_NAMES, [_row(it, at) for it in keys], width)


def _row(key: ApiKey, now: datetime) -> list[Text]:
    ends = key.HasField("expire_time")
    expired = ends and key.expire_time.ToDatetime(UTC) <= now
    return [
        Text(one_line(key.name)),
        Text(key.id),
        Text(f"owner {one_line(key.owner)}" if key.owner else "everybody's"),
        Text(",".join(enum_name(Permission.DESCRIPTOR, it) for it in key.permissions)),
        Text(relative(key.create_time, now)),
        Text(key.creator or "sessiond keys"),
        Text("expired", style="red") if expired else Text(_day(key) if ends else ""),
    ]


def _day(key: ApiKey) -> str:
    return f"{key.expire_time.ToDatetime(UTC):%Y-%m-%d}"

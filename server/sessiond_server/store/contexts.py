"""What hides messages: compactions, rewinds, and the spans derived from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg

from sessiond_server.sessions import visibility
from sessiond_server.sessions.guards import By, Version
from sessiond_server.sessions.toolcalls import Item
from sessiond_server.sessions.visibility import Compaction, Rewind, Segment, Span
from sessiond_server.store import crossing, offloaded
from sessiond_server.store.crossing import Found, Reading, column
from sessiond_server.store.database import Connection, known_columns
from sessiond_server.store.keys import SessionKey
from sessiond_server.store.sql import query


class ContextMap(NamedTuple):
    """What the context is made of now."""

    first_seq: int
    next_seq: int
    border: int
    """Where the offloaded messages end."""
    message_count: int
    token_count: int
    changes: int
    """See `session_head.context_changes`."""
    spans: list[Span]

    @property
    def version(self) -> Version:
        return Version(self.next_seq, self.next_seq + self.changes, self.token_count)


async def context_map(connection: Connection, key: SessionKey) -> ContextMap | None:
    """The context's outline in one look; `None` if there is no such session."""
    row = await connection.fetchrow(query("context_map"), *key)
    if row is None:
        return None
    return ContextMap(
        row["first_seq"],
        row["next_seq"],
        row["offloaded_before_seq"],
        row["context_message_count"],
        row["context_token_count"],
        row["context_changes"],
        [Span(*span) for span in row["spans"] or []],
    )


async def history(connection: Connection, key: SessionKey) -> tuple[list[Compaction], list[Rewind]]:
    """Every compaction and rewind of a session."""
    compactions = await connection.fetch(query("compaction_history"), *key)
    rewinds = await connection.fetch(query("rewind_history"), *key)
    return [Compaction(*row) for row in compactions], [Rewind(*row) for row in rewinds]


def _items(found: list[Found], segments: Sequence[Segment]) -> list[Item]:
    items = []
    for each in found:
        segment = segments[each.piece]
        seq, calls = column(each.row, "seq"), column(each.row, "tool_call_ids")
        items.append(
            Item(
                position=segment.position if segment.summary else seq,
                seq=seq,
                summary=column(each.row, "summary"),
                role=column(each.row, "role"),
                tokens=column(each.row, "token_count"),
                calls=tuple(calls or ()),
                results=tuple(column(each.row, "tool_result_ids") or ()),
            )
        )
    return items


async def outline(
    connection: Connection,
    key: SessionKey,
    segments: Sequence[Segment],
    *,
    limit: int,
    descending: bool = False,
    as_of_seq: int = 0,
    border: int,
) -> list[Item]:
    """Messages of the context without their contents, from segments in the order of reading; offloaded ones
    as well, so all must be read from one state."""
    direction = "descending" if descending else "ascending"
    text = query(f"context_outline{'_as_of' if as_of_seq else ''}_{direction}")

    async def hot(pieces: list[Segment], limit: int, _: int) -> list[asyncpg.Record]:
        columns = [s.low for s in pieces], [s.high for s in pieces], [s.summary for s in pieces]
        return await connection.fetch(
            text, *key, *columns, *((as_of_seq,) if as_of_seq else ()), limit
        )

    reading = Reading(
        connection,
        key,
        segments,
        lambda message, piece: message.in_context and message.summary == piece.summary,
        hot,
        descending,
        as_of_seq=as_of_seq,
    )
    found, _ = await reading.page(border, limit)
    return _items(found, segments)


async def replace_spans(
    connection: Connection, key: SessionKey, compacted: Sequence[Span], rewound: Sequence[Span]
) -> None:
    """Store what is hidden now in the place of what was."""
    await connection.execute(query("forget_spans"), *key)
    await _insert_spans(connection, key, compacted, rewound)


async def add_compacted_span(connection: Connection, key: SessionKey, span: Span) -> None:
    """Store what a new compaction hides, in the place of the compactions in its range."""
    await connection.execute(query("cover_spans"), *key, span.from_seq, span.to_seq)
    await _insert_spans(connection, key, [span], [])


async def _insert_spans(
    connection: Connection, key: SessionKey, compacted: Sequence[Span], rewound: Sequence[Span]
) -> None:
    spans = [*compacted, *rewound]
    await connection.execute(
        query("insert_spans"),
        *key,
        [1] * len(compacted) + [2] * len(rewound),
        [span.from_seq for span in spans],
        [span.to_seq for span in spans],
        [span.summary_seq or None for span in spans],
        [span.covered for span in spans],
    )


async def totals(
    connection: Connection,
    key: SessionKey,
    segments: Sequence[Segment],
    *,
    as_of_seq: int = 0,
    border: int,
) -> tuple[int, int]:
    """How many messages and tokens segments hold, or held as of a seq; offloaded ones as well, so all must be
    read from one state."""
    count = tokens = 0
    for below, run in crossing.runs(segments, border, descending=False):
        parts = [part for _, part in run]
        found = await (_offloaded_totals if below else _hot_totals)(
            connection, key, parts, as_of_seq
        )
        count, tokens = count + found[0], tokens + found[1]
    return count, tokens


async def _hot_totals(
    connection: Connection, key: SessionKey, segments: Sequence[Segment], as_of_seq: int
) -> tuple[int, int]:
    columns = ([s.low for s in segments], [s.high for s in segments], [s.summary for s in segments])
    if as_of_seq:
        row = await connection.fetchrow(query("context_totals_as_of"), *key, *columns, as_of_seq)
    else:
        row = await connection.fetchrow(query("context_totals"), *key, *columns)
    assert row is not None
    return row["messages"], row["tokens"]


async def _offloaded_totals(
    connection: Connection, key: SessionKey, segments: Sequence[Segment], as_of_seq: int
) -> tuple[int, int]:
    """From what is kept beside segments as far as these lie within, else from their messages."""
    plain = [s for s in segments if not s.summary]
    rows = await connection.fetch(
        query("segment_totals"),
        *key,
        [s.low for s in plain],
        [s.high for s in plain],
        as_of_seq or None,
    )
    count = sum(row["context_messages"] for row in rows)
    tokens = sum(row["context_tokens"] for row in rows)
    left = [s for s in segments if s.summary]
    for segment in plain:
        within = [Span(r[0], r[1]) for r in rows if segment.low <= r[0] <= segment.high]
        left += visibility.segments(within, segment.low, segment.high)
    for segment in left:
        async for messages in offloaded.pieces(connection, key, segment.low, segment.high):
            if as_of_seq:
                messages = await offloaded.as_of(connection, key, messages, as_of_seq)
            counted = [m for m in messages if m.in_context and m.summary == segment.summary]
            count += len(counted)
            tokens += sum(message.token_count for message in counted)
    return count, tokens


async def set_counters(
    connection: Connection, key: SessionKey, messages: int, tokens: int, *, changes: int = 1
) -> None:
    """Store what the context holds, and count the change."""
    await connection.execute(query("set_context_counters"), *key, messages, tokens, changes)


@dataclass(frozen=True, slots=True)
class CompactionRow:
    """A row of `compaction`, and whether its summary stands in the context."""

    bucket: int
    session_key: UUID
    summary_seq: int
    change_no: int
    from_seq: int
    to_seq: int
    message_count: int
    tokens_before: int
    tokens_after: int
    author: str
    actor: str
    model: str
    turn_index: int
    create_time: datetime
    revert_time: datetime | None
    revert_effective_seq: int | None
    in_context: bool


@dataclass(frozen=True, slots=True)
class CompactionInsert:
    """A compaction to be recorded, in the order of the statement's parameters."""

    summary_seq: int
    change_no: int
    from_seq: int
    to_seq: int
    message_count: int
    tokens_before: int
    tokens_after: int
    author: str
    actor: str
    model: str


async def insert_compaction(connection: Connection, key: SessionKey, new: CompactionInsert) -> None:
    values = (getattr(new, name) for name in CompactionInsert.__slots__)
    await connection.execute(query("insert_compaction"), *key, *values)


async def read_compaction(
    connection: Connection, key: SessionKey, summary_seq: int
) -> CompactionRow | None:
    row = await connection.fetchrow(query("read_compaction"), *key, summary_seq)
    return None if row is None else known_columns(CompactionRow, row)


async def list_compactions(
    connection: Connection, key: SessionKey, before: int, limit: int
) -> list[CompactionRow]:
    """Compactions with summaries before a seq, the newest first."""
    rows = await connection.fetch(query("list_compactions"), *key, before, limit)
    return [known_columns(CompactionRow, row) for row in rows]


async def revert_compaction(
    connection: Connection, key: SessionKey, summary_seq: int, effective_seq: int
) -> None:
    await connection.execute(query("revert_compaction"), *key, summary_seq, effective_seq)


@dataclass(frozen=True, slots=True)
class RewindRow:
    """A row of `rewind`."""

    bucket: int
    session_key: UUID
    rewind_id: int
    after_seq: int
    to_seq: int
    effective_seq: int
    author: str
    actor: str
    create_time: datetime
    revert_time: datetime | None
    revert_effective_seq: int | None


async def insert_rewind(connection: Connection, key: SessionKey, rewind: Rewind, by: By) -> None:
    await connection.execute(query("insert_rewind"), *key, *rewind[:4], *by)


async def read_rewind(
    connection: Connection, key: SessionKey, rewind_id: int | None
) -> RewindRow | None:
    """A rewind; `None` is the newest that isn't reverted."""
    row = await connection.fetchrow(query("read_rewind"), *key, rewind_id)
    return None if row is None else known_columns(RewindRow, row)


async def list_rewinds(
    connection: Connection, key: SessionKey, before: int, limit: int
) -> list[RewindRow]:
    """Rewinds with smaller ids, the newest first."""
    rows = await connection.fetch(query("list_rewinds"), *key, before, limit)
    return [known_columns(RewindRow, row) for row in rows]


async def revert_obstacle(
    connection: Connection, key: SessionKey, after_seq: int, to_seq: int
) -> int | None:
    """The summary of a later compaction that doesn't suit the return of what a rewind hid."""
    summary_seq: int | None = await connection.fetchval(
        query("revert_obstacle"), *key, after_seq, to_seq
    )
    return summary_seq


async def revert_rewind(
    connection: Connection, key: SessionKey, rewind_id: int, effective_seq: int
) -> None:
    await connection.execute(query("revert_rewind"), *key, rewind_id, effective_seq)

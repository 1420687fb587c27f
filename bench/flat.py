"""P15: what an append, a page and a context cost in a session of a million messages and of a thousand."""

from __future__ import annotations

import asyncpg

import sessiond
from bench.loads import RUN, TEXT, Service, message
from bench.measure import Ratio, compare_latency
from sessiond import v1
from sessiond_server.store.keys import session_key

SMALL, LARGE = 1_000, 1_000_000
_CONTEXT = 100
_PAGE = 50

_FILL = """
WITH head AS (
    UPDATE session_head
    SET next_seq = $3 + 1, message_count = $3, context_message_count = $3
    WHERE bucket = $1 AND session_key = $2
)
INSERT INTO message (
    bucket, session_key, seq, create_time, token_count, role, kind, in_context, in_transcript, summary,
    client_id, payload
)
SELECT
    $1, $2, seq, now(), 0, 3 + seq % 2, 1, true, true, false, 'fill-' || seq,
    $4::bytea
FROM generate_series(1, $3::bigint) AS seq
"""

_COMPACT = """
WITH span AS (
    INSERT INTO hidden_span VALUES ($1, $2, 1, 1, $3::bigint - 100, $3 + 1, false)
),
record AS (
    INSERT INTO compaction (
        bucket, session_key, summary_seq, change_no, from_seq, to_seq, message_count, tokens_before,
        tokens_after, author, actor, model, turn_index, create_time
    )
    VALUES ($1, $2, $3 + 1, 1, 1, $3 - 100, $3 - 100, 0, 0, '', '', '', 0, now())
),
head AS (
    UPDATE session_head
    SET next_seq = $3 + 2, message_count = $3 + 1, context_message_count = 101
    WHERE bucket = $1 AND session_key = $2
)
INSERT INTO message (
    bucket, session_key, seq, create_time, token_count, role, kind, in_context, in_transcript, summary,
    client_id, payload
)
VALUES ($1, $2, $3 + 1, now(), 0, 1, 2, true, false, true, 'summary', $4::bytea)
"""


def _name(size: int, kind: str) -> str:
    return f"{RUN}-{kind}-{size}"


async def prepare(service: Service, dsn: str) -> None:
    """Make the sessions: of each size one as it grew, and one whose context was compacted to its last
    hundred messages. They are filled by SQL, as appending a million messages would have done."""
    payload = sessiond.message(
        "user", TEXT, client_id=f"{RUN}-{0:012}", kind=v1.MessageKind.MESSAGE_KIND_NORMAL
    ).SerializeToString()
    connection = await asyncpg.connect(dsn)
    try:
        for size in (SMALL, LARGE):
            for kind in ("plain", "compacted"):
                name = _name(size, kind)
                await service.client.create_session(name)
                key = session_key("default", name)
                await connection.execute(_FILL, *key, size, payload, timeout=600)
                if kind == "compacted":
                    await connection.execute(_COMPACT, *key, size, payload)
        await connection.execute("VACUUM ANALYZE", timeout=600)
        await connection.execute("CHECKPOINT", timeout=600)
    finally:
        await connection.close()


class _Calls:
    """The calls that are measured, on the session of a size."""

    def __init__(self, service: Service, size: int) -> None:
        self._service = service
        self._plain = _name(size, "plain")
        self._compacted = _name(size, "compacted")

    async def append(self) -> None:
        request = v1.AppendMessagesRequest(session_id=self._plain, messages=[message()])
        await self._service.messages.AppendMessages(request)

    async def page(self) -> None:
        request = v1.ListMessagesRequest(
            session_id=self._plain,
            page_size=_PAGE,
            order=v1.SortOrder.SORT_ORDER_DESCENDING,
        )
        answer = await self._service.messages.ListMessages(request)
        assert len(answer.messages) == _PAGE

    async def context(self) -> None:
        context = await self._service.client.get_context(self._compacted)
        assert len(context.messages) == _CONTEXT + 1

    async def limited(self) -> None:
        context = await self._service.client.get_context(self._plain, max_context_messages=_CONTEXT)
        assert len(context.messages) == _CONTEXT


_WHATS = {
    "append": "append",
    "page": "newest page of 50",
    "context": "context of 100 behind a compaction",
    "limited": "newest 100 of the context",
}


async def ratios(service: Service, rounds: int, times: int) -> list[Ratio]:
    """The ratios, each of p50s."""
    large, small = _Calls(service, LARGE), _Calls(service, SMALL)
    return [
        await compare_latency(
            Ratio(
                f"flat_{name}",
                f"{what}, p50: in a session of 1,000,000 messages / of 1,000",
                1.3,
                at_most=True,
            ),
            getattr(large, name),
            getattr(small, name),
            rounds=rounds,
            times=times,
        )
        for name, what in _WHATS.items()
    ]

"""What the model sees: which messages of the context an answer holds, and reading them in pages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from sessiond_server.errors import SeqOutOfRange, SessionNotFound
from sessiond_server.sessions.planning import LEADING_LIMIT, leading
from sessiond_server.sessions.toolcalls import Item, suffix_start
from sessiond_server.sessions.visibility import Segment, between, hidden_spans, segments, shown
from sessiond_server.store import contexts, messages
from sessiond_server.store.contexts import ContextMap
from sessiond_server.store.database import Connection
from sessiond_server.store.keys import SessionKey
from sessiond_server.store.messages import Filters, Marks, StoredMessage

_OUTLINE_FIRST, _OUTLINE_MOST = 128, 4096  # messages looked at in one go, more each time
_PAGE = 1000
_END = 2**62


@dataclass(frozen=True, slots=True)
class Wanted:
    """Whose context, as of when, and how much of it; 0 is now and no limit."""

    session_id: str
    key: SessionKey
    as_of_seq: int = 0
    max_context_tokens: int = 0
    max_context_messages: int = 0


@dataclass(frozen=True, slots=True)
class Selection:
    """The part of a context to send, and its totals."""

    pieces: list[Segment]
    message_count: int
    token_count: int
    omitted: int
    as_of_seq: int
    next_seq: int
    details: bytes
    border: int
    """Where the offloaded messages end."""


async def select(connection: Connection, wanted: Wanted) -> Selection:
    """Decide what to send."""
    context = await contexts.context_map(connection, wanted.key)
    if context is None:
        raise SessionNotFound(wanted.session_id)
    pieces = await _pieces(connection, wanted, context)
    if wanted.as_of_seq:
        totals = await contexts.totals(
            connection, wanted.key, pieces, as_of_seq=wanted.as_of_seq, border=context.border
        )
    else:
        totals = context.message_count, context.token_count
    count, tokens = totals
    if wanted.max_context_tokens or wanted.max_context_messages:
        outline = _Outline(connection, wanted, pieces, context.border)
        pieces, count, tokens = await _limited(outline, wanted, pieces, totals)
    return Selection(
        pieces,
        count,
        tokens,
        totals[0] - count,
        wanted.as_of_seq or context.next_seq - 1,
        context.next_seq,
        context.details,
        context.border,
    )


async def _pieces(connection: Connection, wanted: Wanted, context: ContextMap) -> list[Segment]:
    if not wanted.as_of_seq:
        return segments(context.spans, context.first_seq, context.next_seq - 1)
    if not context.first_seq <= wanted.as_of_seq < context.next_seq:
        raise SeqOutOfRange("as_of_seq", wanted.as_of_seq, context.first_seq, context.next_seq)
    spans = hidden_spans(*await contexts.history(connection, wanted.key), wanted.as_of_seq)
    return segments(shown(*spans), context.first_seq, wanted.as_of_seq)


class _Outline:
    """The context's outline, fetched backwards as far as it is asked for."""

    def __init__(
        self, connection: Connection, wanted: Wanted, pieces: list[Segment], border: int
    ) -> None:
        self._connection = connection
        self._wanted = wanted
        self._border = border
        self._pieces = pieces
        self._left = pieces[::-1]
        self._size = _OUTLINE_FIRST

    async def beginning(self) -> list[Item]:
        """The leading system messages, the summary of what was compacted among them."""
        items = await self._fetch(self._pieces, LEADING_LIMIT, descending=False)
        head = items[: leading(items, summaries=True)]
        if head:
            self._left = between(self._pieces, head[-1].position + 1, _END)[::-1]
        return head

    async def backwards(self) -> AsyncIterator[Item]:
        while self._left:
            items = await self._fetch(self._left, self._size, descending=True)
            for item in items:
                yield item
            if len(items) < self._size:
                return
            self._size = min(2 * self._size, _OUTLINE_MOST)
            self._left = between(self._left, 0, items[-1].position - 1)

    async def _fetch(self, pieces: list[Segment], limit: int, *, descending: bool) -> list[Item]:
        return await contexts.outline(
            self._connection,
            self._wanted.key,
            pieces,
            limit=limit,
            descending=descending,
            as_of_seq=self._wanted.as_of_seq,
            border=self._border,
        )


async def _limited(
    outline: _Outline, wanted: Wanted, pieces: list[Segment], totals: tuple[int, int]
) -> tuple[list[Segment], int, int]:
    """The leading system messages and the newest others that fit, without tearing a tool call apart."""
    head = await outline.beginning()
    head_tokens = sum(item.tokens for item in head)
    newest: list[Item] = []
    tokens, start, unanswered = head_tokens, None, set[str]()
    async for item in outline.backwards():
        if start is None:
            fits_count = (
                not wanted.max_context_messages
                or len(head) + len(newest) < wanted.max_context_messages
            )
            fits_tokens = (
                not wanted.max_context_tokens or tokens + item.tokens <= wanted.max_context_tokens
            )
            if not (fits_count and fits_tokens):
                start = len(newest)
        if start is not None and not unanswered:
            break
        newest.append(item)
        tokens += item.tokens
        unanswered -= set(item.calls)
        if start is None and item.answers is not None:
            unanswered.add(item.answers)
    if start is None:
        return pieces, *totals
    items = newest[::-1]
    kept = items[suffix_start(items, len(items) - start) :]
    end = head[-1].position if head else 0
    begin = kept[0].position if kept else _END
    return (
        between(pieces, 0, end) + between(pieces, begin, _END),
        len(head) + len(kept),
        head_tokens + sum(item.tokens for item in kept),
    )


async def pages(
    connection: Connection, wanted: Wanted, selection: Selection, max_bytes: int
) -> AsyncIterator[tuple[list[StoredMessage], Marks, bool]]:
    """The messages of a selection, and whether more follow. All must be read from one snapshot."""
    left = selection.pieces
    while left:
        if wanted.as_of_seq:
            page, places = await messages.context_page_as_of(
                connection,
                wanted.key,
                left,
                wanted.as_of_seq,
                limit=_PAGE,
                max_bytes=max_bytes,
                border=selection.border,
            )
        else:
            page, places = await messages.context_page(
                connection,
                wanted.key,
                left,
                Filters(),
                limit=_PAGE,
                max_bytes=max_bytes,
                border=selection.border,
            )
        if page.messages:
            marks = await messages.marks(connection, wanted.key, page.messages)
            yield page.messages, marks, page.more
        if not page.more:
            return
        last, place = page.messages[-1], places[-1]
        left = between(left, (place.position if place.summary else last.seq) + 1, _END)

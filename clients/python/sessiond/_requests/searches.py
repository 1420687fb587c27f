"""The calls of MessageService that have to do with searching."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sessiond import v1
from sessiond._calls import Service, paged, unary
from sessiond._requests import values
from sessiond._requests.values import enum_value

_rpc = Service("sessiond.v1.MessageService").rpc


@paged(
    _rpc("SearchMessages", v1.SearchMessagesRequest, v1.SearchMessagesResponse),
    lambda page: page.hits,
)
def search_messages(
    query: str,
    *,
    session_id: str = "",
    subtree_of: str = "",
    owner: str = "",
    sources: Iterable[str] = (),
    exclude_sources: Iterable[str] = (),
    roles: Iterable[values.Role] = (),
    since: datetime | None = None,
    until: datetime | None = None,
    order_by: values.SearchOrder | None = None,
    include_rewound: bool = False,
    context_before: int = 0,
    context_after: int = 0,
    snippet_characters: int = 0,
    page_size: int = 0,
    page_token: str = "",
) -> v1.SearchMessagesRequest:
    """Iterates over the messages that have these words, in any session.

    `refund paris` finds messages that have both words, `"refund policy"` the two in a row,
    `refund OR voucher` either, `refund -paris` those without the second, `refun*` words that begin so.
    All filters must hold. Messages are indexed about a second after they are appended.

    Args:
        query: What to look for; any text will do that has a letter or a digit. At most 1000 characters.
        session_id: Only in this session.
        subtree_of: Only in this session and its descendants.
        owner: Only in sessions of this owner.
        sources: Only in sessions of these sources. At most 64.
        exclude_sources: Not in sessions of these sources. At most 64.
        roles: Only messages in these roles, of `system`, `developer`, `user`, `assistant`, `tool`.
        since: Only messages appended at this time or later. It has a time zone.
        until: Only messages appended before this time. It has a time zone.
        order_by: `relevance` (the default), or `newest`.
        include_rewound: Whether messages that a rewind hides are found as well.
        context_before: Messages of the transcript to show before each hit: 0–5.
        context_after: Messages of the transcript to show after each hit: 0–5.
        snippet_characters: Characters to show before and after the first place found: 0 is 80.
        page_size: Hits a page: 0 is 20, at most 100.
        page_token: Where to go on: the `next_page_token` of a page of the same call.

    Yields `SearchHit`s; `list_messages(hit.session_id, around_seq=hit.seq)` shows one among the others.

    Raises:
        SessionNotFound: There is no such session.
        SearchTooCostly: Look for rarer words, or in fewer sessions.
        SearchDisabled: The server runs without search.
    """
    return v1.SearchMessagesRequest(
        query=query,
        session_id=session_id,
        subtree_of=subtree_of,
        owner=owner,
        sources=sources,
        exclude_sources=exclude_sources,
        roles=[enum_value(v1.Role, "ROLE_", role) for role in roles],
        since=values.timestamp(since),
        until=values.timestamp(until),
        order_by=enum_value(v1.SearchOrder, "SEARCH_ORDER_", order_by),
        include_rewound=include_rewound,
        context_before=context_before,
        context_after=context_after,
        snippet_characters=snippet_characters,
        page_size=page_size,
        page_token=page_token,
    )


search_messages_page = search_messages.page(
    "search_messages_page",
    """Reads one page of `search_messages`, a `SearchMessagesResponse`; takes the same arguments.

    It also says how far the messages are indexed.
    """,
)


@unary(
    _rpc("ReindexSessions", v1.ReindexSessionsRequest, v1.ReindexSessionsResponse),
    lambda answer: answer.session_count,
)
def reindex_sessions(
    session_ids: Iterable[str] = (), *, all_sessions: bool = False
) -> v1.ReindexSessionsRequest:
    """Has sessions indexed anew in the background, and returns how many.

    Args:
        session_ids: Which, at most 1000. Those that don't exist are left out.
        all_sessions: Whether to index all anew, instead.
    """
    return v1.ReindexSessionsRequest(session_ids=session_ids, all=all_sessions)

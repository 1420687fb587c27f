"""The calls of SearchService."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sessiond import v1
from sessiond._calls import Service, paged
from sessiond._requests import values
from sessiond._requests.values import enum_value

_rpc = Service("sessiond.v1.SearchService").rpc


@paged(
    _rpc("SearchMessages", v1.SearchMessagesRequest, v1.SearchMessagesResponse),
    lambda page: page.hits,
)
def search_messages(
    query: str,
    filter: v1.SessionFilter | None = None,
    *,
    session_id: str = "",
    roles: Iterable[values.Role] = (),
    start_time: datetime | None = None,
    end_time: datetime | None = None,
    order_by: values.SearchOrder | None = None,
    include_rewound: bool = False,
    context_before: int = 0,
    context_after: int = 0,
    snippet_characters: int = 0,
    page_size: int = 0,
    page_token: str = "",
) -> v1.SearchMessagesRequest:
    """Iterates over the messages that have these words.

    `refund paris` finds messages that have both words, `"refund policy"` the two in a row,
    `refund OR voucher` either, `refund -paris` those without the second, `refun*` words that begin so.
    All that is given must hold. Messages are indexed about a second after they are appended.

    Args:
        query: What to look for; any text will do that has a letter or a digit. At most 1000 characters.
        filter: Only in these sessions: a `session_filter`. Required without `session_id`, but with an API key
            that is bound to an owner.
        session_id: Only in this session.
        roles: Only messages in these roles, of `system`, `developer`, `user`, `assistant`, `tool`.
        start_time: Only messages appended at this time or later. It has a time zone.
        end_time: Only messages appended before this time. It has a time zone.
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
        filter=filter,
        roles=[enum_value(v1.Role, "ROLE_", role) for role in roles],
        start_time=values.timestamp(start_time),
        end_time=values.timestamp(end_time),
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

"""The calls of StorageService."""

from __future__ import annotations

from collections.abc import Iterable

from sessiond import v1
from sessiond._calls import Service, paged, unary, whole
from sessiond._requests import values

_rpc = Service("sessiond.v1.StorageService").rpc


@unary(
    _rpc("OffloadMessages", v1.OffloadMessagesRequest, v1.OffloadMessagesResponse),
    whole,
)
def offload_messages(
    session_id: str,
    *,
    before_seq: int | None = None,
    all_messages: bool = False,
    keep_recent_messages: int = 0,
    author: str = "",
) -> v1.OffloadMessagesRequest:
    """Moves the beginning of the log into compressed segments. Nothing that can be read changes.

    The border moves up to the nearest place at or before the one asked for where every tool call
    before it has its result. Asking again changes nothing.

    Args:
        session_id: The session's id.
        before_seq: Messages before this seq are offloaded.
        all_messages: Instead, all are.
        keep_recent_messages: How many of the newest messages stay as they are in any case.
        author: Who does it, for the record.

    Returns an `OffloadMessagesResponse`: which messages are offloaded now, how many this call moved,
    and whether there is `more` to offload by calling again.

    Raises:
        ValueError: Both or neither of `before_seq` and `all_messages` are given.

    Example:
        while client.offload_messages("trip", all_messages=True, keep_recent_messages=1000).more:
            pass
    """
    which = values.exactly_one(before_seq=before_seq, all=all_messages)
    return v1.OffloadMessagesRequest(
        session_id=session_id, keep_recent_messages=keep_recent_messages, author=author, **which
    )


@unary(
    _rpc("RestoreMessages", v1.RestoreMessagesRequest, v1.RestoreMessagesResponse),
    whole,
)
def restore_messages(
    session_id: str, *, from_seq: int | None = None, all_messages: bool = False, author: str = ""
) -> v1.RestoreMessagesRequest:
    """Moves offloaded messages back. Nobody needs to: what reaches into them does so by itself.

    Args:
        session_id: The session's id.
        from_seq: Messages from this seq on are restored, with some before them.
        all_messages: Instead, all are.
        author: Who does it, for the record.

    Returns a `RestoreMessagesResponse`: which messages are offloaded now, how many this call moved,
    and whether there is `more` to restore by calling again.

    Raises:
        ValueError: Both or neither of `from_seq` and `all_messages` are given.
    """
    which = values.exactly_one(from_seq=from_seq, all=all_messages)
    return v1.RestoreMessagesRequest(session_id=session_id, author=author, **which)


@paged(
    _rpc("ListOffloads", v1.ListOffloadsRequest, v1.ListOffloadsResponse),
    lambda page: page.offloads,
)
def list_offloads(
    session_id: str, *, page_size: int = 0, page_token: str = ""
) -> v1.ListOffloadsRequest:
    """Iterates over what was offloaded and restored of a session, the newest first.

    Args:
        session_id: The session's id.
        page_size: Moves a page: 0 is 100, at most 1000.
        page_token: Where to begin: the `next_page_token` of a page.
    """
    return v1.ListOffloadsRequest(session_id=session_id, page_size=page_size, page_token=page_token)


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

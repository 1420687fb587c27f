"""The calls of JournalService."""

from __future__ import annotations

from collections.abc import Iterable

from sessiond import v1
from sessiond._calls import Service, paged, unary, whole
from sessiond._ids import uuid7
from sessiond._requests import values
from sessiond._requests.values import enum_value

_rpc = Service("sessiond.v1.JournalService").rpc


@unary(_rpc("AppendJournal", v1.AppendJournalRequest, v1.AppendJournalResponse), whole)
def append_journal(
    session_id: str,
    records: v1.JournalRecord | Iterable[v1.JournalRecord],
    *,
    request_id: str | None = None,
) -> v1.AppendJournalRequest:
    """Appends an agent's own records of a session, which no model and no watcher sees.

    Args:
        session_id: The session's id.
        records: One record or 1–1000, at most 2 MiB encoded together: `v1.JournalRecord`s with a
            `kind` such as `plan` and a `content` of at most 1 MiB, kept byte for byte.
        request_id: An id of this call, to make it safe to repeat for ever. Left out, one is made up,
            so that the library's own retries append once.

    Returns an `AppendJournalResponse`: the numbers of the first and the last record, and whether
    they were there before.

    Raises:
        SessionNotFound: There is no such session.
        JournalFull: Its journal has no room.
        RequestIdReused: Other records were appended with this id.
    """
    return v1.AppendJournalRequest(
        session_id=session_id,
        records=values.one_or_many(records, v1.JournalRecord),
        request_id=request_id or uuid7(),
    )


@paged(
    _rpc("ListJournal", v1.ListJournalRequest, v1.ListJournalResponse),
    lambda page: page.records,
)
def list_journal(
    session_id: str,
    *,
    kinds: Iterable[str] = (),
    order: values.SortOrder | None = None,
    page_size: int = 0,
    page_token: str = "",
) -> v1.ListJournalRequest:
    """Iterates over an agent's own records of a session.

    Args:
        session_id: The session's id.
        kinds: Only of these kinds.
        order: `ascending` (the default) or `descending`, the newest first.
        page_size: Records a page: 0 is 100, at most 1000.
        page_token: Where to begin: the `next_page_token` of a page.
    """
    return v1.ListJournalRequest(
        session_id=session_id,
        kinds=kinds,
        order=enum_value(v1.SortOrder, "SORT_ORDER_", order),
        page_size=page_size,
        page_token=page_token,
    )


list_journal_page = list_journal.page(
    "list_journal_page",
    """Reads one page of `list_journal`, a `ListJournalResponse`; takes the same arguments.""",
)

"""The calls of SessionLogService."""

from __future__ import annotations

from collections.abc import Iterable

from sessiond import v1
from sessiond._calls import Service, paged, unary, whole
from sessiond._ids import uuid7
from sessiond._requests import values
from sessiond._requests.values import enum_value

_rpc = Service("sessiond.v1.SessionLogService").rpc


@unary(_rpc("AppendSessionLog", v1.AppendSessionLogRequest, v1.AppendSessionLogResponse), whole)
def append_session_log(
    session_id: str,
    records: v1.SessionLogRecord | Iterable[v1.SessionLogRecord],
    *,
    request_id: str | None = None,
) -> v1.AppendSessionLogRequest:
    """Appends an agent's own records of a session, which no model and no watcher sees.

    Args:
        session_id: The session's id.
        records: One record or 1–1000, at most 2 MiB encoded together: `v1.SessionLogRecord`s with a
            `kind` such as `plan` and a `content` of at most 1 MiB, kept byte for byte.
        request_id: An id of this call, to make it safe to repeat for ever. Left out, one is made up,
            so that the library's own retries append once.

    Returns an `AppendSessionLogResponse`: the numbers of the first and the last record, and whether
    they were there before.

    Raises:
        SessionNotFound: There is no such session.
        SessionLogFull: Its log has no room.
        RequestIdReused: Other records were appended with this id.
    """
    return v1.AppendSessionLogRequest(
        session_id=session_id,
        records=values.one_or_many(records, v1.SessionLogRecord),
        request_id=request_id or uuid7(),
    )


@paged(
    _rpc("ListSessionLogs", v1.ListSessionLogsRequest, v1.ListSessionLogsResponse),
    lambda page: page.records,
)
def list_session_logs(
    session_id: str,
    *,
    kinds: Iterable[str] = (),
    order: values.SessionLogOrder | None = None,
    page_size: int = 0,
    page_token: str = "",
) -> v1.ListSessionLogsRequest:
    """Iterates over an agent's own records of a session.

    Args:
        session_id: The session's id.
        kinds: Only of these kinds.
        order: `ascending` (the default) or `descending`, the newest first.
        page_size: Records a page: 0 is 100, at most 1000.
        page_token: Where to begin: the `next_page_token` of a page.
    """
    return v1.ListSessionLogsRequest(
        session_id=session_id,
        kinds=kinds,
        order=enum_value(v1.SessionLogOrder, "SESSION_LOG_ORDER_", order),
        page_size=page_size,
        page_token=page_token,
    )


list_session_logs_page = list_session_logs.page(
    "list_session_logs_page",
    """Reads one page of `list_session_logs`, a `ListSessionLogsResponse`; takes the same arguments.""",
)

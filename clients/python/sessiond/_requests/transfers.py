"""The calls of TransferService."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sessiond import v1
from sessiond._calls import Service, streamed

_rpc = Service("sessiond.v1.TransferService").rpc

IMPORT_SESSIONS = _rpc("ImportSessions", v1.ImportSessionsRequest, v1.ImportSessionsResponse)

_PIECE_RECORDS, _PIECE_BYTES = 500, 2**20


@streamed(_rpc("ExportSessions", v1.ExportSessionsRequest, v1.ExportSessionsResponse), list)
def export_sessions(
    session_ids: Sequence[str] = (),
    filter: v1.SessionFilter | None = None,
    *,
    continuations: bool = False,
    resume_token: str = "",
) -> v1.ExportSessionsRequest:
    """Iterates over the `TransferRecord`s of sessions, parents first.

    The records of a session come together, from its `session` to its `end`. One whose `end` says `gone`
    was deleted or cleared while it was read: forget its records. It may take as long as it takes.

    When the connection breaks or the server goes away, the export goes on by itself, until nothing has come
    for as long as a call may take (the client's `timeout`). The session that was under way then ends with
    `gone`, and comes again from its beginning; no other one comes twice. What is returned, an `Export`, has
    the `resume_token` with which a later call of the same arguments goes on, in another process too.

    Args:
        session_ids: These sessions, at most 1000.
        filter: Only these sessions: a `session_filter`. Required without `session_ids`, but with an API key
            that is bound to an owner.
        continuations: Also the sessions that `session_ids` continue, and those that continue them.
        resume_token: Where to go on, of an export with the same arguments.

    Raises:
        SessionNotFound: One of the sessions doesn't exist.
        InvalidResumeToken: The token is that of an export with other arguments.

    Example:
        everything = sessiond.session_filter(whole_tenant=True, include_subagents=True)
        with sessiond.Client("old:7443") as old, sessiond.Client("new:7443") as new:
            for progress in new.import_sessions(old.export_sessions(filter=everything)):
                print([outcome.session_id for outcome in progress.outcomes])
    """
    return v1.ExportSessionsRequest(
        session_ids=session_ids,
        filter=filter,
        continuations=continuations,
        resume_token=resume_token,
    )


class Pieces:
    """Gathers records into requests."""

    def __init__(self) -> None:
        self._request, self._size = v1.ImportSessionsRequest(), 0

    def add(self, record: v1.TransferRecord) -> Iterator[v1.ImportSessionsRequest]:
        """Takes a record; the request that is full with the records before it, if it is."""
        size = record.ByteSize()
        full = len(self._request.records) == _PIECE_RECORDS or self._size + size > _PIECE_BYTES
        if full:
            yield from self.rest()
        self._request.records.append(record)
        self._size += size

    def rest(self) -> Iterator[v1.ImportSessionsRequest]:
        """The request with what is left, if there is anything."""
        if self._request.records:
            yield self._request
        self._request, self._size = v1.ImportSessionsRequest(), 0


def requests(records: Iterable[v1.TransferRecord]) -> Iterator[v1.ImportSessionsRequest]:
    """The requests of an import."""
    pieces = Pieces()
    for record in records:
        yield from pieces.add(record)
    yield from pieces.rest()


IMPORT_DOC = """Imports sessions from `TransferRecord`s, as `export_sessions` gives them.

Safe to repeat and to interrupt at any point: what is there already is compared and counted, what is
missing is added. Iterates over `ImportSessionsResponse`s: how many records are dealt with, and the
outcomes of the sessions that ended. A session that is refused has its `error` in its outcome, and
the others go on. It may take as long as it takes. What `records` raises ends it and is raised.

Args:
    records: The records; each session from its `session` to its `end`, parents first.

Raises:
    InvalidField: What came isn't records, or ended within a session.
    Unavailable: The service went away: import again.
"""

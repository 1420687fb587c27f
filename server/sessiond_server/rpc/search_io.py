"""Searches on their way in, hits on their way out."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from sessiond.v1 import search_service_pb2 as rpc
from sessiond_server.errors import PageTokenInvalid
from sessiond_server.operations.searching import Hit, Hits, Search
from sessiond_server.rpc import access, checks, limits, messages_in, page_tokens, passages_in
from sessiond_server.rpc.checks import Checks
from sessiond_server.rpc.session_filters import filter_in
from sessiond_server.rpc.times import optional_timestamp, timestamp
from sessiond_server.sessions import queries
from sessiond_server.sessions.queries import Query, QueryRefused
from sessiond_server.store.messages import StoredMessage
from sessiond_server.store.search import Filters, PageOf, Place

_NO_QUERY = Query(())


def query_in(text: str, field: str, check: Checks) -> Query:
    """A query as it is understood."""
    if len(text) > limits.SEARCH_QUERY:
        check.wrong(field, f"must be at most {limits.SEARCH_QUERY} characters, has {len(text)}")
        return _NO_QUERY
    try:
        return queries.parse(text)
    except QueryRefused as refused:
        check.wrong(field, str(refused))
        return _NO_QUERY


def search_in(request: rpc.SearchMessagesRequest, timeout: float) -> Search:
    """A checked search."""
    size = checks.page_size(request, limits.SEARCH_PAGE)
    with Checks() as check:
        query = query_in(request.query, "query", check)
        named = request.session_id
        wanted = filter_in(request.filter, "filter", check, named=bool(named))
        _check(request, check)
    around, most = limits.SNIPPET
    call = page_tokens.call_of("SearchMessages", request)
    return Search(
        query=query,
        sessions=wanted,
        session_id=named,
        key=access.key_of(named) if named else None,
        filters=replace(
            Filters.of(wanted, query.tsquery, query.rank_tsquery),
            roles=[int(role) for role in request.roles] or None,
            start_time=checks.moment(request.start_time)
            if request.HasField("start_time")
            else None,
            end_time=checks.moment(request.end_time) if request.HasField("end_time") else None,
            include_rewound=request.include_rewound,
        ),
        page=PageOf(
            request.order_by == rpc.SEARCH_ORDER_NEWEST,
            _place(request.page_token, call) if request.page_token else None,
            size,
        ),
        around=min(request.snippet_characters or around, most),
        context=(request.context_before, request.context_after),
        timeout=timeout,
    )


def _check(request: rpc.SearchMessagesRequest, check: Checks) -> None:
    if request.session_id:
        check.session_id("session_id", request.session_id)
    check.enums("roles", request.roles, messages_in.ROLES)
    for field in ("start_time", "end_time"):
        if request.HasField(field):
            check.timestamp(field, getattr(request, field))
    check.enum("order_by", request.order_by, rpc.SearchOrder.values())
    for field in ("context_before", "context_after"):
        if not 0 <= getattr(request, field) <= limits.SEARCH_NEIGHBORS:
            check.wrong(field, f"must be 0 to {limits.SEARCH_NEIGHBORS}")
    check.not_negative("snippet_characters", request.snippet_characters)


def _place(token: str, call: bytes) -> tuple[float, Place]:
    rank, time, key, seq = page_tokens.decode(token, call, str, str, str, int)
    try:
        moment = datetime.fromisoformat(str(time))
        place = float(str(rank)), Place(moment, UUID(str(key)), int(seq or 0))
    except ValueError as error:
        raise PageTokenInvalid from error
    if moment.tzinfo != UTC:
        raise PageTokenInvalid
    return place


def answer(hits: Hits, request: rpc.SearchMessagesRequest) -> rpc.SearchMessagesResponse:
    """A page of hits."""
    found = rpc.SearchMessagesResponse(
        hits=[_hit_out(hit) for hit in hits.hits],
        indexed_through=hits.indexed_through,
        indexed_through_time=optional_timestamp(hits.complete_time),
        only_newest=hits.only_newest,
    )
    if hits.following is not None:
        rank, place = hits.following
        call = page_tokens.call_of("SearchMessages", request)
        found.next_page_token = page_tokens.encode(
            [repr(rank), place.create_time.isoformat(), str(place.session_key), place.seq], call
        )
    return found


def _hit_out(hit: Hit) -> rpc.SearchHit:
    seq = hit.message.seq
    return rpc.SearchHit(
        session_id=hit.session_id,
        session_title=hit.title,
        seq=seq,
        role=hit.searched.role,  # type: ignore[arg-type]
        create_time=timestamp(hit.message.create_time),
        rank=hit.found.rank,
        field=hit.snippet.field,  # type: ignore[arg-type]
        snippet=rpc.SearchSnippet(
            runs=[rpc.SnippetRun(text=run.text, match=run.match) for run in hit.snippet.runs],
            cut_before=hit.snippet.cut_before,
            cut_after=hit.snippet.cut_after,
        ),
        rewound=seq in hit.marks.rewound,
        compacted_by_seq=hit.marks.compacted_by.get(seq, 0),
        offloaded=hit.offloaded,
        before=[_neighbor_out(message) for message in hit.before],
        after=[_neighbor_out(message) for message in hit.after],
    )


def _neighbor_out(message: StoredMessage) -> rpc.SearchNeighbor:
    searched = passages_in.searched(message.payload)
    text = searched.passages[0].text if searched.passages else ""
    return rpc.SearchNeighbor(
        seq=message.seq,
        role=searched.role,  # type: ignore[arg-type]
        text=text[: limits.SEARCH_NEIGHBOR_TEXT],
        cut=len(text) > limits.SEARCH_NEIGHBOR_TEXT,
    )

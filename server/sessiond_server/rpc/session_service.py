"""SessionService: check, translate, call, translate back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID

from sessiond.v1 import session_pb2 as pb
from sessiond.v1 import session_service_pb2 as rpc
from sessiond_server.errors import PageTokenInvalid, SearchDisabled
from sessiond_server.operations import creating, ending, facts, finding, forking, naming
from sessiond_server.operations.creating import NewSession
from sessiond_server.operations.finding import Listing, TextFilter
from sessiond_server.rpc import (
    access,
    checks,
    limits,
    page_tokens,
    search_io,
    sessions_io,
)
from sessiond_server.rpc.checks import Checks
from sessiond_server.rpc.guards_io import version_out
from sessiond_server.rpc.registry import Context
from sessiond_server.rpc.session_filters import filter_in
from sessiond_server.sessions.filters import SessionFilter
from sessiond_server.sessions.setups import Setup
from sessiond_server.store.database import Database
from sessiond_server.store.lists import ListPlace
from sessiond_server.store.sessions import SessionRow

UPDATABLE = frozenset(
    {
        "title",
        "pinned",
        "archived",
        "system_prompt",
        "model",
        "config",
        "metadata",
        "labels",
        "turn_index",
    }
)
_MAPS = frozenset({"labels", "metadata"})
_CONFLICTS = frozenset(rpc.TitleConflict.values())
_VIEWS = frozenset(pb.SessionView.values())
_FIRST_PLACE = ListPlace(True, datetime.max.replace(tzinfo=UTC), UUID(int=2**128 - 1))


@dataclass(slots=True)
class SessionServicer:
    """Sessions over gRPC."""

    database: Database
    max_spawn_depth: int
    search_timeout: float | None
    """Seconds that a search may take; `None` where there is none."""

    async def CreateSession(
        self, request: rpc.CreateSessionRequest, _: Context
    ) -> rpc.CreateSessionResponse:
        session = request.session
        sessions_io.strip(session)
        with Checks() as check:
            new = sessions_io.new_session(
                session,
                "session",
                session.id or sessions_io.new_id(request.request_id, request),
                check,
                tenant=access.tenant(),
                parent_owner=access.owner(),
            )
            check.enum("if_exists", request.if_exists, rpc.IfExists.values())
            check.enum("title_conflict", request.title_conflict, _CONFLICTS)
            check.request_id("request_id", request.request_id)
        row, created = await creating.create(
            self.database,
            replace(
                new,
                request_id=request.request_id,
                title_conflict=request.title_conflict or naming.ALLOW,
            ),
            return_existing=request.if_exists == rpc.IF_EXISTS_RETURN,
            max_spawn_depth=self.max_spawn_depth,
        )
        access.check_made(row.session_id, row.owner)
        return rpc.CreateSessionResponse(session=sessions_io.session_out(row), created=created)

    async def GetSession(
        self, request: rpc.GetSessionRequest, _: Context
    ) -> rpc.GetSessionResponse:
        session_id = checks.session_id(request.session_id)
        with Checks() as check:
            check.enum("view", request.view, _VIEWS)
        full = request.view == pb.SESSION_VIEW_FULL
        async with self.database.connection() as connection:
            row = await ending.read(connection, session_id, access.key_of(session_id), full=full)
        return rpc.GetSessionResponse(session=sessions_io.session_out(row))

    async def BatchGetSessions(
        self, request: rpc.BatchGetSessionsRequest, _: Context
    ) -> rpc.BatchGetSessionsResponse:
        with Checks() as check:
            check.count("session_ids", len(request.session_ids), limits.BATCH_SESSIONS, least=1)
            for place, session_id in enumerate(request.session_ids[: limits.BATCH_SESSIONS]):
                check.session_id(f"session_ids[{place}]", session_id)
            check.enum("view", request.view, _VIEWS)
        keys = {session_id: access.key_of(session_id) for session_id in request.session_ids}
        full = request.view == pb.SESSION_VIEW_FULL
        async with self.database.connection() as connection:
            found = await finding.batch(connection, keys, full=full)
        answer, used = rpc.BatchGetSessionsResponse(missing_ids=found.missing), 0
        for session_id, row in found.rows.items():
            session = sessions_io.session_out(row)
            used += session.ByteSize() + 16
            if answer.remaining_ids or (answer.sessions and used > limits.PAGE_BYTES):
                answer.remaining_ids.append(session_id)
            else:
                answer.sessions.append(session)
        answer.remaining_ids.extend(found.remaining)
        return answer

    async def ResolveSession(
        self, request: rpc.ResolveSessionRequest, _: Context
    ) -> rpc.ResolveSessionResponse:
        with Checks() as check:
            check.line("query", request.query, limits.NAME_BYTES)
            check.text("owner", request.owner)
            check.enum("view", request.view, _VIEWS)
        async with self.database.connection() as connection:
            row = await finding.resolve(
                connection,
                access.tenant(),
                request.query,
                request.owner,
                exact_title=request.exact_title,
                full=request.view == pb.SESSION_VIEW_FULL,
            )
        return rpc.ResolveSessionResponse(session=sessions_io.session_out(row))

    async def ListSessions(
        self, request: rpc.ListSessionsRequest, _: Context
    ) -> rpc.ListSessionsResponse:
        size = checks.page_size(request, limits.SESSION_PAGE)
        wanted = _filter(request)
        call = page_tokens.call_of("ListSessions", request)
        created = request.order_by == rpc.SESSION_ORDER_CREATE_TIME
        listing = Listing(
            wanted,
            "create_time" if created else "listed_time",
            _place(request.page_token, call) if request.page_token else _FIRST_PLACE,
            size,
            access.owner(),
            self._text(request),
            request.with_total,
            request.view == pb.SESSION_VIEW_FULL,
        )
        page = await finding.list_page(self.database, listing, sessions_io.silent)
        more = page.more
        answer, used = rpc.ListSessionsResponse(), 0
        for row, preview, place in page.rows:
            summary = sessions_io.summary(row, preview)
            used += summary.ByteSize() + 16
            if answer.sessions and used > limits.PAGE_BYTES:
                more = True
                break
            answer.sessions.append(summary)
            last = place
        if more:
            answer.next_page_token = page_tokens.encode(
                [last.pinned, last.time.isoformat(), str(last.session_key)], call
            )
        answer.total_size, answer.total_size_partial = page.total
        return answer

    def _text(self, request: rpc.ListSessionsRequest) -> TextFilter | None:
        if not request.text:
            return None
        with Checks() as check:
            query = search_io.query_in(request.text, "text", check)
        if self.search_timeout is None:
            raise SearchDisabled
        return TextFilter(query, self.search_timeout)

    async def UpdateSession(
        self, request: rpc.UpdateSessionRequest, _: Context
    ) -> rpc.UpdateSessionResponse:
        row = await facts.update(self.database, _update(request))
        return rpc.UpdateSessionResponse(session=sessions_io.session_out(row))

    async def NextTitle(self, request: rpc.NextTitleRequest, _: Context) -> rpc.NextTitleResponse:
        with Checks() as check:
            title = sessions_io.title_in(request.title, "title", check)
            if not title:
                check.wrong("title", "is required")
            check.text("owner", request.owner)
        async with self.database.connection() as connection:
            proposed = await naming.following(connection, access.tenant(), title, request.owner)
        return rpc.NextTitleResponse(title=proposed)

    async def EndSession(
        self, request: rpc.EndSessionRequest, _: Context
    ) -> rpc.EndSessionResponse:
        session_id = checks.session_id(request.session_id)
        with Checks() as check:
            check.text("reason", request.reason)
            guard = check.guard(request)
        key = access.key_of(session_id)
        ended = await ending.end(self.database, session_id, key, request.reason, guard)
        return rpc.EndSessionResponse(
            session=sessions_io.session_out(ended.row),
            deleted=ended.deleted,
            version=version_out(ended.row.version),
            replayed=ended.replayed,
        )

    async def ReopenSession(
        self, request: rpc.ReopenSessionRequest, _: Context
    ) -> rpc.ReopenSessionResponse:
        session_id = checks.session_id(request.session_id)
        with Checks() as check:
            guard = check.guard(request)
        reopened = await ending.reopen(self.database, session_id, access.key_of(session_id), guard)
        return rpc.ReopenSessionResponse(
            session=sessions_io.session_out(reopened.row),
            version=version_out(reopened.row.version),
            replayed=reopened.replayed,
        )

    async def DeleteSession(
        self, request: rpc.DeleteSessionRequest, _: Context
    ) -> rpc.DeleteSessionResponse:
        session_id = checks.session_id(request.session_id)
        with Checks() as check:
            check.text("etag", request.etag)
            guard = check.guard(request)
        deleted = await ending.delete(
            self.database,
            session_id,
            access.key_of(session_id),
            guard,
            etag=request.etag,
            allow_missing=request.allow_missing,
        )
        return rpc.DeleteSessionResponse(
            session_count=deleted.sessions,
            message_count=deleted.messages,
            detached_count=deleted.detached,
            deleted=deleted.version is not None,
            version=None if deleted.version is None else version_out(deleted.version),
        )

    async def ForkSession(
        self, request: rpc.ForkSessionRequest, _: Context
    ) -> rpc.ForkSessionResponse:
        session_id = checks.session_id(request.session_id)
        fork = request.fork
        sessions_io.strip(fork)
        with Checks() as check:
            check.seq("at_seq", request.at_seq)
            check.seq("expected_next_seq", request.expected_next_seq)
            check.request_id("request_id", request.request_id)
            check.enum("title_conflict", request.title_conflict, _CONFLICTS)
            if fork.HasField("parent"):
                check.wrong("fork.parent", "must be left out: it is the forked session")
            new_id = fork.id or sessions_io.new_id(request.request_id, request)
            new = sessions_io.new_session(fork, "fork", new_id, check, tenant=access.tenant())
            if new.session_id == session_id:
                check.wrong("fork.id", "must be another session")

        def describe(source: SessionRow, setup: Setup, at_seq: int) -> NewSession:
            described = sessions_io.fork_of(source, setup, fork, new, at_seq, request.request_id)
            conflict = request.title_conflict or naming.ALLOW
            return replace(described, title_conflict=conflict)

        wanted = forking.Fork(
            session_id,
            access.key_of(session_id),
            request.at_seq,
            request.expected_next_seq,
            describe,
        )
        row, created = await forking.fork(
            self.database, wanted, max_spawn_depth=self.max_spawn_depth
        )
        access.check_made(row.session_id, row.owner)
        return rpc.ForkSessionResponse(session=sessions_io.session_out(row), created=created)


def _filter(request: rpc.ListSessionsRequest) -> SessionFilter:
    with Checks() as check:
        wanted = filter_in(request.filter, "filter", check, archived=False)
        check.enum("order_by", request.order_by, rpc.SessionOrder.values())
        check.enum("view", request.view, _VIEWS)
    return wanted


def _place(token: str, call: bytes) -> ListPlace:
    pinned, time, key = page_tokens.decode(token, call, bool, str, str)
    try:
        place = ListPlace(bool(pinned), datetime.fromisoformat(str(time)), UUID(str(key)))
    except ValueError as error:
        raise PageTokenInvalid from error
    if place.time.tzinfo != UTC:
        raise PageTokenInvalid
    return place


def _update(request: rpc.UpdateSessionRequest) -> facts.Update:
    session = request.session
    session_id = checks.session_id(session.id, "session.id")
    title = None
    with Checks() as check:
        paths, keys = check.mask_into_maps("update_mask", request.update_mask, UPDATABLE, _MAPS)
        check.text("session.etag", session.etag)
        sessions_io.check_facts(session, "session", check)
        check.enum("title_conflict", request.title_conflict, _CONFLICTS)
        if "title" in paths:
            check.enum("session.title_source", session.title_source, pb.TitleSource.values())
            text = sessions_io.title_in(session.title, "session.title", check)
            source = session.title_source or pb.TITLE_SOURCE_PERSON
            conflict = request.title_conflict or naming.ALLOW
            title = facts.Title(text, source, request.title_only_if_unset, conflict)
    setup = sessions_io.setup_in(session)._asdict()
    changed = {name: value for name, value in setup.items() if name in paths}
    return facts.Update(
        session_id=session_id,
        key=access.key_of(session_id),
        etag=session.etag,
        title=title,
        pinned=session.pinned if "pinned" in paths else None,
        archived=session.archived if "archived" in paths else None,
        turn_index=session.turn_index if "turn_index" in paths else None,
        change_labels=lambda stored: sessions_io.changed_labels(stored, session, paths, keys),
        change_metadata=lambda stored: sessions_io.changed_metadata(
            stored, session, paths, keys, "session"
        ),
        change_setup=lambda stored: stored._replace(**changed),
    )

"""MessageService: check, translate, call, translate back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

from sessiond.v1 import message_pb2 as pb
from sessiond.v1 import message_service_pb2 as rpc
from sessiond.v1.sort_order_pb2 import SORT_ORDER_DESCENDING, SortOrder
from sessiond_server.errors import invalid
from sessiond_server.operations import reading, revising, rewinding
from sessiond_server.operations.creating import NewSession
from sessiond_server.operations.reading import Read, Reading
from sessiond_server.rpc import (
    access,
    checks,
    continuation_pages,
    limits,
    messages_in,
    messages_out,
    page_tokens,
    parts_in,
    sessions_io,
    usage_io,
)
from sessiond_server.rpc.append_stream import AppendStreams
from sessiond_server.rpc.checks import Checks
from sessiond_server.rpc.guards_io import version_out
from sessiond_server.rpc.registry import Context
from sessiond_server.rpc.times import optional_timestamp, timestamp
from sessiond_server.sessions.guards import Guard
from sessiond_server.store import contexts, messages
from sessiond_server.store.appends import ON_KNOWN, REFUSE, SKIP_ANY_CONTENT, Ack, Append, birth_of
from sessiond_server.store.batcher import Batcher
from sessiond_server.store.contexts import RewindRow
from sessiond_server.store.database import Connection, Database
from sessiond_server.store.messages import Filters, OpenCall, Revision, StoredMessage

UPDATABLE = frozenset(
    {
        "hidden_from_model",
        "hidden_from_people",
        "kind",
        "type",
        "token_count",
        "elapsed",
        "finish_reason",
        "model",
        "turn_index",
        "metadata",
        "extensions",
    }
)
_LEFT_OUT = ("parts", "extensions", "metadata")
"""What an answer to updates doesn't repeat, since a thousand messages wouldn't fit."""
_MESSAGES_FIELD = rpc.ListMessagesResponse.DESCRIPTOR.fields_by_name["messages"].number


class MessageServicer:
    """Messages over gRPC."""

    def __init__(self, database: Database, batcher: Batcher) -> None:
        self.database = database
        self.batcher = batcher
        self._streams = AppendStreams(self.begin, acknowledge)

    def close_streams(self) -> None:
        """End the append streams, when what they sent is answered."""
        self._streams.close()

    def begin(self, request: rpc.AppendMessagesRequest) -> Append:
        """Check an append and queue it; its answer comes as `append.answer`."""
        append = append_of(request)
        self.batcher.submit(append)
        return append

    @access.looks_itself
    async def AppendMessages(
        self, request: rpc.AppendMessagesRequest, _: Context
    ) -> rpc.AppendMessagesResponse:
        return acknowledgement(await self.begin(request).answer)

    @access.looks_itself
    async def AppendStream(
        self, requests: AsyncIterator[rpc.AppendStreamRequest], _: Context
    ) -> AsyncIterator[rpc.AppendStreamResponse]:
        async for answer in self._streams.answers(requests):
            yield answer

    async def ListMessages(self, request: rpc.ListMessagesRequest, _: Context) -> bytes:
        if request.continuations:
            _check_reading(request)
            wanted = _wanted(request)
            return await self.database.read(
                lambda connection: continuation_pages.answer(connection, request, wanted)
            )
        reading_, call, around = await self._reading(request)

        async def work(connection: Connection) -> tuple[Read, int | None]:
            if around:
                return await reading.page_around(connection, reading_)
            return await reading.page(connection, reading_), None

        read, previous = await self.database.read(work)
        answer = rpc.ListMessagesResponse(
            next_page_token=_token(reading_.descending, read.next_position, call),
            previous_page_token=_token(True, previous, call),
        )
        return messages_out.with_messages(answer, _MESSAGES_FIELD, read.messages, read.marks)

    async def _reading(self, request: rpc.ListMessagesRequest) -> tuple[Reading, bytes, bool]:
        """What a request means to read, what its tokens are bound to, whether around a seq."""
        wanted = _wanted(request)
        _check_reading(request)
        call = page_tokens.call_of("ListMessages", request)
        start = request.WhichOneof("start")
        if request.page_token:
            descending, position = page_tokens.decode(request.page_token, call, bool, int)
            return (
                replace(wanted, descending=bool(descending), position=int(position or 0)),
                call,
                False,
            )
        if start == "from_seq":
            return replace(wanted, position=request.from_seq), call, False
        if start == "around_seq":
            return replace(wanted, descending=False, position=request.around_seq), call, True
        if start == "start_time":
            return replace(wanted, position=await self._position(request, wanted)), call, False
        return wanted, call, False

    async def _position(self, request: rpc.ListMessagesRequest, wanted: Reading) -> int:
        time = checks.moment(request.start_time)
        return await self.database.read(
            lambda connection: reading.position_at(
                connection, wanted.session_id, wanted.key, time, descending=wanted.descending
            )
        )

    async def GetMessage(
        self, request: rpc.GetMessageRequest, _: Context
    ) -> rpc.GetMessageResponse:
        session_id = checks.session_id(request.session_id)
        which = request.WhichOneof("message")
        with Checks() as check:
            if which is None:
                check.wrong("message", "seq or client_id is required")
            elif which == "client_id":
                check.client_id("client_id", request.client_id)
            else:
                check.seq("seq", request.seq, least=1)
        found, marks = await self.database.read(
            lambda connection: reading.message(
                connection,
                session_id,
                access.key_of(session_id),
                request.client_id if which == "client_id" else request.seq,
            )
        )
        return rpc.GetMessageResponse(message=messages_out.decoded(found, marks))

    async def UpdateMessages(
        self, request: rpc.UpdateMessagesRequest, _: Context
    ) -> rpc.UpdateMessagesResponse:
        session_id = checks.session_id(request.session_id)
        changes, guard = _changes(request)
        updated = await revising.update(
            self.database,
            session_id,
            access.key_of(session_id),
            changes,
            guard,
            max_bytes=limits.UPDATED_BYTES,
        )
        answer = rpc.UpdateMessagesResponse(
            version=version_out(updated.version), replayed=updated.replayed
        )
        for message in updated.messages:
            decoded = messages_out.decoded(message, updated.marks)
            for field in _LEFT_OUT:
                decoded.ClearField(field)  # type: ignore[arg-type]
            answer.messages.append(decoded)
        return answer

    async def RewindSession(
        self, request: rpc.RewindSessionRequest, _: Context
    ) -> rpc.RewindSessionResponse:
        session_id = checks.session_id(request.session_id)
        with Checks() as check:
            check.given("after_seq", request, "0 hides everything")
            check.seq("after_seq", request.after_seq)
            guard = check.guard(request)
            check.text("author", request.author)
        done = await rewinding.rewind(
            self.database,
            session_id,
            access.key_of(session_id),
            request.after_seq,
            guard,
            access.by(request.author),
        )
        return rpc.RewindSessionResponse(
            rewind=rewind_out(done.row), version=version_out(done.version), replayed=done.replayed
        )

    async def RevertRewind(
        self, request: rpc.RevertRewindRequest, _: Context
    ) -> rpc.RevertRewindResponse:
        session_id = checks.session_id(request.session_id)
        with Checks() as check:
            check.chosen("which", request, "newest")
            if request.HasField("rewind_id"):
                check.seq("rewind_id", request.rewind_id, least=1)
            guard = check.guard(request)
        done = await rewinding.revert(
            self.database,
            session_id,
            access.key_of(session_id),
            request.rewind_id if request.HasField("rewind_id") else None,
            guard,
        )
        return rpc.RevertRewindResponse(
            rewind=rewind_out(done.row), version=version_out(done.version), replayed=done.replayed
        )

    async def GetRewind(self, request: rpc.GetRewindRequest, _: Context) -> rpc.GetRewindResponse:
        session_id = checks.session_id(request.session_id)
        with Checks() as check:
            check.seq("rewind_id", request.rewind_id, least=1)
        key = access.key_of(session_id)
        async with self.database.connection() as connection:
            await reading.head_of(connection, session_id, key)
            row = await rewinding.read(connection, key, request.rewind_id)
        return rpc.GetRewindResponse(rewind=rewind_out(row))

    async def ListRewinds(
        self, request: rpc.ListRewindsRequest, _: Context
    ) -> rpc.ListRewindsResponse:
        session_id = checks.session_id(request.session_id)
        size = checks.page_size(request, limits.RECORD_PAGE)
        call = page_tokens.call_of("ListRewinds", request)
        before = page_tokens.before(request.page_token, call)
        key = access.key_of(session_id)
        async with self.database.connection() as connection:
            await reading.head_of(connection, session_id, key)
            rows = await contexts.list_rewinds(connection, key, before, size + 1)
        return rpc.ListRewindsResponse(
            rewinds=[rewind_out(row) for row in rows[:size]],
            next_page_token=page_tokens.encode([rows[size - 1].rewind_id], call)
            if len(rows) > size
            else "",
        )

    async def ClearMessages(
        self, request: rpc.ClearMessagesRequest, _: Context
    ) -> rpc.ClearMessagesResponse:
        session_id = checks.session_id(request.session_id)
        with Checks() as check:
            guard = check.guard(request)
        cleared = await rewinding.clear(
            self.database,
            session_id,
            access.key_of(session_id),
            guard,
            delete_attachments=request.delete_attachments,
        )
        return rpc.ClearMessagesResponse(
            message_count=cleared.messages,
            version=version_out(cleared.version),
            attachment_count=cleared.attachments,
        )

    async def ListOpenToolCalls(
        self, request: rpc.ListOpenToolCallsRequest, _: Context
    ) -> rpc.ListOpenToolCallsResponse:
        session_id = checks.session_id(request.session_id)
        size = checks.page_size(request, limits.RECORD_PAGE)
        call = page_tokens.call_of("ListOpenToolCalls", request)
        after = (0, 0)
        if request.page_token:
            seq, position = page_tokens.decode(request.page_token, call, int, int)
            after = (int(seq or 0), int(position or 0))
        key = access.key_of(session_id)

        async def work(connection: Connection) -> tuple[list[OpenCall], list[StoredMessage]]:
            await reading.head_of(connection, session_id, key)
            found = await messages.open_tool_calls(connection, key, after, size + 1)
            return found, await reading.holders(connection, key, found, limits.PAGE_BYTES)

        found, stored = await self.database.read(work)
        holders = {
            m.seq: (timestamp(m.create_time), pb.Message.FromString(m.payload)) for m in stored
        }
        answer = rpc.ListOpenToolCallsResponse()
        for place, waiting in enumerate(found):
            if place == size or waiting.seq not in holders:
                last = found[place - 1]
                if place:
                    answer.next_page_token = page_tokens.encode([last.seq, last.position], call)
                break
            time, message = holders[waiting.seq]
            answer.open_tool_calls.add(
                seq=waiting.seq,
                tool_call=parts_in.tool_calls(message)[waiting.position - 1],
                create_time=time,
            )
        return answer


def append_of(request: rpc.AppendMessagesRequest) -> Append:
    """A checked append."""
    session_id = checks.session_id(request.session_id)
    check = Checks()
    guard = check.guard(request)
    rows = messages_in.rows(request.messages, check)
    on_known = request.on_known or REFUSE
    check.enum("on_known", on_known, ON_KNOWN)
    creation: NewSession | None = None
    if request.HasField("create_session"):
        session = request.create_session
        if session.id not in ("", session_id):
            check.wrong("create_session.id", "must be empty or session_id")
        creation = sessions_io.new_session(
            session,
            "create_session",
            session_id,
            check,
            tenant=access.tenant(),
            parent_owner=access.owner(),
        )
    usage = None
    if request.HasField("usage"):
        usage = usage_io.record_in(request.usage, "usage", check)
    check.done()
    size = sum([len(row.payload) for row in rows])
    rows, places = messages_in.once(rows, any_content=on_known == SKIP_ANY_CONTENT)
    return Append(
        session_id,
        access.key_of(session_id),
        rows,
        guard,
        on_known,
        creation,
        None if creation is None else _birth(creation),
        size,
        usage,
        places,
    )


def _birth(creation: NewSession) -> str | None:
    parent = creation.parent_id and (creation.parent_id, creation.parent_kind)
    owner = creation.owner or creation.parent_owner or ""
    return birth_of(owner, creation.source, creation.agent, parent or None)


def acknowledgement(ack: Ack) -> rpc.AppendMessagesResponse:
    """The answer to an append."""
    answer = rpc.AppendMessagesResponse()
    acknowledge(ack, answer)
    return answer


def acknowledge(ack: Ack, answer: rpc.AppendMessagesResponse) -> None:
    """Say in an empty answer what an append came to: field by field, which takes half as long as to make one
    of its parts and to copy it."""
    first, last = ack.seqs[0], ack.seqs[-1]
    answer.first_seq, answer.last_seq = first, last
    version = answer.version
    version.next_seq, version.revision, version.context_token_count = ack.version
    if ack.replayed:
        answer.replayed = True
    if ack.known:
        answer.known.extend(ack.known)
    if ack.session_created:
        answer.session_created = True
    if not isinstance(ack.seqs, range) and list(ack.seqs) != list(range(first, last + 1)):
        answer.seqs.extend(ack.seqs)


def _wanted(request: rpc.ListMessagesRequest) -> Reading:
    """What a request means to read, from the first or the last message on."""
    session_id = checks.session_id(request.session_id)
    view = request.view or pb.MESSAGE_VIEW_TRANSCRIPT
    descending = request.order == SORT_ORDER_DESCENDING
    return Reading(
        session_id=session_id,
        key=access.key_of(session_id),
        view=view,
        filters=Filters(
            view == pb.MESSAGE_VIEW_TRANSCRIPT,
            [int(role) for role in request.roles] or None,
            [int(kind) for kind in request.kinds] or None,
            list(request.types) or None,
        ),
        descending=descending,
        position=limits.MAX_SEQ if descending else 1,
        limit=checks.page_size(request, limits.MESSAGE_PAGE),
        max_bytes=limits.PAGE_BYTES,
        last=request.to_seq if request.HasField("to_seq") else None,
    )


def _check_reading(request: rpc.ListMessagesRequest) -> None:
    start = request.WhichOneof("start")
    with Checks() as check:
        check.enum("view", request.view, pb.MessageView.values())
        if request.continuations and request.view == pb.MESSAGE_VIEW_CONTEXT:
            check.wrong(
                "continuations", "must not be set with the view context: each session has its own"
            )
        check.enum("order", request.order, SortOrder.values())
        check.enums("roles", request.roles, messages_in.ROLES)
        check.enums("kinds", request.kinds, messages_in.KINDS - {pb.MESSAGE_KIND_UNSPECIFIED})
        check.count("types", len(request.types), limits.MESSAGE_TYPES)
        for place, type in enumerate(request.types[: limits.MESSAGE_TYPES]):
            check.text(f"types[{place}]", type, limits.MESSAGE_TYPE)
        if start == "from_seq":
            check.seq("from_seq", request.from_seq, least=1)
        elif start == "around_seq":
            check.seq("around_seq", request.around_seq, least=1)
        elif start == "start_time":
            check.timestamp("start_time", request.start_time)
        if request.HasField("to_seq"):
            check.seq("to_seq", request.to_seq, least=1)
            if start == "around_seq":
                check.wrong(
                    "to_seq", "must not be set with around_seq, which reads in both directions"
                )


def _token(descending: bool, position: int | None, call: bytes) -> str:
    return "" if position is None else page_tokens.encode([descending, position], call)


def _changes(request: rpc.UpdateMessagesRequest) -> tuple[list[revising.Change], Guard]:
    with Checks() as check:
        guard = check.guard(request)
        check.count("updates", len(request.updates), limits.CALL_MESSAGES, least=1)
        check.size("updates", request.ByteSize(), limits.CALL_BYTES)
        seen: set[int] = set()
        changes = []
        for place, update in enumerate(request.updates[: limits.CALL_MESSAGES]):
            where = f"updates[{place}]"
            check.seq(f"{where}.message.seq", update.message.seq, least=1)
            if update.message.seq in seen:
                check.wrong(f"{where}.message.seq", "must be of another message than the others")
            seen.add(update.message.seq)
            paths = check.mask(f"{where}.update_mask", update.update_mask, UPDATABLE)
            messages_in.check_facts(update.message, f"{where}.message", check)
            changes.append(_change(update.message, paths, f"{where}.message"))
    return changes, guard


def _change(update: pb.Message, paths: frozenset[str], where: str) -> revising.Change:
    def revise(seq: int, payload: bytes) -> Revision:
        message = pb.Message.FromString(payload)
        new = pb.Message()
        new.CopyFrom(update)
        for field in pb.Message.DESCRIPTOR.fields:
            (message if field.name in paths else new).ClearField(field.name)  # type: ignore[arg-type]
        message.MergeFrom(new)
        with Checks() as check:
            row = messages_in.row(message, where, check)
        if len(row.payload) > limits.MESSAGE_BYTES:
            raise invalid(
                "updates", f"message {seq} would be larger than {limits.MESSAGE_BYTES} bytes"
            )
        return Revision(
            seq,
            row.token_count,
            row.kind,
            row.in_context,
            row.in_transcript,
            row.type or None,
            row.payload,
        )

    return revising.Change(update.seq, revise)


def rewind_out(row: RewindRow) -> pb.Rewind:
    return pb.Rewind(
        id=row.rewind_id,
        after_seq=row.after_seq,
        to_seq=row.to_seq,
        author=row.author,
        actor=row.actor,
        create_time=timestamp(row.create_time),
        revert_time=optional_timestamp(row.revert_time),
    )

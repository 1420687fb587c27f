"""The synchronous client."""

from __future__ import annotations

import contextlib
import copy
import functools
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, cast

import grpc
from google.protobuf.message import Message

from sessiond import v1
from sessiond._calls import Paged, Rpc, Streamed, Unary, describe
from sessiond._channel import call_metadata, channel_options, grpc_target, with_metadata
from sessiond._draft import PUBLISH, Draft
from sessiond._errors import SessiondError
from sessiond._export import Export
from sessiond._lease import WriterLease
from sessiond._requests import (
    api_keys,
    attachments,
    compactions,
    consumers,
    contexts,
    journal,
    messages,
    reminders,
    retention,
    searches,
    servers,
    sessions,
    storage,
    tenants,
    transfers,
    usage,
    values,
    writers,
)
from sessiond._retries import Attempts
from sessiond._session_watch import WATCH_SESSIONS, SessionWatchState, watch_sessions
from sessiond._status import error_from_call
from sessiond._stream import AppendStream
from sessiond._transfer import Destination, Incoming, Outgoing, Pieces, Source, Target
from sessiond._watch import SILENCE, WATCH, WatchState
from sessiond._watch_sync import SessionWatch, Watch

P = ParamSpec("P")
Q = TypeVar("Q", bound=Message)
R = TypeVar("R", bound=Message)
T = TypeVar("T")
Records = Iterable[v1.TransferRecord]


class _Link:
    """A channel and its callables."""

    def __init__(self, channel: grpc.Channel, api_key: str | None) -> None:
        self.channel = channel
        self._metadata = call_metadata(api_key)
        self._callables: dict[str, Any] = {}

    def callable(self, kind: str, rpc: Rpc[Any, Any]) -> Any:
        """The channel's callable for an RPC; `kind` names the channel's method that makes it."""
        found = self._callables.get(rpc.path)
        if found is None:
            made = getattr(self.channel, kind)(
                rpc.path,
                request_serializer=rpc.request.SerializeToString,
                response_deserializer=rpc.response.FromString,
            )
            found = self._callables[rpc.path] = with_metadata(made, self._metadata)
        return found


class _Caller:
    """Makes calls over a link, each with a timeout."""

    _link: _Link
    _timeout: float | None

    def _answer(self, rpc: Rpc[Q, R], request: Q, seconds: float | None = None) -> R:
        call = self._link.callable("unary_unary", rpc)
        attempts = Attempts(rpc.retry_fields, request, seconds or self._timeout)
        while True:
            try:
                with _translated():
                    return cast("R", call(request, timeout=attempts.timeout()))
            except SessiondError as error:
                time.sleep(attempts.pause(error))

    def _answers(self, rpc: Rpc[Q, R], request: Q) -> Iterator[R]:
        call = self._link.callable("unary_stream", rpc)(request, timeout=self._timeout)
        try:
            with _translated():
                yield from call
        finally:
            call.cancel()

    def _upload(
        self, outgoing: Outgoing, first: v1.UploadAttachmentRequest
    ) -> v1.UploadAttachmentResponse:
        attempt = 0
        while True:
            attempt += 1
            try:
                with _translated():
                    call = self._link.callable("stream_unary", attachments.UPLOAD)
                    timeout = outgoing.timeout(self._timeout)
                    answer = call(outgoing.frames(first), timeout=timeout)
                    return cast("v1.UploadAttachmentResponse", answer)
            except SessiondError as error:
                time.sleep(outgoing.failed(error, attempt))

    def _write(
        self, request: v1.StartUploadRequest | v1.WriteUploadRequest, outgoing: Outgoing
    ) -> v1.StartUploadResponse | v1.WriteUploadResponse:
        if isinstance(request, v1.StartUploadRequest):
            return self._answer(attachments.start_upload.rpc, request)
        seconds = outgoing.timeout(self._timeout) if request.last else None
        return self._answer(attachments.write_upload.rpc, request, seconds)

    def _download(self, incoming: Incoming) -> Iterator[bytes]:
        while (request := incoming.request()) is not None:
            try:
                for frame in self._answers(attachments.DOWNLOAD, request):
                    yield incoming.take(frame)
            except SessiondError as error:
                time.sleep(incoming.failed(error))
            else:
                incoming.ended()
                return

    def _pages(self, call: Paged[..., Q, R, T], request: Q | None) -> Iterator[T]:
        while request is not None:
            page = self._answer(call.rpc, request)
            yield from call.items(page)
            request = call.request_after(request, page)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Turns gRPC's errors into the library's."""
    try:
        yield
    except grpc.RpcError as error:
        raise error_from_call(error) from error


def _unary(call: Unary[P, Q, R, T]) -> Callable[Concatenate[_Caller, P], T]:
    def method(self: _Caller, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return call.result(self._answer(call.rpc, call.build(*args, **kwargs)))

    return describe(method, call.build)


def _listed(call: Paged[P, Q, R, T]) -> Callable[Concatenate[_Caller, P], Iterator[T]]:
    def method(self: _Caller, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return self._pages(call, call.build(*args, **kwargs))

    return describe(method, call.build)


def _streamed(call: Streamed[P, Q, R, T]) -> Callable[Concatenate[_Caller, P], Iterator[R]]:
    def method(self: _Caller, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[R]:
        return self._answers(call.rpc, call.build(*args, **kwargs))

    return describe(method, call.build)


def _collected(call: Streamed[P, Q, R, T]) -> Callable[Concatenate[_Caller, P], T]:
    def method(self: _Caller, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return call.collect(list(self._answers(call.rpc, call.build(*args, **kwargs))))

    return describe(method, call.build)


def _exported(
    call: Streamed[P, v1.ExportSessionsRequest, v1.ExportSessionsResponse, Any],
) -> Callable[Concatenate[_Caller, P], Export]:
    def method(self: _Caller, /, *args: P.args, **kwargs: P.kwargs) -> Export:
        unlimited = copy.copy(self)
        unlimited._timeout = None
        answers = functools.partial(unlimited._answers, call.rpc)
        return Export(answers, call.build(*args, **kwargs), self._timeout)

    return describe(method, call.build)


def _session_watch(
    build: Callable[P, SessionWatchState],
) -> Callable[Concatenate[Client, P], SessionWatch]:
    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> SessionWatch:
        call = self._link.callable("unary_stream", WATCH_SESSIONS)
        return SessionWatch(call, build(*args, **kwargs), self._timeout)

    return describe(method, build)


class Client(_Caller):
    """A client for threads. `AsyncClient` is its counterpart for asyncio, with the same methods.

    Args:
        target: Where the service listens: `host:port`, `unix:/path`, or any other gRPC target. Left
            out, the environment's `SESSIOND_TARGET`, or `127.0.0.1:7443`.
        timeout: How many seconds a call may take, its retries included; None for ever. Each page of
            a list is a call. `with_timeout` gives a client with another one.
        api_key: The key that the service wants, if it does. Left out, the environment's
            `SESSIOND_API_KEY`. It is sent as it is: over a network, only with TLS.
        options: Options of the channel, which override those of `channel_options`.
        channel: A channel to use instead, for instance one with TLS. It stays open when the client
            closes; its options are as it was made: see `channel_options`.

    Any number of threads may use it; a process that was forked makes its own. It connects with its
    first call. Calls that are safe to repeat are repeated up to four times while the service is
    unavailable; all are while it is overloaded. Errors are `SessiondError`s; arguments that can't
    be sent raise ValueError or TypeError before anything is.

    A method returns the one thing that its answer holds, or the whole answer if it holds several.
    Arguments that take an enum take its value or its name in lower case.

    Example:
        with sessiond.Client() as client:
            client.create_session("chat-1", title="Flights")
            client.append("chat-1", sessiond.message("user", "Hi"))
            context = client.get_context("chat-1")
            for message in client.list_messages("chat-1", order="descending"):
                print(message.seq, sessiond.text_of(message))
    """

    def __init__(
        self,
        target: str | None = None,
        *,
        timeout: float | None = 30.0,
        api_key: str | None = None,
        options: Sequence[tuple[str, Any]] = (),
        channel: grpc.Channel | None = None,
    ) -> None:
        self._given = channel is not None
        self._link = _Link(
            channel or grpc.insecure_channel(grpc_target(target), options=channel_options(options)),
            api_key,
        )
        self._timeout = timeout

    def with_timeout(self, timeout: float | None) -> Self:
        """The same client, over the same channel, with another timeout in seconds."""
        other = copy.copy(self)
        other._timeout = timeout
        return other

    def close(self) -> None:
        """Closes the channel; calls under way fail with `Cancelled`."""
        if not self._given:
            self._link.channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    create_session = _unary(sessions.create_session)
    get_session = _unary(sessions.get_session)
    batch_get_sessions = _unary(sessions.batch_get_sessions)
    resolve_session = _unary(sessions.resolve_session)
    list_sessions = _listed(sessions.list_sessions)
    list_sessions_page = _unary(sessions.list_sessions_page)
    update_session = _unary(sessions.update_session)
    next_title = _unary(sessions.next_title)
    end_session = _unary(sessions.end_session)
    reopen_session = _unary(sessions.reopen_session)
    delete_session = _unary(sessions.delete_session)
    fork_session = _unary(sessions.fork_session)
    prune_sessions = _listed(retention.prune_sessions)
    prune_sessions_page = _unary(retention.prune_sessions_page)
    create_api_key = _unary(api_keys.create_api_key)
    get_api_key = _unary(api_keys.get_api_key)
    list_api_keys = _listed(api_keys.list_api_keys)
    revoke_api_key = _unary(api_keys.revoke_api_key)
    get_tenant_stats = _unary(tenants.get_tenant_stats)
    get_server_info = _unary(servers.get_server_info)

    append = _unary(messages.append)
    list_messages = _listed(messages.list_messages)
    list_messages_page = _unary(messages.list_messages_page)
    get_message = _unary(messages.get_message)
    update_messages = _unary(messages.update_messages)
    rewind = _unary(messages.rewind)
    revert_rewind = _unary(messages.revert_rewind)
    get_rewind = _unary(messages.get_rewind)
    list_rewinds = _listed(messages.list_rewinds)
    clear_messages = _unary(messages.clear_messages)
    list_open_tool_calls = _listed(messages.list_open_tool_calls)
    search_messages = _listed(searches.search_messages)
    search_messages_page = _unary(searches.search_messages_page)
    reindex_sessions = _unary(storage.reindex_sessions)

    get_context = _collected(contexts.get_context)
    stream_context = _streamed(contexts.stream_context)
    plan_compaction = _unary(compactions.plan_compaction)
    compact = _unary(compactions.compact)
    revert_compaction = _unary(compactions.revert_compaction)
    get_compaction = _unary(compactions.get_compaction)
    list_compactions = _listed(compactions.list_compactions)
    offload_messages = _unary(storage.offload_messages)
    restore_messages = _unary(storage.restore_messages)
    list_offloads = _listed(storage.list_offloads)
    release_compaction_lease = _unary(compactions.release_compaction_lease)
    renew_compaction_lease = _unary(compactions.renew_compaction_lease)
    acquire_writer = _unary(writers.acquire_writer)
    renew_writer = _unary(writers.renew_writer)
    release_writer = _unary(writers.release_writer)

    get_attachment = _unary(attachments.get_attachment)
    list_attachments = _listed(attachments.list_attachments)
    list_attachments_page = _unary(attachments.list_attachments_page)
    start_upload = _unary(attachments.start_upload)
    write_upload = _unary(attachments.write_upload)
    get_upload = _unary(attachments.get_upload)
    abort_upload = _unary(attachments.abort_upload)
    update_attachment = _unary(attachments.update_attachment)
    delete_attachment = _unary(attachments.delete_attachment)

    def upload_attachment(
        self,
        session_id: str,
        source: Source,
        *,
        name: str | None = None,
        attachment_id: str | None = None,
        mime_type: str = "",
        disposition: values.Disposition | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> v1.UploadAttachmentResponse:
        """Stores a file with a session. Safe to repeat with the same `attachment_id`.

        Args:
            session_id: The session's id.
            source: Its bytes, the path of a file, or a file that is open for reading bytes. What can be
                read twice is, for its SHA-256, and the upload is repeated when the service is out of reach.
            name: Its name, or a relative path such as `reports/may.pdf`; that of the file if left out.
                The service makes it safe, and numbers one that is taken: `may_1.pdf`.
            attachment_id: An id that no other attachment of the session has. Left out, one is made up.
            mime_type: Its media type; by its name if left out.
            disposition: `inline` or `attachment`, the default.
            metadata: Facts of the application's own.

        Returns an `UploadAttachmentResponse`: the attachment, and whether it was stored before.

        It may take four seconds per MiB longer than the client's timeout.

        Raises:
            SessionNotFound, SessionEnded: There is none, or it takes none.
            AttachmentOverLimit: It is too large, or the session holds too many; see its metadata.
            AttachmentTypeRefused: It is an executable.
            AttachmentIdReused: An attachment of other bytes has this id.
        """
        outgoing = Outgoing(source)
        try:
            outgoing.measure()
            attachment = attachments.facts(
                name=outgoing.name if name is None else name,
                attachment_id=attachment_id,
                mime_type=mime_type,
                disposition=disposition,
                metadata=metadata,
            )
            first = v1.UploadAttachmentRequest(session_id=session_id, attachment=attachment)
            return self._upload(outgoing, first)
        finally:
            outgoing.close()

    def upload_resumable(
        self,
        session_id: str,
        source: Source,
        *,
        attachment_id: str,
        name: str | None = None,
        mime_type: str = "",
        disposition: values.Disposition | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> v1.UploadAttachmentResponse:
        """Stores a file with a session, call by call: begins the upload, or goes on where it stopped.

        It outlives a broken connection and a restart of the caller: call it again with the same file and
        `attachment_id`, and only what is missing is sent, to any replica. `upload_attachment` is faster where
        nothing breaks.

        Args:
            session_id: The session's id.
            source: Its bytes, the path of a file, or a file that is open for reading bytes and can be read
                again.
            attachment_id: An id that no other attachment of the session has, and that is known after a
                restart.
            name: Its name, or a relative path such as `reports/may.pdf`; that of the file if left out.
            mime_type: Its media type; by its name if left out.
            disposition: `inline` or `attachment`, the default.
            metadata: Facts of the application's own.

        Returns an `UploadAttachmentResponse`: the attachment, and whether it was stored before.

        Raises:
            ValueError: The file can't be read again, or it changed.
            SessionNotFound, SessionEnded: There is none, or it takes none.
            AttachmentOverLimit: It is too large, or the session holds too many; see its metadata.
            AttachmentTypeRefused: It is an executable.
            AttachmentIdReused: An attachment of other bytes has this id.
        """
        outgoing = Outgoing(source)
        try:
            outgoing.measure()
            if outgoing.size is None:
                raise ValueError("the file can't be read again")
            attachment = attachments.facts(
                name=outgoing.name if name is None else name,
                attachment_id=attachment_id,
                mime_type=mime_type,
                disposition=disposition,
                metadata=metadata,
            )
            pieces = Pieces(outgoing, session_id, attachment, outgoing.size)
            while pieces.answer is None:
                request = pieces.request()
                try:
                    pieces.take(self._write(request, outgoing))
                except SessiondError as error:
                    time.sleep(pieces.failed(error))
            return pieces.answer
        finally:
            outgoing.close()

    def read_attachment(
        self, session_id: str, attachment_id: str, *, offset: int = 0, length: int = 0
    ) -> bytes:
        """Reads the bytes of an attachment, and checks their SHA-256 if these are all.

        Goes on where it stopped when the connection breaks, unless nothing comes for the client's timeout.

        Args:
            session_id: The session's id.
            attachment_id: The attachment's id.
            offset: How many bytes to leave out at the beginning.
            length: How many to read at most; 0 is all that follow.

        Raises:
            SessionNotFound, AttachmentNotFound: There is none.
        """
        incoming = Incoming(session_id, attachment_id, offset, length, self._timeout)
        return b"".join(self._download(incoming))

    def save_attachment(self, session_id: str, attachment_id: str, target: Target) -> v1.Attachment:
        """Writes an attachment to a file, and checks its SHA-256. See `read_attachment`.

        Args:
            session_id: The session's id.
            attachment_id: The attachment's id.
            target: A path, where the file appears when it is whole, in the place of what was there; or a
                file that is open for writing bytes.

        Returns the `Attachment`.
        """
        incoming = Incoming(session_id, attachment_id, 0, 0, self._timeout)
        destination = Destination(target)
        try:
            for piece in self._download(incoming):
                destination.write(piece)
            destination.done()
        finally:
            destination.close()
        assert incoming.attachment is not None
        return incoming.attachment

    record_usage = _unary(usage.record_usage)
    get_usage = _unary(usage.get_usage)
    list_usage = _listed(usage.list_usage)
    set_retention_policy = _unary(retention.set_retention_policy)
    get_retention_policy = _unary(retention.get_retention_policy)
    list_retention_policies = _listed(retention.list_retention_policies)
    delete_retention_policy = _unary(retention.delete_retention_policy)
    list_retention_reports = _listed(retention.list_retention_reports)
    export_sessions = _exported(transfers.export_sessions)

    def import_sessions(self, records: Records) -> Iterator[v1.ImportSessionsResponse]:
        failed: list[Exception] = []

        def requests() -> Iterator[v1.ImportSessionsRequest]:
            try:
                yield from transfers.requests(records)
            except Exception as error:  # not GeneratorExit, which is the end of the call
                failed.append(error)
                raise

        call = self._link.callable("stream_stream", transfers.IMPORT_SESSIONS)(
            requests(), timeout=None
        )
        try:
            with _translated():
                yield from call
        except SessiondError:
            if failed:
                raise failed[0] from None
            raise
        finally:
            call.cancel()

    import_sessions.__doc__ = transfers.IMPORT_DOC
    create_reminder = _unary(reminders.create_reminder)
    get_reminder = _unary(reminders.get_reminder)
    list_reminders = _listed(reminders.list_reminders)
    cancel_reminder = _unary(reminders.cancel_reminder)
    skip_reminder = _unary(reminders.skip_reminder)
    claim_reminders = _unary(reminders.claim_reminders)
    complete_reminder = _unary(reminders.complete_reminder)
    fail_reminder = _unary(reminders.fail_reminder)
    extend_reminder_claim = _unary(reminders.extend_reminder_claim)
    set_cursor = _unary(consumers.set_cursor)
    get_cursor = _unary(consumers.get_cursor)
    list_cursors = _listed(consumers.list_cursors)
    claim_sessions = _unary(consumers.claim_sessions)
    extend_session_claim = _unary(consumers.extend_session_claim)
    list_consumers = _listed(consumers.list_consumers)
    delete_consumer = _unary(consumers.delete_consumer)

    append_journal = _unary(journal.append_journal)
    list_journal = _listed(journal.list_journal)
    list_journal_page = _unary(journal.list_journal_page)

    def watch(
        self,
        *session_ids: str,
        start: str | int = "beginning",
        resume: Mapping[str, str] | None = None,
        descendants: bool = False,
        drafts: bool = False,
        kinds: Collection[str] = (),
        silence: float = SILENCE,
    ) -> Watch:
        """Follows sessions: what happened, then what happens. See `Watch`.

        Args:
            session_ids: The sessions, 100 at most.
            start: `beginning`, `now`, or the seq of the first message wanted, which may be in the
                future.
            resume: The `tokens` of an earlier watch; a session without one begins at `start`.
            descendants: Whether to follow the sessions that come from it as well (of one session).
            drafts: Whether to see messages while they are being written as well.
            kinds: The kinds of events wanted, such as `session_changed`, by the names in `Event.kind`;
                empty for all. `caught_up`, `fell_behind` and `session_deleted` always come.
            silence: Seconds without a sign of life after which another connection is tried; more
                than the service's setting `feed_heartbeat`, which is 15.

        Raises, while iterating:
            SessionNotFound: There is no such session.
            HistoryDiverged: A token is of another history: forget what was received.
            Unavailable: The service was out of reach for longer than the client's timeout.
        """
        call = self._link.callable("unary_stream", WATCH)
        state = WatchState(session_ids, start, resume, descendants, drafts, silence, kinds)
        return Watch(call, state, self._timeout)

    watch_sessions = _session_watch(watch_sessions)

    def draft(self, session_id: str, client_id: str | None = None) -> Draft:
        """Shows watchers a message while it is being written, a context manager: see `Draft`.

        Args:
            session_id: The session's id.
            client_id: The client id that the message will be appended with. Left out, one is made up.
        """
        return Draft(self._link.callable("stream_unary", PUBLISH), session_id, client_id)

    def append_stream(self) -> AppendStream:
        """Opens a stream of appends, a context manager: see `AppendStream`.

        Each append may take as long as the client's timeout, reconnections included.
        """
        stub = self._link.callable("stream_stream", messages.APPEND_STREAM)
        return AppendStream(stub, self._timeout)

    def writer(self, session_id: str, holder: str | None = None, lease_ttl: float = 30.0) -> Writer:
        """Takes the writer lease while a block runs, a context manager: see `Writer`.

        Args:
            session_id: The session's id.
            holder: A name that no other process uses. Left out, one is made up.
            lease_ttl: How many seconds the lease lasts if it isn't renewed: 1 s to 1 h.
        """
        return Writer(self, session_id, holder, lease_ttl)


class Writer(WriterLease):
    """A writer lease, taken when its block begins, renewed every third of `lease_ttl`, then given up.

    Example:
        with client.writer("chat-1") as lease:
            while work := next_step():
                if lease.lost:
                    break
                client.append("chat-1", work, writer_token=lease.token)

    Raises:
        WriterLeaseHeld: When the block begins: another writer holds it.
    """

    def __init__(
        self, client: Client, session_id: str, holder: str | None, lease_ttl: float
    ) -> None:
        super().__init__(session_id, holder, lease_ttl)
        self._client = client
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="sessiond-writer", daemon=True)

    def __enter__(self) -> Self:
        asked = time.monotonic()
        answer = self._client.acquire_writer(self.session_id, self.holder, lease_ttl=self.lease_ttl)
        self._taken(answer, asked)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Gives the lease up; one that can't be given up now ends by itself."""
        self._over.set()
        self._thread.join()
        with contextlib.suppress(SessiondError):
            self._client.release_writer(self.session_id, self.token)

    def _keep(self) -> None:
        client = self._client.with_timeout(self._interval)
        pause = self._interval
        while not self._over.wait(pause) and not self.lost:
            asked = time.monotonic()
            try:
                client.renew_writer(self.session_id, self.token, lease_ttl=self.lease_ttl)
                self._renewed(asked)
            except SessiondError as error:
                self._failed(error)
            pause = max(0.0, asked + self._interval - time.monotonic())

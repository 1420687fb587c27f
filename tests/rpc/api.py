"""The raw stubs with shortcuts, for tests that say what they are about in few lines."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

import sessiond
from sessiond import v1
from tests.rpc.refusals import Refusal, refusal

ASSISTANT, TOOL, USER = v1.Role.ROLE_ASSISTANT, v1.Role.ROLE_TOOL, v1.Role.ROLE_USER


EVERYTHING = v1.SessionFilter(whole_tenant=True, include_subagents=True)


def new(prefix: str = "s") -> str:
    """An id that nobody else uses."""
    return f"{prefix}-{uuid4().hex}"


def said(text: str = "hello", client_id: str = "", **fields: Any) -> v1.Message:
    """A user's message."""
    return sessiond.message(USER, text, client_id=client_id or new("m"), **fields)


def calling(*call_ids: str) -> v1.Message:
    """An assistant's message with tool calls."""
    calls = [v1.ToolCall(id=id, name="f", arguments="{}") for id in call_ids]
    return sessiond.message(
        ASSISTANT,
        *(v1.Part(tool_call=it) for it in (calls)),
        client_id=new("m"),
    )


def answering(call_id: str) -> v1.Message:
    """A tool's result."""
    return sessiond.message(TOOL, sessiond.tool_result(call_id, "done"), client_id=new("m"))


_GUARD = frozenset(v1.WriteGuard.DESCRIPTOR.fields_by_name)


class Api:
    """The services on one channel."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.sessions = v1.SessionServiceStub(channel)
        self.messages = v1.MessageServiceStub(channel)
        self.contexts = v1.ContextServiceStub(channel)
        self.compactions = v1.CompactionServiceStub(channel)
        self.writers = v1.WriterServiceStub(channel)
        self.searches = v1.SearchServiceStub(channel)
        self.feeds = v1.FeedServiceStub(channel)
        self.attachments = v1.AttachmentServiceStub(channel)
        self.usage = v1.UsageServiceStub(channel)
        self.transfers = v1.TransferServiceStub(channel)
        self.reminders = v1.ReminderServiceStub(channel)
        self.consumers = v1.ConsumerServiceStub(channel)
        self.journal = v1.JournalServiceStub(channel)
        self.retention = v1.RetentionServiceStub(channel)
        self.storage = v1.StorageServiceStub(channel)
        self.tenants = v1.TenantServiceStub(channel)
        self.api_keys = v1.ApiKeyServiceStub(channel)
        self.server = v1.ServerServiceStub(channel)

    def create(self, id: str = "", **fields: Any) -> v1.Session:
        """A session with these facts."""
        session = v1.Session(id=id or new(), **fields)
        return self.sessions.CreateSession(v1.CreateSessionRequest(session=session)).session

    def child(
        self,
        parent: str,
        lifecycle: v1.Lifecycle.ValueType = v1.Lifecycle.LIFECYCLE_LINKED,
        kind: v1.ParentKind.ValueType = v1.ParentKind.PARENT_KIND_SUBAGENT,
        **fields: Any,
    ) -> v1.Session:
        """A session that comes from another one."""
        origin = v1.SessionParent(id=parent, kind=kind)
        return self.create(parent=origin, lifecycle=lifecycle, **fields)

    def get(self, session_id: str) -> v1.Session:
        return self.sessions.GetSession(v1.GetSessionRequest(session_id=session_id)).session

    def full(self, session_id: str) -> v1.Session:
        """A session with its system prompt, config and metadata."""
        view = v1.SessionView.SESSION_VIEW_FULL
        request = v1.GetSessionRequest(session_id=session_id, view=view)
        return self.sessions.GetSession(request).session

    def append(
        self, session_id: str, *messages: v1.Message, **fields: Any
    ) -> v1.AppendMessagesResponse:
        request = v1.AppendMessagesRequest(
            session_id=session_id, messages=messages, **guarded(fields)
        )
        return self.messages.AppendMessages(request)

    def talk(self, count: int = 1, *messages: v1.Message) -> str:
        """A new session with `count` messages and these; its id."""
        id = self.create().id
        if count or messages:
            self.append(id, *(said(f"message {n + 1}") for n in range(count)), *messages)
        return id

    def compact(
        self, session_id: str, from_seq: int, to_seq: int, **fields: Any
    ) -> v1.CompactSessionResponse:
        summary = v1.Message(parts=[v1.Part(text="what was said")], client_id=new("summary"))
        request = v1.CompactSessionRequest(
            session_id=session_id, from_seq=from_seq, to_seq=to_seq, summary=summary
        )
        request.MergeFrom(v1.CompactSessionRequest(**guarded(fields)))
        return self.compactions.CompactSession(request)

    def watch(self, session_id: str, **start: Any) -> v1.WatchResponse:
        """The first frame of a watch."""
        target = v1.WatchTarget(session_id=session_id, **start)
        call = self.feeds.Watch(v1.WatchRequest(targets=[target]))
        try:
            frame: v1.WatchResponse = next(call)
            return frame
        finally:
            call.cancel()

    def watch_sessions(self, **request: Any) -> v1.WatchSessionsResponse:
        """The first frame of a stream of sessions."""
        call = self.feeds.WatchSessions(v1.WatchSessionsRequest(**request))
        try:
            frame: v1.WatchSessionsResponse = next(call)
            return frame
        finally:
            call.cancel()

    def upload(
        self, session_id: str, content: bytes = b"content", name: str = "", **facts: Any
    ) -> v1.UploadAttachmentResponse:
        """Store a file, in frames of 100,000 bytes."""
        attachment = v1.Attachment(name=name, **facts)
        frames = [v1.UploadAttachmentRequest(session_id=session_id, attachment=attachment)]
        for start in range(0, len(content), 100_000):
            frames.append(v1.UploadAttachmentRequest(chunk=content[start : start + 100_000]))
        frames[-1].last = True
        return self.attachments.UploadAttachment(iter(frames))

    def download(
        self, session_id: str, attachment_id: str, offset: int = 0, length: int = 0
    ) -> bytes:
        """The bytes of a file, or a range of them."""
        request = v1.DownloadAttachmentRequest(
            session_id=session_id, attachment_id=attachment_id, offset=offset, length=length
        )
        return b"".join(frame.chunk for frame in self.attachments.DownloadAttachment(request))

    def change_file(
        self, session_id: str, attachment_id: str, *paths: str, **facts: Any
    ) -> v1.Attachment:
        """Change facts of an attachment."""
        request = v1.UpdateAttachmentRequest(
            session_id=session_id,
            attachment=v1.Attachment(id=attachment_id, **facts),
            update_mask=FieldMask(paths=paths),
        )
        return self.attachments.UpdateAttachment(request).attachment

    def files(self, session_id: str, path_prefix: str = "") -> list[v1.Attachment]:
        """The attachments of a session that fit a page."""
        request = v1.ListAttachmentsRequest(
            session_id=session_id, path_prefix=path_prefix, page_size=1000
        )
        return list(self.attachments.ListAttachments(request).attachments)

    def archive(self, session_id: str) -> v1.Session:
        """Put a session away."""
        return self.update(session_id, "archived", archived=True)

    def update(self, session_id: str, *paths: str, **fields: Any) -> v1.Session:
        """Change facts of a session: fields of it, and those of the request after an underscore."""
        own = {name[1:]: fields.pop(name) for name in list(fields) if name.startswith("_")}
        request = v1.UpdateSessionRequest(session=v1.Session(id=session_id, **fields), **own)
        request.update_mask.paths.extend(paths)
        return self.sessions.UpdateSession(request).session

    def end(self, session_id: str, reason: str = "done") -> v1.EndSessionResponse:
        request = v1.EndSessionRequest(session_id=session_id, reason=reason)
        return self.sessions.EndSession(request)

    def reopen(self, session_id: str) -> v1.Session:
        request = v1.ReopenSessionRequest(session_id=session_id)
        return self.sessions.ReopenSession(request).session

    def delete(self, session_id: str, **fields: Any) -> v1.DeleteSessionResponse:
        request = v1.DeleteSessionRequest(session_id=session_id, **fields)
        return self.sessions.DeleteSession(request)

    def fork(self, session_id: str, at_seq: int = 0, **fields: Any) -> v1.Session:
        request = v1.ForkSessionRequest(session_id=session_id, at_seq=at_seq, **fields)
        return self.sessions.ForkSession(request).session

    def rewind(self, session_id: str, after_seq: int, **fields: Any) -> v1.Rewind:
        request = v1.RewindSessionRequest(
            session_id=session_id, after_seq=after_seq, **guarded(fields)
        )
        return self.messages.RewindSession(request).rewind

    def lease(self, session_id: str, holder: str = "writer", seconds: int = 60) -> str:
        """The token of the writer lease."""
        request = v1.AcquireWriterRequest(session_id=session_id, holder=holder)
        request.lease_ttl.FromSeconds(seconds)
        return self.writers.AcquireWriter(request).writer_token

    def spend(self, session_id: str, *records: v1.UsageRecord) -> v1.RecordUsageResponse:
        """Record usage."""
        return self.usage.RecordUsage(v1.RecordUsageRequest(session_id=session_id, records=records))

    def spent(self, session_id: str = "", **fields: Any) -> v1.GetUsageResponse:
        """What a session used; without one all that there were, unless the fields say of what."""
        request = v1.GetUsageRequest(**fields)
        if session_id:
            request.session_id = session_id
        elif request.WhichOneof("scope") is None:
            request.sessions.CopyFrom(EVERYTHING)
        return self.usage.GetUsage(request)

    def journal_records(
        self, session_id: str, *contents: bytes, request_id: str = "", **fields: Any
    ) -> v1.AppendJournalResponse:
        """Append records of an agent's own."""
        records = [v1.JournalRecord(content=content, **fields) for content in contents]
        return self.journal.AppendJournal(
            v1.AppendJournalRequest(session_id=session_id, records=records, request_id=request_id)
        )

    def logged(self, session_id: str, **fields: Any) -> v1.ListJournalResponse:
        """A page of these."""
        request = v1.ListJournalRequest(session_id=session_id, **fields)
        return self.journal.ListJournal(request)

    def plan(self, session_id: str, holder: str = "compactor") -> v1.PlanCompactionResponse:
        """A plan with its lease."""
        request = v1.PlanCompactionRequest(
            session_id=session_id, keep_recent_messages=1, acquire_lease=True, holder=holder
        )
        return self.compactions.PlanCompaction(request)

    def search(self, query: str, **fields: Any) -> v1.SearchMessagesResponse:
        """A page of hits; in all sessions unless fields of a filter, or of the request, say where."""
        names = set(v1.SessionFilter.DESCRIPTOR.fields_by_name) - {"end_time"}
        wanted = v1.SessionFilter(**{name: fields.pop(name) for name in names if name in fields})
        request = v1.SearchMessagesRequest(query=query, filter=wanted, **fields)
        if not request.session_id:
            request.filter.MergeFrom(EVERYTHING)
        return self.searches.SearchMessages(request)

    def indexed(self, *session_ids: str) -> None:
        """Wait until sessions are indexed to their ends."""
        for id in session_ids:
            end = self.get(id).next_seq - 1
            until = time.monotonic() + 60
            while self.search("a", session_id=id).indexed_through < end:
                assert time.monotonic() < until
                time.sleep(0.05)

    def reminder(
        self, session_id: str, text: str = "remember", *, delay: float = 0, **fields: Any
    ) -> v1.Reminder:
        """A reminder that is due after so many seconds; fields of the request after an underscore."""
        own = {name[1:]: fields.pop(name) for name in list(fields) if name.startswith("_")}
        reminder = v1.Reminder(id=fields.pop("id", "") or new("reminder"), **fields)
        if text:
            reminder.message.parts.add(text=text)
        request = v1.CreateReminderRequest(session_id=session_id, reminder=reminder, **own)
        if not reminder.HasField("trigger_time"):
            request.delay.FromMilliseconds(int(delay * 1000))
        return self.reminders.CreateReminder(request).reminder

    def claim(
        self, *types: str, count: int = 100, ttl: float = 600, wait: float = 0, worker: str = "w"
    ) -> list[v1.ClaimedReminder]:
        """Claims of what is due, of these types."""
        request = v1.ClaimRemindersRequest(
            holder=worker, filter=EVERYTHING, max_count=count, types=types
        )
        request.lease_ttl.FromMilliseconds(int(ttl * 1000))
        request.wait.FromMilliseconds(int(wait * 1000))
        return list(self.reminders.ClaimReminders(request).claims)

    def complete(self, claim: v1.ClaimedReminder, **fields: Any) -> v1.CompleteReminderResponse:
        request = v1.CompleteReminderRequest(
            session_id=claim.reminder.session_id,
            reminder_id=claim.reminder.id,
            claim_token=claim.claim_token,
            **guarded(fields),
        )
        return self.reminders.CompleteReminder(request)

    def fail(
        self, claim: v1.ClaimedReminder, error: str = "", *, retry: float | None = None
    ) -> v1.FailReminderResponse:
        """A claim failed, and is tried again after so many seconds, or as the server has it."""
        request = v1.FailReminderRequest(
            session_id=claim.reminder.session_id,
            reminder_id=claim.reminder.id,
            claim_token=claim.claim_token,
            error=error,
        )
        if retry is not None:
            request.retry_delay.FromMilliseconds(int(retry * 1000))
        return self.reminders.FailReminder(request)

    def get_reminder(self, reminder: v1.Reminder) -> v1.Reminder:
        request = v1.GetReminderRequest(session_id=reminder.session_id, reminder_id=reminder.id)
        return self.reminders.GetReminder(request).reminder

    def cancel(self, reminder: v1.Reminder) -> v1.Reminder:
        request = v1.CancelReminderRequest(session_id=reminder.session_id, reminder_id=reminder.id)
        return self.reminders.CancelReminder(request).reminder

    def skip(self, reminder: v1.Reminder, **fields: Any) -> v1.Reminder:
        request = v1.SkipReminderRequest(
            session_id=reminder.session_id, reminder_id=reminder.id, **fields
        )
        return self.reminders.SkipReminder(request).reminder

    def log(self, session_id: str) -> list[v1.Message]:
        """All messages, of sessions that fit a page."""
        request = v1.ListMessagesRequest(
            session_id=session_id, view=v1.MessageView.MESSAGE_VIEW_ALL, page_size=1000
        )
        return list(self.messages.ListMessages(request).messages)

    def export(self, **fields: Any) -> list[v1.TransferRecord]:
        """The records of sessions."""
        pieces = self.transfers.ExportSessions(v1.ExportSessionsRequest(**fields))
        return [record for piece in pieces for record in piece.records]

    def bring(self, *records: v1.TransferRecord) -> list[v1.ImportOutcome]:
        """Import records; the outcomes."""
        request = v1.ImportSessionsRequest(records=records)
        answers = self.transfers.ImportSessions(iter([request]))
        return [outcome for answer in answers for outcome in answer.outcomes]

    def context(self, session_id: str, **fields: Any) -> list[v1.Message]:
        """What the model sees."""
        request = v1.GetContextRequest(session_id=session_id, **fields)
        return [m for piece in self.contexts.GetContext(request) for m in piece.messages]


def guarded(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields of a request, of which those of its guard are in it."""
    own = {name: fields.pop(name) for name in list(fields) if name in _GUARD}
    return {**fields, "guard": v1.WriteGuard(**own)} if own else fields


def refused(call: Callable[[], Any]) -> Refusal:
    """The refusal of a call that must be refused; of a stream, when it is read."""
    with pytest.raises(grpc.RpcError) as raised:
        list(answer) if hasattr(answer := call(), "__next__") else None
    return refusal(raised.value)

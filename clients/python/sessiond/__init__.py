"""The client library of sessiond, the session store for AI agents.

`AsyncClient` is for asyncio, `Client` for threads. `sessiond.v1` holds the messages of the API.

Example:
    import sessiond
    from sessiond import v1

    async with sessiond.AsyncClient() as client:
        await client.create_session("chat-1", owner="ann")
        await client.append("chat-1", v1.Message(role=v1.Role.ROLE_USER, text="Hello"))
        context = await client.get_context("chat-1")
        completion = await model(sessiond.to_openai(context.messages))
        await client.append("chat-1", sessiond.from_openai([completion]))
"""

from __future__ import annotations

from sessiond._aio import AsyncClient, AsyncWriter
from sessiond._channel import channel_options
from sessiond._client import Client, Writer
from sessiond._draft import Draft
from sessiond._draft_aio import AsyncDraft
from sessiond._errors import (
    AlreadyExists,
    AppendQueueFull,
    AttachmentIdReused,
    AttachmentNotFound,
    AttachmentOverLimit,
    AttachmentTypeRefused,
    Cancelled,
    ClientIdReused,
    CompactionLeaseHeld,
    CompactionLeaseLost,
    CompactionNotFound,
    CompactionOverlap,
    CompactionRangeEmpty,
    CompactionSplitsToolCall,
    Conflict,
    DatabaseUnavailable,
    DeadlineExceeded,
    EtagMismatch,
    FieldViolation,
    HistoryDiverged,
    ImportConflict,
    InternalError,
    InvalidField,
    InvalidPageToken,
    InvalidRequest,
    InvalidResumeToken,
    MessageNotFound,
    NextSeqMismatch,
    NotFound,
    NothingToRewind,
    Overloaded,
    ParentNotFound,
    PartialReplay,
    PermissionDenied,
    PreconditionFailed,
    ReadQueueFull,
    RequestIdReused,
    RetentionPolicyNotFound,
    RewindNotFound,
    RewindNotUndoable,
    SearchDisabled,
    SearchTooCostly,
    SeqOutOfRange,
    ServerBug,
    SessionAmbiguous,
    SessionArchived,
    SessionBusy,
    SessiondError,
    SessionEnded,
    SessionExists,
    SessionLogFull,
    SessionNotFound,
    ShuttingDown,
    SpawnTooDeep,
    TitleAlreadySet,
    TitleTaken,
    TooManyDrafts,
    TooManyRetentionPolicies,
    TooManyTransfers,
    TooManyWatches,
    Unauthenticated,
    Unavailable,
    Unsupported,
    WriterLeaseHeld,
    WriterLeaseLost,
)
from sessiond._openai import from_openai, to_openai
from sessiond._requests.contexts import Context
from sessiond._requests.messages import message_update, with_client_ids
from sessiond._requests.usage import usage_record
from sessiond._stream import AppendStream
from sessiond._stream_aio import AsyncAppendStream
from sessiond._watch import Event
from sessiond._watch_aio import AsyncWatch
from sessiond._watch_sync import Watch

__all__ = [
    "AlreadyExists",
    "AppendQueueFull",
    "AppendStream",
    "AsyncAppendStream",
    "AsyncClient",
    "AsyncDraft",
    "AsyncWatch",
    "AsyncWriter",
    "AttachmentIdReused",
    "AttachmentNotFound",
    "AttachmentOverLimit",
    "AttachmentTypeRefused",
    "Cancelled",
    "Client",
    "ClientIdReused",
    "CompactionLeaseHeld",
    "CompactionLeaseLost",
    "CompactionNotFound",
    "CompactionOverlap",
    "CompactionRangeEmpty",
    "CompactionSplitsToolCall",
    "Conflict",
    "Context",
    "DatabaseUnavailable",
    "DeadlineExceeded",
    "Draft",
    "EtagMismatch",
    "Event",
    "FieldViolation",
    "HistoryDiverged",
    "ImportConflict",
    "InternalError",
    "InvalidField",
    "InvalidPageToken",
    "InvalidRequest",
    "InvalidResumeToken",
    "MessageNotFound",
    "NextSeqMismatch",
    "NotFound",
    "NothingToRewind",
    "Overloaded",
    "ParentNotFound",
    "PartialReplay",
    "PermissionDenied",
    "PreconditionFailed",
    "ReadQueueFull",
    "RequestIdReused",
    "RetentionPolicyNotFound",
    "RewindNotFound",
    "RewindNotUndoable",
    "SearchDisabled",
    "SearchTooCostly",
    "SeqOutOfRange",
    "ServerBug",
    "SessionAmbiguous",
    "SessionArchived",
    "SessionBusy",
    "SessionEnded",
    "SessionExists",
    "SessionLogFull",
    "SessionNotFound",
    "SessiondError",
    "ShuttingDown",
    "SpawnTooDeep",
    "TitleAlreadySet",
    "TitleTaken",
    "TooManyDrafts",
    "TooManyRetentionPolicies",
    "TooManyTransfers",
    "TooManyWatches",
    "Unauthenticated",
    "Unavailable",
    "Unsupported",
    "Watch",
    "Writer",
    "WriterLeaseHeld",
    "WriterLeaseLost",
    "channel_options",
    "from_openai",
    "message_update",
    "to_openai",
    "usage_record",
    "with_client_ids",
]

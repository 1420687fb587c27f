"""The exceptions that calls raise.

```
SessiondError
├── InvalidRequest               INVALID_ARGUMENT, OUT_OF_RANGE: correct the request
│   ├── InvalidField
│   ├── UnknownField
│   ├── InvalidPageToken
│   ├── InvalidResumeToken
│   └── SeqOutOfRange
├── NotFound                     NOT_FOUND
│   ├── SessionNotFound
│   ├── ParentNotFound
│   ├── MessageNotFound
│   ├── CompactionNotFound
│   ├── RewindNotFound
│   ├── AttachmentNotFound
│   ├── UploadNotFound
│   ├── RetentionPolicyNotFound
│   ├── ApiKeyNotFound
│   ├── ConsumerNotFound
│   └── ReminderNotFound
├── AlreadyExists                ALREADY_EXISTS
│   ├── SessionExists
│   ├── SessionDiffers
│   ├── TitleTaken
│   ├── ClientIdReused
│   ├── AttachmentIdReused
│   ├── RequestIdReused
│   ├── ImportConflict
│   └── ReminderExists
├── Conflict                     ABORTED: somebody else was faster; read what is new, decide anew
│   ├── NextSeqMismatch
│   ├── RevisionMismatch
│   ├── EtagMismatch
│   ├── UploadOffsetMismatch
│   ├── WriterLeaseLost
│   ├── CompactionLeaseLost
│   └── ClaimLost
├── PreconditionFailed           FAILED_PRECONDITION: not as things stand
│   ├── HistoryDiverged
│   ├── ResumeTokenExpired
│   ├── SessionEnded
│   ├── SessionAmbiguous
│   ├── SpawnTooDeep
│   ├── TitleAlreadySet
│   ├── WriterLeaseHeld
│   ├── PartialReplay
│   ├── CompactionRangeEmpty
│   ├── CompactionOverlap
│   ├── CompactionSplitsToolCall
│   ├── CompactionLeaseHeld
│   ├── RewindNotRevertible
│   ├── NothingToRewind
│   ├── SearchDisabled
│   ├── ApiKeysDisabled
│   ├── SearchTooCostly
│   ├── JournalFull
│   ├── AttachmentOverLimit
│   ├── AttachmentTypeRefused
│   ├── TooManyRetentionPolicies
│   ├── TooManyReminders
│   └── TooManyConsumers
├── Overloaded                   RESOURCE_EXHAUSTED: nothing was done; wait and try again
│   ├── AppendQueueFull
│   ├── TooManyWatches
│   ├── TooManyDrafts
│   ├── TooManyTransfers
│   └── ReadQueueFull
├── Unavailable                  UNAVAILABLE: whether a write took effect isn't known
│   ├── DatabaseUnavailable
│   ├── SessionBusy
│   └── ShuttingDown
├── DeadlineExceeded             DEADLINE_EXCEEDED: likewise; also a TimeoutError
│   └── AppendTimeout            nothing was written
├── Cancelled                    CANCELLED: likewise
├── Unauthenticated              UNAUTHENTICATED
├── PermissionDenied             PERMISSION_DENIED
├── Unsupported                  UNIMPLEMENTED: the server doesn't know the call
└── InternalError                INTERNAL, UNKNOWN, DATA_LOSS
    └── ServerBug
```

A reason that this release doesn't know, from a newer server, becomes the class of its status code.
The error of gRPC stays as `__cause__`, except in streams that go on after an error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from grpc import StatusCode

from sessiond.v1 import ErrorReason


@dataclass(frozen=True)
class FieldViolation:
    """What is wrong with one field of a request."""

    field: str
    """The path of the field, for instance `messages[3].client_id`."""
    description: str
    """What is wrong and what the limit is, in English."""


class SessiondError(Exception):
    """The base of all errors that the service answers with, or gRPC on its way there.

    Example:
        try:
            await client.append("chat-1", message, expected_next_seq=7)
        except sessiond.NextSeqMismatch as error:
            print("somebody wrote; the session goes on at", error.next_seq)
        except sessiond.SessiondError as error:
            print(error.code, error.reason, error.metadata)
    """

    default_code: ClassVar[StatusCode] = StatusCode.UNKNOWN

    code: StatusCode
    """The status code of gRPC."""
    reason: str
    """The name of the `ErrorReason` without its prefix, for instance `SESSION_NOT_FOUND`; empty
    when the error isn't the service's own."""
    message: str
    """What happened, for people."""
    metadata: dict[str, str]
    """Every dynamic part of the message; `ErrorReason` documents the keys."""
    field_violations: tuple[FieldViolation, ...]
    """The fields that are wrong, if that is the reason."""
    retry_delay: float | None
    """Seconds to wait before trying again, where the server says that waiting helps."""

    def __init__(
        self,
        message: str = "",
        *,
        code: StatusCode | None = None,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        field_violations: Sequence[FieldViolation] = (),
        retry_delay: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = self.default_code if code is None else code
        self.reason = reason
        self.message = message
        self.metadata = dict(metadata or {})
        self.field_violations = tuple(field_violations)
        self.retry_delay = retry_delay

    def __str__(self) -> str:
        return f"{self.reason or self.code.name}: {self.message}"

    def __reduce__(self) -> tuple[type[SessiondError], tuple[str], dict[str, object]]:
        """Makes errors survive pickling with their attributes."""
        return type(self), (self.message,), self.__dict__

    def _number(self, key: str) -> int | None:
        try:
            return int(self.metadata[key])
        except (KeyError, ValueError):
            return None

    def _time(self, key: str) -> datetime | None:
        try:
            return datetime.fromisoformat(self.metadata[key])
        except (KeyError, ValueError):
            return None

    def _range(self) -> tuple[int, int] | None:
        first, last = self._number("nearest_from_seq"), self._number("nearest_to_seq")
        return None if first is None or last is None else (first, last)


class InvalidRequest(SessiondError):
    """The request breaks a documented form or limit: see `field_violations`."""

    default_code = StatusCode.INVALID_ARGUMENT


class InvalidField(InvalidRequest):
    """A field breaks its documented form or limit."""


class UnknownField(InvalidRequest):
    """The server, older than what made the request, doesn't know one of its fields; nothing was done."""


class InvalidPageToken(InvalidRequest):
    """The page token was changed or belongs to a call with other arguments."""


class SeqOutOfRange(InvalidRequest):
    """A seq lies beyond the end of the history or before its beginning."""

    default_code = StatusCode.OUT_OF_RANGE

    @property
    def first_seq(self) -> int | None:
        """The smallest seq that the session still holds."""
        return self._number("first_seq")

    @property
    def next_seq(self) -> int | None:
        """The seq that the next message will get."""
        return self._number("next_seq")


class NotFound(SessiondError):
    """What the request names doesn't exist, or not for this caller."""

    default_code = StatusCode.NOT_FOUND


class SessionNotFound(NotFound):
    """There is no such session."""


class ParentNotFound(NotFound):
    """The parent named for a new session doesn't exist."""


class ConsumerNotFound(NotFound):
    """There is no such consumer that claims."""


class RetentionPolicyNotFound(NotFound):
    """There is no retention policy of this name."""


class ApiKeyNotFound(NotFound):
    """The tenant has no API key of this id."""


class MessageNotFound(NotFound):
    """The session has no such message: it is beyond the end or was cleared."""


class CompactionNotFound(NotFound):
    """The session has no compaction with this summary."""


class RewindNotFound(NotFound):
    """The session has no rewind with this id."""


class AttachmentNotFound(NotFound):
    """The session has no attachment with this id."""


class ReminderNotFound(NotFound):
    """The session has no reminder with this id."""


class AlreadyExists(SessiondError):
    """What was to be new is there."""

    default_code = StatusCode.ALREADY_EXISTS


class SessionExists(AlreadyExists):
    """The session's id is in use."""


class SessionDiffers(AlreadyExists):
    """A session that was to be created if it is missing exists, with another owner, source, agent or
    parent."""

    @property
    def field(self) -> str:
        """Which of these differs."""
        return self.metadata.get("field", "")


class TitleTaken(AlreadyExists):
    """Another session of the owner has the title; `next_title` proposes a free one."""


class ClientIdReused(AlreadyExists):
    """A message of other content has this client id: ids are for one message each."""


class UploadNotFound(NotFound):
    """There is no unfinished upload of this token that this API key began."""


class AttachmentIdReused(AlreadyExists):
    """An attachment of other bytes has this id: ids are for one attachment each."""


class RequestIdReused(AlreadyExists):
    """Something of other content has this request id: ids are for one request each."""


class ImportConflict(AlreadyExists):
    """A session that is imported isn't the one that the store has under its id."""


class ReminderExists(AlreadyExists):
    """The session has another reminder with this id."""


class Conflict(SessiondError):
    """Somebody else was faster. Read what is new and decide anew; don't just repeat the call."""

    default_code = StatusCode.ABORTED


class NextSeqMismatch(Conflict):
    """The history isn't where `expected_next_seq` said."""

    @property
    def next_seq(self) -> int | None:
        """The session's actual next seq."""
        return self._number("next_seq")


class UploadOffsetMismatch(Conflict):
    """The bytes don't follow what is stored of the upload."""

    @property
    def expected_offset(self) -> int | None:
        """Where to go on."""
        return self._number("expected_offset")


class RevisionMismatch(Conflict):
    """What the model sees isn't what `expected_revision` said."""

    @property
    def revision(self) -> int | None:
        """The session's actual revision."""
        return self._number("revision")

    @property
    def next_seq(self) -> int | None:
        """The session's actual next seq."""
        return self._number("next_seq")


class EtagMismatch(Conflict):
    """The session changed since the etag was read."""

    @property
    def etag(self) -> str:
        """The actual etag; empty if the server didn't say."""
        return self.metadata.get("etag", "")


class WriterLeaseLost(Conflict):
    """The writer lease ran out, was released, or another writer holds it."""


class CompactionLeaseLost(Conflict):
    """The compaction lease ran out, was released, or another compactor holds it."""


class ClaimLost(Conflict):
    """Another worker has claimed since, or what was claimed is over: cancelled, completed, failed."""


class PreconditionFailed(SessiondError):
    """The call can't be done as things stand."""

    default_code = StatusCode.FAILED_PRECONDITION


class InvalidResumeToken(InvalidRequest):
    """A resume token was changed or is that of another session."""


class HistoryDiverged(PreconditionFailed):
    """A resume token is of another history: forget what was received and watch from the beginning."""


class ResumeTokenExpired(PreconditionFailed):
    """The token of a stream of sessions is too old: forget what was received and begin without one."""


class SessionEnded(PreconditionFailed):
    """The session has ended; `reopen_session` makes it active."""


class SessionAmbiguous(PreconditionFailed):
    """What was to be resolved fits several sessions."""

    @property
    def query(self) -> str:
        """What was to be resolved."""
        return self.metadata.get("query", "")

    @property
    def candidates(self) -> list[str]:
        """The first ids that fit."""
        return [str(id) for id in json.loads(self.metadata.get("candidates", "[]"))]

    @property
    def candidate_count(self) -> int | None:
        """How many fit; 21 stands for more than 20."""
        return self._number("candidate_count")


class SpawnTooDeep(PreconditionFailed):
    """A sub-agent's session would stand deeper than the server allows."""


class TitleAlreadySet(PreconditionFailed):
    """A person set the title, or there is one and only a missing one was to be set."""


class _LeaseHeld(PreconditionFailed):
    @property
    def holder(self) -> str:
        """Who holds the lease."""
        return self.metadata.get("holder", "")

    @property
    def expire_time(self) -> datetime | None:
        """When it ends if it isn't renewed, by the database's clock."""
        return self._time("expire_time")


class WriterLeaseHeld(_LeaseHeld):
    """Another writer holds the session's writer lease."""


class PartialReplay(PreconditionFailed):
    """Some messages of the call are stored and some aren't; see `on_known`."""


class CompactionRangeEmpty(PreconditionFailed):
    """No message of the context stands in the range to compact."""


class _UnsafeRange(PreconditionFailed):
    @property
    def nearest_range(self) -> tuple[int, int] | None:
        """The nearest range that would do, first and last seq included; None if there is none."""
        return self._range()


class CompactionOverlap(_UnsafeRange):
    """The range takes in a part of an earlier compaction."""


class CompactionSplitsToolCall(_UnsafeRange):
    """The range would separate a tool call from its results."""


class CompactionLeaseHeld(_LeaseHeld):
    """Another compactor is at work on the session."""


class RewindNotRevertible(PreconditionFailed):
    """What the rewind hid would stand partly in a compaction made later."""


class NothingToRewind(PreconditionFailed):
    """No message stands after the seq to rewind to."""


class AttachmentOverLimit(PreconditionFailed):
    """The attachment is too large, or its session would hold too many or too much."""

    @property
    def limit(self) -> int | None:
        """The limit, in bytes or attachments."""
        return self._number("limit")

    @property
    def setting(self) -> str:
        """The name of the server's setting."""
        return self.metadata.get("setting", "")


class AttachmentTypeRefused(PreconditionFailed):
    """The attachment is an executable, which the server doesn't take."""


class TooManyRetentionPolicies(PreconditionFailed):
    """There are as many retention policies as may be."""


class JournalFull(PreconditionFailed):
    """The session's log would have more records or bytes than it may."""


class TooManyReminders(PreconditionFailed):
    """The session has as many pending reminders as may be."""


class TooManyConsumers(PreconditionFailed):
    """There are as many consumers as may be, of an owner, of a tenant, or in a session."""


class Overloaded(SessiondError):
    """The server or its connection has more to do than it takes on. Nothing was done."""

    default_code = StatusCode.RESOURCE_EXHAUSTED


class AppendQueueFull(Overloaded):
    """The server's queue of appends is full."""


class TooManyWatches(Overloaded):
    """The server or the connection has as many watches as may be."""


class SearchDisabled(PreconditionFailed):
    """Messages aren't indexed: the server runs without search."""


class ApiKeysDisabled(PreconditionFailed):
    """The server takes calls without an API key: keys are made on its host, by `sessiond keys`."""


class SearchTooCostly(PreconditionFailed):
    """The search takes too long: look for rarer words, or in fewer sessions."""


class TooManyDrafts(Overloaded):
    """The server relays as many drafts as may be."""


class TooManyTransfers(Overloaded):
    """The server has as many uploads, downloads or imports under way as may be."""


class ReadQueueFull(Overloaded):
    """Too many reads wait for a database connection."""


class Unavailable(SessiondError):
    """The service can't be reached now. Whether a write took effect isn't known; appends are safe
    to repeat with the same client ids."""

    default_code = StatusCode.UNAVAILABLE


class DatabaseUnavailable(Unavailable):
    """The server's database doesn't answer."""


class SessionBusy(Unavailable):
    """Another call held the session for too long. Nothing was written."""


class ShuttingDown(Unavailable):
    """The server is stopping."""


class DeadlineExceeded(SessiondError, TimeoutError):
    """The call took longer than its timeout. Whether a write took effect isn't known."""

    default_code = StatusCode.DEADLINE_EXCEEDED


class AppendTimeout(DeadlineExceeded):
    """The turn of an append of a stream didn't come in time. Nothing was written."""


class Cancelled(SessiondError):
    """The call was ended by the server, a proxy or a client that closed."""

    default_code = StatusCode.CANCELLED


class Unauthenticated(SessiondError):
    """The credentials are missing or wrong."""

    default_code = StatusCode.UNAUTHENTICATED


class PermissionDenied(SessiondError):
    """The credentials don't allow this."""

    default_code = StatusCode.PERMISSION_DENIED


class Unsupported(SessiondError):
    """The server doesn't know the call: it is older than the client, or another service."""

    default_code = StatusCode.UNIMPLEMENTED


class InternalError(SessiondError):
    """Something broke in the server or on the way there."""

    default_code = StatusCode.INTERNAL


class ServerBug(InternalError):
    """A bug in the server, which logged it. Please report it."""

    @property
    def incident(self) -> str:
        """The id under which the server logged it."""
        return self.metadata.get("incident", "")


BY_REASON: dict[ErrorReason.ValueType, type[SessiondError]] = {
    ErrorReason.ERROR_REASON_INVALID_FIELD: InvalidField,
    ErrorReason.ERROR_REASON_UNKNOWN_FIELD: UnknownField,
    ErrorReason.ERROR_REASON_PAGE_TOKEN_INVALID: InvalidPageToken,
    ErrorReason.ERROR_REASON_SESSION_NOT_FOUND: SessionNotFound,
    ErrorReason.ERROR_REASON_SESSION_EXISTS: SessionExists,
    ErrorReason.ERROR_REASON_SESSION_ENDED: SessionEnded,
    ErrorReason.ERROR_REASON_SESSION_DIFFERS: SessionDiffers,
    ErrorReason.ERROR_REASON_SESSION_AMBIGUOUS: SessionAmbiguous,
    ErrorReason.ERROR_REASON_PARENT_NOT_FOUND: ParentNotFound,
    ErrorReason.ERROR_REASON_SPAWN_TOO_DEEP: SpawnTooDeep,
    ErrorReason.ERROR_REASON_TITLE_TAKEN: TitleTaken,
    ErrorReason.ERROR_REASON_TITLE_ALREADY_SET: TitleAlreadySet,
    ErrorReason.ERROR_REASON_ETAG_MISMATCH: EtagMismatch,
    ErrorReason.ERROR_REASON_NEXT_SEQ_MISMATCH: NextSeqMismatch,
    ErrorReason.ERROR_REASON_REVISION_MISMATCH: RevisionMismatch,
    ErrorReason.ERROR_REASON_WRITER_LEASE_LOST: WriterLeaseLost,
    ErrorReason.ERROR_REASON_WRITER_LEASE_HELD: WriterLeaseHeld,
    ErrorReason.ERROR_REASON_CLIENT_ID_REUSED: ClientIdReused,
    ErrorReason.ERROR_REASON_PARTIAL_REPLAY: PartialReplay,
    ErrorReason.ERROR_REASON_MESSAGE_NOT_FOUND: MessageNotFound,
    ErrorReason.ERROR_REASON_SEQ_OUT_OF_RANGE: SeqOutOfRange,
    ErrorReason.ERROR_REASON_COMPACTION_RANGE_EMPTY: CompactionRangeEmpty,
    ErrorReason.ERROR_REASON_COMPACTION_OVERLAP: CompactionOverlap,
    ErrorReason.ERROR_REASON_COMPACTION_SPLITS_TOOL_CALL: CompactionSplitsToolCall,
    ErrorReason.ERROR_REASON_COMPACTION_NOT_FOUND: CompactionNotFound,
    ErrorReason.ERROR_REASON_COMPACTION_LEASE_HELD: CompactionLeaseHeld,
    ErrorReason.ERROR_REASON_COMPACTION_LEASE_LOST: CompactionLeaseLost,
    ErrorReason.ERROR_REASON_REWIND_NOT_FOUND: RewindNotFound,
    ErrorReason.ERROR_REASON_REWIND_NOT_REVERTIBLE: RewindNotRevertible,
    ErrorReason.ERROR_REASON_NOTHING_TO_REWIND: NothingToRewind,
    ErrorReason.ERROR_REASON_APPEND_QUEUE_FULL: AppendQueueFull,
    ErrorReason.ERROR_REASON_APPEND_TIMEOUT: AppendTimeout,
    ErrorReason.ERROR_REASON_DATABASE_UNAVAILABLE: DatabaseUnavailable,
    ErrorReason.ERROR_REASON_SHUTTING_DOWN: ShuttingDown,
    ErrorReason.ERROR_REASON_INTERNAL: ServerBug,
    ErrorReason.ERROR_REASON_READ_QUEUE_FULL: ReadQueueFull,
    ErrorReason.ERROR_REASON_RESUME_TOKEN_INVALID: InvalidResumeToken,
    ErrorReason.ERROR_REASON_HISTORY_DIVERGED: HistoryDiverged,
    ErrorReason.ERROR_REASON_RESUME_TOKEN_EXPIRED: ResumeTokenExpired,
    ErrorReason.ERROR_REASON_IMPORT_CONFLICT: ImportConflict,
    ErrorReason.ERROR_REASON_TOO_MANY_WATCHES: TooManyWatches,
    ErrorReason.ERROR_REASON_TOO_MANY_DRAFTS: TooManyDrafts,
    ErrorReason.ERROR_REASON_SESSION_BUSY: SessionBusy,
    ErrorReason.ERROR_REASON_CREDENTIALS_INVALID: Unauthenticated,
    ErrorReason.ERROR_REASON_PERMISSION_DENIED: PermissionDenied,
    ErrorReason.ERROR_REASON_ATTACHMENT_NOT_FOUND: AttachmentNotFound,
    ErrorReason.ERROR_REASON_ATTACHMENT_ID_REUSED: AttachmentIdReused,
    ErrorReason.ERROR_REASON_UPLOAD_NOT_FOUND: UploadNotFound,
    ErrorReason.ERROR_REASON_UPLOAD_OFFSET_MISMATCH: UploadOffsetMismatch,
    ErrorReason.ERROR_REASON_ATTACHMENT_OVER_LIMIT: AttachmentOverLimit,
    ErrorReason.ERROR_REASON_ATTACHMENT_TYPE_REFUSED: AttachmentTypeRefused,
    ErrorReason.ERROR_REASON_TOO_MANY_TRANSFERS: TooManyTransfers,
    ErrorReason.ERROR_REASON_REQUEST_ID_REUSED: RequestIdReused,
    ErrorReason.ERROR_REASON_RETENTION_POLICY_NOT_FOUND: RetentionPolicyNotFound,
    ErrorReason.ERROR_REASON_CONSUMER_NOT_FOUND: ConsumerNotFound,
    ErrorReason.ERROR_REASON_API_KEY_NOT_FOUND: ApiKeyNotFound,
    ErrorReason.ERROR_REASON_API_KEYS_DISABLED: ApiKeysDisabled,
    ErrorReason.ERROR_REASON_TOO_MANY_RETENTION_POLICIES: TooManyRetentionPolicies,
    ErrorReason.ERROR_REASON_SEARCH_DISABLED: SearchDisabled,
    ErrorReason.ERROR_REASON_SEARCH_TOO_COSTLY: SearchTooCostly,
    ErrorReason.ERROR_REASON_JOURNAL_FULL: JournalFull,
    ErrorReason.ERROR_REASON_REMINDER_NOT_FOUND: ReminderNotFound,
    ErrorReason.ERROR_REASON_REMINDER_EXISTS: ReminderExists,
    ErrorReason.ERROR_REASON_TOO_MANY_REMINDERS: TooManyReminders,
    ErrorReason.ERROR_REASON_TOO_MANY_CONSUMERS: TooManyConsumers,
    ErrorReason.ERROR_REASON_CLAIM_LOST: ClaimLost,
}

BY_CODE: dict[StatusCode, type[SessiondError]] = {
    StatusCode.INVALID_ARGUMENT: InvalidRequest,
    StatusCode.OUT_OF_RANGE: InvalidRequest,
    StatusCode.NOT_FOUND: NotFound,
    StatusCode.ALREADY_EXISTS: AlreadyExists,
    StatusCode.ABORTED: Conflict,
    StatusCode.FAILED_PRECONDITION: PreconditionFailed,
    StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    StatusCode.UNAVAILABLE: Unavailable,
    StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    StatusCode.CANCELLED: Cancelled,
    StatusCode.UNAUTHENTICATED: Unauthenticated,
    StatusCode.PERMISSION_DENIED: PermissionDenied,
    StatusCode.UNIMPLEMENTED: Unsupported,
    StatusCode.INTERNAL: InternalError,
    StatusCode.UNKNOWN: InternalError,
    StatusCode.DATA_LOSS: InternalError,
}

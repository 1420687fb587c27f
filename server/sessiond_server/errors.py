"""Why a call is refused, in the service's own terms.

Every refusal that a client can cause, or that waiting can mend, is a `Refused`. The wall in
`rpc/errors.py` turns it into a status; any other exception that reaches the wall is a bug. `reason`
is a name of `sessiond.v1.ErrorReason` without its prefix, and the keyword arguments become the
error's metadata: every dynamic part of the text.

    Refused
    ├── InvalidFields                     a request breaks a documented form or limit
    ├── SessionNotFound, MessageNotFound … there is no such thing
    ├── NextSeqMismatch, EtagMismatch …    somebody else was faster
    ├── SessionEnded, PartialReplay …      not in this state
    └── QueueFull, DatabaseUnavailable …   later perhaps
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Violation:
    """What is wrong with one field: its path in the request, and the limit."""

    field: str
    description: str


class Refused(Exception):
    """A refusal: `reason` for programs, the text for people, `metadata` with its dynamic parts."""

    reason: ClassVar[str]
    violations: tuple[Violation, ...] = ()
    retry_after: float | None = None
    """Seconds to wait before trying again, where waiting helps."""

    def __init__(self, message: str, **metadata: object) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = {key: str(value) for key, value in metadata.items() if value is not None}


class InvalidFields(Refused):
    """One or more fields of the request break their documented form or limit."""

    reason = "INVALID_FIELD"

    def __init__(self, violations: list[Violation]) -> None:
        first = violations[0]
        more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
        super().__init__(f"{first.field}: {first.description}{more}", field=first.field)
        self.violations = tuple(violations[:100])


def invalid(field: str, description: str) -> InvalidFields:
    """The refusal of a single field."""
    return InvalidFields([Violation(field, description)])


class UnknownField(Refused):
    """A request that changes something has an unknown field; `path` leads to what has it."""

    reason = "UNKNOWN_FIELD"

    def __init__(self, path: str, number: int) -> None:
        text = f"has a field of number {number}, which this server doesn't know"
        super().__init__(f"{path}: {text}; a newer one may.", field=path, number=number)
        self.violations = (Violation(path, text),)


class PageTokenInvalid(Refused):
    reason = "PAGE_TOKEN_INVALID"

    def __init__(self) -> None:
        super().__init__(
            "The page token wasn't made for this call; start again with an empty one.",
            field="page_token",
        )
        self.violations = (Violation("page_token", "not a token of this call"),)


class SessionNotFound(Refused):
    reason = "SESSION_NOT_FOUND"

    def __init__(self, session_id: str) -> None:
        super().__init__(f"There is no session {session_id!r}.", session_id=session_id)


class SessionExists(Refused):
    reason = "SESSION_EXISTS"

    def __init__(self, session_id: str) -> None:
        super().__init__(f"The session {session_id!r} exists already.", session_id=session_id)


class SessionEnded(Refused):
    reason = "SESSION_ENDED"

    def __init__(self, session_id: str) -> None:
        super().__init__(
            f"The session {session_id!r} has ended; reopen it first.", session_id=session_id
        )


class SessionDiffers(Refused):
    reason = "SESSION_DIFFERS"

    def __init__(self, session_id: str, field: str) -> None:
        super().__init__(
            f"The session {session_id!r} exists already, with another {field}.",
            session_id=session_id,
            field=field,
        )


_CANDIDATES_BYTES = 2500
"""What trailers have room for besides everything else."""


class SessionAmbiguous(Refused):
    reason = "SESSION_AMBIGUOUS"

    def __init__(self, query: str, candidates: list[str], *, more: bool) -> None:
        count = f"more than {len(candidates)}" if more else str(len(candidates))
        named = ", ".join(candidates[:5]) + (", …" if len(candidates) > 5 else "")
        shown = list(candidates)
        while len(text := json.dumps(shown, ensure_ascii=False).encode()) > _CANDIDATES_BYTES:
            shown.pop()
        super().__init__(
            f"{query!r} fits {count} sessions: {named}",
            query=query,
            candidates=text.decode(),
            candidate_count=len(candidates) + more,
        )


class ParentNotFound(Refused):
    reason = "PARENT_NOT_FOUND"

    def __init__(self, parent_id: str) -> None:
        super().__init__(f"There is no parent session {parent_id!r}.", parent_id=parent_id)


class SpawnTooDeep(Refused):
    reason = "SPAWN_TOO_DEEP"

    def __init__(self, depth: int, limit: int) -> None:
        super().__init__(
            f"A sub-agent's session would stand {depth} deep; max_spawn_depth is {limit}.",
            spawn_depth=depth,
            max_spawn_depth=limit,
        )


class TitleTaken(Refused):
    reason = "TITLE_TAKEN"

    def __init__(self, title: str, session_id: str) -> None:
        super().__init__(
            f"The session {session_id!r} has the title {title!r}.",
            title=title,
            session_id=session_id,
        )


class TitleAlreadySet(Refused):
    reason = "TITLE_ALREADY_SET"

    def __init__(self, title: str) -> None:
        super().__init__(f"The title {title!r} stands.", title=title)


class EtagMismatch(Refused):
    reason = "ETAG_MISMATCH"

    def __init__(self, etag: str) -> None:
        super().__init__(f"It changed; its etag is {etag or 'none'}.", etag=etag)


class NextSeqMismatch(Refused):
    reason = "NEXT_SEQ_MISMATCH"

    def __init__(self, expected: int, actual: int) -> None:
        super().__init__(
            f"The next seq is {actual}, not {expected}.",
            expected_next_seq=expected,
            next_seq=actual,
        )


class RevisionMismatch(Refused):
    reason = "REVISION_MISMATCH"

    def __init__(self, expected: int, actual: int, next_seq: int) -> None:
        super().__init__(
            f"The revision is {actual}, not {expected}.",
            expected_revision=expected,
            revision=actual,
            next_seq=next_seq,
        )


class WriterLeaseLost(Refused):
    reason = "WRITER_LEASE_LOST"

    def __init__(self, session_id: str) -> None:
        super().__init__(
            f"The writer token is no longer good for {session_id!r}.", session_id=session_id
        )


def _seconds_until(expire_time: datetime, now: datetime) -> float:
    return max(0.0, (expire_time - now).total_seconds())


class LeaseHeld(Refused):
    """Somebody else holds a lease of the session, until `expire_time`."""

    what: ClassVar[str]

    def __init__(self, session_id: str, holder: str, expire_time: datetime, now: datetime) -> None:
        until = expire_time.astimezone(UTC).isoformat()
        super().__init__(
            f"{holder!r} holds the {self.what} lease of {session_id!r} until {until}.",
            session_id=session_id,
            holder=holder,
            expire_time=until,
        )
        self.retry_after = _seconds_until(expire_time, now)


class WriterLeaseHeld(LeaseHeld):
    reason = "WRITER_LEASE_HELD"
    what = "writer"


class CompactionLeaseHeld(LeaseHeld):
    reason = "COMPACTION_LEASE_HELD"
    what = "compaction"


class CompactionLeaseLost(Refused):
    reason = "COMPACTION_LEASE_LOST"

    def __init__(self, session_id: str) -> None:
        super().__init__(
            f"The compaction lease is no longer good for {session_id!r}.", session_id=session_id
        )


class ClientIdReused(Refused):
    reason = "CLIENT_ID_REUSED"

    def __init__(self, client_id: str, seq: int | None) -> None:
        where = f"message {seq}" if seq else "another message of the call"
        super().__init__(
            f"The client id {client_id!r} belongs to {where}, with other content.",
            client_id=client_id,
            seq=seq,
        )


class PartialReplay(Refused):
    reason = "PARTIAL_REPLAY"

    def __init__(self, known: int, total: int, client_id: str, seq: int) -> None:
        super().__init__(
            f"{known} of {total} messages are stored already, the first is {client_id!r} as {seq}.",
            known_count=known,
            message_count=total,
            client_id=client_id,
            seq=seq,
        )


def _held(first_seq: int, next_seq: int) -> str:
    """Which messages a session holds."""
    if first_seq == next_seq:
        return f"the session holds none, and its next one will be {next_seq}"
    return f"the session holds {first_seq} to {next_seq - 1}"


class MessageNotFound(Refused):
    reason = "MESSAGE_NOT_FOUND"

    def __init__(self, which: int | str, first_seq: int, next_seq: int) -> None:
        super().__init__(
            f"There is no message {which!r}; {_held(first_seq, next_seq)}.",
            seq=which if isinstance(which, int) else None,
            client_id=which if isinstance(which, str) else None,
            first_seq=first_seq,
            next_seq=next_seq,
        )


class SeqOutOfRange(Refused):
    reason = "SEQ_OUT_OF_RANGE"

    def __init__(self, field: str, seq: int, first_seq: int, next_seq: int) -> None:
        super().__init__(
            f"{field} {seq} is out of range; {_held(first_seq, next_seq)}.",
            field=field,
            seq=seq,
            first_seq=first_seq,
            next_seq=next_seq,
        )


class CompactionRangeEmpty(Refused):
    reason = "COMPACTION_RANGE_EMPTY"

    def __init__(self, from_seq: int, to_seq: int) -> None:
        super().__init__(
            f"No message of the context stands from {from_seq} to {to_seq}.",
            from_seq=from_seq,
            to_seq=to_seq,
        )


def _nearest(nearest: tuple[int, int] | None) -> dict[str, object]:
    return {} if nearest is None else {"nearest_from_seq": nearest[0], "nearest_to_seq": nearest[1]}


class CompactionOverlap(Refused):
    reason = "COMPACTION_OVERLAP"

    def __init__(
        self, from_seq: int, to_seq: int, compaction_id: int, nearest: tuple[int, int] | None
    ) -> None:
        super().__init__(
            f"{from_seq} to {to_seq} takes in only a part of the compaction {compaction_id}.",
            from_seq=from_seq,
            to_seq=to_seq,
            compaction_id=compaction_id,
            **_nearest(nearest),
        )


class CompactionSplitsToolCall(Refused):
    reason = "COMPACTION_SPLITS_TOOL_CALL"

    def __init__(
        self, from_seq: int, to_seq: int, tool_call_id: str, nearest: tuple[int, int] | None
    ) -> None:
        super().__init__(
            f"{from_seq} to {to_seq} would separate the tool call {tool_call_id!r} from its results.",
            from_seq=from_seq,
            to_seq=to_seq,
            tool_call_id=tool_call_id,
            **_nearest(nearest),
        )


class CompactionNotFound(Refused):
    reason = "COMPACTION_NOT_FOUND"

    def __init__(self, compaction_id: int) -> None:
        super().__init__(f"There is no compaction {compaction_id}.", compaction_id=compaction_id)


class RewindNotFound(Refused):
    reason = "REWIND_NOT_FOUND"

    def __init__(self, rewind_id: int | None) -> None:
        which = "that isn't reverted" if rewind_id is None else f"{rewind_id}"
        super().__init__(f"There is no rewind {which}.", rewind_id=rewind_id or 0)


class RewindNotRevertible(Refused):
    reason = "REWIND_NOT_REVERTIBLE"

    def __init__(self, rewind_id: int, compaction_id: int) -> None:
        super().__init__(
            f"What rewind {rewind_id} hid doesn't suit the later compaction {compaction_id};"
            " revert that one first.",
            rewind_id=rewind_id,
            compaction_id=compaction_id,
        )


class NothingToRewind(Refused):
    reason = "NOTHING_TO_REWIND"

    def __init__(self, after_seq: int, next_seq: int) -> None:
        super().__init__(
            f"No message stands after {after_seq}.", after_seq=after_seq, next_seq=next_seq
        )


class ReminderNotFound(Refused):
    reason = "REMINDER_NOT_FOUND"

    def __init__(self, reminder_id: str) -> None:
        super().__init__(f"There is no reminder {reminder_id!r}.", reminder_id=reminder_id)


class ReminderExists(Refused):
    reason = "REMINDER_EXISTS"

    def __init__(self, reminder_id: str) -> None:
        super().__init__(
            f"The session has another reminder with the id {reminder_id!r}.",
            reminder_id=reminder_id,
        )


class TooManyReminders(Refused):
    reason = "TOO_MANY_REMINDERS"

    def __init__(self, session_id: str, limit: int) -> None:
        super().__init__(
            f"The session {session_id!r} has {limit} pending reminders already.",
            session_id=session_id,
            limit=limit,
        )


class TooManyConsumers(Refused):
    reason = "TOO_MANY_CONSUMERS"

    def __init__(self, limit: int, session_id: str | None = None) -> None:
        where = "There are" if session_id is None else f"In the session {session_id!r} there are"
        super().__init__(f"{where} {limit} consumers already.", limit=limit, session_id=session_id)


class ClaimLost(Refused):
    """What was claimed is another worker's now, or nobody's."""

    reason = "CLAIM_LOST"

    def __init__(self, session_id: str, reminder_id: str | None = None) -> None:
        what = "the session" if reminder_id is None else f"reminder {reminder_id!r} of"
        super().__init__(
            f"The claim of {what} {session_id!r} is no longer good.",
            session_id=session_id,
            reminder_id=reminder_id,
        )


class AppendQueueFull(Refused):
    reason = "APPEND_QUEUE_FULL"
    retry_after = 0.1

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} messages wait to be appended already.", limit=limit)


class AppendTimeout(Refused):
    reason = "APPEND_TIMEOUT"

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"The append's turn didn't come within {seconds:g} s; nothing was written.",
            seconds=f"{seconds:g}",
        )


class ReadQueueFull(Refused):
    reason = "READ_QUEUE_FULL"
    retry_after = 0.1

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} calls wait for the database already.", limit=limit)


class ResumeTokenInvalid(Refused):
    reason = "RESUME_TOKEN_INVALID"

    def __init__(self, field: str) -> None:
        super().__init__(f"{field} was changed, or is that of another call.", field=field)


class ResumeTokenExpired(Refused):
    reason = "RESUME_TOKEN_EXPIRED"

    def __init__(self, kept: float) -> None:
        super().__init__(
            f"The resume token is older than {kept:g} s (setting feed_session_days): begin without one.",
            field="resume_token",
        )


class HistoryDiverged(Refused):
    reason = "HISTORY_DIVERGED"

    def __init__(self, session_id: str | None = None) -> None:
        history = "database" if session_id is None else f"history of session {session_id!r}"
        super().__init__(
            f"The resume token doesn't fit the {history}: watch it from the beginning.",
            session_id=session_id,
        )


class ImportConflict(Refused):
    """A session that is imported isn't the one in the store; `why` goes on with what it says of it."""

    reason = "IMPORT_CONFLICT"

    def __init__(self, session_id: str, seq: int | None, why: str) -> None:
        where = f"Message {seq} of session" if seq else "The session"
        super().__init__(f"{where} {session_id!r} {why}.", session_id=session_id, seq=seq)


class TooManyWatches(Refused):
    reason = "TOO_MANY_WATCHES"
    retry_after = 1.0

    def __init__(self, limit: int) -> None:
        super().__init__(f"There are {limit} watches already.", limit=limit)


class TooManyDrafts(Refused):
    reason = "TOO_MANY_DRAFTS"
    retry_after = 1.0

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} drafts are being relayed already.", limit=limit)


class SessionBusy(Refused):
    reason = "SESSION_BUSY"
    retry_after = 1.0

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"Another call has held the session for {seconds:g} s; try again.", limit=f"{seconds:g}"
        )


class CredentialsInvalid(Refused):
    reason = "CREDENTIALS_INVALID"

    def __init__(self) -> None:
        super().__init__("The call has no valid API key: send one as `authorization: Bearer sk_…`.")


class PermissionDenied(Refused):
    reason = "PERMISSION_DENIED"

    def __init__(self, message: str, permission: str) -> None:
        super().__init__(message, permission=permission)


class ApiKeyNotFound(Refused):
    reason = "API_KEY_NOT_FOUND"

    def __init__(self, api_key_id: str) -> None:
        super().__init__(f"There is no API key {api_key_id!r}.", api_key_id=api_key_id)


class ApiKeysDisabled(Refused):
    reason = "API_KEYS_DISABLED"

    def __init__(self) -> None:
        super().__init__(
            "The server takes calls without a key: keys are made and revoked by `sessiond keys` on its host."
        )


class AttachmentNotFound(Refused):
    reason = "ATTACHMENT_NOT_FOUND"

    def __init__(self, session_id: str, attachment_id: str) -> None:
        super().__init__(
            f"The session {session_id!r} has no attachment {attachment_id!r}.",
            session_id=session_id,
            attachment_id=attachment_id,
        )


class AttachmentIdReused(Refused):
    reason = "ATTACHMENT_ID_REUSED"

    def __init__(self, attachment_id: str) -> None:
        super().__init__(
            f"The id {attachment_id!r} belongs to an attachment with other bytes.",
            attachment_id=attachment_id,
        )


class AttachmentOverLimit(Refused):
    reason = "ATTACHMENT_OVER_LIMIT"

    def __init__(self, setting: str, limit: int) -> None:
        super().__init__(_OVER_LIMIT[setting].format(limit), setting=setting, limit=limit)


class UploadNotFound(Refused):
    reason = "UPLOAD_NOT_FOUND"

    def __init__(self, session_id: str) -> None:
        super().__init__(
            f"The session {session_id!r} has no such upload under way that this key began.",
            session_id=session_id,
        )


class UploadOffsetMismatch(Refused):
    reason = "UPLOAD_OFFSET_MISMATCH"

    def __init__(self, expected: int) -> None:
        super().__init__(f"The next byte is that at {expected}.", expected_offset=expected)


_OVER_LIMIT = {
    "session_uploads": "A session has at most {} unfinished uploads (setting session_uploads).",
    "attachment_bytes": "An attachment has at most {} bytes (setting attachment_bytes).",
    "session_attachments": "A session has at most {} attachments (setting session_attachments).",
    "session_attachment_bytes": "The attachments of a session have at most {} bytes together"
    " (setting session_attachment_bytes).",
}


class AttachmentTypeRefused(Refused):
    reason = "ATTACHMENT_TYPE_REFUSED"

    def __init__(self, name: str, kind: str) -> None:
        shown = name.rpartition("/")[2]
        super().__init__(f"{shown!r} is an executable ({kind}).", name=shown, kind=kind)


class TooManyTransfers(Refused):
    reason = "TOO_MANY_TRANSFERS"
    retry_after = 1.0

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} such transfers are under way already.", limit=limit)


class JournalFull(Refused):
    reason = "JOURNAL_FULL"

    def __init__(self, session_id: str, limit: str) -> None:
        super().__init__(
            f"The log of session {session_id!r} would have more than {limit}.",
            session_id=session_id,
            limit=limit,
        )


class RequestIdReused(Refused):
    reason = "REQUEST_ID_REUSED"

    def __init__(self, request_id: str) -> None:
        super().__init__(
            f"The request id {request_id!r} stands for something of other content.",
            request_id=request_id,
        )


class ConsumerNotFound(Refused):
    reason = "CONSUMER_NOT_FOUND"

    def __init__(self, consumer_id: str, owner: str) -> None:
        whose = f"of {owner!r}" if owner else "of all sessions"
        super().__init__(
            f"There is no consumer {consumer_id!r} {whose}.", consumer_id=consumer_id, owner=owner
        )


class RetentionPolicyNotFound(Refused):
    reason = "RETENTION_POLICY_NOT_FOUND"

    def __init__(self, policy_id: str) -> None:
        super().__init__(f"There is no retention policy {policy_id!r}.", policy_id=policy_id)


class TooManyRetentionPolicies(Refused):
    reason = "TOO_MANY_RETENTION_POLICIES"

    def __init__(self, limit: int) -> None:
        super().__init__(f"There are {limit} retention policies already.", limit=limit)


class DatabaseUnavailable(Refused):
    reason = "DATABASE_UNAVAILABLE"
    retry_after = 0.5

    def __init__(self) -> None:
        super().__init__("The database doesn't answer; try again.")


class ShuttingDown(Refused):
    reason = "SHUTTING_DOWN"
    retry_after = 1.0

    def __init__(self) -> None:
        super().__init__("The server is stopping; try again.")


class SearchDisabled(Refused):
    reason = "SEARCH_DISABLED"

    def __init__(self) -> None:
        super().__init__("Messages aren't indexed here: the server runs without search.")


class SearchTooCostly(Refused):
    reason = "SEARCH_TOO_COSTLY"

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"The search takes longer than {seconds:g} seconds; look for rarer words, or in fewer sessions.",
            seconds=f"{seconds:g}",
        )

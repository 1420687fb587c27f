"""The one wall: what a caller is told when a call is refused, and when the server has a bug.

A `Refused` becomes its documented code with a `google.rpc.ErrorInfo` (AIP-193), field violations and a
delay to retry after. Anything else is a bug: it is logged whole under an incident's id, and the caller gets
that id and nothing of what went wrong inside.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence

import grpc
import structlog
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from sessiond.v1 import call_error_pb2, error_reason_pb2
from sessiond_server.errors import Refused, Violation

log = structlog.get_logger(__name__)

DOMAIN = "sessiond"

_MESSAGE_LENGTH = 1000
_VIOLATIONS_BYTES = 3000
"""A client takes 8 KiB of trailers by default, in which the details are encoded in base64."""

CODES: dict[str, grpc.StatusCode] = {
    "INVALID_FIELD": grpc.StatusCode.INVALID_ARGUMENT,
    "PAGE_TOKEN_INVALID": grpc.StatusCode.INVALID_ARGUMENT,
    "SESSION_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "SESSION_EXISTS": grpc.StatusCode.ALREADY_EXISTS,
    "SESSION_ENDED": grpc.StatusCode.FAILED_PRECONDITION,
    "SESSION_ARCHIVED": grpc.StatusCode.FAILED_PRECONDITION,
    "SESSION_AMBIGUOUS": grpc.StatusCode.FAILED_PRECONDITION,
    "PARENT_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "SPAWN_TOO_DEEP": grpc.StatusCode.FAILED_PRECONDITION,
    "TITLE_TAKEN": grpc.StatusCode.ALREADY_EXISTS,
    "TITLE_ALREADY_SET": grpc.StatusCode.FAILED_PRECONDITION,
    "ETAG_MISMATCH": grpc.StatusCode.ABORTED,
    "NEXT_SEQ_MISMATCH": grpc.StatusCode.ABORTED,
    "WRITER_LEASE_LOST": grpc.StatusCode.ABORTED,
    "WRITER_LEASE_HELD": grpc.StatusCode.FAILED_PRECONDITION,
    "CLIENT_ID_REUSED": grpc.StatusCode.ALREADY_EXISTS,
    "PARTIAL_REPLAY": grpc.StatusCode.FAILED_PRECONDITION,
    "MESSAGE_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "SEQ_OUT_OF_RANGE": grpc.StatusCode.OUT_OF_RANGE,
    "COMPACTION_RANGE_EMPTY": grpc.StatusCode.FAILED_PRECONDITION,
    "COMPACTION_OVERLAP": grpc.StatusCode.FAILED_PRECONDITION,
    "COMPACTION_SPLITS_TOOL_CALL": grpc.StatusCode.FAILED_PRECONDITION,
    "COMPACTION_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "COMPACTION_LEASE_HELD": grpc.StatusCode.FAILED_PRECONDITION,
    "COMPACTION_LEASE_LOST": grpc.StatusCode.ABORTED,
    "REWIND_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "REWIND_NOT_REVERTIBLE": grpc.StatusCode.FAILED_PRECONDITION,
    "NOTHING_TO_REWIND": grpc.StatusCode.FAILED_PRECONDITION,
    "APPEND_QUEUE_FULL": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "APPEND_TIMEOUT": grpc.StatusCode.DEADLINE_EXCEEDED,
    "READ_QUEUE_FULL": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "RESUME_TOKEN_INVALID": grpc.StatusCode.INVALID_ARGUMENT,
    "RESUME_TOKEN_EXPIRED": grpc.StatusCode.FAILED_PRECONDITION,
    "HISTORY_DIVERGED": grpc.StatusCode.FAILED_PRECONDITION,
    "TOO_MANY_WATCHES": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "TOO_MANY_DRAFTS": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "CREDENTIALS_INVALID": grpc.StatusCode.UNAUTHENTICATED,
    "PERMISSION_DENIED": grpc.StatusCode.PERMISSION_DENIED,
    "SESSION_BUSY": grpc.StatusCode.UNAVAILABLE,
    "ATTACHMENT_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "ATTACHMENT_ID_REUSED": grpc.StatusCode.ALREADY_EXISTS,
    "ATTACHMENT_OVER_LIMIT": grpc.StatusCode.FAILED_PRECONDITION,
    "ATTACHMENT_TYPE_REFUSED": grpc.StatusCode.FAILED_PRECONDITION,
    "TOO_MANY_TRANSFERS": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "JOURNAL_FULL": grpc.StatusCode.FAILED_PRECONDITION,
    "REQUEST_ID_REUSED": grpc.StatusCode.ALREADY_EXISTS,
    "RETENTION_POLICY_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "TOO_MANY_RETENTION_POLICIES": grpc.StatusCode.FAILED_PRECONDITION,
    "SEARCH_DISABLED": grpc.StatusCode.FAILED_PRECONDITION,
    "SEARCH_TOO_COSTLY": grpc.StatusCode.FAILED_PRECONDITION,
    "IMPORT_CONFLICT": grpc.StatusCode.ALREADY_EXISTS,
    "DATABASE_UNAVAILABLE": grpc.StatusCode.UNAVAILABLE,
    "SHUTTING_DOWN": grpc.StatusCode.UNAVAILABLE,
    "INTERNAL": grpc.StatusCode.INTERNAL,
    "REMINDER_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "REMINDER_EXISTS": grpc.StatusCode.ALREADY_EXISTS,
    "TOO_MANY_REMINDERS": grpc.StatusCode.FAILED_PRECONDITION,
    "CLAIM_LOST": grpc.StatusCode.ABORTED,
    "TOO_MANY_CONSUMERS": grpc.StatusCode.FAILED_PRECONDITION,
}
"""The status code of each reason. A test compares it with the comments of `ErrorReason`."""


class Bug(Refused):
    """What a caller is told of a bug: where to find it in the log."""

    reason = "INTERNAL"

    def __init__(self, incident: str) -> None:
        super().__init__(f"A bug in the server, logged as {incident}.", incident=incident)


def refusal(error: Exception, method: str) -> Refused:
    """What to tell the caller of an exception."""
    if isinstance(error, Refused):
        return error
    incident = uuid.uuid4().hex[:16]
    log.error("bug", incident=incident, method=method, exc_info=error)
    return Bug(incident)


def _packed(
    detail: error_details_pb2.ErrorInfo
    | error_details_pb2.BadRequest
    | error_details_pb2.RetryInfo,
) -> Any:
    packed = Any()
    packed.Pack(detail)
    return packed


def _delay(seconds: float) -> Duration:
    delay = Duration()
    delay.FromMilliseconds(math.ceil(seconds * 1000))
    return delay


def _bad_request(violations: Sequence[Violation]) -> error_details_pb2.BadRequest:
    """As many violations as the trailers have room for, one at least."""
    found = error_details_pb2.BadRequest()
    for violation in violations:
        found.field_violations.add(field=violation.field, description=violation.description)
        if found.ByteSize() > _VIOLATIONS_BYTES and len(found.field_violations) > 1:
            del found.field_violations[-1]
            break
    return found


def status(error: Refused) -> status_pb2.Status:
    """A refusal as `google.rpc.Status`."""
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)
    details = [_packed(info)]
    if error.violations:
        details.append(_packed(_bad_request(error.violations)))
    if error.retry_after is not None:
        delay = _delay(error.retry_after)
        details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
    return status_pb2.Status(
        code=CODES[error.reason].value[0],
        message=error.message[:_MESSAGE_LENGTH],
        details=details,
    )


def in_stream(error: Refused) -> call_error_pb2.CallError:
    """A refusal of one item of a stream."""
    return call_error_pb2.CallError(
        code=CODES[error.reason].value[0],
        reason=error_reason_pb2.ErrorReason.Value(f"ERROR_REASON_{error.reason}"),
        message=error.message,
        metadata=error.metadata,
        field_violations=[
            call_error_pb2.FieldViolation(field=v.field, description=v.description)
            for v in error.violations
        ],
        retry_delay=None if error.retry_after is None else _delay(error.retry_after),
    )

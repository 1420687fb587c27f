"""The one wall: what a caller is told when a call is refused, and when the server has a bug.

A `Refused` becomes its documented code with a `google.rpc.ErrorInfo` (AIP-193), field violations and a
delay to retry after. Anything else is a bug: it is logged whole under an incident's id, and the caller gets
that id and nothing of what went wrong inside.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence

import structlog
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from sessiond.v1 import call_error_pb2, error_reason_pb2
from sessiond_server.errors import Refused, Violation
from sessiond_server.rpc.policies import code_of

log = structlog.get_logger(__name__)

DOMAIN = "sessiond"

_MESSAGE_LENGTH, _MESSAGE_BYTES = 1000, 1800
_VIOLATIONS_BYTES = 3000
"""A client takes 8 KiB of trailers by default, in which the details are encoded in base64."""


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


def _shortened(message: str) -> str:
    """As much of a message as trailers have room for, where each byte beyond ASCII takes three."""
    size = 0
    for place, character in enumerate(message):
        plain = " " <= character <= "~" and character != "%"
        size += 1 if plain else 3 * len(character.encode())
        if size > _MESSAGE_BYTES or place == _MESSAGE_LENGTH:
            return message[:place]
    return message


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
        code=code_of(error.reason).value[0],
        message=_shortened(error.message),
        details=details,
    )


def in_stream(error: Refused) -> call_error_pb2.CallError:
    """A refusal of one item of a stream."""
    return call_error_pb2.CallError(
        code=code_of(error.reason).value[0],
        reason=error_reason_pb2.ErrorReason.Value(f"ERROR_REASON_{error.reason}"),
        message=error.message,
        metadata=error.metadata,
        field_violations=[
            call_error_pb2.FieldViolation(field=v.field, description=v.description)
            for v in error.violations
        ],
        retry_delay=None if error.retry_after is None else _delay(error.retry_after),
    )

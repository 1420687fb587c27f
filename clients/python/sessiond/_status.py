"""From what comes over the wire to the exceptions of `_errors`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar, cast

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message

from sessiond import _wire, v1
from sessiond._errors import BY_CODE, BY_REASON, FieldViolation, SessiondError

_DOMAIN = "sessiond"
_DETAILS_KEY = "grpc-status-details-bin"
_PREFIX = "ERROR_REASON_"
_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}
_D = TypeVar("_D", bound=Message)


def error_from_call(error: grpc.RpcError) -> SessiondError:
    """The exception for a failed call. The caller raises it from `error`."""
    status = _status(error)
    info = _detail(status, _wire.ErrorInfo)
    if info.domain != _DOMAIN:
        info = _wire.ErrorInfo()
    violations = _detail(status, _wire.BadRequest).field_violations
    retry = _detail(status, _wire.RetryInfo)
    return _make(
        error.code(),
        info.reason,
        error.details() or "",
        info.metadata,
        [FieldViolation(it.field, it.description) for it in violations],
        _seconds(retry.retry_delay) if retry.HasField("retry_delay") else None,
    )


def error_from_item(error: v1.CallError) -> SessiondError:
    """The exception for a refused item of a stream."""
    known = error.reason in v1.ErrorReason.values() and error.reason
    return _make(
        _CODES.get(error.code, grpc.StatusCode.UNKNOWN),
        v1.ErrorReason.Name(error.reason).removeprefix(_PREFIX) if known else "",
        error.message,
        error.metadata,
        [FieldViolation(it.field, it.description) for it in error.field_violations],
        _seconds(error.retry_delay) if error.HasField("retry_delay") else None,
    )


def _make(
    code: grpc.StatusCode,
    reason: str,
    message: str,
    metadata: Mapping[str, str],
    violations: Sequence[FieldViolation],
    retry_delay: float | None,
) -> SessiondError:
    return _class(code, reason)(
        message,
        code=code,
        reason=reason,
        metadata=metadata,
        field_violations=violations,
        retry_delay=retry_delay,
    )


def _class(code: grpc.StatusCode, reason: str) -> type[SessiondError]:
    name = _PREFIX + reason
    if reason and name in v1.ErrorReason.keys():  # noqa: SIM118 (an enum wrapper isn't a mapping)
        known = BY_REASON.get(v1.ErrorReason.Value(name))
        if known is not None:
            return known
    return BY_CODE.get(code, SessiondError)


def _status(error: grpc.RpcError) -> _wire.Status:
    trailing = cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata() or ())
    for key, value in trailing:
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                return _wire.Status.FromString(value)
            except DecodeError:
                break
    return _wire.Status()


def _detail(status: _wire.Status, kind: type[_D]) -> _D:
    """The first detail of this kind, or an empty one."""
    suffix = f"google.rpc.{kind.DESCRIPTOR.name}"
    for detail in status.details:
        if _is(detail, suffix):
            try:
                return kind.FromString(detail.value)
            except DecodeError:
                break
    return kind()


def _is(detail: Any, name: str) -> bool:
    return detail.type_url.rpartition("/")[2] == name


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9

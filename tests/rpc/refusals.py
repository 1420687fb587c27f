"""A refused call as a client sees it, and the check that it keeps to the contract (P14)."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field, replace
from urllib.parse import quote

import grpc
from google.rpc import error_details_pb2, status_pb2

from sessiond import v1
from tests.rpc.reasons import REASONS

INSIDE = re.compile(
    r"asyncpg|psycopg|violates|\bcolumn\b|\brelation\b|\bconstraint\b|Traceback|site-packages|\.py\b"
)
"""Words of the driver, the database and the interpreter: never to be seen from outside."""

TRAILER_BYTES = 8 * 2**10 - 500
"""What clients take by default, without what gRPC and proxies add."""
_UNQUOTED = "".join(chr(code) for code in range(0x20, 0x7F) if code != ord("%"))


@dataclass(frozen=True, slots=True)
class Refusal:
    """Everything that a status says."""

    code: grpc.StatusCode
    message: str
    reason: str = ""
    domain: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    violations: list[tuple[str, str]] = field(default_factory=list)
    retry_delay: float | None = None
    details: int = 0
    trailer_bytes: int = 0

    @property
    def fields(self) -> list[str]:
        return [name for name, _ in self.violations]


def refusal(error: grpc.RpcError | grpc.aio.AioRpcError) -> Refusal:
    """What a refused unary call says."""
    assert isinstance(error, grpc.Call | grpc.aio.AioRpcError)
    trailers: list[tuple[str, str | bytes]] = list(error.trailing_metadata() or ())
    packed = [value for key, value in trailers if key == "grpc-status-details-bin"]
    if not packed:
        return Refusal(error.code(), error.details() or "")
    assert isinstance(packed[0], bytes)
    status = status_pb2.Status.FromString(packed[0])
    assert status.code == error.code().value[0]
    trailer_bytes = len(base64.b64encode(packed[0])) + len(quote(status.message, safe=_UNQUOTED))
    return replace(_refusal(status, error.code()), trailer_bytes=trailer_bytes)


def _refusal(status: status_pb2.Status, code: grpc.StatusCode) -> Refusal:
    info, bad, retry = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.BadRequest(),
        error_details_pb2.RetryInfo(),
    )
    infos, retries = 0, 0
    for detail in status.details:
        infos += detail.Unpack(info)
        detail.Unpack(bad)
        retries += detail.Unpack(retry)
    return Refusal(
        code,
        status.message,
        info.reason,
        info.domain,
        dict(info.metadata),
        [(v.field, v.description) for v in bad.field_violations],
        retry.retry_delay.ToMicroseconds() / 1e6 if retries else None,
        infos,
    )


def refusal_in_stream(error: v1.CallError) -> Refusal:
    """What a refused item of a stream says."""
    code = next(code for code in grpc.StatusCode if code.value[0] == error.code)
    return Refusal(
        code,
        error.message,
        v1.ErrorReason.Name(error.reason).removeprefix("ERROR_REASON_"),
        "sessiond",
        dict(error.metadata),
        [(v.field, v.description) for v in error.field_violations],
        error.retry_delay.ToMicroseconds() / 1e6 if error.HasField("retry_delay") else None,
        1,
    )


def breaches(refused: Refusal) -> list[str]:
    """What is wrong with a refusal: nothing, if it keeps to the contract."""
    if not refused.details:
        too_large = "larger than max" in refused.message
        if refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED and too_large:
            return []  # gRPC itself; see docs/errors.md
        return [f"no ErrorInfo: {refused}"]
    found = []
    reason = REASONS.get(refused.reason)
    if refused.details != 1 or refused.domain != "sessiond" or reason is None:
        return [f"not one ErrorInfo of sessiond's: {refused}"]
    if refused.reason == "INTERNAL" or refused.code is not reason.code:
        found.append(f"not the code of its reason: {refused}")
    if not reason.fits(refused.metadata):
        found.append(f"other metadata than documented: {refused}")
    if (refused.retry_delay is not None) != reason.retry_info:
        found.append(f"RetryInfo where there should be none, or the reverse: {refused}")
    if refused.reason == "INVALID_FIELD" and not refused.violations:
        found.append(f"no field violation: {refused}")
    if refused.trailer_bytes > TRAILER_BYTES:
        found.append(f"too large for a client: {refused.trailer_bytes} {refused}")
    if not all(name and text for name, text in refused.violations):
        found.append(f"an empty field violation: {refused}")
    texts = [refused.message, *refused.metadata.values(), *map(" ".join, refused.violations)]
    found += [f"shows the inside: {text}" for text in texts if INSIDE.search(text)]
    return found

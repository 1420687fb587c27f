"""How refusals become exceptions."""

from __future__ import annotations

import inspect
import pickle
import re
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyProto
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

import sessiond
from sessiond import _errors, v1
from sessiond._errors import BY_CODE, BY_REASON, SessiondError
from sessiond._status import error_from_call, error_from_item
from tests.client.scripted import refusal
from tests.rpc.reasons import REASONS

Reason = v1.ErrorReason


class FailedCall(grpc.RpcError):
    """A failed call as gRPC raises it."""

    def __init__(self, code: grpc.StatusCode, details: str, trailing: tuple[Any, ...]) -> None:
        self._answer = code, details, trailing

    def code(self) -> grpc.StatusCode:
        return self._answer[0]

    def details(self) -> str:
        return self._answer[1]

    def trailing_metadata(self) -> tuple[Any, ...]:
        return self._answer[2]


def failed(code: grpc.StatusCode, *details: Any) -> FailedCall:
    status = status_pb2.Status(code=code.value[0], message="no")
    for detail in details:
        status.details.add().Pack(detail)
    trailing = ("other", "text"), ("grpc-status-details-bin", status.SerializeToString())
    return FailedCall(code, "no", trailing)


def info(reason: str, domain: str = "sessiond", **metadata: str) -> error_details_pb2.ErrorInfo:
    return error_details_pb2.ErrorInfo(reason=reason, domain=domain, metadata=metadata)


def test_P14_every_reason_has_an_exception_of_its_own() -> None:
    reasons = set(Reason.values()) - {Reason.ERROR_REASON_UNSPECIFIED}
    assert set(BY_REASON) == reasons
    assert len(set(BY_REASON.values())) == len(reasons)


def test_P14_each_reason_s_exception_has_the_documented_code() -> None:
    for reason, kind in BY_REASON.items():
        code = REASONS[Reason.Name(reason).removeprefix("ERROR_REASON_")].code
        assert kind.default_code == code
        assert issubclass(kind, BY_CODE[code])


def test_every_failure_code_has_an_exception() -> None:
    assert set(BY_CODE) == set(grpc.StatusCode) - {grpc.StatusCode.OK}


def drawn(kind: type[SessiondError], depth: int = 0) -> list[tuple[int, str]]:
    """The tree of public exceptions below `kind`, with depths."""
    lines = []
    for child in kind.__subclasses__():
        if child.__name__.startswith("_"):
            lines += drawn(child, depth)
        else:
            lines += [(depth, child.__name__), *drawn(child, depth + 1)]
    return lines


def test_the_tree_in_the_docstring_is_the_real_one() -> None:
    text = inspect.getdoc(_errors) or ""
    shown = [
        (len(match[1]) // 4, match[2]) for match in re.finditer(r"^([│ ]*)[├└]── (\w+)", text, re.M)
    ]
    assert sorted(shown) == sorted(drawn(SessiondError))


def test_a_refusal_carries_all_that_the_server_said() -> None:
    violation = error_details_pb2.BadRequest.FieldViolation(field="a[1].b", description="too long")
    error = error_from_call(
        failed(
            grpc.StatusCode.INVALID_ARGUMENT,
            info("INVALID_FIELD", field="a[1].b"),
            error_details_pb2.BadRequest(field_violations=[violation]),
            error_details_pb2.RetryInfo(retry_delay=Duration(seconds=2, nanos=250_000_000)),
        )
    )
    assert type(error) is sessiond.InvalidField
    assert isinstance(error, sessiond.InvalidRequest)
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert (error.message, str(error)) == ("no", "INVALID_FIELD: no")
    assert error.metadata == {"field": "a[1].b"}
    assert error.field_violations == (sessiond.FieldViolation("a[1].b", "too long"),)
    assert error.retry_delay == 2.25


@pytest.mark.parametrize(
    ("code", "details", "kind", "reason"),
    [
        ("NOT_FOUND", [info("MOON_NOT_FOUND")], sessiond.NotFound, "MOON_NOT_FOUND"),
        ("ABORTED", [info("NEXT_SEQ_MISMATCH", domain="elsewhere")], sessiond.Conflict, ""),
        ("ABORTED", [info("UNSPECIFIED")], sessiond.Conflict, "UNSPECIFIED"),
        ("UNIMPLEMENTED", [], sessiond.Unsupported, ""),
        ("DEADLINE_EXCEEDED", [], sessiond.DeadlineExceeded, ""),
        ("UNKNOWN", [], sessiond.InternalError, ""),
    ],
)
def test_what_isn_t_known_becomes_the_class_of_its_code(
    code: str, details: list[Any], kind: type[SessiondError], reason: str
) -> None:
    error = error_from_call(failed(grpc.StatusCode[code], *details))
    assert type(error) is kind
    assert error.reason == reason


def test_broken_details_are_as_good_as_none() -> None:
    broken = AnyProto(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff")
    status = status_pb2.Status(details=[broken]).SerializeToString()
    for value in (b"\xff\xff", "text", status):
        trailing = (("grpc-status-details-bin", value),)
        error = error_from_call(FailedCall(grpc.StatusCode.ABORTED, "no", trailing))
        assert type(error) is sessiond.Conflict


def test_a_refused_item_of_a_stream_says_the_same() -> None:
    error = error_from_item(refusal(Reason.ERROR_REASON_NEXT_SEQ_MISMATCH, grpc.StatusCode.ABORTED))
    assert isinstance(error, sessiond.NextSeqMismatch)
    assert (error.next_seq, error.retry_delay) == (7, 1.5)
    newer = v1.CallError(code=9, message="no")
    newer.reason = 9999  # type: ignore[assignment]
    assert type(error_from_item(newer)) is sessiond.PreconditionFailed
    assert type(error_from_item(v1.CallError(code=99))) is sessiond.InternalError


def test_attributes_read_the_metadata() -> None:
    held = sessiond.WriterLeaseHeld(
        metadata={"holder": "me", "expire_time": "2026-01-02T03:04:05.5Z"}
    )
    assert held.holder == "me"
    assert held.expire_time is not None
    assert held.expire_time.isoformat() == "2026-01-02T03:04:05.500000+00:00"
    split = sessiond.CompactionSplitsToolCall(
        metadata={"nearest_from_seq": "2", "nearest_to_seq": "5"}
    )
    assert split.nearest_range == (2, 5)
    assert sessiond.CompactionOverlap().nearest_range is None
    several = {"query": "a", "candidates": '["a, b", "c"]', "candidate_count": "21"}
    ambiguous = sessiond.SessionAmbiguous(metadata=several)
    assert ambiguous.candidates == ["a, b", "c"]
    assert (ambiguous.query, ambiguous.candidate_count) == ("a", 21)
    assert sessiond.SessionAmbiguous().candidates == []
    assert sessiond.SessionAmbiguous().candidate_count is None
    assert sessiond.NextSeqMismatch(metadata={"next_seq": "x"}).next_seq is None
    assert sessiond.EtagMismatch(metadata={"etag": "e"}).etag == "e"
    assert sessiond.ServerBug(metadata={"incident": "i"}).incident == "i"
    out = sessiond.SeqOutOfRange(metadata={"first_seq": "3", "next_seq": "9"})
    assert (out.first_seq, out.next_seq) == (3, 9)


def test_exceptions_survive_pickling() -> None:
    for kind in [*BY_REASON.values(), *BY_CODE.values()]:
        error = kind("no", reason="R", metadata={"a": "b"}, retry_delay=1.0)
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is kind
        assert vars(copy) == vars(error)
        assert str(copy) == str(error)


def test_a_deadline_is_a_timeout() -> None:
    with pytest.raises(TimeoutError):
        raise sessiond.DeadlineExceeded("late")

"""What the API says of its methods and of the reasons of refusals: the options in its protos."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions

from sessiond.v1 import error_reason_pb2, options_pb2, value_options_pb2
from sessiond.v1.error_reason_pb2 import ErrorReason
from sessiond.v1.options_pb2 import Permission
from sessiond.v1.value_options_pb2 import ReasonPolicy

NONE = "none"
"""The permission of a method that takes no key."""

_REASON = "ERROR_REASON_"
_CODES = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True, slots=True)
class Policy:
    """What is said of a method."""

    name: str
    """`sessiond.v1.<service>/<method>`."""
    permission: str
    """What the caller's key must allow: `read`, `write`, `admin`, or `none` if it takes no key."""
    reads: bool
    """Whether a call changes nothing."""
    reasons: frozenset[str]
    """Why a call may be refused, those of any call included."""


@cache
def policy_of(method: MethodDescriptor) -> Policy:
    """The policy of a method. Fails if its options don't say it."""
    options = method.GetOptions()
    said = options.Extensions[options_pb2.method]
    permission = Permission.Name(said.permission).removeprefix("PERMISSION_").lower()
    if permission == "unspecified":
        raise ValueError(f"{method.full_name} has no permission")
    named = (ErrorReason.Name(reason).removeprefix(_REASON) for reason in said.reasons)
    return Policy(
        name=f"{method.containing_service.full_name}/{method.name}",
        permission=permission,
        reads=options.idempotency_level == MethodOptions.NO_SIDE_EFFECTS,
        reasons=frozenset(named) | _reasons_of_any_call(),
    )


@cache
def reasons() -> dict[str, ReasonPolicy]:
    """What is said of every reason, by its name without the prefix."""
    return {
        value.name.removeprefix(_REASON): value.GetOptions().Extensions[value_options_pb2.reason]
        for value in error_reason_pb2.ErrorReason.DESCRIPTOR.values
        if value.number
    }


@cache
def code_of(reason: str) -> grpc.StatusCode:
    """The status code of a refusal."""
    return _CODES[reasons()[reason].code]


@cache
def _reasons_of_any_call() -> frozenset[str]:
    return frozenset(name for name, policy in reasons().items() if policy.any_call)

"""What the API says of each reason for which calls are refused: the options of `ErrorReason`."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
from google.protobuf.descriptor import EnumValueDescriptor

from sessiond import v1
from sessiond.v1 import value_options_pb2

_PREFIX = "ERROR_REASON_"
_CODES = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True, slots=True)
class Reason:
    """A reason as its options describe it."""

    name: str
    code: grpc.StatusCode
    metadata: frozenset[str]
    optional: frozenset[str]
    """Those of the metadata that aren't always there."""
    retry_info: bool
    any_call: bool

    def fits(self, metadata: dict[str, str]) -> bool:
        """Whether these are the keys that are promised."""
        return self.metadata - self.optional <= metadata.keys() <= self.metadata


def _reason(value: EnumValueDescriptor) -> Reason:
    policy = value.GetOptions().Extensions[value_options_pb2.reason]
    return Reason(
        value.name.removeprefix(_PREFIX),
        _CODES[policy.code],
        frozenset(policy.metadata) | frozenset(policy.optional_metadata),
        frozenset(policy.optional_metadata),
        policy.wait_helps,
        policy.any_call,
    )


REASONS = {
    value.name.removeprefix(_PREFIX): _reason(value)
    for value in v1.ErrorReason.DESCRIPTOR.values
    if value.number
}
"""By the name without its prefix."""

"""Tell what of the API lacks its options, or contradicts itself in them.

Every method, every reason of a refusal and every field of a request says in an option what programs go by:
see protos/sessiond/v1/options.proto and value_options.proto. Run after tools/generate.py.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions

from sessiond import v1
from sessiond._policies import methods, policy_of
from sessiond.v1 import options_pb2, value_options_pb2

_READS = (v1.Permission.PERMISSION_NONE, v1.Permission.PERMISSION_READ)
_WAITS = (v1.StatusCode.STATUS_CODE_UNAVAILABLE, v1.StatusCode.STATUS_CODE_RESOURCE_EXHAUSTED)

_PACKAGE = v1.TransferRecord.DESCRIPTOR.file.package
_BOUNDED = (FieldDescriptor.TYPE_BOOL, FieldDescriptor.TYPE_ENUM)
_AS_EXPORTED = (v1.TransferRecord.DESCRIPTOR,)
"""What holds for records is said where ExportSessions gives them."""


def reasons() -> dict[int, v1.ReasonPolicy]:
    """What is said of each reason, by its number."""
    return {
        value.number: value.GetOptions().Extensions[value_options_pb2.reason]
        for value in v1.ErrorReason.DESCRIPTOR.values
        if value.number
    }


def of_methods() -> Iterator[str]:
    """What is wrong with the options of methods."""
    for method in methods():
        for problem in (*_of_method(method), *_of_reasons(method)):
            yield f"{method.full_name}: {problem}"


def _of_method(method: MethodDescriptor) -> Iterator[str]:
    policy, level = policy_of(method), method.GetOptions().idempotency_level
    reads = level == MethodOptions.NO_SIDE_EFFECTS
    if not policy.permission:
        yield "has no (sessiond.v1.method).permission"
    if not policy.retry:
        yield "has no (sessiond.v1.method).retry"
    if (policy.retry == v1.Retry.RETRY_ALWAYS) != (level != MethodOptions.IDEMPOTENCY_UNKNOWN):
        yield (
            "RETRY_ALWAYS goes with idempotency_level = NO_SIDE_EFFECTS, or IDEMPOTENT if it changes"
            " something; the other ones go without"
        )
    if not reads and policy.permission in _READS:
        yield "changes something, or lacks idempotency_level = NO_SIDE_EFFECTS: PERMISSION_READ is too little"
    if reads and policy.permission == v1.Permission.PERMISSION_WRITE:
        yield "has no side effects: PERMISSION_WRITE is too much"
    if (policy.retry == v1.Retry.RETRY_IF_SET) != bool(policy.retry_fields):
        yield "RETRY_IF_SET goes with retry_fields, and they with it"
    for path in policy.retry_fields:
        if not _has(method.input_type, path):
            yield f"the request has no field {path}"


def _of_reasons(method: MethodDescriptor) -> Iterator[str]:
    named = list(policy_of(method).reasons)
    for number in sorted(set(named)):
        name = v1.ErrorReason.Name(number)
        if named.count(number) > 1:
            yield f"names {name} twice"
        if number not in reasons() or reasons()[number].any_call:
            yield f"names {name}, which it need not"


def _has(descriptor: Descriptor, path: str) -> bool:
    name, _, rest = path.partition(".")
    field = descriptor.fields_by_name.get(name)
    if field is None:
        return False
    return not rest or (field.message_type is not None and _has(field.message_type, rest))


def of_all_reasons() -> Iterator[str]:
    """What is wrong with the options of reasons."""
    named = {number for method in methods() for number in policy_of(method).reasons}
    for number, policy in reasons().items():
        name = v1.ErrorReason.Name(v1.ErrorReason.ValueType(number))
        keys = [*policy.metadata, *policy.optional_metadata]
        if not policy.code:
            yield f"{name}: has no (sessiond.v1.reason).code"
        if policy.code in _WAITS and not policy.wait_helps:
            yield f"{name}: says with its code that waiting helps, but not with wait_helps"
        if len(keys) != len(set(keys)):
            yield f"{name}: names a key of the metadata twice"
        if not policy.any_call and number not in named:
            yield f"{name}: no method names it, and it isn't any_call"


def of_fields() -> Iterator[str]:
    """What is wrong with the options of the fields that requests hold."""
    seen: set[str] = set()
    for method in methods():
        yield from _of_message(method.input_type, seen)


def _of_message(descriptor: Any, seen: set[str]) -> Iterator[str]:
    if descriptor.full_name in seen or descriptor.file.package != _PACKAGE:
        return
    seen.add(descriptor.full_name)
    for field in descriptor.fields:
        policy = field.GetOptions().Extensions[options_pb2.field]
        output = v1.FieldBehavior.FIELD_BEHAVIOR_OUTPUT_ONLY in policy.behavior
        if problem := _of_field(field, policy, output):
            yield f"{field.full_name}: {problem}"
        inner = field.message_type
        entry = inner is not None and inner.GetOptions().map_entry
        if inner is not None and not output and not entry and inner not in _AS_EXPORTED:
            yield from _of_message(inner, seen)


def _of_field(field: Any, policy: v1.FieldPolicy, output: bool) -> str:
    bounded = any(it.name != "behavior" and it.name != "autofill" for it, _ in policy.ListFields())
    if output or bounded:
        return "is output only and has limits" if output and bounded else ""
    if field.is_repeated:
        return "" if field.enum_type is not None else "a list without max_items"
    if field.type in _BOUNDED or field.message_type is not None:
        return ""
    return "has no limit and no format in (sessiond.v1.field), and isn't unlimited"


def main() -> int:
    """1 if something is wrong."""
    problems = [*of_methods(), *of_all_reasons(), *of_fields()]
    print("".join(f"{problem}\n" for problem in problems), end="", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

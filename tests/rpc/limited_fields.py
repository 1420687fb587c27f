"""Requests in which one field breaks what its options in the protos say (`sessiond.v1.field`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from sessiond import v1
from sessiond.v1 import options_pb2, value_options_pb2

_DEPTH = 4
_DURATION = "google.protobuf.Duration"
_INT32 = range(-(2**31), 2**31)
Behavior, Format = v1.FieldBehavior, v1.Format


@dataclass(frozen=True)
class Place:
    """A field within a request: the fields that lead to it, the field itself, and what it may hold."""

    path: tuple[Any, ...]
    field: Any
    policy: v1.FieldPolicy

    def __str__(self) -> str:
        names = [it.name + ("[0]" if it.is_repeated else "") for it in self.path]
        return ".".join([*names, self.field.name])

    def holder(self, request: Message) -> Any:
        """What has the field; made where it isn't there."""
        found: Any = request
        for it in self.path:
            inner = getattr(found, it.name)
            if it.is_repeated:
                found = inner[0] if inner else inner.add()
            else:
                inner.SetInParent()
                found = inner
        return found

    def mask(self, request: Message) -> None:
        """Have an update change the field, if the request is one."""
        if not self.path:
            return
        outer = Place(self.path[:-1], self.path[-1], self.policy).holder(request)
        if "update_mask" in outer.DESCRIPTOR.fields_by_name:
            outer.update_mask.CopyFrom(FieldMask(paths=[self.field.name]))


def policy_of(field: Any) -> v1.FieldPolicy:
    policy: v1.FieldPolicy = field.GetOptions().Extensions[options_pb2.field]
    return policy


def form_of(policy: v1.FieldPolicy) -> v1.FormatPolicy:
    """What is said of a field's form."""
    value: Any = Format.DESCRIPTOR.values_by_number[policy.format]
    form: v1.FormatPolicy = value.GetOptions().Extensions[value_options_pb2.format]
    return form


def places(method: MethodDescriptor) -> list[Place]:
    """The fields of a method's requests that have a policy."""
    return list(_places(method.input_type, ()))


def _places(descriptor: Any, path: tuple[Any, ...]) -> Iterator[Place]:
    for field in descriptor.fields:
        if field.GetOptions().HasExtension(options_pb2.field):
            yield Place(path, field, policy_of(field))
        inner = field.message_type
        if inner is None or inner.GetOptions().map_entry or inner.file.package != "sessiond.v1":
            continue
        if inner is v1.Message.DESCRIPTOR and descriptor is not v1.AppendMessagesRequest.DESCRIPTOR:
            continue  # summaries, reminders and updates take only some of a message
        output = Behavior.FIELD_BEHAVIOR_OUTPUT_ONLY in policy_of(field).behavior
        if not output and len(path) < _DEPTH and inner not in [it.message_type for it in path]:
            yield from _places(inner, (*path, field))


def broken(place: Place, request: Message) -> Iterator[tuple[str, Message]]:
    """Copies of a request in which the field breaks each of its limits, and which one."""
    for what, values in _breaking(place).items():
        copy = type(request)()
        copy.CopyFrom(request)
        place.mask(copy)
        holder = place.holder(copy)
        holder.ClearField(place.field.name)
        for value in values:
            if not place.field.is_repeated:
                _set(holder, place.field, value)
            elif place.field.message_type is not None and _is_map(place.field):
                _add_entry(holder, place.field, value)
            elif place.field.message_type is not None:
                getattr(holder, place.field.name).add()
            else:
                getattr(holder, place.field.name).append(value)
        yield what, copy


def _set(holder: Any, field: Any, value: Any) -> None:
    if isinstance(value, Message):
        getattr(holder, field.name).CopyFrom(value)
    else:
        setattr(holder, field.name, value)


def _add_entry(holder: Any, field: Any, key: str) -> None:
    """A map's entry with an empty value."""
    of_bytes = field.message_type.fields_by_name["value"].type == field.TYPE_BYTES
    getattr(holder, field.name)[key] = b"" if of_bytes else ""


def _is_map(field: Any) -> bool:
    return bool(field.message_type.GetOptions().map_entry)


def _breaking(place: Place) -> dict[str, list[Any]]:
    policy, field = place.policy, place.field
    found: dict[str, list[Any]] = {}
    if field.is_repeated:
        one: Any = None if field.message_type else 1 if field.enum_type else "a"
        if policy.min_items:
            found["min_items"] = [one] * (policy.min_items - 1)
        if policy.max_items:
            count = policy.max_items + 1
            named = field.message_type is not None and _is_map(field)
            found["max_items"] = [f"k{n}" for n in range(count)] if named else [one] * count
    if Behavior.FIELD_BEHAVIOR_REQUIRED in policy.behavior:
        found["required"] = []
    if field.type == field.TYPE_STRING:
        found |= _texts(policy)
    if field.type == field.TYPE_BYTES and policy.max_bytes:
        found["max_bytes"] = [bytes(policy.max_bytes + 1)]
    return found | _numbers(policy, field)


def _texts(policy: v1.FieldPolicy) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    if policy.max_characters:
        found["max_characters"] = ["x" * (policy.max_characters + 1)]
    if policy.max_bytes:
        found["max_bytes"] = ["x" * (policy.max_bytes + 1)]
    most = form_of(policy).max_bytes
    if most:
        found["max_bytes"] = ["x" * (most + 1)]
    if policy.format and policy.format != Format.FORMAT_TOKEN:
        found["format"] = ["a\0b"]
    return found


def _numbers(policy: v1.FieldPolicy, field: Any) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    if policy.HasField("min_value"):
        found["min_value"] = [policy.min_value - 1]
    if policy.HasField("max_value") and not policy.clamped:
        found["max_value"] = [policy.max_value + 1]
    if field.message_type is not None and field.message_type.full_name == _DURATION:
        return {what: [_duration(value)] for what, (value,) in found.items()}
    small = field.type == field.TYPE_INT32
    return {what: it for what, it in found.items() if not small or it[0] in _INT32}


def _duration(seconds: int) -> Message:
    return Duration(seconds=seconds)

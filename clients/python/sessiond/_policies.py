"""What the API says of its methods: the options in its protos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from sessiond import v1
from sessiond.v1 import options_pb2


def methods() -> Iterator[MethodDescriptor]:
    """All methods of the API."""
    for name, module in vars(v1).items():
        if name.endswith("_pb2"):
            for service in module.DESCRIPTOR.services_by_name.values():
                yield from service.methods


def policy_of(method: MethodDescriptor) -> v1.MethodPolicy:
    """What is said of a method."""
    return method.GetOptions().Extensions[options_pb2.method]


def is_set(message: Message, paths: Sequence[str]) -> bool:
    """Whether one of the fields is set; behind a repeated field, whether each of its elements has one."""
    behind: dict[str, list[str]] = {}
    for path in paths:
        name, _, rest = path.partition(".")
        behind.setdefault(name, []).append(rest)
    return any(_is_set(message, name, rests) for name, rests in behind.items())


def _is_set(message: Message, name: str, rests: list[str]) -> bool:
    field = message.DESCRIPTOR.fields_by_name[name]
    value = getattr(message, name)
    if "" in rests:
        return message.HasField(name) if field.has_presence else bool(value)
    if not field.is_repeated:
        return message.HasField(name) and is_set(value, rests)
    return bool(value) and all(is_set(element, rests) for element in value)

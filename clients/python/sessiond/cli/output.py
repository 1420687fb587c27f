"""What goes to stdout for programs: proto messages as plain JSON.

The form is stable: field names as in the protos, every field present unless the API says that it
can be absent, 64-bit numbers as JSON numbers, enum values as their lower-case names without the
prefix (`assistant`, `active`), times as RFC 3339, durations as `1.5s`, bytes as base64.
"""

from __future__ import annotations

import json
import sys
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, cast

from google.protobuf import json_format
from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct

from sessiond.v1.session_pb2 import SessionSummary

Json = dict[str, Any] | list[Any] | str | int | float | bool | None

_MAX_EXACT = 2**53


class Format(StrEnum):
    """How a verb writes its result to stdout."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"


def plain(message: Message) -> Json:
    """A proto message as JSON values, in the form that the module describes."""
    if isinstance(message, Struct):
        return plain_struct(message)
    if isinstance(message, SessionSummary):
        own = _fields(message)
        return {**cast("dict[str, Any]", own.pop("session")), **own}
    if message.DESCRIPTOR.file.package == "google.protobuf":
        return json_format.MessageToDict(message)
    return _fields(message)


def plain_struct(struct: Struct) -> dict[str, Any]:
    """A Struct as JSON values: whole numbers as integers, keys by name since it has no order."""
    values = _whole(json_format.MessageToDict(struct))
    return cast("dict[str, Any]", values)


def write(value: Json, output: Format) -> None:
    """Writes one JSON document to stdout: indented, or on one line as JSON lines."""
    indent = 2 if output is Format.JSON else None
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=indent) + "\n")


def write_all(values: Iterable[Json], output: Format) -> None:
    """Writes a JSON array, or a line per value, as they come."""
    if output is Format.JSONL:
        for value in values:
            write(value, output)
        return
    separator = "[\n"
    for value in values:
        sys.stdout.write(separator + json.dumps(value, ensure_ascii=False, indent=2))
        separator = ",\n"
    sys.stdout.write("[]\n" if separator == "[\n" else "\n]\n")


def _fields(message: Message) -> dict[str, Any]:
    return {
        field.name: _value(getattr(message, field.name), cast("EnumDescriptor", field.enum_type))
        for field in message.DESCRIPTOR.fields
        if not field.has_presence or message.HasField(field.name)
    }


def _value(value: Any, enum: EnumDescriptor | None) -> Json:
    if isinstance(value, Message):
        return plain(value)
    if isinstance(value, bytes):
        return b64encode(value).decode("ascii")
    if isinstance(value, Mapping):
        return {str(key): _value(item, None) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_value(item, enum) for item in value]
    if enum is not None:
        return enum_name(enum, value)
    assert isinstance(value, str | int | float | bool)
    return value


def enum_name(enum: EnumDescriptor, number: int) -> str:
    """An enum value's lower-case name without the prefix that all of its enum have."""
    value = enum.values_by_number.get(number)
    if value is None:
        return str(number)
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return value.name.removeprefix(prefix).lower()


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in sorted(value.items())}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) <= _MAX_EXACT:
        return int(value)
    return value

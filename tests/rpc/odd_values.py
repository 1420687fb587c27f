"""Values that a field can't sensibly have, or only just, by the field's type."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from sessiond import v1
from sessiond.v1 import options_pb2
from tests.rpc.limited_fields import form_of

_MAX32, _MAX64 = 2**31 - 1, 2**63 - 1

TEXTS = [
    "",
    " ",
    "\n",
    "\0",
    "a\0b",
    "\x1b[31mred",
    "\x7f\x80\x9f",
    "\u202eabc",
    "\u200b",
    "\u2028",
    "\ufeff",
    "\u0301",
    "👩‍👩‍👧‍👦",
    "\ud7ff",
    "\U0010ffff",
    "e\u0301" * 300,
    "%",
    "_",
    "%s %d {0} ${x}",
    "'",
    '"',
    "\\",
    "'; DROP TABLE message; --",
    "1 OR 1=1",
    "../../etc/passwd",
    "/",
    "null",
    "x" * 129,
    "x" * 257,
    "𝕏" * 256,
    "\U000e0001" * 256,
    "y" * 20_000,
]
_BYTES = [b"", b"\0", b"\xff\xfe", b"{", b"\xed\xa0\x80", bytes(70_000)]
_INTS = [0, 1, -1]
_VALUES: dict[int, list[Any]] = {
    FieldDescriptor.CPPTYPE_INT32: [*_INTS, _MAX32, -_MAX32 - 1],
    FieldDescriptor.CPPTYPE_INT64: [*_INTS, 2**53, 2**53 + 1, 2**62, _MAX64, -_MAX64 - 1],
    FieldDescriptor.CPPTYPE_UINT32: [0, 2**32 - 1],
    FieldDescriptor.CPPTYPE_UINT64: [0, 2**64 - 1],
    FieldDescriptor.CPPTYPE_DOUBLE: [0.0, -0.0, math.nan, math.inf, -math.inf, 1e308],
    FieldDescriptor.CPPTYPE_FLOAT: [0.0, math.nan, math.inf],
    FieldDescriptor.CPPTYPE_BOOL: [True, False],
    FieldDescriptor.CPPTYPE_ENUM: [0, 99, -1, _MAX32, -_MAX32 - 1],
}
_TIMES = [
    (0, 0),
    (-62_135_596_800, 0),
    (-62_135_596_801, 0),
    (253_402_300_799, 999_999_999),
    (253_402_300_800, 0),
    (_MAX64, _MAX32),
    (-_MAX64 - 1, -_MAX32 - 1),
    (0, 10**9),
    (0, -1),
    (-1, -1),
    (3600, 0),
    (3601, 0),
]
_MASKS = [
    [],
    ["*"],
    [""],
    ["title.x"],
    ["session.title"],
    ["title", "title"],
    ["seq"],
    ["create_time", "etag", "next_seq"],
    ["text", "parts"],
    ["TITLE"],
    ["x" * 1000],
    ["'; DROP TABLE message; --"],
    [f"path{n}" for n in range(2000)],
    ["𝕏" * 200] * 3,
]


def nested(levels: int, leaf: Value | None = None) -> Struct:
    """A Struct of so many levels."""
    value = leaf or Value(bool_value=True)
    for _ in range(levels - 1):
        value = Value(struct_value=Struct(fields={"k": value}))
    return Struct(fields={"k": value})


@cache
def structs() -> list[Struct]:
    """Made once: the large one takes its time."""
    lists = Value(bool_value=True)
    for _ in range(42):
        lists = Value(list_value=ListValue(values=[lists]))
    wide = Struct()
    wide.update({f"key {n}": n for n in range(8000)})
    numbers = [Value(number_value=n) for n in _VALUES[FieldDescriptor.CPPTYPE_DOUBLE]]
    return [
        Struct(),
        Struct(fields={"": Value()}),
        Struct(fields={text: Value(string_value=text) for text in TEXTS[:30]}),
        Struct(fields={"n": Value(list_value=ListValue(values=numbers))}),
        Struct(fields={"list": lists}),
        wide,
        *(nested(levels) for levels in (29, 30, 31)),
    ]


def at_the_limits(field: Any) -> list[Any]:
    """Values that its options in the protos just allow, and just don't."""
    policy: v1.FieldPolicy = field.GetOptions().Extensions[options_pb2.field]
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        most = policy.max_characters or policy.max_bytes or form_of(policy).max_bytes
        texts = ["x" * most, "x" * (most + 1)] if 0 < most <= 2**20 else []
        return [it.encode() for it in texts] if field.type == FieldDescriptor.TYPE_BYTES else texts
    if field.cpp_type not in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64):
        return []
    ends = [policy.min_value - 1, policy.min_value, policy.max_value, policy.max_value + 1]
    small = field.cpp_type == FieldDescriptor.CPPTYPE_INT32
    return [it for it in ends if not small or -_MAX32 <= it <= _MAX32]


def odd_values(field: FieldDescriptor) -> list[Any]:
    """What to put into a field that isn't repeated. `None` leaves it out."""
    return [*_odd_values(field), *at_the_limits(field)]


def _odd_values(field: FieldDescriptor) -> list[Any]:
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return list(_BYTES if field.type == FieldDescriptor.TYPE_BYTES else TEXTS)
    if field.cpp_type != FieldDescriptor.CPPTYPE_MESSAGE:
        return _VALUES[field.cpp_type]
    known: dict[str, list[Message]] = {
        "google.protobuf.Timestamp": [Timestamp(seconds=s, nanos=n) for s, n in _TIMES],
        "google.protobuf.Duration": [Duration(seconds=s, nanos=n) for s, n in _TIMES],
        "google.protobuf.FieldMask": [FieldMask(paths=paths) for paths in _MASKS],
        "google.protobuf.Struct": list(structs()),
    }
    return [None, *known.get(str(getattr(field.message_type, "full_name", "")), [])]

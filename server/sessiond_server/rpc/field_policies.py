"""What the API says of its fields, and of the forms of texts: the options in its protos."""

from __future__ import annotations

import re

from google.protobuf.message import Message

from sessiond.v1 import options_pb2, value_options_pb2
from sessiond.v1.options_pb2 import FieldPolicy, Format


def policy(message: type[Message], field: str) -> FieldPolicy:
    """What is said of a field. Fails if nothing is."""
    options = message.DESCRIPTOR.fields_by_name[field].GetOptions()
    if not options.HasExtension(options_pb2.field):
        raise ValueError(f"{message.DESCRIPTOR.full_name}.{field} has no policy")
    return options.Extensions[options_pb2.field]


def between(message: type[Message], field: str) -> tuple[int, int]:
    """The smallest and the largest number of a field."""
    found = policy(message, field)
    return found.min_value, found.max_value


def default_and_most(message: type[Message], field: str) -> tuple[int, int]:
    """What a field stands for that is left out, and the largest number."""
    found = policy(message, field)
    return found.default_value, found.max_value


def pattern(form: Format.ValueType) -> re.Pattern[str]:
    """What a text of a form matches as a whole."""
    return re.compile(_said(form).pattern)


def description(form: Format.ValueType) -> str:
    """The same for people."""
    return _said(form).description


def max_bytes(form: Format.ValueType) -> int:
    """How many bytes a text of a form has at most."""
    return _said(form).max_bytes


def _said(form: Format.ValueType) -> value_options_pb2.FormatPolicy:
    value = Format.DESCRIPTOR.values_by_number[form]
    return value.GetOptions().Extensions[value_options_pb2.format]

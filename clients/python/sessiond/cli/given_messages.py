"""Messages as `append` takes them: plain text, or OpenAI-style JSON."""

from __future__ import annotations

import json
from typing import Any

from sessiond.cli.openai_files import FormatError, to_message
from sessiond.v1.message_pb2 import Message


def messages_from(text: str) -> list[Message] | None:
    """The messages of a JSON object, an array or JSON lines whose first value has a role.

    None for any other text. Raises FormatError when it begins so, but not all of it are messages.
    """
    values = _document(text)
    if values is None:
        values = _lines(text)
    if not values or not _has_role(values[0]):
        return None
    messages = []
    for position, value in enumerate(values):
        try:
            messages.append(to_message(value))
        except FormatError as error:
            raise FormatError(f"message {position}: {error}") from error
    return messages


def _document(text: str) -> list[Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, list) else [value]


def _lines(text: str) -> list[Any]:
    values: list[Any] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            values.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            if not values or not _has_role(values[0]):
                return []
            raise FormatError(f"line {number}: not JSON: {error}") from None
    return values


def _has_role(value: object) -> bool:
    return isinstance(value, dict) and "role" in value

"""Messages as `append` takes them: plain text, or OpenAI-style JSON."""

from __future__ import annotations

import json
from typing import Any

from sessiond.cli.openai_files import FormatError, to_message
from sessiond.v1.message_pb2 import Message


def messages_from(text: str) -> list[Message] | None:
    """The messages of a JSON object, an array or JSON lines: of a text that begins with { or [.

    None for any other text. Raises FormatError when it begins so, but not all of it are messages.
    """
    if not text.lstrip().startswith(("{", "[")):
        return None
    values = _document(text)
    if values is None:
        values = _lines(text)
    if not values:
        raise FormatError("there is none in it")
    return [_message(position, value) for position, value in enumerate(values)]


def _message(position: int, value: object) -> Message:
    try:
        if isinstance(value, dict) and "role" not in value:
            raise FormatError('no "role"')
        return to_message(value)
    except FormatError as error:
        raise FormatError(f"message {position}: {error}") from error


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
            raise FormatError(f"line {number}: not JSON: {error}") from None
    return values

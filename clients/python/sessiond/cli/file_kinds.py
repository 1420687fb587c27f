"""What a file is that isn't of the format that was named: a word for people who forgot --format."""

from __future__ import annotations

import json

SQLITE_MAGIC = b"SQLite format 3\0"
_NATIVE_HEADER = b'{"sessiond":'
_SQLITE = "a SQLite file, which --format hermes or --format power-loop imports"
_NATIVE = "a native file, which --format native imports"
_OPENAI = "one of OpenAI-style sessions, which --format openai imports"


def other_than_openai(first_line: bytes) -> str:
    """What a file is that begins so; empty if it may be one of OpenAI-style sessions."""
    if first_line.startswith(SQLITE_MAGIC):
        return _SQLITE
    return _NATIVE if first_line.replace(b" ", b"").startswith(_NATIVE_HEADER) else ""


def other_than_native(first_line: bytes) -> str:
    """What a file is that begins so and is no native one; empty if that isn't known."""
    if first_line.startswith(SQLITE_MAGIC):
        return _SQLITE
    return _OPENAI if _is_session(first_line) else ""


def _is_session(line: bytes) -> bool:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and {"id", "messages"} <= set(value)

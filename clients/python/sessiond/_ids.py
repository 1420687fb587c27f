"""Ids that the library fills in or makes of what an application has."""

from __future__ import annotations

import hashlib
import os
import re
import time
from typing import Final

from sessiond import v1
from sessiond.v1 import value_options_pb2

_HASHED: Final = "~"
_ESCAPED: Final = frozenset("%/")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_VERSION_AND_VARIANT = 0x7 << 76 | 0b10 << 62
_RANDOM_A = 0xFFF << 64
_RANDOM_B = (1 << 62) - 1


def uuid7() -> str:
    """A new UUIDv7 (RFC 9562) as text: 48 bits of Unix time in milliseconds, 74 random bits.

    Ids made in different milliseconds sort by time. The random bits come from the operating system,
    so that forked processes never make the same ones.
    """
    random = int.from_bytes(os.urandom(10))
    value = (time.time_ns() // 1_000_000) << 80 | _VERSION_AND_VARIANT
    text = f"{value | random & _RANDOM_A | random & _RANDOM_B:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _form() -> value_options_pb2.FormatPolicy:
    value = v1.Format.DESCRIPTOR.values_by_number[v1.Format.FORMAT_SESSION_ID]
    return value.GetOptions().Extensions[value_options_pb2.format]


MAX_SESSION_ID_BYTES: Final = _form().max_bytes
_PRINTABLE: Final = re.compile(_form().pattern)


def is_session_id(text: str) -> bool:
    """Whether a text can be the id of a session, as `Session.id` in the protos says."""
    if not _PRINTABLE.fullmatch(text) or _SURROGATE.search(text):
        return False
    return len(text.encode()) <= MAX_SESSION_ID_BYTES


def session_id(*parts: str) -> str:
    """The id of a session that an application knows by several texts: a platform, a chat, a thread.

    The parts are joined by `/`. In each of them `%`, `/` and what an id can't have are percent-encoded, as is
    a `~` at the beginning of the first one. An id of more than 512 bytes is replaced by `~` and its
    SHA-256 in hexadecimal digits. So different parts make different ids, and the same parts make the same one
    in every language and release: docs/session-ids.md has the rules and examples for other languages.

    Args:
        parts: The texts, from the most general to the most special. They aren't trimmed, normalized or
            folded, and an empty one counts: `session_id("a")`, `session_id("a", "")` and `session_id("A")`
            are three ids.

    Raises:
        ValueError: There are no parts, there is one and it is empty, or one has a lone surrogate.
        TypeError: A part isn't a text. A number has many texts: the caller chooses one.
    """
    joined = "/".join(map(_escaped, parts))
    if not joined:
        raise ValueError("parts: a session's id must not be empty")
    if joined.startswith(_HASHED):
        joined = _percent(_HASHED) + joined[1:]
    encoded = joined.encode()
    if len(encoded) <= MAX_SESSION_ID_BYTES:
        return joined
    return _HASHED + hashlib.sha256(encoded).hexdigest()


def _escaped(part: str) -> str:
    if not isinstance(part, str):
        raise TypeError(f"a part of a session's id must be a text, not {type(part).__name__}")
    if _SURROGATE.search(part):
        raise ValueError("parts: a session's id must not have lone surrogates")
    return "".join(
        it if it not in _ESCAPED and _PRINTABLE.fullmatch(it) else _percent(it) for it in part
    )


def _percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode())

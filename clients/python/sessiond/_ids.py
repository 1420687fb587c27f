"""Ids that the library fills in or makes of what an application has."""

from __future__ import annotations

import hashlib
import os
import re
import time

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


MAX_SESSION_ID_BYTES = 512
_PLANES = "".join(chr(plane << 16 | low) for plane in range(1, 17) for low in (0xFFFE, 0xFFFF))
_REFUSED = f"\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\ufdd0-\\ufdef\\ufffe\\uffff{_PLANES}"
_ESCAPED = re.compile(f"[%/{_REFUSED}]")
_WRONG = re.compile(f"[{_REFUSED}\\ud800-\\udfff]")


def is_session_id(text: str) -> bool:
    """Whether a text can be the id of a session: 1–512 bytes without control characters and the like."""
    if not text or _WRONG.search(text):
        return False
    return len(text.encode()) <= MAX_SESSION_ID_BYTES


def session_id(*parts: str) -> str:
    """The id of a session that an application knows by several texts: a platform, a chat, a thread.

    The parts are joined by `/`; in each `%`, `/`, control characters and what else an id can't have are
    percent-encoded, so that different parts make different ids. An id of more than 512 bytes is replaced by
    `~` and the SHA-256 of it. The same parts make the same id in every language and release.

    Raises:
        ValueError: There are no parts, they make an empty id, or one has a lone surrogate.
    """
    joined = "/".join(_ESCAPED.sub(_percent, part) for part in parts)
    if not joined:
        raise ValueError("a session's id must not be empty")
    encoded = joined.encode()  # a UnicodeEncodeError is a ValueError
    if len(encoded) <= MAX_SESSION_ID_BYTES:
        return joined
    return f"~{hashlib.sha256(encoded).hexdigest()}"


def _percent(found: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in found[0].encode())

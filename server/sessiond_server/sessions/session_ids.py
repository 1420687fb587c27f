"""Ids of sessions: any printable text."""

from __future__ import annotations

import re

MAX_BYTES = 512
_PLANES = "".join(chr(plane << 16 | low) for plane in range(1, 17) for low in (0xFFFE, 0xFFFF))
_REFUSED = re.compile(
    f"[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\ufdd0-\\ufdef\\ufffe\\uffff{_PLANES}]"
)
"""Control characters, what ends a line, and what Unicode says is no character."""
_SURROGATES = range(0xD800, 0xE000)


def is_one(text: str) -> bool:
    """Whether a text can be the id of a session."""
    return 0 < len(text.encode()) <= MAX_BYTES and _REFUSED.search(text) is None


def behind(prefix: str) -> str | None:
    """The first text behind all that begin so, in the order of code points, which is that of UTF-8; `None`
    if there is none."""
    while prefix:
        code = ord(prefix[-1]) + 1
        if code in _SURROGATES:
            code = _SURROGATES.stop
        if code <= 0x10FFFF:
            return prefix[:-1] + chr(code)
        prefix = prefix[:-1]
    return None

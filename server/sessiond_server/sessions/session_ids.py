"""Ids of sessions that begin alike."""

from __future__ import annotations

_SURROGATES = range(0xD800, 0xE000)


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

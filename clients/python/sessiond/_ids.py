"""Ids that the library fills in: UUIDv7 texts."""

from __future__ import annotations

import os
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

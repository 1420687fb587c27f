"""How a command says that it failed."""

from __future__ import annotations

import sys


def fail(reason: object) -> int:
    """Say why a command failed; the exit code."""
    print(f"sessiond: {reason}", file=sys.stderr)
    return 1

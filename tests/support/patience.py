"""Waiting for conditions, on machines that may be busy with other things.

What a test waits for comes at once on an idle machine. The bound is only there so that a test which waits for
what never comes fails with a reason, and before pytest's own timeout.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 120.0
"""Seconds that anything may take."""
_PAUSE = 0.02


def wait_for(look: Callable[[], T], otherwise: str) -> T:
    """Look until what is found is true; what it is."""
    end = time.monotonic() + PATIENCE
    while not (found := look()):
        assert time.monotonic() < end, otherwise
        time.sleep(_PAUSE)
    return found


async def until(look: Callable[[], T], otherwise: str) -> T:
    """The same, while the event loop goes on."""
    end = time.monotonic() + PATIENCE
    while not (found := look()):
        assert time.monotonic() < end, otherwise
        await asyncio.sleep(_PAUSE)
    return found

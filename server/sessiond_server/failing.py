"""What loops and jobs do about a failure: they say it and go on."""

from __future__ import annotations

import asyncio

import structlog

from sessiond_server.errors import DatabaseUnavailable, ReadQueueFull, Refused

log = structlog.get_logger(__name__)

OF_THE_DATABASE = (DatabaseUnavailable, ReadQueueFull)
"""Refusals that aren't about what was asked for, but about who was asked."""
_PAUSE = 1.0


def tell(event: str, error: Exception, **facts: object) -> None:
    """Log that a look failed, which is made again anyway: loudly only if that is a bug."""
    if isinstance(error, Refused):
        log.debug(event, error=repr(error), **facts)
    else:
        log.error(event, exc_info=error, **facts)


async def skip(event: str, error: Exception, **facts: object) -> None:
    """Log what was left out, before a job goes on with the next; not at once if that would fail as well."""
    if isinstance(error, Refused):
        log.warning(event, reason=str(error), **facts)
    else:
        log.error(event, exc_info=error, **facts)
    if isinstance(error, OF_THE_DATABASE):
        await asyncio.sleep(_PAUSE)

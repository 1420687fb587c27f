"""Which sessions a transaction changes, so that watchers can be told of it after the commit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from sessiond_server.store.keys import SessionKey

_touched: ContextVar[set[SessionKey] | None] = ContextVar("touched", default=None)


@contextmanager
def touched_sessions() -> Iterator[set[SessionKey]]:
    """Gathers the sessions that are touched until the context ends."""
    keys: set[SessionKey] = set()
    token = _touched.set(keys)
    try:
        yield keys
    finally:
        _touched.reset(token)


def touch(*keys: SessionKey) -> None:
    """Note that the transaction under way, if there is one, changes sessions."""
    gathered = _touched.get()
    if gathered is not None:
        gathered.update(keys)

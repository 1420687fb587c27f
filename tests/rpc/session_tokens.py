"""Tokens of streams of sessions as they were made at another time, or elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

from sessiond_server.feed.session_stream import Standing
from sessiond_server.rpc.session_changes import resumed, token
from sessiond_server.rpc.session_watching import bound_to
from sessiond_server.sessions.filters import SessionFilter
from sessiond_server.store.keys import DEFAULT_TENANT
from sessiond_server.store.lists import ListPlace

_EVERYTHING = bound_to(SessionFilter(DEFAULT_TENANT))
_SECOND = 1_000_000


def _changed(
    text: str, change: Callable[[UUID, Standing[ListPlace]], tuple[UUID, Standing[ListPlace]]]
) -> str:
    history, standing = change(*resumed(text, _EVERYTHING))
    return token(standing, history, _EVERYTHING)


def older(text: str, days: float) -> str:
    """A token of a stream of everything, had it been made so many days earlier."""
    age = round(days * 86_400 * _SECOND)
    return _changed(text, lambda history, it: (history, replace(it, time=it.time - age)))


def elsewhere(text: str) -> str:
    """The same of another database."""
    return _changed(text, lambda _, it: (UUID(int=7), it))


def ahead(text: str, seconds: float) -> str:
    """The same of a history that went on, before the database was restored from an older backup."""
    more = round(seconds * _SECOND)
    return _changed(text, lambda history, it: (history, replace(it, position=it.position + more)))

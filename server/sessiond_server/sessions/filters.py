"""Which sessions are meant: `sessiond.v1.SessionFilter`, checked and with its defaults filled in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

ACTIVE, ENDED = 1, 2
"""States that a filter may name: values of `sessiond.v1.SessionState`."""


@dataclass(frozen=True, slots=True)
class TimeRange:
    """From `start` on and before `end`; `None` is any."""

    start: datetime | None = None
    end: datetime | None = None


ANY_TIME = TimeRange()
_SUBAGENT = 1


class Facts(Protocol):
    """What never changes in a session, but that it may lose its parent."""

    @property
    def session_id(self) -> str: ...
    @property
    def owner(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def agent(self) -> str: ...
    @property
    def parent_id(self) -> str | None: ...
    @property
    def parent_kind(self) -> int: ...


@dataclass(frozen=True, slots=True)
class SessionFilter:
    """All that is given must hold; `None` and what is empty is any. With nothing it is the whole tenant."""

    tenant: str
    owner: str | None = None
    """Empty: those without an owner."""
    sources: tuple[str, ...] = ()
    exclude_sources: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    states: tuple[int, ...] = ()
    archived: bool | None = None
    labels_json: str = ""
    parent_id: str = ""
    subtree_of: str = ""
    """The session itself is one of them."""
    subagents: bool = True
    """Whether the sessions of sub-agents may be among them."""
    create_time: TimeRange = ANY_TIME
    last_activity_time: TimeRange = ANY_TIME
    end_time: TimeRange = ANY_TIME

    @property
    def fits_deleted(self) -> bool:
        """Whether sessions that are deleted may fit: by no more than what is known of them still."""
        return self == SessionFilter(
            self.tenant,
            self.owner,
            self.sources,
            self.exclude_sources,
            self.agents,
            subagents=self.subagents,
        )

    def may_fit(self, facts: Facts) -> bool:
        """Whether a session fits by what never changes, as far as can be told without its ancestors."""
        return (
            self.owner in (None, facts.owner)
            and (not self.sources or facts.source in self.sources)
            and facts.source not in self.exclude_sources
            and (not self.agents or facts.agent in self.agents)
            and (not self.parent_id or facts.parent_id == self.parent_id)
            and (
                not self.subtree_of
                or facts.parent_id is not None
                or facts.session_id == self.subtree_of
            )
            and (self.subagents or facts.parent_kind != _SUBAGENT)
        )

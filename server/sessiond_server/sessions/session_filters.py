"""Which sessions a stream of changes is about: the facts of a session that never change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

_SUBAGENT = 1


class Facts(Protocol):
    """What is looked at."""

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
class SessionFacts:
    """What to follow; `None` and empty are any."""

    tenant: str
    owner: str | None = None
    sources: frozenset[str] = frozenset()
    exclude_sources: frozenset[str] = frozenset()
    agents: frozenset[str] = frozenset()
    parent_id: str = ""
    subtree_of: str = ""
    include_subagents: bool = False

    def fits(self, facts: Facts) -> bool:
        """Whether a session fits, but for where it comes from beyond its parent."""
        return (
            self.owner in (None, facts.owner)
            and (not self.sources or facts.source in self.sources)
            and facts.source not in self.exclude_sources
            and (not self.agents or facts.agent in self.agents)
            and (not self.parent_id or facts.parent_id == self.parent_id)
            and (not self.subtree_of or facts.parent_id is not None)
            and (self.with_subagents or facts.parent_kind != _SUBAGENT)
        )

    @property
    def with_subagents(self) -> bool:
        return bool(self.include_subagents or self.parent_id or self.subtree_of)

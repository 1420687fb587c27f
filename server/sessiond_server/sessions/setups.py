"""What a session runs with: system prompt, model and config, as of a time."""

from __future__ import annotations

from typing import NamedTuple


class Setup(NamedTuple):
    """What held from a seq on, until the next one; texts as they are encoded."""

    system_prompt: bytes = b""
    model: str = ""
    config: bytes = b""

    def differing(self, other: Setup) -> list[str]:
        """The names of the fields in which this one isn't like another one."""
        return [name for name in self._fields if getattr(self, name) != getattr(other, name)]


NOTHING = Setup()

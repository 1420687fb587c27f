"""What a session runs with: system prompt, model and config, as of a time."""

from __future__ import annotations

from typing import NamedTuple


class Setup(NamedTuple):
    """What held from a seq on, until the next one; texts as they are encoded."""

    system_prompt: bytes = b""
    model: str = ""
    config: bytes = b""


NOTHING = Setup()

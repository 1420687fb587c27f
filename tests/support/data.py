"""The real conversations of `tests/data`, as OpenAI-style messages and in the stores of other systems."""

from __future__ import annotations

import gzip
import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

_DATA = Path(__file__).parents[1] / "data"
AIRLINE = _DATA / "airline_sessions.jsonl.gz"


def airline_sessions() -> list[dict[str, Any]]:
    """The 120 conversations of an airline's agent with their 3,206 messages, as the file has them."""
    with gzip.open(AIRLINE, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@cache
def airline(number: int) -> tuple[str, list[dict[str, Any]]]:
    """The id and the messages of one of the 120 conversations."""
    session = airline_sessions()[number]
    return session["id"], session["messages"]


@cache
def hermes() -> Path:
    """A store of Hermes, as a file that can only be read."""
    return _unpacked("hermes_state.db")


@cache
def power_loop() -> Path:
    """A store of power-loop, as a file that can only be read."""
    return _unpacked("power_loop_sessions.db")


def _unpacked(name: str) -> Path:
    path = Path(tempfile.mkdtemp(prefix="store-")) / name
    path.write_bytes(gzip.decompress((_DATA / f"{name}.gz").read_bytes()))
    path.chmod(0o400)
    return path

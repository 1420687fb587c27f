"""The real conversations as OpenAI-style messages."""

from __future__ import annotations

import gzip
import json
from functools import cache
from typing import Any

import pytest

from tests.support.processes import data


@cache
def _sessions() -> list[tuple[str, list[dict[str, Any]]]]:
    path = data("airline_sessions.jsonl.gz")
    if not path.is_file():
        pytest.skip(f"the real conversations aren't there: {path}; set SESSIOND_TEST_DATA")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [(record["id"], record["messages"]) for record in map(json.loads, lines)]


def airline(number: int) -> tuple[str, list[dict[str, Any]]]:
    """The id and the messages of one of 120 conversations of an airline's agent with tool calls."""
    return _sessions()[number]

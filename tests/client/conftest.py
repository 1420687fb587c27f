"""A scripted service for the tests of the client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.client.scripted import ScriptedServer


@pytest.fixture
def scripted() -> Iterator[ScriptedServer]:
    """A message service that fails as its script says."""
    server = ScriptedServer()
    yield server
    server.stop()

"""One server that wants keys, for all tests of access."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.access.keyed import Keyed, start_keyed
from tests.support.postgres import Databases


@pytest.fixture(scope="package")
def keyed(databases: Databases) -> Iterator[Keyed]:
    """The server and its keys; it must have no bugs."""
    made = start_keyed(databases.migrated())
    yield made
    code = made.server.stop()
    assert not made.server.bugs()
    assert code == 0

"""The services that histories run against."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.model.driver import Stubs
from tests.support.postgres import Databases
from tests.support.processes import ServerProcess


@pytest.fixture(scope="session")
def stubs(server: ServerProcess) -> Iterator[Stubs]:
    """The services of the shared server over one channel."""
    opened = Stubs(server.target)
    yield opened
    opened.channel.close()


@pytest.fixture(scope="session")
def offloading_stubs(databases: Databases) -> Iterator[Stubs]:
    """The services of a server that offloads in segments of a few messages."""
    server = ServerProcess(SESSIOND_DSN=databases.migrated(), SESSIOND_OFFLOAD_SEGMENT_MESSAGES="3")
    opened = Stubs(server.target)
    yield opened
    opened.channel.close()
    assert server.stop() == 0
    assert not server.bugs()

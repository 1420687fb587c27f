"""Two servers on databases of their own: what one exports the other imports."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sessiond import Client
from tests.support.postgres import Databases
from tests.support.processes import ServerProcess


def _serving(databases: Databases) -> Iterator[ServerProcess]:
    process = ServerProcess(SESSIOND_DSN=databases.migrated())
    yield process
    code = process.stop()
    assert not process.bugs()
    assert code == 0


@pytest.fixture(scope="package")
def source(databases: Databases) -> Iterator[ServerProcess]:
    """Where sessions come from."""
    yield from _serving(databases)


@pytest.fixture(scope="package")
def target(databases: Databases) -> Iterator[ServerProcess]:
    """Where they go."""
    yield from _serving(databases)


@pytest.fixture
def old(source: ServerProcess) -> Iterator[Client]:
    with Client(source.target) as client:
        yield client


@pytest.fixture
def new(target: ServerProcess) -> Iterator[Client]:
    with Client(target.target) as client:
        yield client

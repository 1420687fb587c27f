"""What all tests share: one Postgres for the run, databases cloned from a template, a server."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import tests.support.examples  # noqa: F401  registers the profiles of random tests
from tests.support import run
from tests.support.postgres import Databases, server_for_tests
from tests.support.processes import ServerProcess

# A runner in the background hands down an ignored Ctrl-C, and so would we to the programs under test.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    """The workers of a run have the directory of the process that started them."""
    if not hasattr(config, "workerinput"):
        stack = ExitStack()
        stack.enter_context(run.directory())
        config.add_cleanup(stack.close)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a short path that another user, as whom root runs Postgres, can reach."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The DSN of the run's Postgres server."""
    with server_for_tests() as dsn:
        yield dsn


@pytest.fixture(scope="session")
def databases(postgres: str) -> Iterator[Databases]:
    """Makes databases on the run's server."""
    made = Databases(postgres)
    yield made
    made.drop_all()


@pytest.fixture
def dsn(databases: Databases) -> str:
    """A migrated database of the test's own."""
    return databases.migrated()


@pytest.fixture(scope="session")
def server(databases: Databases) -> Iterator[ServerProcess]:
    """A server that the run's tests share: each uses session ids of its own. It must have no bugs."""
    process = ServerProcess(SESSIOND_DSN=databases.migrated())
    yield process
    code = process.stop()
    assert not process.bugs()
    assert code == 0


@pytest.fixture
def start_server() -> Iterator[Callable[..., ServerProcess]]:
    """Starts servers that the test may kill."""
    started: list[ServerProcess] = []

    def start(*arguments: str, **environment: str) -> ServerProcess:
        process = ServerProcess(*arguments, **environment)
        started.append(process)
        return process

    yield start
    for process in started:
        process.stop()

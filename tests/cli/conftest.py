"""What the tests of `sessionctl` share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from sessiond import Client
from sessiond.cli.exporter import all_ids
from sessiond.cli.terminal import Run
from tests.cli.command import Cli
from tests.cli.running import Tail, Terminal
from tests.support.postgres import Databases
from tests.support.processes import ServerProcess


@pytest.fixture(scope="session")
def server(databases: Databases) -> Iterator[ServerProcess]:
    """A server for these tests alone: `export` and `ls` are about all sessions there are."""
    process = ServerProcess(SESSIOND_DSN=databases.migrated())
    yield process
    code = process.stop()
    assert not process.bugs()
    assert code == 0


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Client]:
    """A client of the server, on which there is no session."""
    with Client(server.target) as client:
        run = Run(server.target, 30.0)
        for id in all_ids(run):
            client.delete_session(id, allow_missing=True)
        run.close()
        yield client


@pytest.fixture
def cli(server: ServerProcess, client: Client) -> Cli:
    """`sessionctl` against the server."""
    return Cli(server.target)


@pytest.fixture
def tail(cli: Cli) -> Iterator[Callable[..., Tail]]:
    """Starts `sessionctl tail`."""
    started: list[Tail] = []

    def start(*arguments: str, by: Cli = cli) -> Tail:
        started.append(Tail(by, *arguments))
        return started[-1]

    yield start
    for it in started:
        it.close()


@pytest.fixture
def terminal(cli: Cli) -> Iterator[Callable[..., Terminal]]:
    """Starts `sessionctl tail` on a terminal."""
    started: list[Terminal] = []

    def start(*arguments: str, by: Cli = cli) -> Terminal:
        started.append(Terminal(by, *arguments))
        return started[-1]

    yield start
    for it in started:
        it.close()

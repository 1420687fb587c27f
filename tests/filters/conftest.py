"""A server with varied sessions, which the tests only read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import grpc
import pytest

from tests.filters import varied
from tests.filters.varied import Made
from tests.rpc.api import Api
from tests.support.postgres import Databases
from tests.support.processes import ServerProcess

_COUNT = 90


@dataclass
class World:
    """The sessions, and the server that has them."""

    api: Api
    there: list[Made]


@pytest.fixture(scope="module")
def world(databases: Databases) -> Iterator[World]:
    dsn = databases.migrated()
    process = ServerProcess(SESSIOND_DSN=dsn, SESSIOND_MAX_SPAWN_DEPTH="50")
    with grpc.insecure_channel(process.target) as channel:
        api = Api(channel)
        there = varied.make(api, dsn, 11, _COUNT)
        api.indexed(*(it.id for it in there))
        yield World(api, there)
    code = process.stop()
    assert not process.bugs()
    assert code == 0

"""What the tests of the API share: a channel to the shared server, and names of a test's own."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from tests.rpc.api import Api
from tests.support.processes import ServerProcess


@pytest.fixture
def api(server: ServerProcess) -> Iterator[Api]:
    """The raw stubs, and shortcuts for what tests need first."""
    with grpc.insecure_channel(server.target) as channel:
        yield Api(channel)

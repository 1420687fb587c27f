"""What the options of fields say is what the server holds to (P14)."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor

from sessiond import v1
from sessiond_server.rpc.server import SERVICES
from tests.rpc.limited_fields import broken, places
from tests.rpc.refusals import Refusal, refusal
from tests.rpc.requests import Requests
from tests.rpc.world import World
from tests.support.processes import ServerProcess

METHODS = sorted(
    (
        method
        for service in SERVICES
        for method in service.methods
        if places(method) and not method.client_streaming
    ),
    key=lambda method: method.full_name,
)
SEEDS = 40
_MASK = "update_mask"
"""Named where an update can't change the field."""


def sent(channel: grpc.Channel, method: MethodDescriptor, request: bytes) -> Refusal | None:
    """How a call is refused; `None` if it isn't."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    make: Any = channel.unary_stream if method.server_streaming else channel.unary_unary
    try:
        answer = make(path)(request, timeout=60)
        if method.server_streaming:
            next(answer, None)
            answer.cancel()
    except grpc.RpcError as error:
        return refusal(error)
    return None


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_P14_a_limit_in_the_options_is_held(
    server: ServerProcess, method: MethodDescriptor
) -> None:
    """Each is broken in requests that are sensible otherwise, until one is refused for it."""
    missed: dict[tuple[str, str], Refusal | None] = {}
    with grpc.insecure_channel(server.target) as channel:
        for seed in range(SEEDS):
            world = World(ids=["s"], client_ids=["m1"])
            request: Any = Requests(world, seed=seed).sensible(method)
            if "filter" in request.DESCRIPTOR.fields_by_name:
                request.filter.CopyFrom(v1.SessionFilter(whole_tenant=True))
            for place in places(method):
                for what, copy in broken(place, request):
                    key = str(place), what
                    if seed and key not in missed:
                        continue
                    found = sent(channel, method, copy.SerializeToString())
                    missed[key] = found
                    names = found.fields if found is not None else []
                    if any(it.startswith(str(place)) or it.endswith(_MASK) for it in names):
                        del missed[key]
            if not missed:
                break
    assert not {key: it and (it.reason, it.fields[:3]) for key, it in missed.items()}

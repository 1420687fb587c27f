"""`sessiond healthcheck`: whether a running service serves, for containers."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health_pb2

from sessiond_server.cli.failure import fail
from sessiond_server.config import SettingsError, load

_TIMEOUT = 3.0
_HELP = """\
usage: sessiond healthcheck [--listen HOST:PORT | unix:/PATH]

Asks a running service whether it serves. It prints SERVING, and the exit code is 0, if it does.

The service is the one that listens where --listen says, else SESSIOND_LISTEN or the file that
SESSIOND_CONFIG_FILE names, as for `sessiond serve`; the first, if these are several addresses.
"""


def target(address: str) -> str:
    """How to reach, from this machine, a service that listens on an address."""
    host, _, port = address.rpartition(":")
    return f"127.0.0.1:{port}" if host in ("0.0.0.0", "[::]") else address


def run(arguments: list[str]) -> int:
    """Ask the service of the first address of the settings; the exit code."""
    if {"--help", "-h"} & set(arguments):
        print(_HELP, end="")
        return 0
    try:
        address = target(load(arguments, "sessiond healthcheck").listen[0])
    except SettingsError as error:
        return fail(error)
    with grpc.insecure_channel(address) as channel:
        try:
            check = channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
                response_deserializer=health_pb2.HealthCheckResponse.FromString,
            )
            answer = check(health_pb2.HealthCheckRequest(), timeout=_TIMEOUT)
        except grpc.RpcError as error:
            return fail(f"{address} doesn't answer: {error.code().name}")
    serving = answer.status == health_pb2.HealthCheckResponse.SERVING
    print(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))
    return 0 if serving else 1

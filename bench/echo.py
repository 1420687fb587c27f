"""The bare echo RPC that appends are compared with: `python -m bench.echo`.

The same kind of server process as sessiond's, with a handler that gives back the bytes it gets.
"""

from __future__ import annotations

import asyncio

import grpc

SERVICE = "sessiond.bench.Echo"
METHOD = "Echo"
READY = "echo is ready on "


async def _echo(request: bytes, _: object) -> bytes:
    return request


async def _serve() -> None:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(_echo)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"{READY}127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(_serve())

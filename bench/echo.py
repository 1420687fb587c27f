"""The bare echo RPC that appends are compared with: `python -m bench.echo`.

The same kind of server process as sessiond's, with a handler that gives back the bytes it gets.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc

SERVICE = "sessiond.bench.Echo"
METHOD = "Echo"
STREAM, RELEASE = "Stream", "Release"
READY = "echo is ready on "


async def _echo(request: bytes, _: object) -> bytes:
    return request


class _Streams:
    """Bare server streams: a request "COUNT SIZE" gets a byte, and so many frames when all are released."""

    def __init__(self) -> None:
        self._released = asyncio.Event()

    async def stream(self, request: bytes, _: object) -> AsyncIterator[bytes]:
        count, size = map(int, request.split())
        released = self._released
        yield b"."
        await released.wait()
        frame = bytes(size)
        for _number in range(count):
            yield frame

    async def release(self, _: bytes, __: object) -> bytes:
        self._released.set()
        self._released = asyncio.Event()
        return b""


def _streams() -> dict[str, grpc.RpcMethodHandler[bytes, bytes]]:
    streams = _Streams()
    stream: grpc.RpcMethodHandler[bytes, bytes]
    stream = grpc.unary_stream_rpc_method_handler(streams.stream)
    release: grpc.RpcMethodHandler[bytes, bytes]
    release = grpc.unary_unary_rpc_method_handler(streams.release)
    return {STREAM: stream, RELEASE: release}


async def _serve() -> None:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(_echo)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler, **_streams()}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"{READY}127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(_serve())

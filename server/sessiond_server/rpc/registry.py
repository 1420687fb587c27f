"""How a servicer's methods become gRPC handlers, each behind the wall.

Handlers are made from the services' descriptors rather than by the generated `add_…_to_server`, so that
every method is wrapped once, when the server is made. grpc.aio's interceptors would do the same at every
call, and cost a tenth of a small append. Requests are decoded and answers encoded behind the wall too:
gRPC would answer INTERNAL to a request that can't be decoded. A servicer may answer with bytes: messages
are sent as they are stored, without being decoded on the way.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import grpc
import structlog
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from grpc_status import rpc_status

from sessiond_server.errors import invalid
from sessiond_server.rpc.errors import refusal, status

log = structlog.get_logger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
UnaryMethod = Callable[[Any, Context], Awaitable[Any]]
StreamMethod = Callable[[Any, Context], AsyncIterator[Any]]
Request = type[Message]


def _decoded(request: Request, encoded: bytes) -> Message:
    try:
        return request.FromString(encoded)
    except DecodeError as error:
        raise invalid(
            "request",
            f"can't be decoded as {request.DESCRIPTOR.full_name}: it isn't protobuf, has text that"
            " isn't UTF-8, or is nested too deeply",
        ) from error


async def _each_decoded(request: Request, encoded: AsyncIterator[bytes]) -> AsyncIterator[Message]:
    async for item in encoded:
        yield _decoded(request, item)


def _encoded(answer: Message | bytes) -> bytes:
    return answer if isinstance(answer, bytes) else answer.SerializeToString()


async def _refuse(error: Exception, method: str, context: Context, started: float) -> None:
    refused = refusal(error, method)
    log.debug(
        "refused",
        method=method,
        reason=refused.reason,
        milliseconds=round((time.monotonic() - started) * 1000, 1),
    )
    await context.abort_with_status(rpc_status.to_status(status(refused)))


def _unary(method: str, request: Request, servicer_method: UnaryMethod) -> UnaryMethod:
    async def handle(encoded: Any, context: Context) -> Any:
        started = time.monotonic()
        try:
            return _encoded(await servicer_method(_decoded(request, encoded), context))
        except Exception as error:
            return await _refuse(error, method, context, started)

    return handle


def _stream(
    method: str, decode: Callable[[Any], Any], servicer_method: StreamMethod
) -> StreamMethod:
    async def handle(encoded: Any, context: Context) -> AsyncIterator[Any]:
        started = time.monotonic()
        try:
            async for answer in servicer_method(decode(encoded), context):
                yield _encoded(answer)
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            await _refuse(error, method, context, started)

    return handle


def _handler(method: MethodDescriptor, servicer: object) -> grpc.RpcMethodHandler[Any, Any]:
    name = f"{method.containing_service.full_name}/{method.name}"
    function = getattr(servicer, method.name)
    request = GetMessageClass(method.input_type)
    handler: grpc.RpcMethodHandler[Any, Any]
    if method.client_streaming:
        each = partial(_each_decoded, request)
        handler = grpc.stream_stream_rpc_method_handler(_stream(name, each, function))
    elif method.server_streaming:
        decode = partial(_decoded, request)
        handler = grpc.unary_stream_rpc_method_handler(_stream(name, decode, function))
    else:
        handler = grpc.unary_unary_rpc_method_handler(_unary(name, request, function))
    return handler


def handlers(service: ServiceDescriptor, servicer: object) -> grpc.GenericRpcHandler:
    """The handlers of a service, for `server.add_generic_rpc_handlers`."""
    methods = {method.name: _handler(method, servicer) for method in service.methods}
    return grpc.method_handlers_generic_handler(service.full_name, methods)

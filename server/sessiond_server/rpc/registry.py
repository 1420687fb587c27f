"""How a servicer's methods become gRPC handlers, each behind the wall.

Handlers are made from the services' descriptors rather than by the generated `add_…_to_server`, so that
every method is wrapped once, when the server is made. grpc.aio's interceptors would do the same at every
call, and cost a tenth of a small append. Requests are decoded and answers encoded behind the wall too:
gRPC would answer INTERNAL to a request that can't be decoded. A servicer may answer with bytes: messages
are sent as they are stored, without being decoded on the way.

A call isn't refused while its caller still writes, within bounds: the caller could miss the reason.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
import structlog
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from grpc_status import rpc_status

from sessiond_server.errors import CredentialsInvalid, ShuttingDown
from sessiond_server.rpc.access import Access
from sessiond_server.rpc.decoding import decoder
from sessiond_server.rpc.errors import refusal, status
from sessiond_server.rpc.policies import NONE, Policy, policy_of
from sessiond_server.rpc.streams import Incoming

log = structlog.get_logger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
UnaryMethod = Callable[[Any, Context], Awaitable[Any]]
StreamMethod = Callable[[Any, Context], AsyncIterator[Any]]
Decode = Callable[[bytes], Message]

_ON_THEIR_WAY = 0.25
"""Seconds in which a call that was sent before its caller heard of the end arrives."""

_PATIENCE = 1.0
"""Seconds that a refusal waits for the caller to stop writing."""


async def _each_decoded(decode: Decode, encoded: Incoming) -> AsyncIterator[Message]:
    async for item in encoded:
        yield decode(item)


def _incoming(encoded: Any) -> bytes | Incoming:
    """What came of a call: its request, or the stream of its requests."""
    return encoded if isinstance(encoded, bytes) else Incoming(encoded)


def _encoded(answer: Message | bytes) -> bytes:
    return answer if isinstance(answer, bytes) else answer.SerializeToString()


@dataclass(frozen=True, slots=True)
class _Guard:
    """Who looks at the callers of a method."""

    access: Access
    confirms: bool
    """Whether it looks again before the method answers."""
    goodbye: Callable[[], bytes] | None
    """Makes the last answer of a stream whose caller's key isn't good any more."""


class Wall:
    """What every call passes: it is decoded, admitted if `access` says who may call, counted while it is
    under way, and refused in one way."""

    def __init__(self, access: Access | None = None) -> None:
        self._access = access
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    async def close(self, grace: float) -> None:
        """Refuse new calls with `ShuttingDown`; return when those under way are done, or after `grace`
        seconds, but not before calls that are on their way have had their answer."""
        self._closed = True
        await asyncio.sleep(min(_ON_THEIR_WAY, grace))
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), grace)

    def _enter(self) -> None:
        self._under_way += 1
        self._idle.clear()

    def _check_open(self) -> None:
        if self._closed:
            raise ShuttingDown

    async def _drain(self, incoming: Any) -> None:
        """Before a call is refused, let a caller that writes a stream come to its end."""
        if isinstance(incoming, Incoming):
            await incoming.drain(_ON_THEIR_WAY if self._closed else _PATIENCE)

    def _leave(self, incoming: Any) -> None:
        if isinstance(incoming, Incoming):
            incoming.close()
        self._under_way -= 1
        if not self._under_way:
            self._idle.set()

    def unary(
        self, policy: Policy, decode: Callable[[Any], Any], servicer_method: UnaryMethod
    ) -> UnaryMethod:
        guard = self._guard(policy, servicer_method)

        async def handle(encoded: Any, context: Context) -> Any:
            started = time.monotonic()
            incoming = _incoming(encoded)
            self._enter()
            try:
                self._check_open()
                request = decode(incoming)
                if guard is not None:
                    request = await guard.access.admit(policy, request, context)
                answer = await servicer_method(request, context)
                if guard is not None and guard.confirms:
                    await guard.access.confirm()
                return _encoded(answer)
            except Exception as error:
                await self._drain(incoming)
                return await _refuse(error, policy, context, started)
            finally:
                self._leave(incoming)

        return handle

    def stream(
        self, policy: Policy, decode: Callable[[Any], Any], servicer_method: StreamMethod
    ) -> StreamMethod:
        guard = self._guard(policy, servicer_method)

        async def handle(encoded: Any, context: Context) -> AsyncIterator[Any]:
            started = time.monotonic()
            incoming = _incoming(encoded)
            self._enter()
            try:
                self._check_open()
                request = decode(incoming)
                if guard is not None:
                    request = await guard.access.admit(policy, request, context)
                first = True
                async for answer in servicer_method(request, context):
                    if guard is not None:
                        try:
                            await guard.access.still_good()
                        except CredentialsInvalid:
                            if guard.goodbye is not None:
                                yield guard.goodbye()
                            raise
                        if first and guard.confirms:
                            await guard.access.confirm()
                        first = False
                    yield _encoded(answer)
            except grpc.aio.AbortError:
                raise
            except Exception as error:
                await self._drain(incoming)
                await _refuse(error, policy, context, started)
            finally:
                self._leave(incoming)

        return handle

    def _guard(self, policy: Policy, servicer_method: Callable[..., Any]) -> _Guard | None:
        if self._access is None or policy.permission == NONE:
            return None
        return _Guard(
            self._access,
            confirms=not hasattr(servicer_method, "looks_itself"),
            goodbye=getattr(servicer_method, "goodbye", None),
        )

    def handlers(self, service: ServiceDescriptor, servicer: object) -> grpc.GenericRpcHandler:
        """The handlers of a service, for `server.add_generic_rpc_handlers`."""
        methods = {method.name: self._handler(method, servicer) for method in service.methods}
        return grpc.method_handlers_generic_handler(service.full_name, methods)

    def _handler(
        self, method: MethodDescriptor, servicer: object
    ) -> grpc.RpcMethodHandler[Any, Any]:
        policy = policy_of(method)
        function = getattr(servicer, method.name)
        handler: grpc.RpcMethodHandler[Any, Any]
        decode = decoder(method)
        each = partial(_each_decoded, decode)
        if method.client_streaming and method.server_streaming:
            handler = grpc.stream_stream_rpc_method_handler(self.stream(policy, each, function))
        elif method.client_streaming:
            handler = grpc.stream_unary_rpc_method_handler(self.unary(policy, each, function))
        elif method.server_streaming:
            handler = grpc.unary_stream_rpc_method_handler(self.stream(policy, decode, function))
        else:
            handler = grpc.unary_unary_rpc_method_handler(self.unary(policy, decode, function))
        return handler


async def _refuse(error: Exception, policy: Policy, context: Context, started: float) -> None:
    refused = refusal(error, policy.name)
    if refused.reason not in policy.reasons:
        log.error("reason that the API doesn't name", method=policy.name, reason=refused.reason)
    log.debug(
        "refused",
        method=policy.name,
        reason=refused.reason,
        milliseconds=round((time.monotonic() - started) * 1000, 1),
    )
    await context.abort_with_status(rpc_status.to_status(status(refused)))

"""What a call is, apart from how it is made: each is described once, for both clients.

A builder turns a method's arguments into a request; the decorators below add the RPC that takes it
and what of the answer the method returns.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, TypeVar

from google.protobuf import descriptor_pool
from google.protobuf.message import Message

from sessiond._policies import policy_of

P = ParamSpec("P")
Q = TypeVar("Q", bound=Message)
R = TypeVar("R", bound=Message)
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Rpc(Generic[Q, R]):
    """An RPC: its full path, what it takes and what it answers with."""

    path: str
    request: type[Q]
    response: type[R]
    retry_fields: tuple[str, ...] = ()
    """The fields of which one makes a request of this RPC safe to repeat; none if gRPC knows what to do."""


@dataclass(frozen=True)
class Service:
    """A service, by its full name."""

    name: str

    def rpc(self, method: str, request: type[Q], response: type[R]) -> Rpc[Q, R]:
        """One of its methods."""
        service = descriptor_pool.Default().FindServiceByName(self.name)
        policy = policy_of(service.methods_by_name[method])
        return Rpc(f"/{self.name}/{method}", request, response, tuple(policy.retry_fields))


@dataclass(frozen=True)
class Unary(Generic[P, Q, R, T]):
    """One request, one answer, of which `result` is returned."""

    rpc: Rpc[Q, R]
    build: Callable[P, Q]
    result: Callable[[R], T]


@dataclass(frozen=True)
class Paged(Generic[P, Q, R, T]):
    """A list that comes in pages, whose `items` are returned one by one."""

    rpc: Rpc[Q, R]
    build: Callable[P, Q]
    items: Callable[[R], Iterable[T]]

    def page(self, name: str, doc: str) -> Unary[P, Q, R, R]:
        """The call that reads a single page."""
        return Unary(self.rpc, renamed(self.build, name, doc), whole)

    def request_after(self, request: Q, page: R) -> Q | None:
        """The request for the page that follows `page`; None after the last one."""
        token: str = page.next_page_token  # type: ignore[attr-defined]
        if not token:
            return None
        following = type(request)()
        following.CopyFrom(request)
        following.page_token = token  # type: ignore[attr-defined]
        return following


@dataclass(frozen=True)
class Streamed(Generic[P, Q, R, T]):
    """One request, a stream of answers; `collect` makes one thing of them all."""

    rpc: Rpc[Q, R]
    build: Callable[P, Q]
    collect: Callable[[Sequence[R]], T]

    def renamed(self, name: str, doc: str) -> Streamed[P, Q, R, T]:
        """The same call for a method of another name."""
        return Streamed(self.rpc, renamed(self.build, name, doc), self.collect)


def unary(
    rpc: Rpc[Q, R], result: Callable[[R], T]
) -> Callable[[Callable[P, Q]], Unary[P, Q, R, T]]:
    """Describes a unary call of the builder's name."""
    return lambda build: Unary(rpc, build, result)


def paged(
    rpc: Rpc[Q, R], items: Callable[[R], Iterable[T]]
) -> Callable[[Callable[P, Q]], Paged[P, Q, R, T]]:
    """Describes a list of the builder's name."""
    return lambda build: Paged(rpc, build, items)


def streamed(
    rpc: Rpc[Q, R], collect: Callable[[Sequence[R]], T]
) -> Callable[[Callable[P, Q]], Streamed[P, Q, R, T]]:
    """Describes a call that answers with a stream."""
    return lambda build: Streamed(rpc, build, collect)


def whole(response: R) -> R:
    """The result of a call that returns its answer as it is."""
    return response


def renamed(build: Callable[P, Q], name: str, doc: str) -> Callable[P, Q]:
    """The same builder for a method of another name."""

    @functools.wraps(build)
    def same(*args: P.args, **kwargs: P.kwargs) -> Q:
        return build(*args, **kwargs)

    same.__name__, same.__doc__ = name, doc
    return same


def describe(method: F, build: Callable[..., Any]) -> F:
    """Gives a client's method the name, the documentation and the arguments of its builder."""
    signature = inspect.signature(build)
    first = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    method.__name__ = method.__qualname__ = build.__name__
    method.__doc__ = build.__doc__
    method.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[first, *signature.parameters.values()],
        return_annotation=inspect.Signature.empty,
    )
    return method

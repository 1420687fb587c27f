"""Who calls, and what they may do (P12): the tenant and the rights come from the caller's key, never from a
request.

A key may be bound to an owner. Its caller sees that owner's sessions alone, and learns nothing of others: a
session of somebody else is looked for under a key under which there is none, so that every call answers
what it answers for a session that doesn't exist. What such a caller may ask for is derived from the
request's form: it names sessions, or has a filter of sessions or an owner, or is refused.

An id may change hands while a call is under way: its session is deleted, and somebody else makes one.
Whatever changes a session sees its owner under the lock of its head, see `OwnersKey`; what was read is shown
only if the session is still the one that the call was admitted to.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar
from uuid import UUID

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from sessiond.v1 import message_pb2, session_filter_pb2, session_pb2, session_service_pb2
from sessiond_server.errors import (
    CredentialsInvalid,
    DatabaseUnavailable,
    ParentNotFound,
    PermissionDenied,
    ReadQueueFull,
    SessionExists,
    SessionNotFound,
)
from sessiond_server.rpc.policies import Policy
from sessiond_server.sessions.guards import By
from sessiond_server.store import api_keys
from sessiond_server.store.api_keys import Grant, Owned
from sessiond_server.store.database import Connection, Database
from sessiond_server.store.keys import DEFAULT_TENANT, SessionKey, owners_key, session_key

READ, WRITE, ADMIN = "read", "write", "admin"
PERMISSIONS = frozenset({READ, WRITE, ADMIN})

_KEPT = 10.0
"""Seconds for which a key that was found is good without being looked for again."""
_KEPT_KEYS = 10_000
_SESSION_IDS = frozenset({"session_id", "session_ids", "parent_id", "subtree_of"})


@dataclass(slots=True)
class Caller:
    """Who makes the call under way."""

    grant: Grant = field(default_factory=lambda: Grant(DEFAULT_TENANT, None, PERMISSIONS))
    key: str = ""
    """The API key itself."""
    reads: bool = False
    """Whether the call changes nothing."""
    own: frozenset[str] = frozenset()
    """With an owner: those ids of the request that are the owner's sessions, or nobody's and may be made."""
    admitted: dict[str, UUID] = field(default_factory=dict)
    """The incarnations of those that there are."""


_caller: ContextVar[Caller | None] = ContextVar("caller", default=None)
_EVERYBODY = Caller()


def _current() -> Caller:
    return _caller.get() or _EVERYBODY


def tenant() -> str:
    """The caller's tenant."""
    return _current().grant.tenant


def owner() -> str | None:
    """The owner to whom the caller is bound."""
    return _current().grant.owner


def by(author: str) -> By:
    """Who makes the call, for a record: in the caller's words, and by the id of the API key."""
    return By(author, key_id())


def key_id() -> str:
    """The id of the caller's API key, which isn't secret."""
    return api_keys.id_of(_current().key)


def key_of(session_id: str) -> SessionKey:
    """Where a session is stored, for this caller: somebody else's is looked for where there is none."""
    caller = _current()
    grant = caller.grant
    if grant.owner is None:
        return session_key(grant.tenant, session_id)
    if session_id in caller.own:
        return owners_key(grant.tenant, session_id, grant.owner)
    return session_key(f"{grant.tenant}\0{grant.owner}", session_id)


async def find_key(connection: Connection, session_id: str) -> SessionKey:
    """The same of a session that the request doesn't name, such as a descendant."""
    caller = _current()
    if caller.grant.owner is not None:
        await _admit_to(connection, {session_id}, caller)
    return key_of(session_id)


async def is_own(connection: Connection, session_id: str, incarnation: UUID) -> bool:
    """Whether this creation of a session is one that the caller may see."""
    grant = _current().grant
    if grant.owner is None:
        return True
    found = await _owners(connection, {session_id}, grant)
    return found.get(session_id) == Owned(grant.owner, incarnation)


async def _owners(connection: Connection, ids: Collection[str], grant: Grant) -> dict[str, Owned]:
    keys = [session_key(grant.tenant, session_id) for session_id in ids]
    return await api_keys.session_owners(connection, keys)


async def _admit_to(connection: Connection, ids: set[str], caller: Caller) -> set[str]:
    """Find out which of the sessions the caller may see; those that are somebody else's."""
    found = await _owners(connection, ids, caller.grant)
    theirs = {session_id for session_id, it in found.items() if it.owner != caller.grant.owner}
    hidden = theirs | (ids - found.keys() if caller.reads else set())
    caller.own = caller.own - hidden | ids - hidden
    caller.admitted |= {
        session_id: found[session_id].incarnation for session_id in found.keys() - theirs
    }
    return theirs


async def _check_own(connection: Connection, caller: Caller) -> None:
    """Raises `SessionNotFound` if a session became somebody else's since the caller was admitted to it; what
    was read must be of the very same one."""
    found = await _owners(connection, caller.own, caller.grant)
    for session_id in caller.own:
        it = found.get(session_id)
        if it is None and not caller.reads:
            continue
        if it is None or it.owner != caller.grant.owner:
            raise SessionNotFound(session_id)
        if caller.reads and it.incarnation != caller.admitted[session_id]:
            raise SessionNotFound(session_id)


def check_made(session_id: str, owner: str) -> None:
    """A creation that found a session must not show somebody else's. Raises `SessionExists`."""
    if _current().grant.owner not in (None, owner):
        raise SessionExists(session_id)


def may(needed: str) -> bool:
    """Whether the caller has a permission."""
    return needed in _current().grant.permissions


_Method = TypeVar("_Method", bound=Callable[..., Any])


def looks_itself(method: _Method) -> _Method:
    """Marks a servicer's method whose answers tell nothing that it didn't look at together with its owner."""
    method.__dict__["looks_itself"] = True
    return method


def says_goodbye(
    goodbye: Callable[[], bytes],
) -> Callable[[_Method], _Method]:
    """Marks a servicer's method that streams: what it sends at last if the caller's key is good no more."""

    def mark(method: _Method) -> _Method:
        method.__dict__["goodbye"] = goodbye
        return method

    return mark


class Access:
    """Finds out who calls, and lets through what they may do."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._found: dict[str, tuple[float, Grant]] = {}

    async def admit(self, policy: Policy, request: Any, context: Any) -> Any:
        """The request, or the stream of requests, as the method may see it. Raises `CredentialsInvalid` and
        `PermissionDenied`."""
        key = _bearer(context)
        grant = await self._grant(key)
        needed = policy.permission
        if needed not in grant.permissions:
            raise PermissionDenied(f"The API key lacks the permission {needed!r}.", needed)
        caller = Caller(grant, key, reads=policy.reads)
        _caller.set(caller)
        if not isinstance(request, Message):
            return self._each_admitted(request, caller)
        if grant.owner is not None:
            await self._bind(request, caller)
        return request

    async def confirm(self) -> None:
        """Before an answer goes out. Raises `SessionNotFound` if it may tell of somebody else's session."""
        caller = _current()
        if caller.grant.owner is None or not caller.own:
            return
        async with self._database.connection() as connection:
            await _check_own(connection, caller)

    async def still_good(self) -> None:
        """While a stream is open. Raises `CredentialsInvalid` if its key was revoked or has expired; a
        database that is lost doesn't end the stream."""
        with suppress(DatabaseUnavailable, ReadQueueFull):
            await self._grant(_current().key)

    async def _grant(self, key: str) -> Grant:
        known = self._found.get(key)
        if known is not None and known[0] > time.monotonic():
            return known[1]
        async with self._database.connection() as connection:
            grant = await api_keys.find(connection, key)
        if grant is None:
            self._found.pop(key, None)
            raise CredentialsInvalid
        if len(self._found) >= _KEPT_KEYS:
            self._found.clear()
        self._found[key] = (time.monotonic() + _KEPT, grant)
        return grant

    async def _each_admitted(
        self, requests: AsyncIterator[Message], caller: Caller
    ) -> AsyncIterator[Any]:
        first = True
        async for request in requests:
            await self.still_good()
            if caller.grant.owner is not None:
                await self._bind(request, caller, follows=not first)
            first = False
            yield request

    async def _bind(self, request: Message, caller: Caller, *, follows: bool = False) -> None:
        """Keep a request to what is its owner's. A stream's requests behind the first may name nothing."""
        owner = caller.grant.owner or ""
        places = _places(request.DESCRIPTOR)
        if not places.owners and not any(True for _ in places.ids(request)) and not follows:
            raise PermissionDenied(
                "An API key that is bound to an owner can't call this without naming a session.",
                ADMIN,
            )
        for holder in owners(request):
            if holder.owner not in ("", owner):
                raise PermissionDenied("The API key is bound to another owner.", "owner")
            holder.owner = owner
        for wanted in filters(request):
            if wanted.whole_tenant or (wanted.HasField("owner") and wanted.owner != owner):
                raise PermissionDenied(
                    "The API key is bound to an owner: it can't ask for other sessions.", "owner"
                )
            wanted.owner = owner
        ids = {it for it in places.ids(request) if it}
        if not ids and not follows:
            return
        async with self._database.connection() as connection:
            if not ids:
                await _check_own(connection, caller)
                return
            theirs = await _admit_to(connection, ids, caller)
        for parent in places.parents_of(request):
            if parent.id in theirs:
                raise ParentNotFound(parent.id)


def _bearer(context: Any) -> str:
    for name, value in context.invocation_metadata() or ():
        if name == "authorization" and isinstance(value, str):
            scheme, _, key = value.partition(" ")
            if scheme.lower() == "bearer":
                return key.strip()
    raise CredentialsInvalid


def owners(request: Message) -> Iterator[Any]:
    """What in a request has an owner: itself, or sessions that it describes."""
    return _places(request.DESCRIPTOR).owners_of(request)


def filters(request: Message) -> Iterator[Any]:
    """The filters of sessions in a request, those that it leaves out included."""
    return _places(request.DESCRIPTOR).filters_of(request)


Walk = Callable[[Any], Iterator[Any]]


@dataclass(frozen=True, slots=True)
class _Places:
    """Where a type of request names sessions, their parents and owners, and has filters of sessions."""

    ids: Walk
    parents_of: Walk
    owners_of: Walk
    filters_of: Walk
    owners: bool
    """Whether it has owners or filters."""


@cache
def _places(descriptor: Descriptor) -> _Places:
    found = list(_walks(descriptor, ()))
    ids = [walk for kind, walk in found if kind == "id"]
    fixed = descriptor is session_service_pb2.UpdateSessionRequest.DESCRIPTOR  # and ignored
    parents = [walk for kind, walk in found if kind == "parent" and not fixed]
    owners = [walk for kind, walk in found if kind == "owner"]
    wanted = [walk for kind, walk in found if kind == "filter"]
    bindable = bool(owners or wanted)
    return _Places(_chain(ids), _chain(parents), _chain(owners), _chain(wanted), bindable)


def _chain(walks: list[Walk]) -> Walk:
    return lambda request: (found for walk in walks for found in walk(request))


def _walks(descriptor: Descriptor, path: tuple[FieldDescriptor, ...]) -> Iterator[tuple[str, Walk]]:
    """What a type names, at any depth: the message log holds no sessions' names."""
    is_session = descriptor is session_pb2.Session.DESCRIPTOR
    is_parent = descriptor is session_pb2.SessionParent.DESCRIPTOR
    is_filter = descriptor is session_filter_pb2.SessionFilter.DESCRIPTOR
    for its in descriptor.fields:
        if its.type == FieldDescriptor.TYPE_STRING:
            if its.name in _SESSION_IDS or (its.name == "id" and (is_session or is_parent)):
                yield "id", _values(path, its)
            if its.name == "owner" and not is_filter:
                yield "owner", _holders(path)
        elif its.message_type is not None and _may_name(its.message_type, path):
            if its.message_type is session_filter_pb2.SessionFilter.DESCRIPTOR:
                yield "filter", _filters(path, its)
            yield from _walks(its.message_type, (*path, its))
    if is_parent:
        yield "parent", _holders(path)


def _may_name(descriptor: Descriptor, path: tuple[FieldDescriptor, ...]) -> bool:
    ours = descriptor.file.package == session_pb2.DESCRIPTOR.package
    entry = descriptor.GetOptions().map_entry
    seen = any(step.message_type is descriptor for step in path)
    return ours and not entry and not seen and descriptor is not message_pb2.Message.DESCRIPTOR


def _holders(path: tuple[FieldDescriptor, ...]) -> Walk:
    """The messages at a path, as far as there are any."""

    def walk(request: Any) -> Iterator[Any]:
        if not path:
            yield request
            return
        for holder in _holders(path[:-1])(request):
            found = getattr(holder, path[-1].name)
            if not isinstance(found, Message):
                yield from found
            elif holder.HasField(path[-1].name):
                yield found

    return walk


def _filters(path: tuple[FieldDescriptor, ...], last: FieldDescriptor) -> Walk:
    """The filters of a field, unless another one of its oneof is given."""

    def walk(request: Any) -> Iterator[Any]:
        for holder in _holders(path)(request):
            if last.containing_oneof is None or holder.HasField(last.name):
                yield getattr(holder, last.name)

    return walk


def _values(path: tuple[FieldDescriptor, ...], last: FieldDescriptor) -> Walk:
    def walk(request: Any) -> Iterator[str]:
        for holder in _holders(path)(request):
            found = getattr(holder, last.name)
            if not isinstance(found, str):
                yield from found
            elif found:
                yield found

    return walk

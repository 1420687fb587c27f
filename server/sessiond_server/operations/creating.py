"""Making sessions: ids, titles, parents, depth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from uuid import UUID, uuid4

from sessiond_server.errors import (
    ParentNotFound,
    SessionDiffers,
    SessionExists,
    SpawnTooDeep,
)
from sessiond_server.operations import naming
from sessiond_server.sessions.setups import NOTHING, Setup
from sessiond_server.store import changes, heads, sessions, setups
from sessiond_server.store.database import Connection, Database
from sessiond_server.store.keys import SessionKey, owners_key, session_key
from sessiond_server.store.sessions import FORK, NO_PARENT, SUBAGENT, SessionInsert, SessionRow


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session to be made, as its creator describes it; checked already."""

    tenant: str
    session_id: str
    owner: str
    source: str
    agent: str
    title: str
    title_source: int
    pinned: bool
    archived: bool
    labels_json: str
    metadata: bytes
    setup: Setup
    parent_id: str | None
    parent_kind: int
    spawn_tool_call_id: str
    lifecycle: int
    turn_index: int
    request_id: str = ""
    title_conflict: int = naming.ALLOW
    fork_seq: int = 0
    parent_owner: str | None = None
    """Whose the parent must be, and the session if there is one; `None` is anybody's."""

    @property
    def key(self) -> SessionKey:
        return session_key(self.tenant, self.session_id)


async def create(
    database: Database, new: NewSession, *, return_existing: bool, max_spawn_depth: int
) -> tuple[SessionRow, bool]:
    """Make a session; the session as it is stored, and whether this made it."""

    async def work(connection: Connection) -> tuple[SessionRow, bool]:
        made = await create_missing(connection, new, max_spawn_depth=max_spawn_depth)
        if not made and not return_existing:
            await check_same_request(connection, new)
        row = await sessions.read(connection, new.key)
        if row is None:
            raise SessionExists(new.session_id)
        if not made:
            check_same(new, row)
        return row, made

    return await database.transact(work)


def check_same(new: NewSession, row: SessionRow) -> None:
    """A session that is there must be what the creation says of where it comes from. Raises `SessionDiffers`,
    and `SessionExists` if it is somebody else's."""
    if new.parent_owner not in (None, row.owner):
        raise SessionExists(new.session_id)
    for field in ("owner", "source", "agent"):
        if getattr(new, field) not in ("", getattr(row, field)):
            raise SessionDiffers(new.session_id, field)
    parent = (new.parent_id, new.parent_kind)
    if new.parent_id is not None and parent != (row.parent_id, row.parent_kind):
        raise SessionDiffers(new.session_id, "parent")


async def check_same_request(connection: Connection, new: NewSession) -> None:
    """An existing session is the answer to a retry of the request that made it, else in the way."""
    request_id = await sessions.creation_request(connection, new.key)
    if not new.request_id or request_id != new.request_id:
        raise SessionExists(new.session_id)


async def create_missing(connection: Connection, new: NewSession, *, max_spawn_depth: int) -> bool:
    """Make a session within a transaction; false, and nothing done, if its id is taken. A fork gets what it
    runs with when it gets its history."""
    if await sessions.creation_request(connection, new.key) is not None:
        return False
    parent = await _lock_parent(connection, new)
    row = _insert(new, parent, uuid4())
    if row.parent_kind == SUBAGENT and row.spawn_depth > max_spawn_depth:
        raise SpawnTooDeep(row.spawn_depth, max_spawn_depth)
    row = replace(row, title=await naming.chosen(connection, row, row.title, new.title_conflict))
    if not await sessions.insert(connection, row):
        return False
    if new.setup != NOTHING and new.parent_kind != FORK:
        await setups.put(connection, new.tenant, new.key, 1, new.setup)
    if row.title:
        await sessions.add_title(connection, row, row.title)
    if parent is not None:
        await changes.record(
            connection,
            parent.key,
            changes.CHILD,
            child_id=new.session_id,
            child_kind=new.parent_kind,
        )
    return True


async def _lock_parent(connection: Connection, new: NewSession) -> SessionRow | None:
    """The parent, kept from being deleted until the child is stored."""
    if new.parent_id is None:
        return None
    key = session_key(new.tenant, new.parent_id)
    if new.parent_owner is not None:
        key = owners_key(new.tenant, new.parent_id, new.parent_owner)
    if await heads.lock(connection, key) is None:
        raise ParentNotFound(new.parent_id)
    return await sessions.read(connection, key)


def _insert(new: NewSession, parent: SessionRow | None, incarnation: UUID) -> SessionInsert:
    row = SessionInsert(
        *new.key,
        tenant=new.tenant,
        session_id=new.session_id,
        incarnation=incarnation,
        owner=new.owner,
        source=new.source,
        agent=new.agent,
        title=new.title,
        title_source=new.title_source,
        pinned=new.pinned,
        archived=new.archived,
        labels_json=new.labels_json,
        metadata=new.metadata,
        parent_id=new.parent_id,
        parent_kind=new.parent_kind,
        spawn_tool_call_id=new.spawn_tool_call_id,
        fork_seq=new.fork_seq,
        root_id=new.session_id,
        spawn_depth=0,
        lifecycle=new.lifecycle,
        turn_index=new.turn_index,
        create_request_id=new.request_id,
    )
    if parent is None or new.parent_kind == NO_PARENT:
        return row
    deeper = 1 if new.parent_kind == SUBAGENT else 0
    return replace(row, root_id=parent.root_id, spawn_depth=parent.spawn_depth + deeper)

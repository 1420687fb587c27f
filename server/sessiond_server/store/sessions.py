"""Session rows: the facts of a session, apart from its head."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sessiond_server.sessions import session_ids, titles
from sessiond_server.sessions.guards import Version
from sessiond_server.sessions.setups import Setup
from sessiond_server.store import attachments, offload, offloaded, search, setups
from sessiond_server.store.database import Connection, known_columns
from sessiond_server.store.keys import SessionKey, owner_bucket, titles_lock
from sessiond_server.store.segments import FullMessage
from sessiond_server.store.sql import query

NO_PARENT, SUBAGENT, CONTINUATION, FORK = 0, 1, 2, 3
"""Values of `sessiond.v1.ParentKind`."""
EPHEMERAL, LINKED, DETACHED = 1, 2, 3
"""Values of `sessiond.v1.Lifecycle`."""


_FACTS = (
    *("title", "title_source", "pinned", "archived", "turn_index"),
    *("state", "end_reason", "end_time", "metadata"),
)
"""Facts that can be compared as they are stored."""


@dataclass(slots=True)
class SessionRow:
    """A row of `session` with the counters of its head."""

    bucket: int
    session_key: UUID
    tenant: str
    session_id: str
    incarnation: UUID
    owner: str
    source: str
    agent: str
    title: str
    title_source: int
    pinned: bool
    archived: bool
    state: int
    end_reason: str
    parent_id: str | None
    parent_kind: int
    spawn_tool_call_id: str
    fork_seq: int
    root_id: str
    spawn_depth: int
    lifecycle: int
    turn_index: int
    fact_changes: int
    create_request_id: str
    create_time: datetime
    update_time: datetime
    listed_time: datetime
    end_time: datetime | None
    labels_json: str
    metadata: bytes | None
    """Encoded; `None` where the row isn't read in full."""
    model: str
    texts: list[bytes] | None
    """System prompt and config; `None` where the row isn't read in full, and where there never were any."""
    first_seq: int
    next_seq: int
    message_count: int
    tool_call_count: int
    context_message_count: int
    context_token_count: int
    context_changes: int
    activity_time: datetime
    offloaded_before_seq: int
    open_tool_call_count: int
    usage_json: str | None
    billing_json: str | None

    @property
    def key(self) -> SessionKey:
        return SessionKey(self.bucket, self.session_key)

    def differing(self, other: SessionRow) -> list[str]:
        """The facts in which this row isn't like another one of the session that was read as it was."""
        found = [name for name in _FACTS if getattr(self, name) != getattr(other, name)]
        if json.loads(self.labels_json) != json.loads(other.labels_json):
            found.append("labels")
        return found

    @property
    def setup(self) -> Setup:
        """What holds now, of a row that is read in full."""
        prompt, config = self.texts or (b"", b"")
        return Setup(prompt, self.model, config)

    @property
    def etag(self) -> str:
        """Changes with every update of the facts."""
        return f"{self.incarnation.hex[:12]}-{self.fact_changes}"

    @property
    def version(self) -> Version:
        return Version(
            self.next_seq, self.next_seq + self.context_changes, self.context_token_count
        )


@dataclass(frozen=True, slots=True)
class SessionInsert:
    """A session to be made, in the order of the statement's parameters."""

    bucket: int
    session_key: UUID
    tenant: str
    session_id: str
    incarnation: UUID
    owner: str
    source: str
    agent: str
    title: str
    title_source: int
    pinned: bool
    archived: bool
    labels_json: str
    metadata: bytes
    parent_id: str | None
    parent_kind: int
    spawn_tool_call_id: str
    fork_seq: int
    root_id: str
    spawn_depth: int
    lifecycle: int
    turn_index: int
    create_request_id: str


async def insert(connection: Connection, new: SessionInsert) -> bool:
    """Make a session and its head; false if its id is taken."""
    values = [getattr(new, name) for name in SessionInsert.__slots__]
    return await connection.fetchval(query("insert_session"), *values) is not None


async def read(connection: Connection, key: SessionKey, *, full: bool = False) -> SessionRow | None:
    rows = await read_all(connection, [key], full=full)
    return rows[0] if rows else None


async def read_all(
    connection: Connection, keys: Sequence[SessionKey], *, full: bool = False
) -> list[SessionRow]:
    """Sessions in the order of the keys, without those that don't exist; with what is large, or without."""
    buckets, uuids = [key.bucket for key in keys], [key.key for key in keys]
    return [
        known_columns(SessionRow, r)
        for r in await connection.fetch(query("read_session"), buckets, uuids, full)
    ]


async def update(connection: Connection, row: SessionRow) -> None:
    """Store the facts that can change; the caller holds the head's lock."""
    await connection.execute(
        query("update_session"),
        *row.key,
        row.title,
        row.title_source,
        row.pinned,
        row.archived,
        row.state,
        row.end_reason,
        row.labels_json,
        row.metadata,
        row.turn_index,
        row.end_time,
    )


async def creation_request(connection: Connection, key: SessionKey) -> str | None:
    """The request that made a session; `None` if there is no such session."""
    request_id: str | None = await connection.fetchval(query("session_exists"), *key)
    return request_id


BEGINNING = 4096
_LONGER = 64 * 2**10
_WINDOW = 32
_ROLES = {True: (3,), False: (3, 4)}
_COUNTS = {True: 2, False: 8}
"""How much of a message, or of one that says nothing so far, in how many messages at either end, in which
roles, and how many of these: as the queries say it."""

Silent = Callable[[Sequence[bytes]], int | None]
"""Tells which of the beginnings, best first, says nothing so far and goes on, if it comes before all that say
something."""


class Beginning(NamedTuple):
    """The beginning of a message at either end of a session; `place` is that of the session, from 1 on."""

    place: int
    opening: bool
    payload: bytes


async def previews(
    connection: Connection, rows: Sequence[SessionRow], silent: Silent
) -> list[Beginning]:
    """The beginnings of the messages among which the first and last texts of sessions are, all in descending
    order; longer ones of those that begin with what isn't shown, such as a model's reasoning. Raises
    `SnapshotNeeded` outside of a snapshot if some of them have offloaded messages."""
    if any(row.offloaded_before_seq > row.first_seq for row in rows):
        offloaded.require_one_state(connection)
    records = await connection.fetch(
        query("list_previews"),
        [row.bucket for row in rows],
        [row.session_key for row in rows],
        [row.first_seq for row in rows],
        [row.next_seq for row in rows],
    )
    borders = {record["place"]: record["offloaded_before_seq"] for record in records}
    hot: dict[tuple[int, bool], list[_Begun]] = {}
    for record in records:
        if record["seq"] is not None:
            place = (record["place"], record["opening"])
            hot.setdefault(place, []).append(_Begun(record["seq"], record["beginning"], None))
    for place, border in borders.items():
        row = rows[place - 1]
        if border > row.first_seq:
            for opening in (False, True):
                found = await _offloaded_preview(connection, row, border, opening=opening)
                there = hot.get((place, opening), [])
                count = _COUNTS[opening]
                hot[place, opening] = (
                    (there + found)[-count:] if opening else (there + found)[:count]
                )
    await _lengthen(connection, rows, hot, silent)
    return [
        Beginning(place, opening, begun.payload)
        for (place, opening), found in sorted(hot.items())
        for begun in found
    ]


class _Begun(NamedTuple):
    """The beginning of a message, and a longer one if that is at hand."""

    seq: int
    payload: bytes
    longer: bytes | None


async def _lengthen(
    connection: Connection,
    rows: Sequence[SessionRow],
    found: dict[tuple[int, bool], list[_Begun]],
    silent: Silent,
) -> None:
    """Put longer beginnings in the place of silent ones, of one message of each session at most."""
    wanted = {}
    for (place, opening), begun in found.items():
        best = begun[::-1] if opening else begun
        which = silent([each.payload for each in best])
        if which is None:
            continue
        each = best[which]
        if each.longer is not None:
            begun[begun.index(each)] = each._replace(payload=each.longer)
        else:
            wanted[rows[place - 1].key, each.seq] = begun
    if not wanted:
        return
    seqs = [seq for _, seq in wanted]
    keys = [key for key, _ in wanted]
    for bucket, session_key, seq, payload in await connection.fetch(
        query("longer_beginnings"), [key.bucket for key in keys], [key.key for key in keys], seqs
    ):
        begun = wanted[SessionKey(bucket, session_key), seq]
        begun[:] = [each._replace(payload=payload) if each.seq == seq else each for each in begun]


async def _offloaded_preview(
    connection: Connection, row: SessionRow, border: int, *, opening: bool
) -> list[_Begun]:
    """The offloaded part of a preview, in descending order."""
    low = row.first_seq if opening else max(row.first_seq, row.next_seq - _WINDOW)
    high = min(border - 1, row.first_seq + _WINDOW - 1 if opening else row.next_seq - 1)
    found: list[FullMessage] = []
    if low <= high:
        async for messages in offloaded.pieces(connection, row.key, low, high, descending=True):
            found += [m for m in messages if m.role in _ROLES[opening] and m.in_transcript]
    kept = found[-_COUNTS[opening] :] if opening else found[: _COUNTS[opening]]
    return [_Begun(m.seq, m.payload[:BEGINNING], m.payload[:_LONGER]) for m in kept]


async def within(
    connection: Connection, keys: Sequence[SessionKey], max_bytes: int
) -> list[SessionKey]:
    """The first of these sessions, one at least, that take so many bytes together in full."""
    rows = await connection.fetch(
        query("full_sizes"), [key.bucket for key in keys], [key.key for key in keys]
    )
    sizes = {SessionKey(row[0], row[1]): row[2] for row in rows}
    found: list[SessionKey] = []
    total = 0
    for key in keys:
        total += sizes.get(key, 0)
        if found and total > max_bytes:
            break
        found.append(key)
    return found


Titled = SessionRow | SessionInsert
"""A session that has a title, had one, or gets one."""


def _place(row: Titled, title: str) -> tuple[int, str, str, str, int, str]:
    owner = (owner_bucket(row.tenant, row.owner), row.tenant, row.owner)
    return (*owner, *titles.series(title), row.session_id)


async def lock_titles(connection: Connection, row: Titled, title: str) -> None:
    """Wait for others who need a title of this series that nobody else has, until the transaction ends."""
    number = titles_lock(row.tenant, row.owner, titles.root(title))
    await connection.execute(query("lock_titles"), number)


async def title_holder(connection: Connection, row: Titled, title: str) -> str | None:
    """Another session of the owner that has a title."""
    holder: str | None = await connection.fetchval(query("title_holder"), *_place(row, title))
    return holder


async def add_title(connection: Connection, row: Titled, title: str) -> None:
    await connection.execute(query("add_title"), *_place(row, title))


async def remove_title(connection: Connection, row: Titled, title: str) -> None:
    await connection.execute(query("remove_title"), *_place(row, title))


async def newest_number(
    connection: Connection, tenant: str, owner: str, series: str, *, without: str = ""
) -> int:
    """The newest number of a series, but for that of a session; 0 if it has none."""
    number: int | None = await connection.fetchval(
        query("series_numbers"), owner_bucket(tenant, owner), tenant, owner, series, without
    )
    return number or 0


async def by_prefix(connection: Connection, tenant: str, prefix: str, owner: str) -> list[str]:
    """Ids that begin with `prefix`, 21 at most."""
    end = session_ids.behind(prefix)
    rows = await connection.fetch(query("sessions_by_prefix"), tenant, prefix, end, owner)
    return [row[0] for row in rows]


async def by_title(
    connection: Connection, tenant: str, series: str, number: int, owner: str
) -> list[str]:
    """The sessions that have a title, 21 at most."""
    rows = await connection.fetch(query("sessions_by_title"), tenant, series, number, owner)
    return [row[0] for row in rows]


async def newest_by_title(
    connection: Connection, tenant: str, series: str, owner: str
) -> list[str]:
    """The newest sessions of a series of each owner, 21 at most."""
    rows = await connection.fetch(query("newest_sessions_by_title"), tenant, series, owner)
    return [row[0] for row in rows]


async def parent(connection: Connection, key: SessionKey) -> str | None:
    """The id of the session that one comes from."""
    parent_id: str | None = await connection.fetchval(query("parent"), *key)
    return parent_id


async def revise(connection: Connection, key: SessionKey) -> None:
    """Note that a fact was changed which isn't in the session's row."""
    await connection.execute(query("revise_session"), *key)


@dataclass(frozen=True, slots=True)
class Child:
    """A child, and what decides its fate when its parent goes."""

    bucket: int
    session_key: UUID
    session_id: str
    incarnation: UUID
    parent_kind: int
    lifecycle: int

    @property
    def key(self) -> SessionKey:
        return SessionKey(self.bucket, self.session_key)

    @property
    def goes_with_parent(self) -> bool:
        return self.parent_kind == SUBAGENT and self.lifecycle != DETACHED


async def children(connection: Connection, tenant: str, parents: Sequence[str]) -> list[Child]:
    rows = await connection.fetch(query("children"), tenant, list(parents))
    return [Child(**row) for row in rows]


class Moved(NamedTuple):
    """A session of a tree that has another root now."""

    key: SessionKey
    is_root: bool
    is_lifted: bool
    """Whether its depth is another one."""

    @property
    def fields(self) -> list[str]:
        """The facts that it changed."""
        parent = ["parent"] if self.is_root else []
        return [*parent, "root_id", *(["spawn_depth"] if self.is_lifted else [])]


async def detach(connection: Connection, tenant: str, children_ids: Sequence[str]) -> list[Moved]:
    """Make children the roots of their own trees; all sessions of these, which are revised by it."""
    rows = await connection.fetch(query("detach_children"), tenant, list(children_ids))
    return [Moved(SessionKey(row[0], row[1]), row[2], row[3]) for row in rows]


async def continued(
    connection: Connection, tenant: str, key: SessionKey, owner: str | None, limit: int
) -> list[str]:
    """The ids of a session and of those that it continues, itself first; with an owner, of that one's."""
    rows = await connection.fetch(query("continued"), *key, tenant, limit, owner)
    return [row[0] for row in rows]


async def message_total(connection: Connection, keys: Sequence[SessionKey]) -> int:
    """How many messages sessions hold together."""
    buckets, uuids = [key.bucket for key in keys], [key.key for key in keys]
    total: int = await connection.fetchval(query("message_total"), buckets, uuids)
    return total


async def delete(connection: Connection, keys: Sequence[SessionKey]) -> int:
    """Delete sessions with all that belongs to them; how many messages they held."""
    messages = await message_total(connection, keys)
    buckets, uuids = [key.bucket for key in keys], [key.key for key in keys]
    for row in await connection.fetch(query("titles_of"), buckets, uuids):
        owner = (owner_bucket(row["tenant"], row["owner"]), row["tenant"], row["owner"])
        place = (*owner, *titles.series(row["title"]), row["session_id"])
        await connection.execute(query("remove_title"), *place)
    await attachments.delete_all(connection, keys)
    await search.lock(connection, keys)
    await offload.release_dictionaries(connection, keys)
    texts = await setups.texts(connection, keys)
    await connection.execute(query("delete_session_rows"), buckets, uuids)
    await setups.release(connection, texts)
    await attachments.delete_uploads(connection, keys)  # no more can begin now
    return messages


async def clear(connection: Connection, key: SessionKey, *, keep_changes: Collection[int]) -> None:
    """Delete everything of a session but the session itself, what it runs with, its attachments, and changes
    of these kinds."""
    await search.lock(connection, [key], changed=True)
    await offload.release_dictionaries(connection, [key])
    texts = await setups.texts(connection, [key])
    await connection.execute(query("clear_session_rows"), *key, list(keep_changes))
    await setups.release(connection, texts)


async def copy_history(
    connection: Connection,
    source: SessionKey,
    target: SessionKey,
    at_seq: int | None,
    offloaded: tuple[int, int],
) -> None:
    """Give a new session the history of another one, as it was right after `at_seq` or as it is, and its
    attachments. What is offloaded of the history has been copied: so many messages and tool calls."""
    await connection.execute(query("copy_session_rows"), *source, *target, at_seq, *offloaded)
    await setups.copy(connection, source, target, at_seq)
    await attachments.copy(connection, source, target)

"""Changing the facts of a session: title with provenance, pin, state, prompt and the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from sessiond_server.errors import EtagMismatch, TitleAlreadySet
from sessiond_server.operations import gate, naming
from sessiond_server.operations.ending import read
from sessiond_server.sessions.setups import Setup
from sessiond_server.store import changes, heads, sessions, setups
from sessiond_server.store.database import Connection, Database
from sessiond_server.store.keys import SessionKey
from sessiond_server.store.sessions import SessionRow

PERSON, AUTOMATIC = 1, 2
"""Who set a title: the values of `sessiond.v1.TitleSource`."""


@dataclass(frozen=True, slots=True)
class Title:
    """A title to be set; empty takes the title away."""

    text: str
    source: int
    only_if_unset: bool
    conflict: int


@dataclass(frozen=True, slots=True)
class Update:
    """Changes of a session's facts; `None` leaves a fact as it is. The functions raise `InvalidFields` if
    what they make of stored facts breaks a limit."""

    session_id: str
    key: SessionKey
    etag: str
    title: Title | None
    pinned: bool | None
    archived: bool | None
    turn_index: int | None
    change_labels: Callable[[str], str]
    change_metadata: Callable[[bytes], bytes]
    change_setup: Callable[[Setup], Setup]


async def update(database: Database, wanted: Update) -> SessionRow:
    """Change facts, all or none; the session as it stands then."""

    async def work(connection: Connection) -> SessionRow:
        head = await gate.lock(connection, wanted.session_id, wanted.key)
        row = await read(connection, wanted.session_id, wanted.key, full=True)
        if wanted.etag and wanted.etag != row.etag:
            raise EtagMismatch(row.etag)
        before = replace(row)
        if wanted.title is not None:
            await _set_title(connection, row, wanted.title)
        row.pinned = row.pinned if wanted.pinned is None else wanted.pinned
        row.archived = row.archived if wanted.archived is None else wanted.archived
        row.labels_json = wanted.change_labels(row.labels_json)
        row.turn_index = row.turn_index if wanted.turn_index is None else wanted.turn_index
        row.metadata = wanted.change_metadata(row.metadata or b"")
        await sessions.update(connection, row)
        setup = wanted.change_setup(row.setup)
        changed = row.differing(before)
        if setup != row.setup:
            changed += setup.differing(row.setup)
            await setups.put(connection, row.tenant, row.key, head.next_seq, setup)
            await heads.count_context_changes(connection, row.key, 1)
        await changes.record_facts(connection, row.key, changed)
        return await read(connection, wanted.session_id, wanted.key)

    return await database.transact(work)


async def _set_title(connection: Connection, row: SessionRow, title: Title) -> None:
    by_person = row.title_source == PERSON and title.source == AUTOMATIC
    if row.title and (by_person or title.only_if_unset):
        raise TitleAlreadySet(row.title)
    text = await naming.chosen(connection, row, title.text, title.conflict)
    if text != row.title:
        if row.title:
            await sessions.remove_title(connection, row, row.title)
        if text:
            await sessions.add_title(connection, row, text)
    row.title, row.title_source = text, title.source if text else 0

"""Making the entries that messages are found by: after the commit, in small transactions.

What is to be read is read without a lock, since making entries of it takes its time. Then the sessions'
progress is locked, and what has changed meanwhile is left for the next time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from sessiond_server.sessions import passages
from sessiond_server.sessions.passages import ENTRY_VERSION, Passage, Searched
from sessiond_server.store import messages, search
from sessiond_server.store.database import Connection, Database
from sessiond_server.store.keys import SessionKey
from sessiond_server.store.messages import Filters, Page, StoredMessage
from sessiond_server.store.search import Entry, ToIndex

Read = Callable[[bytes], Searched]
"""Tells what of a stored payload is searched."""

_SESSIONS = 64
_MESSAGES = 500
_BYTES = 2**20
"""What one transaction makes entries of at most, or of one message."""
_BREATH = 0.005
"""Seconds of work between two pauses."""


def entries(session: ToIndex, message: StoredMessage, read: Read) -> list[Entry]:
    """The entries of a message."""
    searched = read(message.payload)
    return _entries(session, message.seq, searched.role, message.create_time, searched.passages)


def _entries(
    session: ToIndex, seq: int, role: int, create_time: object, texts: Sequence[Passage]
) -> list[Entry]:
    return [
        Entry(
            session.bucket,
            session.session_key,
            seq,
            piece,
            session.tenant,
            session.owner,
            session.source,
            role,
            create_time,  # type: ignore[arg-type]
            document,
        )
        for piece, document in enumerate(passages.documents(texts))
    ]


@dataclass(slots=True)
class _Work:
    """What one transaction will write of a session."""

    session: ToIndex
    page: Page
    through: int
    """Up to which seq the session is indexed then."""
    entries: list[Entry]

    @property
    def names_title(self) -> bool:
        session = self.session
        return (session.indexed_title, session.entry_version) != (session.title, ENTRY_VERSION)


@dataclass(slots=True)
class Indexer:
    """Makes entries, in `share` of the time alone."""

    database: Database
    read: Read
    share: float = 1.0

    async def index(self, keys: Collection[SessionKey]) -> None:
        """Index sessions to the ends that they have now."""
        ends: dict[SessionKey, int] = {}
        todo = list(keys)
        while todo:
            works, left = await self._gather(todo[:_SESSIONS], ends)
            todo[:_SESSIONS] = left
            for work in works:
                await self._make(work)
            started = time.perf_counter()
            written = await self._write(works) if works else set()
            await self._pause(time.perf_counter() - started)
            todo += [w.session.key for w in works if w.page.more or w.session.key not in written]

    async def _gather(
        self, keys: Sequence[SessionKey], ends: dict[SessionKey, int]
    ) -> tuple[list[_Work], list[SessionKey]]:
        """What the next transaction writes, and the sessions that it has no room for."""

        async def gather(connection: Connection) -> tuple[list[_Work], list[SessionKey]]:
            found: list[_Work] = []
            room, size = _MESSAGES, _BYTES
            sessions = await search.to_index(connection, keys)
            for place, session in enumerate(sessions):
                if room <= 0 or size <= 0:
                    return found, [left.key for left in sessions[place:]]
                work = _Work(session, Page([], more=False), session.after, [])
                if session.after < ends.setdefault(session.key, session.next_seq - 1):
                    work.page = await self._page(connection, session, room, size)
                    last = session.next_seq - 1
                    work.through = work.page.messages[-1].seq if work.page.more else last
                    room -= len(work.page.messages)
                    size -= sum(len(m.payload) for m in work.page.messages)
                if work.through > session.after or work.names_title:
                    found.append(work)
            return found, []

        return await self.database.read(gather)

    async def _page(self, connection: Connection, session: ToIndex, room: int, size: int) -> Page:
        """The next messages, one at least."""
        return await messages.page(
            connection,
            session.key,
            [(session.after + 1, session.next_seq - 1)],
            Filters(),
            limit=max(room, 1),
            max_bytes=max(size, 1),
            descending=False,
        )

    async def _make(self, work: _Work) -> None:
        session, started = work.session, time.perf_counter()
        if work.names_title:
            title = [Passage(passages.TEXT, session.title)]
            work.entries += _entries(session, 0, 0, session.create_time, title)
        for message in work.page.messages:
            work.entries += entries(session, message, self.read)
            if (spent := time.perf_counter() - started) > _BREATH:
                await self._pause(spent)
                started = time.perf_counter()
        await self._pause(time.perf_counter() - started)

    async def _pause(self, spent: float) -> None:
        await asyncio.sleep(spent * (1 / self.share - 1))

    async def _write(self, works: Sequence[_Work]) -> set[SessionKey]:
        """Write what is still right; which sessions that was."""
        keys = [work.session.key for work in works]

        async def write(connection: Connection) -> set[SessionKey]:
            await search.lock(connection, keys)
            now = {s.key: s for s in await search.to_index(connection, keys)}
            good = [work for work in works if _unchanged(work.session, now.get(work.session.key))]
            gone = [key for key in keys if key not in now]
            await search.forget_sessions(connection, gone)
            ranges = [(w.session.key, w.session.after + 1, w.through) for w in good]
            titles = [(w.session.key, 0, 0) for w in good if w.names_title]
            await search.forget(connection, [*ranges, *titles])
            await search.write(connection, [entry for work in good for entry in work.entries])
            reached = [(w.session.key, w.through, w.session.title) for w in good]
            await search.advance(connection, reached)
            return {*gone, *(work.session.key for work in good)}

        return await self.database.transact(write)


def _unchanged(read: ToIndex, now: ToIndex | None) -> bool:
    """Whether entries that were made of what was read are still those of the session."""
    return now is not None and (
        (read.incarnation, read.change_no, read.after)
        == (now.incarnation, now.change_no, now.after)
    )

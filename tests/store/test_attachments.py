"""Attachments in the database: equal bytes once, counted rightly whatever happens at the same time."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from uuid import uuid4

import pytest

from sessiond_server.errors import (
    AttachmentNotFound,
    DatabaseUnavailable,
    Refused,
    SessionNotFound,
)
from sessiond_server.jobs.attachments import UploadSweep
from sessiond_server.operations import attaching, creating, ending, forking
from sessiond_server.operations.attaching import AttachmentLimits, NewAttachment, Uploading
from sessiond_server.operations.creating import NewSession
from sessiond_server.operations.importing_files import FileImport
from sessiond_server.sessions.guards import UNGUARDED
from sessiond_server.sessions.setups import NOTHING
from sessiond_server.store import attachments
from sessiond_server.store.attachments import AttachmentRow
from sessiond_server.store.database import Database
from sessiond_server.store.keys import DEFAULT_TENANT, session_key
from tests.support.attachments import BAD

LIMITS = AttachmentLimits(
    bytes=2**24,
    session_count=1000,
    session_bytes=2**30,
    executables=True,
    refused_extensions=(),
    timeout=60,
)


@pytest.fixture
async def database(dsn: str) -> AsyncIterator[Database]:
    opened = Database(dsn, connections=20, queue=1000)
    await opened.open()
    yield opened
    await opened.close()


async def bad(database: Database) -> dict[str, int]:
    async with database.connection() as connection:
        return {r["what"]: r["number"] for r in await connection.fetch(BAD) if r["number"]}


async def count(database: Database, table: str) -> int:
    async with database.connection() as connection:
        found: int = await connection.fetchval(f"SELECT count(*) FROM {table}")
        return found


async def create(database: Database, session_id: str) -> None:
    await creating.create(database, described(session_id), return_existing=True, max_spawn_depth=3)


def described(session_id: str) -> NewSession:
    """A session without any facts."""
    facts = ("", "", "", "", 0, False, False, "{}", b"", NOTHING, None, 0, "", 2, 0)
    return NewSession(DEFAULT_TENANT, session_id, *facts)


async def fork(database: Database, session_id: str, fork_id: str) -> None:
    key = session_key(DEFAULT_TENANT, session_id)
    wanted = forking.Fork(session_id, key, 0, 0, lambda source, setup, seq: described(fork_id))
    await forking.fork(database, wanted, max_spawn_depth=3)


async def delete(database: Database, session_id: str) -> None:
    key = session_key(DEFAULT_TENANT, session_id)
    await ending.delete(database, session_id, key, UNGUARDED, etag="", allow_missing=True)


def uploading(
    database: Database,
    session_id: str,
    attachment_id: str = "",
    limits: AttachmentLimits = LIMITS,
) -> Uploading:
    new = NewAttachment(
        session_id=session_id,
        key=session_key(DEFAULT_TENANT, session_id),
        tenant=DEFAULT_TENANT,
        attachment_id=attachment_id or uuid4().hex,
        name="file",
        mime_type="text/plain",
        disposition=2,
        metadata=b"",
    )
    return Uploading(database, new, limits)


async def upload(
    database: Database,
    session_id: str,
    content: bytes,
    attachment_id: str = "",
    limits: AttachmentLimits = LIMITS,
) -> AttachmentRow:
    it = uploading(database, session_id, attachment_id, limits)
    try:
        await it.begin(0)
        for start in range(0, len(content), 200_000):
            await it.add(content[start : start + 200_000])
        return (await it.finish())[0]
    finally:
        await it.close()


async def download(database: Database, session_id: str, row: AttachmentRow) -> bytes:
    return b"".join([it async for it in attaching.blocks(database, session_id, row, 0, row.size)])


async def test_equal_bytes_are_stored_once_and_go_with_their_last_reference(
    database: Database,
) -> None:
    content = random.Random(1).randbytes(700_000)
    for session_id in ("a", "b"):
        await create(database, session_id)
    rows = [await upload(database, session_id, content) for session_id in ("a", "a", "b")]
    await fork(database, "a", "fork")
    assert await count(database, "attachment") == 5
    assert await count(database, "attachment_content") == 1
    assert await count(database, "attachment_chunk") == 3
    assert await count(database, "attachment_upload") == 0
    assert await bad(database) == {}
    await delete(database, "a")
    await delete(database, "b")
    assert await download(database, "fork", rows[0]) == content
    assert await bad(database) == {}
    key = session_key(DEFAULT_TENANT, "fork")
    for row in rows[:2]:
        assert await count(database, "attachment_chunk") == 3
        assert await attaching.delete(database, "fork", key, row.attachment_id)
    assert await count(database, "attachment_chunk") == 0
    assert await count(database, "attachment_content") == 0
    with pytest.raises(AttachmentNotFound):
        await download(database, "fork", rows[0])


async def test_P12_equal_bytes_of_two_tenants_are_stored_twice(database: Database) -> None:
    """So that nothing one tenant does can be seen by another, not even in what is stored."""
    async with database.connection() as connection:
        content = attachments.Content("one", bytes(32)), attachments.Content("two", bytes(32))
        ids = [uuid4(), uuid4()]
        for it, content_id in zip(content, ids, strict=True):
            assert await attachments.claim(connection, it, 0, content_id) == content_id
        assert await attachments.claim(connection, content[0], 0, uuid4()) == ids[0]


class Storm:
    """Callers that upload, delete and fork a few contents in a few sessions, and break off."""

    def __init__(self, database: Database, seed: int) -> None:
        self.database = database
        self.chance = random.Random(seed)
        self.contents = [self.chance.randbytes(n) for n in (0, 1000, 262_144, 700_000, 1_300_000)]
        self.sessions = [f"s{number}" for number in range(5)]
        self.kept: dict[str, bytes] = {}
        self.done: Counter[str] = Counter()

    async def caller(self, count: int) -> None:
        doings = (
            *(self.upload, self.upload, self.upload_kept, self.upload_swept, self.break_off),
            *(self.delete, self.delete_session, self.fork, self.fork, self.read),
        )
        for _ in range(count):
            doing = self.chance.choice(doings)
            try:
                await doing(self.chance.choice(self.sessions), self.chance.choice(self.contents))
                self.done[doing.__name__] += 1
            except Refused as error:
                self.done[error.reason] += 1

    async def upload(self, session_id: str, content: bytes) -> None:
        await create(self.database, session_id)
        await upload(self.database, session_id, content)

    async def upload_kept(self, session_id: str, content: bytes) -> None:
        row = await upload(self.database, "kept", content)
        self.kept[row.attachment_id] = content

    async def upload_swept(self, session_id: str, content: bytes) -> None:
        """An upload that a sweep takes away, sometimes while it goes on."""
        limits = replace(LIMITS, timeout=0.005)
        row = await upload(self.database, "kept", content, limits=limits)
        self.kept[row.attachment_id] = content

    async def break_off(self, session_id: str, content: bytes) -> None:
        it = uploading(self.database, session_id)
        await it.begin(0)
        await it.add(content + content)
        if self.chance.random() < 0.5:
            await it.close()

    async def some(self, session_id: str) -> AttachmentRow:
        key = session_key(DEFAULT_TENANT, session_id)
        async with self.database.connection() as connection:
            rows, _ = await attachments.list_page(connection, key, limit=100)
        if not rows:
            raise SessionNotFound(session_id)
        return self.chance.choice(rows)

    async def delete(self, session_id: str, content: bytes) -> None:
        row = await self.some(session_id)
        await attaching.delete(
            self.database, session_id, session_key(DEFAULT_TENANT, session_id), row.attachment_id
        )

    async def delete_session(self, session_id: str, content: bytes) -> None:
        await delete(self.database, session_id)

    async def fork(self, session_id: str, content: bytes) -> None:
        await fork(self.database, session_id, self.chance.choice(self.sessions))

    async def read(self, session_id: str, content: bytes) -> None:
        row = await self.some(session_id)
        found = await download(self.database, session_id, row)
        assert hashlib.sha256(found).digest() == row.sha256

    async def sweep(self) -> None:
        while True:
            await UploadSweep(self.database, every=1).run()
            await asyncio.sleep(0.002)


@pytest.mark.parametrize("seed", range(2))
async def test_P11_no_bytes_are_lost_and_none_left_whatever_happens_at_once(
    database: Database, seed: int
) -> None:
    """Uploads, deletions of attachments and sessions, forks, and sweeps of the same few bytes, all at
    the same time."""
    storm = Storm(database, seed)
    await create(database, "kept")
    sweeps = asyncio.create_task(storm.sweep())
    await asyncio.gather(*(storm.caller(25) for _ in range(16)))
    async with database.connection() as connection:
        await connection.execute("UPDATE attachment_upload SET expire_time = now()")
    sweeps.cancel()
    with suppress(asyncio.CancelledError):
        await sweeps
    await UploadSweep(database, every=1).run()
    print(storm.done)
    assert storm.done["upload"] > 10
    assert storm.done["DATABASE_UNAVAILABLE"] > 0, "uploads that were swept away"
    assert await count(database, "attachment_upload") == 0
    assert await bad(database) == {}
    key = session_key(DEFAULT_TENANT, "kept")
    for attachment_id, content in storm.kept.items():
        row = await attaching.read(database, "kept", key, attachment_id)
        assert await download(database, "kept", row) == content
    for session_id in (*storm.sessions, "kept"):
        await delete(database, session_id)
    for table in ("attachment", "attachment_content", "attachment_chunk"):
        assert await count(database, table) == 0


async def test_P11_deleted_at_the_same_time_the_same_bytes_go(database: Database) -> None:
    content = random.Random(2).randbytes(600_000)
    for number in range(15):
        names = [f"{number}-{place}" for place in range(4)]
        for name in names:
            await create(database, name)
        for name in names[:3]:
            await upload(database, name, content)
        work = [delete(database, name) for name in names[:3]]
        new = asyncio.create_task(upload(database, names[3], content))
        await asyncio.gather(new, *work)
        assert await bad(database) == {}
        assert await download(database, names[3], await new) == content
        await delete(database, names[3])
        assert await count(database, "attachment_chunk") == 0


async def test_attachments_move_from_a_session_to_another(database: Database) -> None:
    """What an import needs: into an ended session, beyond its limits, with their times, and repeatable."""
    for name in ("from", "to"):
        await create(database, name)
    source, target = (session_key(DEFAULT_TENANT, name) for name in ("from", "to"))
    contents = [random.Random(4).randbytes(600_000), b""]
    for content in contents:
        await upload(database, "from", content)
    await ending.end(database, "to", target, "over", UNGUARDED)

    async def move(row: AttachmentRow, sha256: bytes) -> bool:
        given = uploading(database, "to", row.attachment_id).new
        new = replace(given, name=row.name, create_time=row.create_time)
        moving = FileImport(database, new, row.size, sha256)
        try:
            await moving.begin()
            content = await download(database, "from", row)
            pieces = [content[at : at + 250_000] for at in range(0, len(content), 250_000)]
            done = [await moving.add(piece) for piece in pieces or [b""]]
            assert done == [False] * (len(done) - 1) + [True]
            return not moving.known
        finally:
            await moving.close()

    async with database.connection() as connection:
        rows, _ = await attachments.list_page(connection, source, limit=10)
    for row in rows:
        with pytest.raises(Refused, match="sha256"):
            await move(row, bytes(32))
        assert await move(row, row.sha256)
        assert not await move(row, row.sha256)
        with pytest.raises(Refused, match="other bytes"):
            await move(row, bytes(32))
    async with database.connection() as connection:
        moved, _ = await attachments.list_page(connection, target, limit=10)
    facts = [(it.attachment_id, it.name, it.sha256, it.create_time) for it in rows]
    assert [(it.attachment_id, it.name, it.sha256, it.create_time) for it in moved] == facts
    assert await count(database, "attachment_upload") == 0
    assert await bad(database) == {}


async def test_an_upload_does_not_reach_into_a_session_made_anew(database: Database) -> None:
    """Even if the bytes are there already, so that none of its own are needed."""
    content = random.Random(3).randbytes(2**20)
    for name in ("a", "other"):
        await create(database, name)
    await upload(database, "other", content)
    it = uploading(database, "a")
    await it.begin(0)
    await it.add(content)
    await delete(database, "a")
    await create(database, "a")
    with pytest.raises(DatabaseUnavailable):
        await it.finish()
    await it.close()
    assert await count(database, "attachment") == 1
    assert await bad(database) == {}

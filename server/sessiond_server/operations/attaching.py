"""Attachments: uploads that store their bytes as they come, reading, and removing."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from sessiond_server.errors import (
    AttachmentIdReused,
    AttachmentNotFound,
    AttachmentOverLimit,
    AttachmentTypeRefused,
    DatabaseUnavailable,
    EtagMismatch,
    Refused,
)
from sessiond_server.operations import gate
from sessiond_server.operations.ending import read as read_session
from sessiond_server.sessions import file_names
from sessiond_server.sessions.executables import HEAD, executable
from sessiond_server.store import attachments, changes
from sessiond_server.store.attachments import CHUNK, AttachmentRow, Content, Totals, Upload
from sessiond_server.store.database import Connection, Database
from sessiond_server.store.keys import SessionKey

STORED, UPDATED, DELETED = 1, 2, 3
"""What happens to attachments: the values of `sessiond.v1.AttachmentChange`."""

BLOCK = 4 * CHUNK
"""Bytes that are read or written at once, and so what a transfer takes of the server's memory."""


_removing: set[asyncio.Task[None]] = set()
"""A caller that is gone doesn't wait for it."""


@dataclass(frozen=True, slots=True)
class AttachmentLimits:
    """What may be uploaded."""

    bytes: int
    """Of one attachment."""
    session_count: int
    session_bytes: int
    executables: bool
    refused_extensions: Collection[str]
    timeout: float
    """Seconds in which something must come of an upload."""
    session_uploads: int = 0
    """Unfinished ones of a session that go on call by call."""
    upload_expiry: timedelta = timedelta(days=1)
    """How long such an upload waits for its next call."""

    @property
    def expiry(self) -> timedelta:
        """Without a sign of life for so long, an upload's server is dead."""
        return timedelta(seconds=3 * self.timeout)


@dataclass(frozen=True, slots=True)
class NewAttachment:
    """The facts of an attachment, checked; its name is safe."""

    session_id: str
    key: SessionKey
    tenant: str
    attachment_id: str
    name: str
    mime_type: str
    disposition: int
    metadata: bytes
    create_time: datetime | None = None
    """Of one that comes from an export; left out it is now."""
    update_time: datetime | None = None
    """Likewise; left out it is that of its creation."""


@dataclass(frozen=True, slots=True)
class AttachmentUpdate:
    """Changes of an attachment's facts; `None` leaves a fact as it is."""

    session_id: str
    key: SessionKey
    attachment_id: str
    etag: str
    name: str | None
    """The new one; it is safe."""
    mime_type: str | None
    """The new one; empty for that of the name's extension."""
    disposition: int | None
    change_metadata: Callable[[bytes], bytes]
    """Raises `InvalidFields` if what it makes of stored metadata breaks a limit."""


def check_size(size: int, limits: AttachmentLimits) -> None:
    if size > limits.bytes:
        raise AttachmentOverLimit("attachment_bytes", limits.bytes)


def check_room(totals: Totals, size: int, limits: AttachmentLimits) -> None:
    """Refuse what a session has no room for that holds so much."""
    if totals.count >= limits.session_count:
        raise AttachmentOverLimit("session_attachments", limits.session_count)
    if totals.size + size > limits.session_bytes:
        raise AttachmentOverLimit("session_attachment_bytes", limits.session_bytes)


def check_kind(name: str, head: bytes, limits: AttachmentLimits) -> None:
    """Refuse an executable, by its name and its first bytes."""
    kind = None if limits.executables else executable(name, head, limits.refused_extensions)
    if kind is not None:
        raise AttachmentTypeRefused(name, kind)


@dataclass
class Uploading:
    """An upload from its beginning to its end: `begin`, `add` the bytes as they come, `finish`; in any case
    `close`, which removes what isn't finished."""

    database: Database
    new: NewAttachment
    limits: AttachmentLimits
    importing: bool = False
    """Whether a session may be in any state, and hold more than others may."""
    size: int = 0
    _stored: AttachmentRow | None = None
    _upload: Upload = field(init=False)
    _begun: bool = False
    _block: bytearray = field(default_factory=bytearray)
    _chunks: int = 0
    _hash: hashlib._Hash = field(default_factory=hashlib.sha256)
    _kept: float = 0.0

    def __post_init__(self) -> None:
        self._upload = Upload(*self.new.key, uuid4())

    async def begin(self, size: int) -> AttachmentRow | None:
        """Refuse what must be refused before any bytes come; the attachment that has the id already, with
        which the bytes are compared. `size` is 0 if it isn't known."""
        check_size(size, self.limits)
        async with self.database.connection() as connection:
            row = await read_session(connection, self.new.session_id, self.new.key)
            stored = await attachments.read(connection, self.new.key, self.new.attachment_id)
            if stored is None and not self.importing:
                gate.check_state(self.new.session_id, row.state)
                totals = await attachments.totals(connection, self._upload)
                check_room(totals, size, self.limits)
        self._stored = stored
        return stored

    async def add(self, data: bytes) -> None:
        """More bytes. They are stored when there is a block of them."""
        self.size += len(data)
        check_size(self.size, self.limits)
        self._hash.update(data)
        if self._stored is not None:
            return
        self._block += data
        while len(self._block) >= BLOCK:
            await self._store(bytes(self._block[:BLOCK]))
            del self._block[:BLOCK]
        if self._begun and time.monotonic() - self._kept > self.limits.timeout / 2:
            async with self.database.connection() as connection:
                self._alive(
                    await attachments.keep_upload(connection, self._upload, self.limits.expiry)
                )

    @property
    def sha256(self) -> bytes:
        """That of the bytes so far."""
        return self._hash.digest()

    async def finish(self) -> tuple[AttachmentRow, bool]:
        """Store the attachment with all bytes that were added; whether it was there before."""
        if self._stored is not None:
            return replay(self._stored, self.sha256), True
        if self._block or not self._begun:
            await self._store(bytes(self._block))
            self._block.clear()
        row, replayed = await self.database.transact(self._attach)
        self._begun = self._begun and row.content_id != self._upload.content_id
        return row, replayed

    async def close(self) -> None:
        """Remove the chunks that nothing refers to. When that fails, the sweep does it later."""
        if not self._begun:
            return
        self._begun = False
        removing = asyncio.create_task(self._remove(), name="upload given up")
        _removing.add(removing)
        removing.add_done_callback(_removing.discard)
        await asyncio.shield(removing)

    async def _remove(self) -> None:
        try:
            await self.database.transact(lambda connection: give_up(connection, self._upload))
        except Refused:
            return

    async def _store(self, block: bytes) -> None:
        if not self._chunks:
            self._check_kind(block[:HEAD])
        view = memoryview(block)
        chunks = [view[at : at + CHUNK] for at in range(0, len(block), CHUNK)]
        async with self.database.connection() as connection:
            if not self._begun:
                self._begun = True
                self._alive(
                    await attachments.begin_upload(connection, self._upload, self.limits.expiry)
                )
            self._alive(
                await attachments.add_chunks(
                    connection, self._upload, self._chunks, chunks, self.limits.expiry
                )
            )
        self._chunks += len(chunks)

    def _check_kind(self, head: bytes) -> None:
        check_kind(self.new.name, head, self.limits)

    def _alive(self, alive: bool) -> None:
        """An upload is over when its session is deleted, or when its server stood still for so long that it
        was swept away: then it can be repeated."""
        self._kept = time.monotonic()
        if not alive:
            self._begun = False
            raise DatabaseUnavailable

    async def _attach(self, connection: Connection) -> tuple[AttachmentRow, bool]:
        limits = None if self.importing else self.limits
        try:
            return await attach(connection, self.new, self._upload, self.size, self.sha256, limits)
        except UploadGone:
            self._alive(False)
            raise


class UploadGone(Exception):
    """An upload isn't there any more: it was finished, or it was given up with its chunks."""


async def attach(
    connection: Connection,
    new: NewAttachment,
    upload: Upload,
    size: int,
    sha256: bytes,
    limits: AttachmentLimits | None,
) -> tuple[AttachmentRow, bool]:
    """Make an attachment of the chunks of an upload; whether it was there before. If its bytes were there
    before, under another `content_id`, the upload is left to be given up. Without limits it is
    imported. Raises `UploadGone`."""
    head = await gate.lock(connection, new.session_id, new.key)
    stored = await attachments.read(connection, new.key, new.attachment_id)
    if stored is not None:
        found = replay(stored, sha256)
        await attachments.note_upload(connection, found, upload)
        return found, True
    if limits is not None:
        gate.check_open(new.session_id, head)
        check_room(await attachments.totals(connection, upload), size, limits)
    content = Content(new.tenant, sha256)
    content_id = await attachments.claim(connection, content, size, upload.content_id)
    if content_id == upload.content_id:
        alive = await attachments.end_upload(connection, upload)
    else:  # it went with the session if that was made anew meanwhile
        alive = await attachments.keep_upload(connection, upload, timedelta(minutes=1))
    if not alive:
        raise UploadGone
    row = await insert(connection, new, content, size, content_id, upload.content_id)
    if limits is not None:  # what is imported says itself what was told
        await changes.record_attachment(connection, new.key, row.attachment_id, STORED)
    return row, False


def replay(stored: AttachmentRow, sha256: bytes) -> AttachmentRow:
    """An attachment that is there, for an upload of the same id and these bytes."""
    if stored.sha256 != sha256:
        raise AttachmentIdReused(stored.attachment_id)
    return stored


async def insert(
    connection: Connection,
    new: NewAttachment,
    content: Content,
    size: int,
    content_id: UUID,
    upload_id: UUID,
) -> AttachmentRow:
    """Store an attachment of claimed content under a name that is free."""
    name = await _unused(connection, new.key, new.attachment_id, new.name)
    row = AttachmentRow(
        *new.key,
        new.attachment_id,
        name,
        new.mime_type,
        new.disposition,
        new.metadata,
        *content,
        size,
        content_id,
        new.create_time,
        new.update_time,
        [upload_id],
    )
    return await attachments.insert(connection, row)


async def _unused(connection: Connection, key: SessionKey, attachment_id: str, name: str) -> str:
    """A name, or a numbered one if another attachment stands in its way."""
    folders = file_names.directories(name)
    if not await attachments.is_taken(connection, key, name, folders, attachment_id):
        return name
    return file_names.unused(name, await attachments.names(connection, key, attachment_id))


async def give_up(connection: Connection, upload: Upload) -> None:
    """Remove an upload that isn't finished, with its chunks."""
    if await attachments.end_upload(connection, upload):
        await attachments.delete_chunks(connection, [upload.content_id])


async def read(
    database: Database, session_id: str, key: SessionKey, attachment_id: str
) -> AttachmentRow:
    """An attachment that is there."""
    async with database.connection() as connection:
        row = await attachments.read(connection, key, attachment_id)
        if row is None:
            await read_session(connection, session_id, key)
            raise AttachmentNotFound(session_id, attachment_id)
    return row


async def blocks(
    database: Database, session_id: str, row: AttachmentRow, offset: int, end: int
) -> AsyncIterator[bytes]:
    """The bytes of an attachment from `offset` to before `end`. No connection is kept between two blocks."""
    while offset < end:
        first = offset // CHUNK
        last = min(first + BLOCK // CHUNK, -(-end // CHUNK)) - 1
        async with database.connection() as connection:
            chunks = await attachments.read_chunks(connection, row.content_id, first, last)
        if len(chunks) <= last - first:
            raise AttachmentNotFound(session_id, row.attachment_id)
        start = first * CHUNK
        block = b"".join(chunks)[offset - start : end - start]
        yield block
        offset += len(block)


async def update(
    database: Database, wanted: AttachmentUpdate, limits: AttachmentLimits
) -> AttachmentRow:
    """Change facts of an attachment, all or none; the attachment as it is then."""

    async def work(connection: Connection) -> AttachmentRow:
        await gate.lock(connection, wanted.session_id, wanted.key)
        row = await attachments.read(connection, wanted.key, wanted.attachment_id)
        if row is None:
            raise AttachmentNotFound(wanted.session_id, wanted.attachment_id)
        if wanted.etag and wanted.etag != row.etag:
            raise EtagMismatch(row.etag)
        row = await attachments.update(connection, await _updated(connection, row, wanted, limits))
        await changes.record_attachment(connection, wanted.key, row.attachment_id, UPDATED)
        return row

    return await database.transact(work)


async def _updated(
    connection: Connection, row: AttachmentRow, wanted: AttachmentUpdate, limits: AttachmentLimits
) -> AttachmentRow:
    name, mime_type, disposition = row.name, wanted.mime_type, wanted.disposition
    if wanted.name is not None and wanted.name != row.name:
        check_kind(wanted.name, b"", limits)
        name = await _unused(connection, wanted.key, row.attachment_id, wanted.name)
    return replace(
        row,
        name=name,
        mime_type=row.mime_type if mime_type is None else mime_type or file_names.type_of(name),
        disposition=row.disposition if disposition is None else disposition,
        metadata=wanted.change_metadata(row.metadata),
    )


async def delete(database: Database, session_id: str, key: SessionKey, attachment_id: str) -> bool:
    """Remove an attachment; whether there was one."""

    async def work(connection: Connection) -> bool:
        await gate.lock(connection, session_id, key)
        deleted = await attachments.delete(connection, key, attachment_id)
        if deleted:
            await changes.record_attachment(connection, key, attachment_id, DELETED)
        return deleted

    return await database.transact(work)

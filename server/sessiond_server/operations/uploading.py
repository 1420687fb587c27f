"""Uploads that go on call by call, at any replica: between two calls they are in the database alone."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid4

from sessiond_server.errors import (
    AttachmentIdReused,
    AttachmentOverLimit,
    Refused,
    UploadNotFound,
    UploadOffsetMismatch,
    invalid,
)
from sessiond_server.operations import attaching, gate
from sessiond_server.operations.attaching import BLOCK, AttachmentLimits, NewAttachment, UploadGone
from sessiond_server.operations.ending import read as read_session
from sessiond_server.sessions.executables import HEAD
from sessiond_server.store import attachments
from sessiond_server.store.attachments import CHUNK, AttachmentRow, Upload, UploadRow
from sessiond_server.store.database import Connection, Database
from sessiond_server.store.keys import SessionKey


@dataclass(frozen=True, slots=True)
class Place:
    """What a caller says of an upload."""

    session_id: str
    key: SessionKey
    tenant: str
    upload_id: UUID
    key_id: str
    """The id of the caller's API key."""

    @property
    def upload(self) -> Upload:
        return Upload(*self.key, self.upload_id)


@dataclass(frozen=True, slots=True)
class Piece:
    """Some bytes of an upload."""

    offset: int
    data: bytes
    last: bool

    @property
    def end(self) -> int:
        return self.offset + len(self.data)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an upload is: under way, or stored."""

    upload: UploadRow | None = None
    attachment: AttachmentRow | None = None
    replayed: bool = False


async def start(
    database: Database,
    new: NewAttachment,
    key_id: str,
    size: int,
    sha256: bytes,
    limits: AttachmentLimits,
) -> Progress:
    """Begin an upload, or go on with the one that this key has begun of the same attachment."""
    attaching.check_size(size, limits)

    async def work(connection: Connection) -> Progress:
        head = await gate.lock(connection, new.session_id, new.key)
        stored = await attachments.read(connection, new.key, new.attachment_id)
        if stored is not None and stored.size != size:
            raise AttachmentIdReused(new.attachment_id)
        if stored is not None and sha256:
            return Progress(attachment=attaching.replay(stored, sha256), replayed=True)
        gate.check_open(new.session_id, head)
        attaching.check_kind(new.name, b"", limits)
        begun = await attachments.upload_of(connection, new.key, new.attachment_id, key_id)
        if begun is not None and (begun.size, begun.sha256) == (size, sha256):
            return Progress(await _kept(connection, begun, limits))
        if begun is not None:
            await attaching.give_up(connection, begun.upload)
        return Progress(await _start(connection, new, key_id, size, sha256, limits))

    return await database.transact(work)


async def _start(
    connection: Connection,
    new: NewAttachment,
    key_id: str,
    size: int,
    sha256: bytes,
    limits: AttachmentLimits,
) -> UploadRow:
    row = UploadRow(
        *new.key,
        uuid4(),
        datetime.now(UTC),
        0,
        key_id,
        new.attachment_id,
        new.name,
        new.mime_type,
        new.disposition,
        new.metadata,
        size,
        sha256,
    )
    totals = await attachments.totals(connection, row.upload)
    if totals.uploads >= limits.session_uploads:
        raise AttachmentOverLimit("session_uploads", limits.session_uploads)
    attaching.check_room(totals, size, limits)
    return await attachments.start_upload(connection, row, limits.upload_expiry)


async def write(
    database: Database, place: Place, piece: Piece, limits: AttachmentLimits
) -> Progress:
    """Store the next bytes; with the last ones, the attachment. What is stored already may come again."""
    row = await database.transact(lambda connection: _write(connection, place, piece, limits))
    if row is None:
        ended = await _ended(database, place)
        assert ended.attachment is not None
        if piece.end > ended.attachment.size:
            raise UploadOffsetMismatch(ended.attachment.size)
        return ended
    if not piece.last:
        return Progress(row)
    try:
        return await _finish(database, place, row, limits)
    except UploadGone:
        return await _ended(database, place)


async def _write(
    connection: Connection, place: Place, piece: Piece, limits: AttachmentLimits
) -> UploadRow | None:
    row = await attachments.read_upload(connection, place.upload, place.key_id, lock=True)
    if row is None:
        return None
    _check(piece, row)
    if piece.data and piece.offset == row.received:
        if not piece.offset:
            attaching.check_kind(row.name, piece.data[:HEAD], limits)
        view = memoryview(piece.data)
        chunks = [view[at : at + CHUNK] for at in range(0, len(view), CHUNK)]
        first = piece.offset // CHUNK
        await attachments.add_chunks(connection, row.upload, first, chunks, limits.upload_expiry)
    elif piece.end > row.received or (piece.offset % CHUNK and piece.data):
        raise UploadOffsetMismatch(row.received)
    elif await _stored(connection, row, piece) != piece.data:
        raise invalid("chunk", "isn't what is stored at its offset")
    return await _kept(connection, row, limits)


def _check(piece: Piece, row: UploadRow) -> None:
    """Refuse what can't be a piece of an upload, wherever that stands."""
    ends = piece.end == row.size
    if piece.end > row.size:
        raise invalid("chunk", f"ends at {piece.end}, beyond the size, {row.size}")
    if len(piece.data) % CHUNK and not ends:
        raise invalid("chunk", f"must have a multiple of {CHUNK} bytes, but where the upload ends")
    if piece.last and not ends:
        raise invalid("last", f"ends at {piece.end}, but the size is {row.size}")
    if not piece.data and not piece.last:
        raise invalid("chunk", "must not be empty, unless it is the last")


async def _stored(connection: Connection, row: UploadRow, piece: Piece) -> bytes:
    """The bytes that are stored in the place of a piece."""
    if not piece.data:
        return b""
    first, last = piece.offset // CHUNK, (piece.end - 1) // CHUNK
    chunks = await attachments.read_chunks(connection, row.content_id, first, last)
    return b"".join(chunks)[: len(piece.data)]


async def _kept(connection: Connection, row: UploadRow, limits: AttachmentLimits) -> UploadRow:
    """An upload whose end is put off."""
    await attachments.keep_upload(connection, row.upload, limits.upload_expiry)
    kept = await attachments.read_upload(connection, row.upload, row.key_id)
    assert kept is not None
    return kept


async def _finish(
    database: Database, place: Place, row: UploadRow, limits: AttachmentLimits
) -> Progress:
    """Make the attachment of an upload of which all bytes are stored."""
    sha256 = await _sha256(database, row)
    if row.sha256 not in (b"", sha256):
        await _give_up(database, row.upload)
        said, found = row.sha256.hex(), sha256.hex()
        raise invalid("chunk", f"the file should have the SHA-256 {said}, and has {found}")
    new = _attachment_of(place, row)

    async def work(connection: Connection) -> Progress:
        stored, replayed = await attaching.attach(
            connection, new, row.upload, row.size, sha256, limits
        )
        if stored.content_id != row.content_id:  # the same bytes were there before
            await attaching.give_up(connection, row.upload)
        return Progress(attachment=stored, replayed=replayed)

    try:
        return await database.transact(work)
    except AttachmentIdReused:
        await _give_up(database, row.upload)
        raise


async def _sha256(database: Database, row: UploadRow) -> bytes:
    """That of all bytes, of which a few are in memory at once. Raises `UploadGone`."""
    digest, size = hashlib.sha256(), 0
    while size < row.size:
        first = size // CHUNK
        async with database.connection() as connection:
            chunks = await attachments.read_chunks(
                connection, row.content_id, first, first + BLOCK // CHUNK - 1
            )
        if not chunks:
            raise UploadGone
        for chunk in chunks:
            digest.update(chunk)
            size += len(chunk)
    return digest.digest()


def _attachment_of(place: Place, row: UploadRow) -> NewAttachment:
    return NewAttachment(
        session_id=place.session_id,
        key=place.key,
        tenant=place.tenant,
        attachment_id=row.attachment_id,
        name=row.name,
        mime_type=row.mime_type,
        disposition=row.disposition,
        metadata=row.metadata,
    )


async def _give_up(database: Database, upload: Upload) -> None:
    """Remove what is left of an upload. When that fails, the sweep does it later."""
    with suppress(Refused):
        await database.transact(lambda connection: attaching.give_up(connection, upload))


async def read(database: Database, place: Place) -> Progress:
    """How far an upload is."""
    async with database.connection() as connection:
        row = await attachments.read_upload(connection, place.upload, place.key_id)
    return Progress(row) if row is not None else await _ended(database, place)


async def _ended(database: Database, place: Place) -> Progress:
    """What an upload has become that isn't under way. Raises `UploadNotFound`."""
    async with database.connection() as connection:
        stored = await attachments.made_by(connection, place.upload)
        if stored is None:
            await read_session(connection, place.session_id, place.key)
            raise UploadNotFound(place.session_id)
    return Progress(attachment=stored, replayed=True)


async def abort(database: Database, place: Place) -> None:
    """Remove an upload with its bytes, if it is under way."""

    async def work(connection: Connection) -> None:
        row = await attachments.read_upload(connection, place.upload, place.key_id, lock=True)
        if row is None:
            await read_session(connection, place.session_id, place.key)
        else:
            await attaching.give_up(connection, row.upload)

    await database.transact(work)

"""Attachments: files of sessions, and the bytes that they share.

Whoever changes which attachments there are holds the locks of their sessions' heads. Contents are locked
after heads and in the order of their keys; an upload's row after both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sessiond_server.store.database import Connection, known_columns
from sessiond_server.store.keys import SessionKey, chunk_bucket, content_bucket
from sessiond_server.store.sql import query

CHUNK = 256 * 2**10
"""Bytes of a chunk, but for the last one. Part of the schema: it can't change once there are chunks."""


@dataclass(frozen=True, slots=True)
class AttachmentRow:
    """A row of `attachment`, in the order of its columns."""

    bucket: int
    session_key: UUID
    attachment_id: str
    name: str
    mime_type: str
    disposition: int
    metadata: bytes
    tenant: str
    sha256: bytes
    size: int
    content_id: UUID
    create_time: datetime | None
    """If left out in one that is inserted, it is now."""
    update_time: datetime | None
    """If left out in one that is inserted, it is that of its creation."""
    upload_ids: list[UUID]
    """The `content_id`s of the uploads that came to it, the last ones."""

    @property
    def etag(self) -> str:
        """Changes with every update, whose times are never the same."""
        text = repr((self.name, self.sha256, self.create_time, self.update_time))
        return hashlib.sha256(text.encode()).hexdigest()[:32]


class Content(NamedTuple):
    """What names the bytes of attachments."""

    tenant: str
    sha256: bytes


class Upload(NamedTuple):
    """An upload under way."""

    bucket: int
    session_key: UUID
    content_id: UUID


@dataclass(frozen=True, slots=True)
class UploadRow:
    """A row of `attachment_upload`, of an upload that goes on call by call."""

    bucket: int
    session_key: UUID
    content_id: UUID
    expire_time: datetime
    received: int
    key_id: str
    attachment_id: str
    name: str
    mime_type: str
    disposition: int
    metadata: bytes
    size: int
    sha256: bytes
    """Empty if it wasn't said."""

    @property
    def upload(self) -> Upload:
        return Upload(self.bucket, self.session_key, self.content_id)


@dataclass(frozen=True, slots=True)
class Totals:
    """What a session holds, with what unfinished uploads are to bring, and how many these are."""

    count: int
    size: int
    uploads: int


async def read(connection: Connection, key: SessionKey, attachment_id: str) -> AttachmentRow | None:
    row = await connection.fetchrow(query("read_attachment"), *key, attachment_id)
    return None if row is None else known_columns(AttachmentRow, row)


async def list_page(
    connection: Connection,
    key: SessionKey,
    *,
    prefix: str = "",
    after: str = "",
    limit: int,
    max_bytes: int = 2**21,
) -> tuple[list[AttachmentRow], bool]:
    """The attachments behind a name, by name, `limit` at most and as many as so many bytes hold, but one at
    least; and whether there are more."""
    rows = await connection.fetch(
        query("list_attachments"), *key, after, prefix, _end(prefix), limit + 1, max_bytes
    )
    shown = [known_columns(AttachmentRow, row) for row in rows[:limit]]
    return shown, bool(rows) and rows[0]["found"] > len(shown)


async def by_id(
    connection: Connection, key: SessionKey, *, after: str, limit: int
) -> tuple[list[AttachmentRow], bool]:
    """The attachments behind an id, by id, `limit` at most; and whether there are more."""
    rows = await connection.fetch(query("attachments_by_id"), *key, after, limit + 1)
    return [known_columns(AttachmentRow, row) for row in rows[:limit]], len(rows) > limit


def _end(prefix: str) -> str | None:
    """The first text behind all that begin so, in the order of code points."""
    kept = prefix.rstrip("\U0010ffff")
    if not kept:
        return None
    following = ord(kept[-1]) + 1
    return kept[:-1] + chr(0xE000 if following == 0xD800 else following)


async def totals(connection: Connection, upload: Upload) -> Totals:
    """What the session of an upload holds apart from it."""
    row = await connection.fetchrow(query("attachment_totals"), *upload)
    assert row is not None
    return Totals(*row)


async def names(connection: Connection, key: SessionKey, but: str) -> list[str]:
    """All names but that of an attachment."""
    return [row[0] for row in await connection.fetch(query("attachment_names"), *key, but)]


async def is_taken(
    connection: Connection, key: SessionKey, name: str, directories: Sequence[str], but: str
) -> bool:
    """Whether a file or a directory of another attachment stands where a file of this name would."""
    taken: bool = await connection.fetchval(
        query("attachment_name_taken"), *key, name, list(directories), but
    )
    return taken


async def insert(connection: Connection, row: AttachmentRow) -> AttachmentRow:
    """Store an attachment whose content is claimed; it with its times."""
    values = [getattr(row, name) for name in AttachmentRow.__slots__]
    made = await connection.fetchrow(query("insert_attachment"), *values)
    assert made is not None
    return known_columns(AttachmentRow, made)


async def update(connection: Connection, row: AttachmentRow) -> AttachmentRow:
    """Store the facts that can change of an attachment that is there; it with its new time."""
    facts = row.name, row.mime_type, row.disposition, row.metadata
    found = await connection.fetchrow(
        query("update_attachment"), row.bucket, row.session_key, row.attachment_id, *facts
    )
    assert found is not None
    return known_columns(AttachmentRow, found)


async def delete(connection: Connection, key: SessionKey, attachment_id: str) -> bool:
    """Remove an attachment, and its bytes if nothing else refers to them; whether there was one."""
    row = await connection.fetchrow(query("delete_attachment"), *key, attachment_id)
    if row is not None:
        await _release(connection, {Content(*row): 1})
    return row is not None


async def delete_all(connection: Connection, keys: Sequence[SessionKey]) -> int:
    """Remove all attachments of sessions; how many."""
    buckets, uuids = [key.bucket for key in keys], [key.key for key in keys]
    rows = await connection.fetch(query("take_attachments"), buckets, uuids)
    counts = {Content(row["tenant"], row["sha256"]): row["count"] for row in rows}
    await _release(connection, counts)
    return sum(counts.values())


async def copy(connection: Connection, source: SessionKey, target: SessionKey) -> None:
    """Give a new session the attachments of another one."""
    rows = await connection.fetch(query("copy_attachments"), *source, *target)
    await _count(connection, {Content(r["tenant"], r["sha256"]): r["count"] for r in rows})


async def _count(connection: Connection, differences: Mapping[Content, int]) -> None:
    if not differences:
        return
    columns = _columns(differences)
    await connection.fetch(query("lock_contents"), *columns)
    await connection.execute(query("count_contents"), *columns, list(differences.values()))


async def _release(connection: Connection, counts: Mapping[Content, int]) -> None:
    """Take references away, and what nothing refers to any more."""
    await _count(connection, {content: -count for content, count in counts.items()})
    if counts:
        rows = await connection.fetch(query("delete_unreferenced"), *_columns(counts))
        await delete_chunks(connection, [row[0] for row in rows])


def _columns(contents: Collection[Content]) -> tuple[list[int], list[str], list[bytes]]:
    return (
        [content_bucket(*content) for content in contents],
        [content.tenant for content in contents],
        [content.sha256 for content in contents],
    )


async def claim(connection: Connection, content: Content, size: int, content_id: UUID) -> UUID:
    """One more reference to bytes; the id under which they are kept, which is the given one if they are
    new."""
    kept: UUID = await connection.fetchval(
        query("claim_content"), content_bucket(*content), *content, content_id, size
    )
    return kept


async def delete_chunks(connection: Connection, content_ids: Sequence[UUID]) -> None:
    if content_ids:
        buckets = [chunk_bucket(content_id) for content_id in content_ids]
        await connection.execute(query("delete_chunks"), buckets, list(content_ids))


async def begin_upload(connection: Connection, upload: Upload, expiry: timedelta) -> bool:
    """Note that chunks will come; false if the session isn't there."""
    return await connection.fetchval(query("begin_upload"), *upload, expiry) is not None


async def keep_upload(connection: Connection, upload: Upload, expiry: timedelta) -> bool:
    """Put an upload's end off; false if it is over already."""
    return await connection.fetchval(query("keep_upload"), *upload, expiry) is not None


async def add_chunks(
    connection: Connection,
    upload: Upload,
    first: int,
    chunks: Sequence[memoryview],
    expiry: timedelta,
) -> bool:
    """Store the next chunks, `first` being the first one's number, and put the upload's end off; false if
    it is over already."""
    bucket = chunk_bucket(upload.content_id)
    size = sum(map(len, chunks))
    rows = await connection.fetch(
        query("insert_chunks"), *upload, expiry, bucket, first, list(chunks), size
    )
    return len(rows) == len(chunks)


async def start_upload(connection: Connection, row: UploadRow, expiry: timedelta) -> UploadRow:
    """Note an upload that goes on call by call; `expire_time` and `received` of the row don't count."""
    key = row.key_id, row.attachment_id
    facts = row.name, row.mime_type, row.disposition, row.metadata, row.size, row.sha256
    made = await connection.fetchrow(query("start_upload"), *row.upload, expiry, *key, *facts)
    assert made is not None
    return known_columns(UploadRow, made)


async def read_upload(
    connection: Connection, upload: Upload, key_id: str, *, lock: bool = False
) -> UploadRow | None:
    """An upload that goes on call by call, if this key may write it."""
    sql = query("lock_upload" if lock else "read_upload")
    row = await connection.fetchrow(sql, *upload, key_id)
    return None if row is None else known_columns(UploadRow, row)


async def upload_of(
    connection: Connection, key: SessionKey, attachment_id: str, key_id: str
) -> UploadRow | None:
    """The unfinished upload of an attachment that a key has started."""
    row = await connection.fetchrow(query("upload_of_attachment"), *key, attachment_id, key_id)
    return None if row is None else known_columns(UploadRow, row)


async def made_by(connection: Connection, upload: Upload) -> AttachmentRow | None:
    """The attachment that an upload came to."""
    row = await connection.fetchrow(query("attachment_of_upload"), *upload)
    return None if row is None else known_columns(AttachmentRow, row)


async def note_upload(connection: Connection, row: AttachmentRow, upload: Upload) -> None:
    """Remember that an upload came to an attachment that was there."""
    key = row.bucket, row.session_key, row.attachment_id
    await connection.execute(query("note_upload"), *key, upload.content_id)


async def end_upload(connection: Connection, upload: Upload) -> bool:
    """Take an upload's row away; false if that has happened already. Its chunks are the caller's now."""
    return await connection.fetchval(query("end_upload"), *upload) is not None


async def delete_uploads(connection: Connection, keys: Sequence[SessionKey]) -> None:
    """Give up all uploads to sessions, with their chunks."""
    buckets, uuids = [key.bucket for key in keys], [key.key for key in keys]
    rows = await connection.fetch(query("take_uploads"), buckets, uuids)
    await delete_chunks(connection, [row[0] for row in rows])


async def expired_uploads(connection: Connection, limit: int) -> list[Upload]:
    """Uploads whose server has died, locked."""
    rows = await connection.fetch(query("expired_uploads"), limit)
    return [Upload(*row) for row in rows]


async def read_chunks(
    connection: Connection, content_id: UUID, first: int, last: int
) -> list[bytes]:
    """Chunks of a content, both ends included; fewer if the content is gone."""
    bucket = chunk_bucket(content_id)
    rows = await connection.fetch(query("read_chunks"), bucket, content_id, first, last)
    return [row["content"] for row in rows]

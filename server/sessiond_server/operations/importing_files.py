"""Importing attachments: their bytes come in pieces, and are stored as those of uploads are."""

from __future__ import annotations

from dataclasses import dataclass, field

from sessiond_server.errors import AttachmentIdReused, ImportConflict, invalid
from sessiond_server.operations import attaching
from sessiond_server.operations.attaching import AttachmentLimits, NewAttachment, Uploading
from sessiond_server.store.database import Database

_LIMITS = AttachmentLimits(
    bytes=2**40,
    session_count=0,
    session_bytes=0,
    executables=True,
    refused_extensions=(),
    timeout=60,
)
"""What a store has taken once, another one takes too."""


@dataclass
class FileImport:
    """An attachment that comes from an export: `begin`, `add` its bytes until they are all there; in any
    case `close`. Its session may be in any state."""

    database: Database
    new: NewAttachment
    size: int
    sha256: bytes
    known: bool = False
    """Whether it is there already."""
    _upload: Uploading = field(init=False)

    def __post_init__(self) -> None:
        self._upload = Uploading(self.database, self.new, _LIMITS, importing=True)

    async def begin(self) -> None:
        """Raises `ImportConflict` if its id is that of an attachment with other bytes."""
        try:
            stored = await self._upload.begin(self.size)
            if stored is not None:
                attaching.replay(stored, self.sha256)
                self.known = True
        except AttachmentIdReused as error:
            raise self._conflict() from error

    async def add(self, data: bytes) -> bool:
        """More bytes; whether these were the last, and the attachment is stored. Raises `ImportConflict`, and
        `InvalidFields` if they aren't those that it should have."""
        if self._upload.size + len(data) > self.size:
            raise invalid("chunk", f"there are more than the {self.size} bytes of the attachment")
        await self._upload.add(data)
        if self._upload.size < self.size:
            return False
        if self._upload.sha256 != self.sha256:
            found = self._upload.sha256.hex()
            raise invalid("sha256", f"is {self.sha256.hex()}, but that of the bytes is {found}")
        try:
            _, self.known = await self._upload.finish()
        except AttachmentIdReused as error:
            raise self._conflict() from error
        await self.close()
        return True

    async def close(self) -> None:
        """Remove what isn't finished."""
        await self._upload.close()

    def _conflict(self) -> ImportConflict:
        what = f"has an attachment {self.new.attachment_id!r} with other bytes"
        return ImportConflict(self.new.session_id, None, what)

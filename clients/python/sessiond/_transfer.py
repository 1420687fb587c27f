"""Uploads and downloads of attachments, apart from how they are made."""

from __future__ import annotations

import hashlib
import io
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TypeAlias

from sessiond import v1
from sessiond._errors import (
    Cancelled,
    Conflict,
    DeadlineExceeded,
    InternalError,
    Overloaded,
    SessiondError,
    Unavailable,
    UploadNotFound,
    UploadOffsetMismatch,
)
from sessiond._retries import ATTEMPTS, pause

Source: TypeAlias = bytes | bytearray | memoryview | str | os.PathLike[str] | IO[bytes]
"""What can be uploaded: bytes, the path of a file, or a file that is open for reading bytes."""

Target: TypeAlias = str | os.PathLike[str] | IO[bytes]
"""Where a download goes: a path, or a file that is open for writing bytes."""

FRAME = 256 * 2**10
_SECONDS_PER_BYTE = 4 / 2**20


class Outgoing:
    """What is to be uploaded, again if need be. Its file is closed by `close`, unless it is the caller's."""

    def __init__(self, source: Source) -> None:
        self._owned = isinstance(source, str | os.PathLike)
        self.name = ""
        if isinstance(source, str | os.PathLike):
            self.name = Path(source).name
            self._file: IO[bytes] = Path(source).open("rb")  # noqa: SIM115 (closed by `close`)
        elif isinstance(source, bytes | bytearray | memoryview):
            self._file = io.BytesIO(source)
        else:
            self._file = source
            name = getattr(source, "name", "")
            self.name = Path(name).name if isinstance(name, str) else ""
        self.repeatable = self._file.seekable()
        self._start = self._file.tell() if self.repeatable else 0
        self.size: int | None = None
        self.failure: Exception | None = None
        """What went wrong when it was read."""
        self._sha256 = b""
        self._turn = 0
        self._lock = threading.Lock()

    def measure(self) -> None:
        """Read it through for its size and SHA-256, if it can be read again."""
        if self.repeatable:
            digest, self.size = hashlib.sha256(), 0
            self._file.seek(self._start)
            while piece := self._file.read(FRAME):
                digest.update(piece)
                self.size += len(piece)
            self._sha256 = digest.digest()

    def frames(self, first: v1.UploadAttachmentRequest) -> Iterator[v1.UploadAttachmentRequest]:
        """The frames of the upload that begins with the facts in `first`, from the beginning. gRPC may go on
        asking for them after the call has ended: only the newest iterator reads from the file. One that
        can't read ends without a last frame, so that the upload is refused, and says why in `failure`."""
        with self._lock:
            self._turn += 1
            current = self._turn
            self.failure = None
            if self.repeatable:
                self._file.seek(self._start)
        try:
            yield from self._frames(first, current)
        except Exception as error:
            if current == self._turn:
                self.failure = error

    def _frames(
        self, first: v1.UploadAttachmentRequest, current: int
    ) -> Iterator[v1.UploadAttachmentRequest]:
        frame = v1.UploadAttachmentRequest()
        frame.CopyFrom(first)
        if self.size is not None:
            frame.size, frame.sha256 = self.size, self._sha256
        digest, size = hashlib.sha256(), 0
        piece = self._read(current)
        while piece:
            digest.update(piece)
            size += len(piece)
            frame.chunk = piece
            piece = self._read(current)
            if piece:
                yield frame
                frame = v1.UploadAttachmentRequest()
        frame.last, frame.size, frame.sha256 = True, size, digest.digest()
        yield frame

    def _read(self, current: int) -> bytes:
        with self._lock:
            if current != self._turn:
                raise ValueError("another attempt has begun")
            return self._file.read(FRAME)

    @property
    def sha256(self) -> bytes:
        """Once it is measured."""
        return self._sha256

    def part(self, offset: int, size: int) -> bytes:
        """Bytes of a file that can be read again."""
        with self._lock:
            self._file.seek(self._start + offset)
            return self._file.read(size)

    def close(self) -> None:
        with self._lock:
            self._turn += 1
            if self._owned:
                self._file.close()

    def timeout(self, seconds: float | None) -> float | None:
        """How long an attempt may take, where a small call may take so many seconds."""
        if seconds is None or self.size is None:
            return None
        return seconds + self.size * _SECONDS_PER_BYTE

    def failed(self, error: SessiondError, attempt: int) -> float:
        """Seconds to wait before the next attempt. Raises the error if there is no point in one, or what went
        wrong when the file was read."""
        if self.failure is not None:
            raise self.failure from error
        if not (self.repeatable and attempt < ATTEMPTS and passing(error)):
            raise error
        return pause(attempt, error)


def passing(error: SessiondError) -> bool:
    """Whether the same call may succeed later."""
    return isinstance(error, Unavailable | Overloaded)


class Pieces:
    """An upload call by call: `request` is the next one, until there is an `answer`."""

    def __init__(
        self, outgoing: Outgoing, session_id: str, attachment: v1.Attachment, size: int
    ) -> None:
        self._outgoing = outgoing
        self._begin = v1.StartUploadRequest(
            session_id=session_id, attachment=attachment, size=size, sha256=outgoing.sha256
        )
        self._token, self._offset, self._most = "", 0, 0
        self._failures = 0
        self.answer: v1.UploadAttachmentResponse | None = None

    def request(self) -> v1.StartUploadRequest | v1.WriteUploadRequest:
        """What to send next. Raises ValueError if the file has changed."""
        if not self._token:
            return self._begin
        chunk = self._outgoing.part(self._offset, self._most)
        end = self._offset + len(chunk)
        if end != min(self._begin.size, self._offset + self._most):
            raise ValueError("the file has changed while it was uploaded")
        return v1.WriteUploadRequest(
            session_id=self._begin.session_id,
            upload_token=self._token,
            offset=self._offset,
            chunk=chunk,
            last=end == self._begin.size,
        )

    def take(self, answer: v1.StartUploadResponse | v1.WriteUploadResponse) -> None:
        """What was answered."""
        if answer.HasField("attachment"):
            replayed = not isinstance(answer, v1.WriteUploadResponse) or answer.replayed
            self.answer = v1.UploadAttachmentResponse(
                attachment=answer.attachment, replayed=replayed
            )
        else:
            if answer.upload.offset > self._offset:
                self._failures = 0
            self._token, self._offset = answer.upload.token, answer.upload.offset
            self._most = answer.upload.max_chunk_bytes

    def failed(self, error: SessiondError) -> float:
        """Seconds to wait before going on. Raises the error if there is no way to."""
        self._failures += 1
        if self._failures >= ATTEMPTS:
            raise error
        if isinstance(error, UploadOffsetMismatch) and error.expected_offset is not None:
            self._offset = error.expected_offset
        elif isinstance(error, UploadNotFound):
            self._token = ""
        elif passing(error):
            return pause(self._failures, error)
        else:
            raise error
        return 0.0


class Incoming:
    """A download, over as many calls as it takes."""

    def __init__(
        self, session_id: str, attachment_id: str, offset: int, length: int, timeout: float | None
    ) -> None:
        self._request = v1.DownloadAttachmentRequest(
            session_id=session_id, attachment_id=attachment_id, offset=offset, length=length
        )
        self._timeout = timeout
        self._position = offset
        self._end = 0
        self._digest = None if offset or length else hashlib.sha256()
        self._attempts = 0
        self._heard = time.monotonic()
        self.attachment: v1.Attachment | None = None

    def request(self) -> v1.DownloadAttachmentRequest | None:
        """For what hasn't come yet; None if all has."""
        if self.attachment is not None:
            if self._position >= self._end:
                return None
            self._request.length = self._end - self._position
        self._request.offset = self._position
        return self._request

    def take(self, frame: v1.DownloadAttachmentResponse) -> bytes:
        """The bytes of a frame."""
        if frame.HasField("attachment"):
            self._know(frame.attachment)
        if frame.chunk:
            self._position += len(frame.chunk)
            self._attempts, self._heard = 0, time.monotonic()
            if self._digest is not None:
                self._digest.update(frame.chunk)
        return frame.chunk

    def _know(self, attachment: v1.Attachment) -> None:
        if self.attachment is None:
            self.attachment = attachment
            length = self._request.length or attachment.size
            self._end = min(attachment.size, self._position + length)
        elif attachment.sha256 != self.attachment.sha256:
            raise Conflict("the attachment was replaced while it was downloaded")

    def ended(self) -> None:
        """A call has ended well: then all has come."""
        if self.attachment is None or self._position != self._end:
            raise InternalError("the download ended before its end")
        if self._digest is not None and self._digest.digest() != self.attachment.sha256:
            raise InternalError("the bytes that came don't have the attachment's SHA-256")

    def failed(self, error: SessiondError) -> float:
        """Seconds to wait before another call. Raises the error if there is no point in one."""
        interrupted = self._attempts == 0 and isinstance(error, DeadlineExceeded)
        self._attempts += 1
        if not (passing(error) or interrupted) or isinstance(error, Cancelled):
            raise error
        if self.attachment is None and self._attempts >= ATTEMPTS:
            raise error
        if self._timeout is not None and time.monotonic() - self._heard > self._timeout:
            raise error
        return pause(min(self._attempts, ATTEMPTS), error)


class Destination:
    """A file to download to. One that is named by a path appears when it is whole, by `done`; `close` removes
    what isn't."""

    def __init__(self, target: Target) -> None:
        self._path = Path(target) if isinstance(target, str | os.PathLike) else None
        self._part: Path | None = None
        if self._path is None:
            assert not isinstance(target, str | os.PathLike)
            self._file: IO[bytes] = target
        else:
            self._part = self._path.with_name(f".{self._path.name[:80]}.{os.urandom(6).hex()}.part")
            self._file = self._part.open("xb")

    def write(self, data: bytes) -> None:
        self._file.write(data)

    def done(self) -> None:
        if self._path is not None and self._part is not None:
            self._file.close()
            self._part.replace(self._path)
            self._part = None

    def close(self) -> None:
        if self._part is not None:
            self._file.close()
            self._part.unlink(missing_ok=True)

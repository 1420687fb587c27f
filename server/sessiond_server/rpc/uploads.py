"""The frames of an upload: read as they come, checked, and put an end to when nothing comes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from sessiond.v1 import attachment_service_pb2 as rpc
from sessiond_server.errors import invalid
from sessiond_server.rpc import limits, streams
from sessiond_server.rpc.checks import Checks


class Frames:
    """What comes of an upload. `size` and `sha256` are what the caller said of the bytes so far; 32 bytes,
    and none if nothing was said."""

    def __init__(
        self,
        requests: AsyncIterator[rpc.UploadAttachmentRequest],
        timeout: float,
        closing: asyncio.Event,
    ) -> None:
        self._requests = requests
        self._timeout = timeout
        self._closing = closing
        self._heard = time.monotonic()
        self.size: int | None = None
        self.sha256 = b""

    async def first(self) -> rpc.UploadAttachmentRequest:
        frame = await self._next()
        return rpc.UploadAttachmentRequest() if frame is None else frame

    async def chunks(self, first: rpc.UploadAttachmentRequest) -> AsyncIterator[bytes]:
        """The bytes, with those of the first frame. Refuses an upload that ends before its last frame: what
        broke off mustn't look whole."""
        frame: rpc.UploadAttachmentRequest | None = first
        while frame is not None:
            yield frame.chunk
            if frame.last:
                return
            frame = await self._next()
        raise invalid("last", "the upload ended before its last frame")

    def check(self, size: int, sha256: bytes) -> None:
        """Refuse bytes that aren't those that the caller spoke of."""
        if self.size not in (None, size):
            raise invalid("size", f"is {self.size}, but {size} bytes came")
        if self.sha256 not in (b"", sha256):
            raise invalid(
                "sha256", f"is {self.sha256.hex()}, but that of the bytes is {sha256.hex()}"
            )

    async def _next(self) -> rpc.UploadAttachmentRequest | None:
        left = max(0.0, self._heard + self._timeout - time.monotonic())
        try:
            frame = await streams.following(self._requests, left, self._closing)
        except TimeoutError as error:
            raise invalid("chunk", f"nothing came for {self._timeout:g} s") from error
        return self._checked(frame)

    def _checked(
        self, frame: rpc.UploadAttachmentRequest | None
    ) -> rpc.UploadAttachmentRequest | None:
        if frame is None:
            return None
        with Checks() as check:
            check.size("chunk", len(frame.chunk), limits.ATTACHMENT_FRAME_BYTES)
            check.not_negative("size", frame.size)
            check.sha256("sha256", frame.sha256)
            if frame.HasField("size") and self.size not in (None, frame.size):
                check.wrong("size", "isn't what an earlier frame said")
            if frame.sha256 and self.sha256 not in (b"", frame.sha256):
                check.wrong("sha256", "isn't what an earlier frame said")
        if frame.chunk:
            self._heard = time.monotonic()
        self.size = frame.size if frame.HasField("size") else self.size
        self.sha256 = frame.sha256 or self.sha256
        return frame

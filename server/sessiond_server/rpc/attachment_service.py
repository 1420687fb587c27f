"""AttachmentService: check, translate, call, translate back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

import grpc

from sessiond.v1 import attachment_service_pb2 as rpc
from sessiond_server.errors import AttachmentNotFound, ShuttingDown, invalid
from sessiond_server.operations import attaching, ending, uploading
from sessiond_server.operations.attaching import AttachmentLimits, Uploading
from sessiond_server.operations.uploading import Piece
from sessiond_server.rpc import access, attachments_io, checks, limits, page_tokens
from sessiond_server.rpc.attachments_io import attachment_out
from sessiond_server.rpc.checks import Checks
from sessiond_server.rpc.registry import Context
from sessiond_server.rpc.streams import Slots
from sessiond_server.rpc.uploads import Frames
from sessiond_server.store import attachments
from sessiond_server.store.attachments import AttachmentRow
from sessiond_server.store.database import Database

_LAST_BLOCK = 1.0
"""Seconds that a download that stands still gets when the server stops."""


class AttachmentServicer:
    """Attachments over gRPC."""

    def __init__(
        self, database: Database, bounds: AttachmentLimits, *, uploads: int, downloads: int
    ) -> None:
        self._database = database
        self._bounds = bounds
        self._uploads = Slots(uploads)
        self._downloads = Slots(downloads)
        self._closing = asyncio.Event()
        self._open: dict[Context, asyncio.Task[Any]] = {}
        self._cutting: set[asyncio.Task[None]] = set()

    def figures(self) -> dict[str, float]:
        """What the metrics show; asked for by another thread."""
        return {
            "attachment_uploads": self._uploads.taken,
            "attachment_downloads": self._downloads.taken,
        }

    def close_streams(self) -> None:
        """End the transfers under way; they can be repeated or gone on with elsewhere."""
        self._closing.set()
        for context, task in self._open.items():
            asyncio.get_running_loop().call_later(_LAST_BLOCK, self._cut, context, task)

    async def UploadAttachment(
        self, requests: AsyncIterator[rpc.UploadAttachmentRequest], _: Context
    ) -> rpc.UploadAttachmentResponse:
        with self._uploads.one():
            frames = Frames(requests, self._bounds.timeout, self._closing)
            first = await frames.first()
            upload = Uploading(self._database, attachments_io.new_attachment(first), self._bounds)
            stored = await upload.begin(frames.size or 0)
            if stored is not None and frames.sha256:
                found = attaching.replay(stored, frames.sha256)
                return _uploaded(found, replayed=True)
            try:
                async for chunk in frames.chunks(first):
                    await upload.add(chunk)
                frames.check(upload.size, upload.sha256)
                row, replayed = await upload.finish()
            finally:
                await upload.close()
        return _uploaded(row, replayed=replayed)

    async def StartUpload(
        self, request: rpc.StartUploadRequest, _: Context
    ) -> rpc.StartUploadResponse:
        new = attachments_io.new_attachment(request)
        with Checks() as check:
            check.given("size", request, "how many bytes the file has")
            check.not_negative("size", request.size)
            check.sha256("sha256", request.sha256)
        key_id = access.by("").actor
        found = await uploading.start(
            self._database, new, key_id, request.size, request.sha256, self._bounds
        )
        return rpc.StartUploadResponse(
            upload=attachments_io.upload_out(found), attachment=attachments_io.stored_out(found)
        )

    async def WriteUpload(
        self, request: rpc.WriteUploadRequest, _: Context
    ) -> rpc.WriteUploadResponse:
        with Checks() as check:
            check.not_negative("offset", request.offset)
            check.size("chunk", len(request.chunk), limits.ATTACHMENT_FRAME_BYTES)
        place = attachments_io.place_in(request)
        piece = Piece(request.offset, request.chunk, request.last)
        with self._uploads.one():
            found = await uploading.write(self._database, place, piece, self._bounds)
        return rpc.WriteUploadResponse(
            upload=attachments_io.upload_out(found),
            attachment=attachments_io.stored_out(found),
            replayed=found.replayed,
        )

    async def GetUpload(self, request: rpc.GetUploadRequest, _: Context) -> rpc.GetUploadResponse:
        found = await uploading.read(self._database, attachments_io.place_in(request))
        return rpc.GetUploadResponse(
            upload=attachments_io.upload_out(found), attachment=attachments_io.stored_out(found)
        )

    async def AbortUpload(
        self, request: rpc.AbortUploadRequest, _: Context
    ) -> rpc.AbortUploadResponse:
        await uploading.abort(self._database, attachments_io.place_in(request))
        return rpc.AbortUploadResponse()

    async def DownloadAttachment(
        self, request: rpc.DownloadAttachmentRequest, context: Context
    ) -> AsyncIterator[rpc.DownloadAttachmentResponse]:
        session_id = checks.session_id(request.session_id)
        with Checks() as check:
            check.client_id("attachment_id", request.attachment_id)
            check.not_negative("offset", request.offset)
            check.not_negative("length", request.length)
        with self._downloads.one():
            key = access.key_of(session_id)
            row = await attaching.read(self._database, session_id, key, request.attachment_id)
            if request.offset > row.size:
                raise invalid("offset", f"must be at most the size, {row.size}")
            end = min(row.size, request.offset + (request.length or row.size))
            blocks = attaching.blocks(self._database, session_id, row, request.offset, end)
            with self._patience(context) as writing:
                with writing():
                    yield rpc.DownloadAttachmentResponse(attachment=attachment_out(row))
                async for block in blocks:
                    with writing():
                        yield rpc.DownloadAttachmentResponse(chunk=block)

    @contextmanager
    def _patience(self, context: Context) -> Iterator[Callable[[], AbstractContextManager[None]]]:
        """Cuts off a call whose caller takes nothing for too long while something is written."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        @contextmanager
        def writing() -> Iterator[None]:
            if self._closing.is_set():
                raise ShuttingDown
            cut = loop.call_later(self._bounds.timeout, self._cut, context, task)
            try:
                yield
            finally:
                cut.cancel()

        self._open[context] = task
        try:
            yield writing
        finally:
            self._open.pop(context, None)

    def _cut(self, context: Context, task: asyncio.Task[Any]) -> None:
        if self._open.pop(context, None) is not None:
            cutting = asyncio.create_task(self._cut_off(context, task), name="download cut-off")
            self._cutting.add(cutting)
            cutting.add_done_callback(self._cutting.discard)

    async def _cut_off(self, context: Context, task: asyncio.Task[Any]) -> None:
        """End a call whose caller doesn't read. gRPC keeps the frame that wasn't taken until the connection
        ends; until then the call has its place."""
        with self._downloads.one(refuse=False):
            task.cancel()
            with suppress(grpc.aio.AbortError, grpc.aio.InternalError):
                await context.abort(
                    grpc.StatusCode.UNAVAILABLE,
                    "nothing was taken for too long: go on with an offset",
                )

    async def GetAttachment(
        self, request: rpc.GetAttachmentRequest, _: Context
    ) -> rpc.GetAttachmentResponse:
        session_id = checks.session_id(request.session_id)
        with Checks() as check:
            check.client_id("attachment_id", request.attachment_id)
        key = access.key_of(session_id)
        row = await attaching.read(self._database, session_id, key, request.attachment_id)
        return rpc.GetAttachmentResponse(attachment=attachment_out(row))

    async def ListAttachments(
        self, request: rpc.ListAttachmentsRequest, _: Context
    ) -> rpc.ListAttachmentsResponse:
        session_id = checks.session_id(request.session_id)
        size = checks.page_size(request, limits.RECORD_PAGE)
        with Checks() as check:
            check.text("path_prefix", request.path_prefix, limits.ATTACHMENT_NAME)
        call = page_tokens.call_of("ListAttachments", request)
        after = page_tokens.after_text(request.page_token, call)
        key = access.key_of(session_id)
        async with self._database.connection() as connection:
            await ending.read(connection, session_id, key)
            rows, more = await attachments.list_page(
                connection,
                key,
                prefix=request.path_prefix,
                after=after,
                limit=size,
                max_bytes=limits.PAGE_BYTES,
            )
        return rpc.ListAttachmentsResponse(
            attachments=[attachment_out(row) for row in rows],
            next_page_token=page_tokens.encode([rows[-1].name], call) if more else "",
        )

    async def UpdateAttachment(
        self, request: rpc.UpdateAttachmentRequest, _: Context
    ) -> rpc.UpdateAttachmentResponse:
        wanted = attachments_io.update_in(request)
        row = await attaching.update(self._database, wanted, self._bounds)
        return rpc.UpdateAttachmentResponse(attachment=attachment_out(row))

    async def DeleteAttachment(
        self, request: rpc.DeleteAttachmentRequest, _: Context
    ) -> rpc.DeleteAttachmentResponse:
        session_id = checks.session_id(request.session_id)
        with Checks() as check:
            check.client_id("attachment_id", request.attachment_id)
        key = access.key_of(session_id)
        deleted = await attaching.delete(self._database, session_id, key, request.attachment_id)
        if not deleted and not request.allow_missing:
            raise AttachmentNotFound(session_id, request.attachment_id)
        return rpc.DeleteAttachmentResponse(deleted=deleted)


def _uploaded(row: AttachmentRow, *, replayed: bool) -> rpc.UploadAttachmentResponse:
    return rpc.UploadAttachmentResponse(attachment=attachment_out(row), replayed=replayed)

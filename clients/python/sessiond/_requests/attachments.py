"""The calls of AttachmentService."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sessiond import v1
from sessiond._calls import Service, paged, unary, whole
from sessiond._ids import uuid7
from sessiond._requests import values
from sessiond._requests.values import enum_value

_rpc = Service("sessiond.v1.AttachmentService").rpc

UPLOAD = _rpc("UploadAttachment", v1.UploadAttachmentRequest, v1.UploadAttachmentResponse)
DOWNLOAD = _rpc("DownloadAttachment", v1.DownloadAttachmentRequest, v1.DownloadAttachmentResponse)


def facts(
    *,
    name: str,
    attachment_id: str | None,
    mime_type: str,
    disposition: values.Disposition | None,
    metadata: Mapping[str, Any] | None,
) -> v1.Attachment:
    """The facts of an attachment that is to be uploaded."""
    return v1.Attachment(
        id=attachment_id or uuid7(),
        name=name,
        mime_type=mime_type,
        disposition=enum_value(v1.Disposition, "DISPOSITION_", disposition),
        metadata=values.struct(metadata),
    )


@unary(_rpc("StartUpload", v1.StartUploadRequest, v1.StartUploadResponse), whole)
def start_upload(
    session_id: str,
    size: int,
    *,
    sha256: bytes = b"",
    name: str = "",
    attachment_id: str | None = None,
    mime_type: str = "",
    disposition: values.Disposition | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> v1.StartUploadRequest:
    """Begins an upload that goes on call by call, or goes on with the one of this attachment id.

    `upload_resumable` does it all for a file.

    Args:
        session_id: The session's id.
        size: How many bytes the file has.
        sha256: Their SHA-256. With it, a file that is stored already needn't be sent again, and one that
            changed meanwhile isn't gone on with.
        name: Its name, or a relative path such as `reports/may.pdf`.
        attachment_id: An id that no other attachment of the session has. Left out, one is made up.
        mime_type: Its media type; by its name if left out.
        disposition: `inline` or `attachment`, the default.
        metadata: Facts of the application's own.

    Returns a `StartUploadResponse`: the upload, whose `offset` says where to go on, or the attachment if it
    is stored already.

    Raises:
        SessionNotFound, SessionEnded: There is none, or it takes none.
        AttachmentOverLimit: It is too large, or the session holds too many; see its metadata.
        AttachmentTypeRefused: It is an executable by its name.
        AttachmentIdReused: An attachment of other bytes has this id.
    """
    attachment = facts(
        name=name,
        attachment_id=attachment_id,
        mime_type=mime_type,
        disposition=disposition,
        metadata=metadata,
    )
    return v1.StartUploadRequest(
        session_id=session_id, attachment=attachment, size=size, sha256=sha256
    )


@unary(_rpc("WriteUpload", v1.WriteUploadRequest, v1.WriteUploadResponse), whole)
def write_upload(
    session_id: str, upload_token: str, offset: int, chunk: bytes, *, last: bool = False
) -> v1.WriteUploadRequest:
    """Stores the next bytes of an upload; with the last ones, the attachment. Safe to repeat.

    Args:
        session_id: The session's id.
        upload_token: The upload's token.
        offset: The place of the first of these bytes in the file.
        chunk: At most 1 MiB, and a multiple of 256 KiB unless the file ends with them.
        last: Whether the file is complete with these bytes.

    Returns a `WriteUploadResponse`: the upload as it is now, or the attachment once it is stored.

    Raises:
        UploadOffsetMismatch: The bytes don't follow what is stored; it says where to go on.
        UploadNotFound: It expired or was aborted, or another API key began it.
        SessionNotFound, SessionEnded: There is no session, or it takes no attachments any more.
        AttachmentTypeRefused: It is an executable by its first bytes.
        AttachmentIdReused: An attachment of other bytes has its id.
    """
    return v1.WriteUploadRequest(
        session_id=session_id, upload_token=upload_token, offset=offset, chunk=chunk, last=last
    )


@unary(_rpc("GetUpload", v1.GetUploadRequest, v1.GetUploadResponse), whole)
def get_upload(session_id: str, upload_token: str) -> v1.GetUploadRequest:
    """Reads how far an upload is, or what it has become.

    Args:
        session_id: The session's id.
        upload_token: The upload's token.

    Raises:
        SessionNotFound: There is no such session.
        UploadNotFound: It expired or was aborted, or another API key began it.
    """
    return v1.GetUploadRequest(session_id=session_id, upload_token=upload_token)


@unary(_rpc("AbortUpload", v1.AbortUploadRequest, v1.AbortUploadResponse), lambda _: None)
def abort_upload(session_id: str, upload_token: str) -> v1.AbortUploadRequest:
    """Removes an unfinished upload with its bytes, if it is there.

    Args:
        session_id: The session's id.
        upload_token: The upload's token.

    Raises:
        SessionNotFound: There is no such session.
    """
    return v1.AbortUploadRequest(session_id=session_id, upload_token=upload_token)


@unary(
    _rpc("GetAttachment", v1.GetAttachmentRequest, v1.GetAttachmentResponse),
    lambda answer: answer.attachment,
)
def get_attachment(session_id: str, attachment_id: str) -> v1.GetAttachmentRequest:
    """Reads the facts of an attachment: its name, type, size, SHA-256 and the rest.

    Args:
        session_id: The session's id.
        attachment_id: The attachment's id.

    Raises:
        SessionNotFound, AttachmentNotFound: There is none.
    """
    return v1.GetAttachmentRequest(session_id=session_id, attachment_id=attachment_id)


@paged(
    _rpc("ListAttachments", v1.ListAttachmentsRequest, v1.ListAttachmentsResponse),
    lambda page: page.attachments,
)
def list_attachments(
    session_id: str, *, path_prefix: str = "", page_size: int = 0, page_token: str = ""
) -> v1.ListAttachmentsRequest:
    """Iterates over a session's attachments, by name.

    Args:
        session_id: The session's id.
        path_prefix: Only those whose name begins with this: `reports/` is all in that directory and
            below it.
        page_size: Attachments a page: 0 is 100, at most 1000.
        page_token: Where to begin: the `next_page_token` of a page.

    Raises:
        SessionNotFound: There is no such session.
    """
    return v1.ListAttachmentsRequest(
        session_id=session_id,
        path_prefix=path_prefix,
        page_size=page_size,
        page_token=page_token,
    )


list_attachments_page = list_attachments.page(
    "list_attachments_page",
    """Reads one page of `list_attachments`, a `ListAttachmentsResponse`; takes the same arguments.""",
)


@unary(
    _rpc("UpdateAttachment", v1.UpdateAttachmentRequest, v1.UpdateAttachmentResponse),
    lambda answer: answer.attachment,
)
def update_attachment(
    session_id: str,
    attachment_id: str,
    *,
    name: str | None = None,
    mime_type: str | None = None,
    disposition: values.Disposition | None = None,
    metadata: Mapping[str, Any] | None = None,
    set_metadata: Mapping[str, Any] | None = None,
    remove_metadata: Iterable[str] = (),
    etag: str = "",
) -> v1.UpdateAttachmentRequest:
    """Changes the facts of an attachment that are given, all or none, and returns it. Its bytes never change.

    Args:
        session_id: The session's id.
        attachment_id: The attachment's id.
        name: The new name. The service makes it safe, and numbers one that is taken.
        mime_type: The new media type; empty for that of the name's extension.
        disposition: `inline` or `attachment`.
        metadata: All of the new metadata; `{}` for none.
        set_metadata: Fields of the metadata to add or replace, where the others stay.
        remove_metadata: Fields of the metadata to remove.
        etag: Change it only if the attachment still has this etag.

    Raises:
        ValueError: There is nothing to change.
        SessionNotFound, AttachmentNotFound: There is none.
        EtagMismatch: It changed since the etag was read.
        AttachmentTypeRefused: The new name is that of an executable.
    """
    changes = values.given(
        name=name,
        mime_type=mime_type,
        disposition=disposition and enum_value(v1.Disposition, "DISPOSITION_", disposition),
        metadata=values.struct(metadata),
    )
    into = values.into("metadata", set_metadata, remove_metadata, whole="metadata" in changes)
    mask = values.mask([*changes, *into])
    if set_metadata:
        changes["metadata"] = values.struct(set_metadata)
    return v1.UpdateAttachmentRequest(
        session_id=session_id,
        attachment=v1.Attachment(id=attachment_id, etag=etag, **changes),
        update_mask=mask,
    )


@unary(
    _rpc("DeleteAttachment", v1.DeleteAttachmentRequest, v1.DeleteAttachmentResponse),
    lambda answer: answer.deleted,
)
def delete_attachment(
    session_id: str, attachment_id: str, *, allow_missing: bool = False
) -> v1.DeleteAttachmentRequest:
    """Removes an attachment from its session for good. Messages that show it stay as they are.

    Args:
        session_id: The session's id.
        attachment_id: The attachment's id.
        allow_missing: Whether one that isn't there is as good as deleted.

    Returns whether there was one.

    Raises:
        SessionNotFound: There is no such session.
        AttachmentNotFound: There is no such attachment, and `allow_missing` isn't given.
    """
    return v1.DeleteAttachmentRequest(
        session_id=session_id, attachment_id=attachment_id, allow_missing=allow_missing
    )

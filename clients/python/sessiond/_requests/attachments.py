"""The calls of AttachmentService."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sessiond import v1
from sessiond._calls import Service, paged, unary
from sessiond._ids import uuid7
from sessiond._requests import values
from sessiond._requests.values import enum_value

_rpc = Service("sessiond.v1.AttachmentService").rpc

UPLOAD = _rpc("UploadAttachment", v1.UploadAttachmentRequest, v1.UploadAttachmentResponse)
DOWNLOAD = _rpc("DownloadAttachment", v1.DownloadAttachmentRequest, v1.DownloadAttachmentResponse)


def facts(
    session_id: str,
    *,
    name: str,
    attachment_id: str | None,
    mime_type: str,
    disposition: values.Disposition | None,
    metadata: Mapping[str, Any] | None,
) -> v1.UploadAttachmentRequest:
    """The first frame of an upload, without any bytes."""
    return v1.UploadAttachmentRequest(
        session_id=session_id,
        attachment=v1.Attachment(
            id=attachment_id or uuid7(),
            name=name,
            mime_type=mime_type,
            disposition=enum_value(v1.Disposition, "DISPOSITION_", disposition),
            metadata=values.struct(metadata),
        ),
    )


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

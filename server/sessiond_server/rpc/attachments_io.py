"""Attachments on their way in and out."""

from __future__ import annotations

import re
from uuid import UUID

import uuid_utils
from google.protobuf.struct_pb2 import Struct

from sessiond.v1 import attachment_pb2 as pb
from sessiond.v1 import attachment_service_pb2 as rpc
from sessiond_server.operations.attaching import AttachmentUpdate, NewAttachment
from sessiond_server.operations.uploading import Place, Progress
from sessiond_server.rpc import access, limits, sessions_io
from sessiond_server.rpc.checks import Checks
from sessiond_server.rpc.times import optional_timestamp
from sessiond_server.sessions import file_names
from sessiond_server.sessions.file_names import UnsafeName
from sessiond_server.store.attachments import CHUNK, AttachmentRow

UPDATABLE = frozenset({"name", "mime_type", "disposition", "metadata"})
_MAPS = frozenset({"metadata"})
_TOKEN = re.compile("[0-9a-f]{32}")
_DISPOSITIONS = frozenset(pb.Disposition.values())


def new_attachment(
    request: rpc.UploadAttachmentRequest | rpc.StartUploadRequest,
) -> NewAttachment:
    """The facts of an upload's first frame or call, completed with what it leaves out."""
    with Checks() as check:
        check.session_id("session_id", request.session_id)
        return described(request.attachment, "attachment", request.session_id, check)


def described(given: pb.Attachment, where: str, session_id: str, check: Checks) -> NewAttachment:
    """An attachment as its facts say; `check` gets what is wrong with them."""
    if given.id:
        check.client_id(f"{where}.id", given.id)
    _check_facts(given, where, check)
    name = _name(given, where, check)
    return NewAttachment(
        session_id=session_id,
        key=access.key_of(session_id),
        tenant=access.tenant(),
        attachment_id=given.id or str(uuid_utils.uuid7()),
        name=name,
        mime_type=given.mime_type or file_names.type_of(name),
        disposition=given.disposition or pb.DISPOSITION_ATTACHMENT,
        metadata=given.metadata.SerializeToString() if given.HasField("metadata") else b"",
    )


def update_in(request: rpc.UpdateAttachmentRequest) -> AttachmentUpdate:
    """The changes that an update's mask names."""
    given = request.attachment
    with Checks() as check:
        check.session_id("session_id", request.session_id)
        check.client_id("attachment.id", given.id)
        paths, keys = check.mask_into_maps("update_mask", request.update_mask, UPDATABLE, _MAPS)
        check.text("attachment.etag", given.etag)
        _check_facts(given, "attachment", check)
        name = _name(given, "attachment", check)
    disposition = given.disposition or pb.DISPOSITION_ATTACHMENT
    return AttachmentUpdate(
        session_id=request.session_id,
        key=access.key_of(request.session_id),
        attachment_id=given.id,
        etag=given.etag,
        name=name if "name" in paths else None,
        mime_type=given.mime_type if "mime_type" in paths else None,
        disposition=disposition if "disposition" in paths else None,
        change_metadata=lambda stored: sessions_io.changed_metadata(
            stored, given, paths, keys, "attachment"
        ),
    )


def _check_facts(given: pb.Attachment, where: str, check: Checks) -> None:
    check.text(f"{where}.mime_type", given.mime_type)
    if given.mime_type and not limits.MIME_TYPE.fullmatch(given.mime_type):
        check.wrong(f"{where}.mime_type", limits.MIME_TYPE_FORM)
    check.enum(f"{where}.disposition", given.disposition, _DISPOSITIONS)
    check.struct(f"{where}.metadata", given.metadata)


def _name(given: pb.Attachment, where: str, check: Checks) -> str:
    if len(given.name) > limits.ATTACHMENT_NAME:
        most = limits.ATTACHMENT_NAME
        check.wrong(f"{where}.name", f"must be at most {most} characters, has {len(given.name)}")
        return ""
    try:
        return file_names.safe_path(given.name or file_names.named_after(given.mime_type))
    except UnsafeName as error:
        check.wrong(f"{where}.name", str(error))
        return ""


def place_in(
    request: rpc.WriteUploadRequest | rpc.GetUploadRequest | rpc.AbortUploadRequest,
) -> Place:
    """The upload that a request names; that of a token that can't be one doesn't exist."""
    with Checks() as check:
        check.session_id("session_id", request.session_id)
        check.required("upload_token", request.upload_token)
    token = request.upload_token
    upload_id = UUID(token) if _TOKEN.fullmatch(token) else UUID(int=0)
    return Place(
        session_id=request.session_id,
        key=access.key_of(request.session_id),
        tenant=access.tenant(),
        upload_id=upload_id,
        key_id=access.by("").actor,
    )


def stored_out(found: Progress) -> pb.Attachment | None:
    """What an upload has become."""
    return None if found.attachment is None else attachment_out(found.attachment)


def upload_out(found: Progress) -> rpc.Upload | None:
    """An upload as callers see it, while it is unfinished."""
    row = found.upload
    if row is None:
        return None
    return rpc.Upload(
        token=row.content_id.hex,
        attachment_id=row.attachment_id,
        size=row.size,
        offset=row.received,
        expire_time=optional_timestamp(row.expire_time),
        chunk_multiple_bytes=CHUNK,
        max_chunk_bytes=limits.ATTACHMENT_FRAME_BYTES,
    )


def attachment_out(row: AttachmentRow) -> pb.Attachment:
    """An attachment as callers see it."""
    return pb.Attachment(
        id=row.attachment_id,
        name=row.name,
        mime_type=row.mime_type,
        size=row.size,
        sha256=row.sha256,
        disposition=row.disposition,  # type: ignore[arg-type]
        metadata=Struct.FromString(row.metadata) if row.metadata else None,
        create_time=optional_timestamp(row.create_time),
        update_time=optional_timestamp(row.update_time),
        etag=row.etag,
    )

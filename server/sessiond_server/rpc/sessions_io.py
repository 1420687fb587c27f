"""Sessions on their way in and out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from uuid import UUID

import uuid_utils
from google.protobuf.message import Message as ProtoMessage
from google.protobuf.struct_pb2 import Struct

from sessiond.v1 import message_pb2
from sessiond.v1 import session_pb2 as pb
from sessiond.v1.attachment_pb2 import Attachment
from sessiond.v1.transfer_service_pb2 import TransferSetup
from sessiond_server.operations.creating import NewSession
from sessiond_server.operations.finding import Preview
from sessiond_server.rpc import limits, usage_io
from sessiond_server.rpc.checks import Checks
from sessiond_server.rpc.times import optional_timestamp, timestamp
from sessiond_server.sessions import titles
from sessiond_server.sessions.setups import Setup
from sessiond_server.store.sessions import BEGINNING, FORK, LINKED, NO_PARENT, SessionRow

_OUTPUT = tuple(f.name for f in pb.Session.DESCRIPTOR.fields if 100 <= f.number < 200)
_SOURCES = frozenset(pb.TitleSource.values())
_LIFECYCLES = frozenset(pb.Lifecycle.values())
_PARENT_KINDS = frozenset({pb.PARENT_KIND_SUBAGENT, pb.PARENT_KIND_CONTINUATION})


def new_id(request_id: str, request: ProtoMessage) -> str:
    """The id of a session that is given none: a UUIDv7, or, so that a retry names the same session, a
    UUIDv8 made from a request that has an id."""
    if not request_id:
        return str(uuid_utils.uuid7())
    encoded = request.SerializeToString(deterministic=True)
    digest = bytearray(hashlib.blake2b(encoded, digest_size=16).digest())
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    return str(UUID(bytes=bytes(digest)))


def strip(session: pb.Session) -> None:
    """Take out of a request's session what only the server says, of newer versions too."""
    for name in _OUTPUT:
        session.ClearField(name)  # type: ignore[arg-type]
    session.DiscardUnknownFields()


def new_session(
    session: pb.Session,
    where: str,
    session_id: str,
    checks: Checks,
    *,
    tenant: str,
    parent_owner: str | None = None,
) -> NewSession:
    """A session to be made; `checks` gets what is wrong with it."""
    checks.session_id(f"{where}.id", session_id)
    for field in ("owner", "source", "agent"):
        checks.text(f"{where}.{field}", getattr(session, field))
    check_facts(session, where, checks)
    title = title_in(session.title, f"{where}.title", checks)
    checks.enum(f"{where}.title_source", session.title_source, _SOURCES)
    checks.enum(f"{where}.lifecycle", session.lifecycle, _LIFECYCLES)
    if session.HasField("parent"):
        _check_parent(session.parent, f"{where}.parent", session_id, checks)
    return NewSession(
        tenant=tenant,
        session_id=session_id,
        owner=session.owner,
        source=session.source,
        agent=session.agent,
        title=title,
        title_source=title_source(title, session.title_source),
        pinned=session.pinned,
        archived=session.archived,
        labels_json=labels_json(session),
        metadata=session.metadata.SerializeToString(deterministic=True),
        setup=setup_in(session),
        parent_id=session.parent.id if session.HasField("parent") else None,
        parent_kind=session.parent.kind if session.HasField("parent") else NO_PARENT,
        spawn_tool_call_id=session.parent.spawn_tool_call_id,
        lifecycle=session.lifecycle or LINKED,
        turn_index=session.turn_index,
        parent_owner=parent_owner,
    )


def check_facts(session: pb.Session, where: str, checks: Checks) -> None:
    """The facts that an update may change as well, but for the title."""
    check_setup(session, where, checks)
    checks.struct(f"{where}.metadata", session.metadata)
    checks.labels(f"{where}.labels", session.labels.items(), len(session.labels), limits.LABELS)
    checks.not_negative(f"{where}.turn_index", session.turn_index)


def title_in(title: str, field: str, checks: Checks) -> str:
    """A title as it is kept."""
    if len(title) > 100 * limits.TITLE:
        checks.wrong(field, f"must be at most {limits.TITLE} characters, has {len(title)}")
        return ""
    cleaned = titles.clean(title)
    if len(cleaned) > limits.TITLE:
        checks.wrong(field, f"must be at most {limits.TITLE} characters, has {len(cleaned)}")
    return cleaned


def title_source(title: str, source: int) -> int:
    return (source or pb.TITLE_SOURCE_PERSON) if title else pb.TITLE_SOURCE_UNSPECIFIED


def _check_parent(parent: pb.SessionParent, where: str, session_id: str, checks: Checks) -> None:
    checks.session_id(f"{where}.id", parent.id)
    if parent.id == session_id:
        checks.wrong(f"{where}.id", "must be another session")
    if parent.kind == pb.PARENT_KIND_FORK:
        checks.wrong(f"{where}.kind", "forks are made by ForkSession")
    else:
        checks.enum(f"{where}.kind", parent.kind, _PARENT_KINDS)
    checks.tool_call_id(f"{where}.spawn_tool_call_id", parent.spawn_tool_call_id)


def labels_json(session: pb.Session) -> str:
    return json.dumps(dict(session.labels), sort_keys=True)


def changed_labels(
    stored: str, session: pb.Session, paths: Collection[str], keys: Mapping[str, Collection[str]]
) -> str:
    """Labels after an update of all or of some. Raises `InvalidFields`."""
    if "labels" in paths:
        return labels_json(session)
    labels: dict[str, str] = json.loads(stored)
    for key in keys["labels"]:
        labels.pop(key, None)
        if key in session.labels:
            labels[key] = session.labels[key]
    with Checks() as check:
        check.count("session.labels", len(labels), limits.LABELS)
    return json.dumps(labels, sort_keys=True)


def changed_metadata(
    stored: bytes,
    given: pb.Session | Attachment,
    paths: Collection[str],
    keys: Mapping[str, Collection[str]],
    where: str,
) -> bytes:
    """Metadata after an update of all or of some. Raises `InvalidFields`."""
    if "metadata" in paths:
        return given.metadata.SerializeToString(deterministic=True)
    metadata = Struct.FromString(stored)
    for key in keys["metadata"]:
        metadata.fields.pop(key, None)
        if key in given.metadata.fields:
            metadata.fields[key].CopyFrom(given.metadata.fields[key])
    with Checks() as check:
        check.struct(f"{where}.metadata", metadata)
    return metadata.SerializeToString(deterministic=True)


def setup_in(session: pb.Session | TransferSetup) -> Setup:
    return Setup(session.system_prompt.encode(), session.model, session.config.encode())


def set_setup(session: pb.Session | TransferSetup, setup: Setup) -> None:
    session.system_prompt = setup.system_prompt.decode()
    session.model = setup.model
    session.config = setup.config.decode()


def check_setup(session: pb.Session | TransferSetup, where: str, checks: Checks) -> None:
    prompt = len(session.system_prompt.encode())
    checks.size(f"{where}.system_prompt", prompt, limits.SYSTEM_PROMPT_BYTES)
    checks.text(f"{where}.model", session.model)
    checks.size(f"{where}.config", len(session.config.encode()), limits.CONFIG_BYTES)


def session_out(row: SessionRow) -> pb.Session:
    """A stored session, with as much of it as was read."""
    session = pb.Session(
        id=row.session_id,
        incarnation=str(row.incarnation),
        owner=row.owner,
        source=row.source,
        agent=row.agent,
        title=row.title,
        title_source=row.title_source,  # type: ignore[arg-type]
        pinned=row.pinned,
        archived=row.archived,
        state=row.state,  # type: ignore[arg-type]
        end_reason=row.end_reason,
        labels=json.loads(row.labels_json),
        parent=_parent_out(row),
        root_id=row.root_id,
        spawn_depth=row.spawn_depth,
        lifecycle=row.lifecycle,  # type: ignore[arg-type]
        next_seq=row.next_seq,
        first_seq=row.first_seq,
        revision=row.version.revision,
        offloaded_before_seq=row.offloaded_before_seq,
        message_count=row.message_count,
        tool_call_count=row.tool_call_count,
        context_message_count=row.context_message_count,
        context_token_count=row.context_token_count,
        open_tool_call_count=row.open_tool_call_count,
        turn_index=row.turn_index,
        usage=usage_io.session_usage(row),
        etag=row.etag,
        create_time=timestamp(row.create_time),
        update_time=timestamp(row.update_time),
        last_activity_time=timestamp(row.activity_time),
        end_time=optional_timestamp(row.end_time),
    )
    if row.metadata:
        session.metadata.ParseFromString(row.metadata)
    set_setup(session, row.setup)
    return session


def _parent_out(row: SessionRow) -> pb.SessionParent | None:
    if row.parent_id is None:
        return None
    return pb.SessionParent(
        id=row.parent_id,
        kind=row.parent_kind,  # type: ignore[arg-type]
        spawn_tool_call_id=row.spawn_tool_call_id,
        fork_seq=row.fork_seq if row.parent_kind == FORK else 0,
    )


def summary(row: SessionRow, preview: Preview) -> pb.SessionSummary:
    """A session in a list."""
    return pb.SessionSummary(
        session=session_out(row),
        preview=_first_text(preview.latest),
        opening=_first_text(preview.opening),
        pending_reminder_time=optional_timestamp(preview.reminder_time),
        child_count=preview.children,
    )


def _first_text(beginnings: Sequence[bytes]) -> str:
    return next(filter(None, map(_text, beginnings)), "")


def silent(beginnings: Sequence[bytes]) -> int | None:
    """Which beginning is cut before its message says anything, if it comes before all that say something."""
    for place, beginning in enumerate(beginnings):
        if _text(beginning):
            return None
        if len(beginning) >= BEGINNING:
            return place
    return None


def _text(beginning: bytes) -> str:
    return titles.clean(" ".join(_texts(beginning))[:1000])[:60]


_PARTS = message_pb2.Message.DESCRIPTOR.fields_by_name["parts"].number
_SAID = {message_pb2.Part.DESCRIPTOR.fields_by_name[name].number for name in ("text", "refusal")}


def _texts(beginning: bytes) -> Iterator[str]:
    """The texts in the beginning of an encoded message, of which the last may be cut."""
    for number, content in _fields(beginning):
        if number == _PARTS:
            for part_number, part in _fields(content):
                if part_number in _SAID:
                    yield part.decode(errors="ignore")


def _fields(encoded: bytes) -> Iterator[tuple[int, bytes]]:
    """The length-delimited fields of an encoding that may be cut anywhere; protobuf's own decoder takes
    only whole ones."""
    place = 0
    while place < len(encoded):
        tag, place = _varint(encoded, place)
        if tag & 7 == 2:
            size, place = _varint(encoded, place)
            yield tag >> 3, encoded[place : place + size]
            place += size
        elif tag & 7 == 0:
            _, place = _varint(encoded, place)
        else:
            place += 8 if tag & 7 == 1 else 4


def _varint(encoded: bytes, place: int) -> tuple[int, int]:
    """A number, and where it ends."""
    value = shift = 0
    while place < len(encoded):
        byte = encoded[place]
        value |= (byte & 0x7F) << shift
        shift += 7
        place += 1
        if byte < 0x80:
            break
    return value, place


def fork_of(
    source: SessionRow,
    setup: Setup,
    fork: pb.Session,
    new: NewSession,
    at_seq: int,
    request_id: str,
) -> NewSession:
    """A fork's description: what it leaves out is the forked session's, as of its last message."""
    labels = json.dumps(dict(fork.labels), sort_keys=True) if fork.labels else source.labels_json
    return NewSession(
        tenant=new.tenant,
        session_id=new.session_id,
        owner=new.owner or source.owner,
        source=new.source or source.source,
        agent=new.agent or source.agent,
        title=new.title,
        title_source=new.title_source,
        pinned=new.pinned,
        archived=new.archived,
        labels_json=labels,
        metadata=new.metadata if fork.HasField("metadata") else source.metadata or b"",
        setup=setup._replace(**{k: v for k, v in new.setup._asdict().items() if v}),
        parent_id=source.session_id,
        parent_kind=FORK,
        spawn_tool_call_id="",
        lifecycle=new.lifecycle,
        turn_index=new.turn_index or source.turn_index,
        request_id=request_id,
        fork_seq=at_seq,
    )

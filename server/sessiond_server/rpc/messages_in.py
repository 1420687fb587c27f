"""Messages on their way in: checked, completed, and encoded as they will be stored."""

from __future__ import annotations

from collections.abc import Sequence

from sessiond.v1 import message_pb2 as pb
from sessiond_server.errors import ClientIdReused
from sessiond_server.rpc import limits
from sessiond_server.rpc.checks import Checks
from sessiond_server.store.appends import MessageRow, join_tools, pack

ROLES = frozenset(pb.Role.values()) - {pb.ROLE_UNSPECIFIED}
KINDS = frozenset(pb.MessageKind.values())
OUTPUT_FIELDS = (
    "seq",
    "create_time",
    "rewound",
    "compacted_by_seq",
    "replaces_from_seq",
    "replaces_to_seq",
    "session_id",
)


def rows(messages: Sequence[pb.Message], checks: Checks) -> list[MessageRow]:
    """The messages of a call as they are stored. `checks` gets what is wrong with them."""
    checks.count("messages", len(messages), limits.CALL_MESSAGES, least=1)
    found: list[MessageRow] = []
    seen: set[str] = set()
    if checks.violations:
        return found
    for place, message in enumerate(messages):
        check(message, f"messages[{place}]", checks)
        client_id = message.client_id
        if client_id in seen and not checks.violations:
            raise ClientIdReused(client_id, None)
        seen.add(client_id)
        found.append(row(message))
    checks.size("messages", sum(len(r.payload) for r in found), limits.CALL_BYTES)
    return found


def row(message: pb.Message) -> MessageRow:
    """A checked message, completed with what it leaves out, as it is stored."""
    if (
        message.seq
        or message.rewound
        or message.compacted_by_seq
        or message.replaces_from_seq
        or message.replaces_to_seq
        or message.session_id
        or message.HasField("create_time")
    ):
        _clear_output(message)
    if not message.HasField("in_context"):
        message.in_context = True
    if not message.HasField("in_transcript"):
        message.in_transcript = True
    if not message.kind:
        message.kind = pb.MESSAGE_KIND_NORMAL
    has_maps = message.extensions or message.HasField("metadata")
    return MessageRow(
        message.client_id,
        pack(
            message.token_count,
            message.role,
            message.kind,
            message.in_context,
            message.in_transcript,
        ),
        _tools(message) if message.tool_calls or message.tool_call_id else None,
        # Only maps have no order of their own, and the order costs more than all the rest.
        message.SerializeToString(deterministic=True) if has_maps else message.SerializeToString(),
    )


def _tools(message: pb.Message) -> str:
    return join_tools([call.id for call in message.tool_calls], message.tool_call_id)


def _clear_output(message: pb.Message) -> None:
    for field in OUTPUT_FIELDS:
        message.ClearField(field)  # type: ignore[arg-type]


def check(message: pb.Message, where: str, checks: Checks) -> None:
    """Everything about a message but the size of its call."""
    if not limits.CLIENT_ID.fullmatch(message.client_id):
        checks.wrong(f"{where}.client_id", limits.CLIENT_ID_FORM)
    if message.role not in ROLES:
        checks.enum(f"{where}.role", message.role, ROLES)
    check_facts(message, where, checks)
    if message.parts:
        _check_parts(message, where, checks)
    if message.tool_calls:
        _check_tool_calls(message, where, checks)
    if message.tool_call_id:
        checks.tool_call_id(f"{where}.tool_call_id", message.tool_call_id)
    if message.tool_name:
        checks.text(f"{where}.tool_name", message.tool_name)
    if message.name:
        checks.text(f"{where}.name", message.name)
    if message.HasField("origin_time"):
        checks.timestamp(f"{where}.origin_time", message.origin_time)


def check_facts(message: pb.Message, where: str, checks: Checks) -> None:
    """The facts that an update may change as well."""
    if message.kind not in KINDS:
        checks.enum(f"{where}.kind", message.kind, KINDS)
    if message.token_count < 0:
        checks.not_negative(f"{where}.token_count", message.token_count)
    if message.turn_index < 0:
        checks.not_negative(f"{where}.turn_index", message.turn_index)
    if message.extensions:
        _check_extensions(message, where, checks)
    if message.finish_reason:
        checks.text(f"{where}.finish_reason", message.finish_reason)
    if message.model:
        checks.text(f"{where}.model", message.model)
    if message.HasField("elapsed"):
        checks.duration(f"{where}.elapsed", message.elapsed)
    if message.HasField("metadata"):
        checks.struct(f"{where}.metadata", message.metadata)


def _check_extensions(message: pb.Message, where: str, checks: Checks) -> None:
    checks.count(f"{where}.extensions", len(message.extensions), limits.EXTENSIONS)
    for name in list(message.extensions)[: limits.EXTENSIONS]:
        place = f"{where}.extensions[{name[:64]!r}]"
        if not name:
            checks.wrong(place, "must not be empty")
        checks.text(place, name, limits.EXTENSION_NAME)


def _check_parts(message: pb.Message, where: str, checks: Checks) -> None:
    checks.count(f"{where}.parts", len(message.parts), limits.PARTS)
    for place, part in enumerate(message.parts[: limits.PARTS]):
        kind = part.WhichOneof("content")
        if kind is None:
            checks.wrong(f"{where}.parts[{place}]", "must have content")
        elif kind in ("image", "file"):
            media = part.image if kind == "image" else part.file
            _check_media(media, f"{where}.parts[{place}].{kind}", checks)


def _check_media(media: pb.Media, where: str, checks: Checks) -> None:
    source = media.WhichOneof("source")
    if source is None:
        checks.wrong(where, "must have a uri, inline bytes or an attachment_id")
    elif source == "attachment_id":
        checks.client_id(f"{where}.attachment_id", media.attachment_id)
    checks.size(f"{where}.uri", len(media.uri.encode()), limits.MEDIA_BYTES)
    checks.size(f"{where}.inline", len(media.inline), limits.MEDIA_BYTES)
    checks.text(f"{where}.mime_type", media.mime_type)
    checks.text(f"{where}.name", media.name)
    checks.text(f"{where}.detail", media.detail)


def _check_tool_calls(message: pb.Message, where: str, checks: Checks) -> None:
    checks.count(f"{where}.tool_calls", len(message.tool_calls), limits.TOOL_CALLS)
    for place, call in enumerate(message.tool_calls[: limits.TOOL_CALLS]):
        path = f"{where}.tool_calls[{place}]"
        if not call.id:
            checks.wrong(f"{path}.id", "is required")
        checks.tool_call_id(f"{path}.id", call.id)
        checks.text(f"{path}.name", call.name)
        checks.text(f"{path}.type", call.type)

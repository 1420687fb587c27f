"""Messages on their way in: checked, completed, and encoded as they will be stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from sessiond.v1 import message_pb2 as pb
from sessiond_server.errors import ClientIdReused
from sessiond_server.rpc import limits, parts_in
from sessiond_server.rpc.checks import Checks
from sessiond_server.sessions.contents import same
from sessiond_server.store.appends import MessageRow, join_tools, pack

ROLES = frozenset(pb.Role.values()) - {pb.ROLE_UNSPECIFIED}
KINDS = frozenset(pb.MessageKind.values())
OUTPUT_NUMBERS = range(100, 200)
_FIELDS = pb.Message.DESCRIPTOR.fields_by_name
_CLIENT_ID, _ROLE, _PARTS, _TOKEN_COUNT, _KIND, _TYPE, _METADATA, _EXTENSIONS = (
    _FIELDS[name]
    for name in (
        *("client_id", "role", "parts", "token_count", "kind", "type", "metadata", "extensions"),
    )
)
_HIDDEN_FROM_MODEL = _FIELDS["hidden_from_model"]
_HIDDEN_FROM_PEOPLE = _FIELDS["hidden_from_people"]
_GIVEN = frozenset(f for f in _FIELDS.values() if f.number not in OUTPUT_NUMBERS)
"""The fields that callers set; the others are the server's."""


def rows(messages: Sequence[pb.Message], checks: Checks) -> list[MessageRow]:
    """The messages of a call as they are stored. `checks` gets what is wrong with them."""
    checks.count("messages", len(messages), limits.CALL_MESSAGES, least=1)
    if checks.violations:
        return []
    found = [row(message, f"messages[{place}]", checks) for place, message in enumerate(messages)]
    checks.size("messages", sum([len(r.payload) for r in found]), limits.CALL_BYTES)
    return found


def once(rows: list[MessageRow], *, any_content: bool) -> tuple[list[MessageRow], list[int] | None]:
    """The rows without those that repeat an earlier one, and which of these each row is; `None` if none does.
    Raises `ClientIdReused` if one repeats a client id with other content, unless it may be `any_content`."""
    if len({row.client_id for row in rows}) == len(rows):
        return rows, None
    kept: dict[str, int] = {}
    unique: list[MessageRow] = []
    for row in rows:
        place = kept.setdefault(row.client_id, len(unique))
        if place == len(unique):
            unique.append(row)
        elif not any_content and not same(unique[place].payload, row.payload):
            raise ClientIdReused(row.client_id, None)
    return unique, [kept[row.client_id] for row in rows]


def row(message: pb.Message, where: str, checks: Checks) -> MessageRow:
    """A message as it is stored: checked but for the size of its call, completed with what it leaves out,
    and without what is the server's to say."""
    given = _given(message)
    client_id, role = given.get(_CLIENT_ID, ""), given.get(_ROLE, 0)
    kind, type = given.get(_KIND, 0), given.get(_TYPE, "")
    if not limits.CLIENT_ID.fullmatch(client_id):
        checks.wrong(f"{where}.client_id", limits.CLIENT_ID_FORM)
    if role not in ROLES:
        checks.enum(f"{where}.role", role, ROLES)
    for field, value in given.items():
        fine = _FINE.get(field)
        if fine is not None and not fine(value):
            _CHECKS[field](checks, f"{where}.{field.name}", value)
    parts, extensions = given.get(_PARTS, ()), given.get(_EXTENSIONS)
    if extensions or not parts_in.is_text(parts, role):
        walk = parts_in.Walk(role, where, checks)
        walk.take(parts, type)
        if extensions:
            walk.count_extensions(extensions, where)
        tools, has_maps = walk.tools(type), walk.extensions > 0
    else:
        tools, has_maps = join_tools((), (), type) if type else None, False
    if not kind:
        message.kind = kind = pb.MESSAGE_KIND_NORMAL
    facts = pack(
        given.get(_TOKEN_COUNT, 0),
        role,
        kind,
        _HIDDEN_FROM_MODEL not in given,
        _HIDDEN_FROM_PEOPLE not in given,
    )
    if has_maps or _METADATA in given:
        # Only maps have no order of their own, and the order costs more than all the rest.
        return MessageRow(client_id, facts, tools, message.SerializeToString(deterministic=True))
    return MessageRow(client_id, facts, tools, message.SerializeToString())


def _given(message: pb.Message) -> dict[FieldDescriptor, Any]:
    """The fields that the caller has set; those that are the server's to say are cleared. What isn't known
    here is gone or refused already, see `rpc/decoding.py`."""
    fields = message.ListFields()  # by their numbers: those of the server come last
    given = dict(fields)
    if fields and fields[-1][0].number in OUTPUT_NUMBERS:
        for field in given.keys() - _GIVEN:
            message.ClearField(field.name)  # type: ignore[arg-type]
            del given[field]
    return given


def check_facts(message: pb.Message, where: str, checks: Checks) -> None:
    """Check the facts that an update gives."""
    for field, value in message.ListFields():
        if field in _CHECKS:
            _CHECKS[field](checks, f"{where}.{field.name}", value)
    if message.extensions:
        parts_in.Walk(message.role, where, checks).count_extensions(message.extensions, where)


def _kind(checks: Checks, field: str, value: int) -> None:
    checks.enum(field, value, KINDS)


def _type(checks: Checks, field: str, value: str) -> None:
    checks.text(field, value, limits.MESSAGE_TYPE)


_Check = Callable[[Checks, str, Any], None]
_NAMED: dict[str, _Check] = {
    "kind": _kind,
    "type": _type,
    "token_count": Checks.not_negative,
    "turn_index": Checks.not_negative,
    "name": Checks.text,
    "model": Checks.text,
    "finish_reason": Checks.text,
    "elapsed": Checks.duration,
    "metadata": Checks.struct,
    "origin_time": Checks.timestamp,
}
_CHECKS = {_FIELDS[name]: check for name, check in _NAMED.items()}
"""How fields with a limit of their own are checked."""


def _never(_: object) -> bool:
    return False


_QUICK: dict[object, Callable[[Any], object]] = {
    Checks.text: limits.PLAIN_TEXT.fullmatch,
    Checks.not_negative: (0).__le__,
    _kind: KINDS.__contains__,
}
_FINE = {field: _QUICK.get(check, _never) for field, check in _CHECKS.items()}
"""Says of most values, without a word in Python, that there is nothing wrong with them."""

"""Arguments in Python's terms to values in the API's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, cast

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from sessiond import v1

if TYPE_CHECKING:
    from google.protobuf.internal.enum_type_wrapper import _EnumTypeWrapper

V = TypeVar("V", bound=int)
M = TypeVar("M", bound=Message)

Role: TypeAlias = v1.Role.ValueType | Literal["system", "developer", "user", "assistant", "tool"]
MessageKind: TypeAlias = v1.MessageKind.ValueType | Literal["normal", "summary", "reminder"]
MessageView: TypeAlias = v1.MessageView.ValueType | Literal["transcript", "context", "all"]
SortOrder: TypeAlias = v1.SortOrder.ValueType | Literal["ascending", "descending"]
SearchOrder: TypeAlias = v1.SearchOrder.ValueType | Literal["relevance", "newest"]
SessionState: TypeAlias = v1.SessionState.ValueType | Literal["active", "ended"]
SessionOrder: TypeAlias = v1.SessionOrder.ValueType | Literal["last_activity", "create_time"]
SessionView: TypeAlias = v1.SessionView.ValueType | Literal["basic", "full"]
TitleSource: TypeAlias = v1.TitleSource.ValueType | Literal["person", "automatic"]
ParentKind: TypeAlias = v1.ParentKind.ValueType | Literal["subagent", "continuation"]
Lifecycle: TypeAlias = v1.Lifecycle.ValueType | Literal["ephemeral", "linked", "detached"]
Disposition: TypeAlias = v1.Disposition.ValueType | Literal["inline", "attachment"]
UsageGrouping: TypeAlias = (
    v1.UsageGrouping.ValueType
    | Literal["turn", "model", "day", "day_and_model", "session", "owner", "agent", "source"]
)
ReminderState: TypeAlias = (
    v1.ReminderState.ValueType | Literal["pending", "completed", "cancelled", "failed"]
)
Permission: TypeAlias = v1.Permission.ValueType | Literal["read", "write", "admin"]
OnKnown: TypeAlias = v1.OnKnown.ValueType | Literal["refuse", "skip", "skip_any_content"]
IfExists: TypeAlias = v1.IfExists.ValueType | Literal["fail", "return"]
TitleConflict: TypeAlias = v1.TitleConflict.ValueType | Literal["allow", "refuse", "number"]


def enum_value(enum: _EnumTypeWrapper[V], prefix: str, value: V | str | None) -> V:
    """The value for a short name in lower case; a value as it is; `…_UNSPECIFIED` for None.

    Raises ValueError for a name that the enum doesn't have.
    """
    if value is None:
        return enum.values()[0]
    if not isinstance(value, str):
        return value
    names = [key.removeprefix(prefix).lower() for key in enum.keys()[1:]]
    if value not in names:
        raise ValueError(f"{value!r} is none of {', '.join(names)}")
    return enum.Value(prefix + value.upper())


def timestamp(value: datetime | None) -> Timestamp | None:
    """A time. Raises ValueError if it has no time zone."""
    if value is None:
        return None
    if value.tzinfo is None:
        raise ValueError(f"{value!r} has no time zone")
    result = Timestamp()
    result.FromDatetime(value)
    return result


def duration(value: float | timedelta | None) -> Duration | None:
    """A duration, given in seconds."""
    if value is None:
        return None
    result = Duration()
    result.FromTimedelta(value if isinstance(value, timedelta) else timedelta(seconds=value))
    return result


def struct(value: Mapping[str, Any] | None) -> Struct | None:
    """A JSON object for metadata. Its numbers are doubles: integers beyond 2**53 lose digits."""
    if value is None:
        return None
    result = Struct()
    result.update(dict(value))
    return result


def json_bytes(value: bytes | str) -> bytes:
    """A JSON text as its bytes."""
    return value.encode() if isinstance(value, str) else value


def given(**values: object) -> dict[str, Any]:
    """The arguments that aren't None."""
    return {name: value for name, value in values.items() if value is not None}


def mask(changes: Iterable[str]) -> FieldMask:
    """A mask of the fields that are given. Raises ValueError if there are none."""
    paths = list(changes)
    if not paths:
        raise ValueError("nothing to change")
    return FieldMask(paths=paths)


def guard(
    expected_next_seq: int, expected_revision: int, writer_token: str
) -> v1.WriteGuard | None:
    """The conditions of a write, if there are any."""
    if not (expected_next_seq or expected_revision or writer_token):
        return None
    return v1.WriteGuard(
        expected_next_seq=expected_next_seq,
        expected_revision=expected_revision,
        writer_token=writer_token,
    )


def exactly_one(**values: object) -> dict[str, Any]:
    """The one argument that is given. Raises ValueError if none is, or several are."""
    found = {name: value for name, value in given(**values).items() if value is not False}
    if len(found) != 1:
        raise ValueError(f"give one of {', '.join(values)}")
    return found


def only_one(**values: object) -> None:
    """Raises ValueError if more than one of the arguments is given."""
    names = list(given(**values))
    if len(names) > 1:
        raise ValueError(f"{' and '.join(names)} exclude each other")


def one_or_many(values: M | Iterable[M], kind: type[M]) -> Iterable[M]:
    """A single value as a list of one. Raises TypeError for what is of another kind."""
    if isinstance(values, kind):
        return [values]
    iterable = not isinstance(values, str | bytes | Mapping) and isinstance(values, Iterable)
    several: list[Any] = list(cast("Iterable[M]", values)) if iterable else [values]
    for it in several:
        if not isinstance(it, kind):
            hint = "; from_openai makes messages of dicts" if kind is v1.Message else ""
            raise TypeError(f"not a sessiond.v1.{kind.__name__}: {type(it).__name__}{hint}")
    return several


def into(
    field: str, set: Mapping[str, Any] | None, remove: Iterable[str], *, whole: bool
) -> list[str]:
    """The paths of a mask to single keys of a map."""
    keys = [*(set or {}), *remove]
    if keys and whole:
        raise ValueError(f"give all {field}, or single ones, not both")
    if twice := sorted(key for key in keys if keys.count(key) > 1):
        raise ValueError(f"{field} to set and to remove: {', '.join(twice)}")
    return [f"{field}.`{key.replace('`', '``')}`" for key in keys]

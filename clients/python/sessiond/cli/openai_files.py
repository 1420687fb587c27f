"""The file format of `import` and `export`: a JSON line per session, messages as OpenAI has them.

    {"id": "s1", "metadata": {...}, "messages": [{"role": "user", "content": "hi"}, ...]}

What the store's own fields can't hold exactly is kept beside them and given back by an export: the
whole message in an extension, odd metadata values and further keys of a line in one metadata entry.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from io import BufferedReader
from typing import Any, cast

from google.protobuf.struct_pb2 import Struct

from sessiond import from_openai, to_openai
from sessiond.cli.output import plain_struct
from sessiond.v1.message_pb2 import Message
from sessiond.v1.session_pb2 import Session

EXACT_EXTENSION = "sessionctl.openai"
EXACT_METADATA = "sessionctl.openai"

_KEYS = (
    *("role", "tool_call_id", "id", "type", "name", "content", "reasoning_content", "tool_calls"),
    *("function", "arguments", "text", "image_url", "url", "detail"),
)
_RANKS = {key: rank for rank, key in enumerate(_KEYS)}
_GZIP_MAGIC = b"\x1f\x8b"


class FormatError(ValueError):
    """A line isn't a session in this format; the text says where and why."""


@dataclass
class SessionLine:
    """A line of a file. `fields` are keys that the format doesn't know."""

    id: str
    metadata: dict[str, Any]
    messages: list[dict[str, Any]]
    fields: dict[str, Any] = field(default_factory=dict)


def decompressed(stream: BufferedReader[Any]) -> Iterable[bytes]:
    """The lines of the stream, or of what it holds when it is gzip."""
    if stream.peek(2)[:2] == _GZIP_MAGIC:
        return gzip.GzipFile(fileobj=stream)
    return stream


def parse_line(raw: bytes) -> SessionLine:
    """Reads one line; raises FormatError."""
    try:
        value = json.loads(raw, parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise FormatError("not a JSON object")
    session_id = value.pop("id", None)
    metadata = value.pop("metadata", None) or {}
    messages = value.pop("messages", None)
    if not isinstance(session_id, str) or not session_id:
        raise FormatError('no "id", or not a text')
    if not isinstance(metadata, dict):
        raise FormatError(f'session {session_id}: "metadata" isn\'t an object')
    if not isinstance(messages, list):
        raise FormatError(f'session {session_id}: no "messages", or not an array')
    return SessionLine(session_id, metadata, messages, value)


def to_message(value: object) -> Message:
    """The stored form of a message, from which `from_message` makes the same value again.

    Raises FormatError, whose text doesn't say which message it is.
    """
    if not isinstance(value, dict):
        raise FormatError("not a JSON object")
    ordered = _ordered(value)
    try:
        return from_openai([ordered])[0]
    except ValueError as error:
        refused = error
    try:
        # Unpaired surrogates can't be encoded in UTF-8, but they can as escapes in JSON.
        message = from_openai([_without_lone_surrogates(ordered)])[0]
        message.extensions[EXACT_EXTENSION] = canonical(ordered).encode("ascii")
    except ValueError:
        raise FormatError(str(refused).removeprefix("messages[0]").lstrip(".: ")) from refused
    return message


def from_message(message: Message) -> dict[str, Any]:
    """The message as the file had it, or in OpenAI's form if it was made otherwise."""
    exact = message.extensions.get(EXACT_EXTENSION)
    if exact:
        return cast(dict[str, Any], json.loads(exact))
    return dict(to_openai([message])[0])


def to_metadata(line: SessionLine) -> dict[str, Any]:
    """The metadata to store for a line's metadata and further fields; raises FormatError."""
    if EXACT_METADATA in line.metadata:
        raise FormatError(f"metadata can't have the key {EXACT_METADATA!r}")
    try:
        stored = _without_lone_surrogates(line.metadata)
        lossy = plain_struct(struct(stored))
        odd = {k: v for k, v in line.metadata.items() if k not in lossy or not _same(lossy[k], v)}
        if odd or line.fields:
            stored[EXACT_METADATA] = canonical({"metadata": odd, "fields": line.fields})
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise FormatError(f"metadata: {error}") from error
    return cast(dict[str, Any], stored)


def struct(metadata: dict[str, Any]) -> Struct:
    """The metadata as the store keeps them."""
    result = Struct()
    result.update(metadata)
    return result


def from_session(session: Session) -> SessionLine:
    """A session's line, without its messages."""
    metadata = plain_struct(session.metadata)
    exact = metadata.pop(EXACT_METADATA, None)
    if not isinstance(exact, str):
        return SessionLine(session.id, metadata, [])
    kept = json.loads(exact)
    for key, value in kept["metadata"].items():
        lossy = plain_struct(struct(_without_lone_surrogates({key: value})))
        if all(_same(metadata.get(name), lossy[name]) for name in lossy):
            for name in lossy:
                del metadata[name]
            metadata[key] = value
    return SessionLine(session.id, metadata, [], kept["fields"])


def line_chunks(line: SessionLine, messages: Iterator[Message]) -> Iterator[bytes]:
    """The bytes of a line, a message at a time."""
    head = {"id": line.id, "metadata": line.metadata, **line.fields}
    yield _dump(head)[:-1] + b', "messages": ['
    separator = b""
    for message in messages:
        yield separator + _dump(from_message(message))
        separator = b", "
    yield b"]}\n"


def canonical(value: object) -> str:
    """A JSON value as ASCII text; equal values, and only these, have equal texts."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _dump(value: object) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(value).encode("ascii")


def _ordered(value: Any) -> Any:
    """The value with its keys in one order: files that are equal as JSON are stored equally.

    It is the order of `to_openai`, from which the client library notes differences.
    """
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: (_RANKS.get(key, len(_RANKS)), key))
        return {key: _ordered(value[key]) for key in keys}
    if isinstance(value, list):
        return [_ordered(item) for item in value]
    return value


def _same(one: object, other: object) -> bool:
    return canonical(one) == canonical(other)


def _without_lone_surrogates(value: Any) -> Any:
    return _map_texts(value, lambda text: text.encode("utf-8", "replace").decode())


def _map_texts(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return value if value.isascii() else change(value)
    if isinstance(value, dict):
        return {_map_texts(k, change): _map_texts(v, change) for k, v in value.items()}
    if isinstance(value, list):
        return [_map_texts(item, change) for item in value]
    return value


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"{digits} is too large a number")
    return number


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} isn't JSON")

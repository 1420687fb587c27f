"""The native file format: a JSON line per record, readable and exact to the byte, with checksums.

    {"sessiond": {"format": "sessions", "version": 1}}
    {"session": {...}}
    {"message": {"seq": 1, "create_time": "...", "message": {...}}}
    {"end": {..., "sha256": "..."}}
    {"trailer": {"sessions": 1, "records": 3, "sha256": "..."}}

docs/migrating/native.md describes it for those who write or read it by other means.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message

from sessiond import v1
from sessiond.cli.file_kinds import other_than_native
from sessiond.cli.openai_files import FormatError

VERSION = 1
_HEADER = {"sessiond": {"format": "sessions", "version": VERSION}}
_WITH_MESSAGES = ("message", "revision")
_KINDS = {
    field.name: field
    for field in v1.TransferRecord.DESCRIPTOR.fields
    if field.containing_oneof is not None
}


class Writer:
    """Writes records; the file is whole once `close` has written the trailer."""

    def __init__(self, stream: BinaryIO) -> None:
        self.sessions = 0
        self._records = 0
        self._stream = stream
        self._file = hashlib.sha256()
        self._session = hashlib.sha256()
        self._write(_HEADER)

    def add(self, record: v1.TransferRecord) -> None:
        """Writes one record."""
        kind = record.WhichOneof("record")
        assert kind is not None
        if kind == "session":
            self._session = hashlib.sha256()
        value = value_of(record)
        if kind == "end":
            value["sha256"] = self._session.hexdigest()
            self.sessions += 1
        self._records += 1
        self._write({kind: value})

    def close(self) -> None:
        """Writes the trailer."""
        trailer = {"sessions": self.sessions, "records": self._records}
        self._write({"trailer": {**trailer, "sha256": self._file.hexdigest()}})

    def _write(self, value: dict[str, Any]) -> None:
        line = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        self._file.update(line)
        self._session.update(line)
        self._stream.write(line)


def value_of(record: v1.TransferRecord) -> dict[str, Any]:
    """A record as JSON; what JSON can't hold exactly comes with its encoding, which counts then."""
    kind = record.WhichOneof("record")
    assert kind is not None
    inner = getattr(record, kind)
    if kind in _WITH_MESSAGES:
        outer = type(inner)()
        outer.CopyFrom(inner)
        outer.ClearField("payload")
        value = _plain(outer) or {}
        return {**value, **_payload(inner.payload)}
    found = _plain(inner)
    if found is None or not _gives_back(found, inner, _encoded(inner)):
        return {"encoded": base64.b64encode(inner.SerializeToString()).decode()}
    return found


def _payload(payload: bytes) -> dict[str, Any]:
    message = v1.Message()
    with contextlib.suppress(DecodeError):
        message = v1.Message.FromString(payload)
    value = _plain(message)
    found: dict[str, Any] = {} if value is None else {"message": value}
    if value is not None and _gives_back(value, message, payload):
        return found
    return {**found, "payload": base64.b64encode(payload).decode()}


def _gives_back(value: dict[str, Any], like: Message, encoded: bytes) -> bool:
    try:
        return _encoded(_from_plain(value, type(like)())) == encoded
    except (ValueError, json_format.Error, RecursionError):
        return False


def _plain(message: Message) -> dict[str, Any] | None:
    try:
        return dict(json_format.MessageToDict(message, preserving_proto_field_name=True))
    except (ValueError, json_format.Error, RecursionError):
        return None


def _from_plain(value: dict[str, Any], message: Message) -> Message:
    json_format.ParseDict(value, message)
    return message


def _encoded(message: Message) -> bytes:
    return message.SerializeToString(deterministic=True)


def records(lines: Iterable[bytes]) -> Iterator[v1.TransferRecord]:
    """The records of a file. Raises FormatError, at its end too if it isn't whole."""
    reader = _Reader()
    for number, line in enumerate(lines, 1):
        try:
            record = reader.take(line)
        except FormatError as error:
            raise FormatError(f"line {number}: {error}") from None
        if record is not None:
            yield record
    reader.finish()


def check(lines: Iterable[bytes]) -> int:
    """Reads a file to its end without making records of it; how many there are. Raises FormatError."""
    reader = _Reader(only_check=True)
    for number, line in enumerate(lines, 1):
        try:
            reader.take(line)
        except FormatError as error:
            raise FormatError(f"line {number}: {error}") from None
    reader.finish()
    return reader.records


class _Reader:
    def __init__(self, *, only_check: bool = False) -> None:
        self.records = 0
        self._sessions = 0
        self._only_check = only_check
        self._file = hashlib.sha256()
        self._session = hashlib.sha256()
        self._begun = self._ended = False

    def take(self, line: bytes) -> v1.TransferRecord | None:
        kind = _kind(line)
        if not self._begun and kind != "sessiond":
            raise FormatError(_not_native(line))
        if not line.endswith(b"\n"):
            raise FormatError("the line isn't whole: the file was cut off")
        if not self._begun:
            self._begin(line)
            return None
        if self._ended:
            raise FormatError("there is more behind the trailer")
        if kind == "trailer":
            self._end(_value(line)[1])
            return None
        if kind not in _KINDS:
            raise FormatError(f"an unknown kind of record: {kind[:40]!r}")
        if kind == "session":
            self._session = hashlib.sha256()
        record = self._record(kind, line)
        self._file.update(line)
        self._session.update(line)
        self.records += 1
        return record

    def _begin(self, line: bytes) -> None:
        value = _value(line)[1]
        _only(value, *_HEADER["sessiond"])
        if value.get("format") != "sessions":
            raise FormatError("not a native file: its header names another format")
        if value.get("version") != VERSION:
            raise FormatError(
                f"its format version is {value.get('version')}; this sessionctl reads {VERSION}"
            )
        self._begun = True
        self._file.update(line)
        self._session.update(line)

    def _record(self, kind: str, line: bytes) -> v1.TransferRecord | None:
        if self._only_check and kind != "end":
            return None
        value = _value(line)[1]
        if kind == "end":
            self._sessions += 1
            if value.pop("sha256", None) != self._session.hexdigest():
                raise FormatError("the checksum of the session that ends here doesn't fit")
        return _record(kind, value)

    def _end(self, value: dict[str, Any]) -> None:
        _only(value, "sessions", "records", "sha256")
        counts = {"sessions": self._sessions, "records": self.records}
        if {key: value.get(key) for key in counts} != counts:
            raise FormatError(f"the trailer counts {value}, but there are {counts}")
        if value.get("sha256") != self._file.hexdigest():
            raise FormatError("the checksum of the file doesn't fit")
        self._ended = True

    def finish(self) -> None:
        if not self._begun:
            raise FormatError("not a native file: it is empty")
        if not self._ended:
            raise FormatError("the file has no trailer: it was cut off")


def _not_native(line: bytes) -> str:
    kind = other_than_native(line)
    return f"not a native file but {kind}" if kind else "not a native file: it has no header"


def _kind(line: bytes) -> str:
    """What a line holds, without reading it whole."""
    head = line[:64].lstrip().removeprefix(b"{").lstrip()
    return head[1:].split(b'"', 1)[0].decode("utf-8", "replace") if head[:1] == b'"' else ""


def _value(line: bytes) -> tuple[str, dict[str, Any]]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"not JSON: {error}") from None
    if isinstance(found, dict) and len(found) == 1:
        ((kind, value),) = found.items()
        if isinstance(value, dict):
            return kind, value
    raise FormatError("not an object with one key and an object in it")


def _record(kind: str, value: dict[str, Any]) -> v1.TransferRecord:
    record = v1.TransferRecord()
    inner = getattr(record, kind)
    try:
        if "encoded" in value:
            _only(value, "encoded")
            inner.ParseFromString(base64.b64decode(value["encoded"], validate=True))
        else:
            _fill(kind, inner, value)
    except (DecodeError, json_format.Error, binascii.Error, ValueError, TypeError) as error:
        raise FormatError(f"not a {kind}: {error}") from None
    inner.SetInParent()
    return record


def _only(value: dict[str, Any], *names: str) -> None:
    """Raises FormatError if there are other names, of which this release doesn't know what they mean."""
    for name in value.keys() - names:
        raise FormatError(f"has no {name[:100]!r}")


def _fill(kind: str, inner: Any, value: dict[str, Any]) -> None:
    if kind in _WITH_MESSAGES:
        message = value.pop("message", None)
        if "payload" not in value:
            inner.payload = _encoded(_from_plain(message or {}, v1.Message()))
    json_format.ParseDict(value, inner)

"""The messages of power-loop's session store."""

from __future__ import annotations

import json
from typing import Any

from sessiond import v1
from sessiond.cli.sources import making
from sessiond.cli.sources.making import Extras, Report
from sessiond.cli.sources.sqlite_file import Row
from sessiond.dialects import from_openai

SYSTEM = "power_loop"

_MESSAGE_COLUMNS = {
    *("session_id", "seq", "role", "name", "content", "tool_calls_json", "tool_call_id"),
    *("round_index", "state", "meta_json", "created_at"),
}
_ROLES = {"system", "developer", "user", "assistant", "tool"}
_MILLI = 10**6


def nanos_of(milliseconds: Any) -> int | None:
    """A time in milliseconds; None if it isn't one."""
    if isinstance(milliseconds, bool) or not isinstance(milliseconds, int | float):
        return None
    return making.nanoseconds(milliseconds / 1000) and int(milliseconds * _MILLI)


def json_object(raw: Any) -> dict[str, Any] | None:
    """A JSON text that holds an object which metadata can hold."""
    try:
        found = making.parsed(raw)
        json.dumps(found, allow_nan=False, ensure_ascii=False).encode()
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


class MessageRow:
    """One row of `messages`."""

    def __init__(self, row: Row, seq: int, report: Report, *, summary: bool) -> None:
        self._row = row
        self._seq = seq
        self._report = report
        self._summary = summary
        self._extras = Extras(SYSTEM, "messages", report)
        self._raw: dict[str, bytes] = {}

    def message(self, *, compacted: bool) -> v1.Message:
        """The message; `compacted` says whether a compaction hides it."""
        row, extras = self._row, self._extras
        role = row["role"] if row["role"] in _ROLES else "system"
        message = from_openai([self._item(role)])[0]
        message.client_id = f"power-loop:{row['seq']}"
        name = extras.short("name", row.get("name"))
        if role == "tool":
            message.parts[0].tool_result.tool_name = name
        else:
            message.name = name
        message.turn_index = extras.count("round_index", row.get("round_index") or 0)
        nanos = nanos_of(row.get("created_at"))
        if nanos is not None:
            message.origin_time.CopyFrom(making.timestamp(nanos))
        else:
            extras.keep("created_at", row.get("created_at"))
        self._flags(message, compacted)
        self._finish(message)
        return message

    def _item(self, role: str) -> dict[str, Any]:
        row = self._row
        item: dict[str, Any] = {"role": role, "content": self._content()}
        if row.get("tool_call_id") is not None:
            item["tool_call_id"] = making.call_id(row["tool_call_id"])
        if row.get("tool_calls_json") is not None:
            try:
                calls = making.parsed(row["tool_calls_json"])
                json.dumps(calls, allow_nan=False, ensure_ascii=False).encode()
                item["tool_calls"] = calls
            except ValueError:
                self._report.note("messages.tool_calls_json whose JSON is broken, kept as it is")
                self._keep_raw("tool_calls_json")
        return item

    def _content(self) -> str | None:
        content = self._row.get("content")
        if content is None:
            return None
        if isinstance(content, bytes) or making.has_surrogates(str(content)):
            self._keep_raw("content")
        text = content.decode("utf-8", "replace") if isinstance(content, bytes) else str(content)
        return making.replaced(text)

    def _keep_raw(self, column: str) -> None:
        value = self._row[column]
        raw = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")
        self._raw[f"power_loop.{column}"] = raw

    def _flags(self, message: v1.Message, compacted: bool) -> None:
        """Whether the model sees it: a compaction hides what it replaced, the flag hides the rest."""
        state = self._row.get("state", "active")
        shown = state == "active" or (state == "compacted_out" and compacted)
        message.hidden_from_model = not shown
        message.hidden_from_people = self._summary
        message.kind = v1.MessageKind.MESSAGE_KIND_NORMAL
        if self._summary:
            message.kind = v1.MessageKind.MESSAGE_KIND_SUMMARY
        if state not in ("active", "compacted_out") or (state == "active" and compacted):
            self._extras.keep("state", state)
        if state == "compacted_out" and not compacted:
            self._report.note("messages that no compaction on record has compacted out")

    def _finish(self, message: v1.Message) -> None:
        row, extras = self._row, self._extras
        extras.keep_unknown(row, _MESSAGE_COLUMNS)
        if row["role"] not in _ROLES:
            extras.keep("role", row["role"])
        if row["seq"] != self._seq:
            extras.keep("seq", row["seq"])
        meta = json_object(row.get("meta_json"))
        if row.get("meta_json") is not None and (meta is None or SYSTEM in meta):
            extras.keep("meta_json", row["meta_json"])
            meta = None
        for name, raw in self._raw.items():
            message.extensions[name] = raw
        values = {**(meta or {}), **({SYSTEM: extras.values} if extras.values else {})}
        if values and making.too_large(values):
            message.extensions["power_loop.columns"] = json.dumps(values).encode()
        elif values:
            message.metadata.CopyFrom(making.struct(values))

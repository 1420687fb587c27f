"""The SQLite state store of Hermes (`state.db`), of any schema version from 6 on.

Columns are taken as the file has them: those that are missing are left out, and those that are unknown
here go into metadata, as docs/migrating/hermes.md lists.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from sessiond import tool_calls_of, tool_results_of, v1
from sessiond.cli.openai_files import FormatError
from sessiond.cli.sources import making
from sessiond.cli.sources.making import Clock, Extras, Report
from sessiond.cli.sources.sqlite_file import Database, Row
from sessiond.dialects.openai_chat import fitted, from_openai

SYSTEM = "hermes"
FIRST_VERSION = 6

_PARTS_MARK = "\x00json:"
_ITEMS = ("reasoning_details", "codex_reasoning_items", "codex_message_items")
_TOKENS = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_read_tokens": "cache_read_tokens",
    "cache_write_tokens": "cache_write_tokens",
    "reasoning_tokens": "reasoning_tokens",
    "api_call_count": "model_calls",
}
_BILLING = {
    "billing_provider": "provider",
    "billing_base_url": "base_url",
    "billing_mode": "mode",
    "cost_status": "cost_status",
    "cost_source": "cost_source",
    "pricing_version": "pricing_version",
}
_SESSION_COLUMNS = {
    *("id", "source", "user_id", "model", "model_config", "system_prompt", "parent_session_id"),
    *("started_at", "ended_at", "end_reason", "message_count", "tool_call_count", "title"),
    *("estimated_cost_usd", "actual_cost_usd", "profile_name", "pinned", "archived"),
    *_TOKENS,
    *_BILLING,
}
_MESSAGE_COLUMNS = {
    *("id", "session_id", "role", "content", "tool_call_id", "tool_calls", "tool_name"),
    *("timestamp", "token_count", "finish_reason", "reasoning", "reasoning_content"),
    *("active", "compacted"),
    *_ITEMS,
}
_ROLES = {"system", "developer", "user", "assistant", "tool"}
_MODEL_LENGTH = 256


class HermesReader:
    """Yields the records of all sessions, parents first."""

    def __init__(self, database: Database, report: Report) -> None:
        self._database = database
        self._report = report
        database.require("Hermes", "sessions", "id")
        database.require("Hermes", "messages", "id", "session_id", "role")
        self.version = self._version()
        if self.version is not None and self.version < FIRST_VERSION:
            raise FormatError(
                f"its schema version is {self.version}; from {FIRST_VERSION} on it can be imported: "
                "let a newer Hermes open it once"
            )
        self._others = self._tables_of_sessions()

    def _version(self) -> int | None:
        versions = [row.get("version") for row in self._database.rows("schema_version")]
        numbers = [it for it in versions if isinstance(it, int)]
        return max(numbers) if numbers else None

    def _tables_of_sessions(self) -> list[str]:
        """Further tables whose rows are of sessions; what else there is, is only counted."""
        found = []
        for table in sorted(self._database.tables - {"sessions", "messages", "schema_version"}):
            if table.startswith(("sqlite_", "messages_fts")):
                continue
            if "session_id" in self._database.columns(table):
                found.append(table)
            else:
                self._report.note(
                    f"rows of {table}, which are of no session and weren't imported",
                    self._database.count(table),
                )
        return found

    def records(self) -> Iterator[v1.TransferRecord]:
        """The records, a session after the other."""
        rows = {str(row["id"]): row for row in self._database.rows("sessions", "started_at id")}
        for orphan in self._database.values("messages", "session_id"):
            if str(orphan) not in rows:
                self._report.note("sessions made for messages whose session is missing")
                rows[str(orphan)] = {"id": orphan}
        parents = {id: _parent(row) for id, row in rows.items()}
        for id in making.parents_first(parents):
            parent = rows.get(parents[id] or "")
            yield from _Session(self._database, self._report, rows[id], parent).records(
                self._others
            )


def _parent(row: Row) -> str | None:
    parent = row.get("parent_session_id")
    return None if parent is None else str(parent)


class _Session:
    def __init__(self, database: Database, report: Report, row: Row, parent: Row | None) -> None:
        self._database = database
        self._report = report
        self._row = row
        self._parent = parent
        self._extras = Extras(SYSTEM, "sessions", report)
        self._clock = Clock(report)
        self._calls = 0

    def records(self, others: list[str]) -> Iterator[v1.TransferRecord]:
        messages = list(self._messages())
        self._keep_counts(len(messages))
        for table in others:
            rows = [
                {column: value for column, value in row.items() if column != "session_id"}
                for row in self._database.rows(table, session_id=self._row["id"])
            ]
            if rows:
                self._extras.values[table] = making.plain(rows)
                self._report.note(f"rows of {table} in metadata", len(rows))
        session = self._facts(messages)
        if self._extras.values:
            if making.too_large({SYSTEM: self._extras.values}):
                messages.append(self._spill(len(messages) + 1))
            else:
                session.metadata.CopyFrom(making.struct({SYSTEM: self._extras.values}))
        yield v1.TransferRecord(session=v1.TransferSession(session=session))
        yield from messages
        yield from self._usage()
        yield v1.TransferRecord(
            end=v1.TransferEnd(message_count=len(messages), next_seq=len(messages) + 1)
        )

    def _spill(self, seq: int) -> v1.TransferRecord:
        """What is too much for metadata, as an entry of the log."""
        entry = making.hidden_entry("hermes:session")
        entry.extensions["hermes.session"] = json.dumps(self._extras.values).encode()
        self._report.note(
            "sessions whose metadata were too large and went into an entry of the log"
        )
        return making.message_record(entry, seq, self._clock.next(None))

    def _keep_counts(self, count: int) -> None:
        """The counters are derived here; those that say something else are kept."""
        for column, derived in (("message_count", count), ("tool_call_count", self._calls)):
            if self._row.get(column) not in (None, derived):
                self._extras.keep(column, self._row[column])

    def _facts(self, messages: list[v1.TransferRecord]) -> v1.Session:
        row, extras = self._row, self._extras
        extras.keep_unknown(row, _SESSION_COLUMNS)
        id = making.session_id(row["id"], SYSTEM)
        if id != row["id"]:
            extras.keep("id", row["id"])
            self._report.note("ids that sessions here can't have and that were replaced")
        first = messages[0].message.create_time.ToNanoseconds() if messages else None
        started = making.nanoseconds(row.get("started_at"))
        if started is None:
            extras.keep("started_at", row.get("started_at"))
        created = making.micros(first or 0) if started is None else making.micros(started)
        session = v1.Session(
            id=id,
            owner=extras.short("user_id", row.get("user_id")),
            source=extras.short("source", row.get("source")),
            agent=extras.short("profile_name", row.get("profile_name")),
            model=extras.short("model", row.get("model")),
            system_prompt=self._long("system_prompt"),
            config=self._long("model_config"),
            title=self._title(),
            pinned=bool(row.get("pinned")),
            create_time=making.timestamp(created),
            parent=self._parent_of(id),
            lifecycle=v1.Lifecycle.LIFECYCLE_DETACHED,
        )
        self._end(session, created)
        return session

    def _long(self, column: str) -> str:
        value = self._row.get(column)
        return "" if value is None else self._extras.text(column, value)

    def _title(self) -> str:
        title = self._row.get("title")
        if title is None:
            return ""
        text = self._extras.text("title", title)
        if len(text) > 100:
            self._extras.keep("title", title)
        return text[:100]

    def _end(self, session: v1.Session, created: int) -> None:
        row, extras = self._row, self._extras
        ended = making.nanoseconds(row.get("ended_at"))
        if ended is not None:
            session.state = v1.SessionState.SESSION_STATE_ENDED
            session.end_time.CopyFrom(making.timestamp(making.micros(ended)))
        elif row.get("ended_at") is not None:
            extras.keep("ended_at", row["ended_at"])
        session.end_reason = extras.short("end_reason", row.get("end_reason"))
        session.archived = bool(row.get("archived"))
        last = max(created, self._clock.last or created, making.micros(ended or created))
        session.last_activity_time.CopyFrom(making.timestamp(last))
        session.update_time.CopyFrom(
            making.timestamp(making.micros(ended) if ended is not None else created)
        )

    def _parent_of(self, id: str) -> v1.SessionParent | None:
        """A parent that was compressed away goes on in the child; else the child is a sub-agent's."""
        named = self._row.get("parent_session_id")
        if named is None:
            return None
        parent = making.session_id(named, SYSTEM)
        if self._parent is None or parent == id:
            self._extras.keep("parent_session_id", named)
            self._report.note("sessions whose parent isn't there")
            return None
        ended, started = self._parent.get("ended_at"), self._row.get("started_at")
        behind = (
            isinstance(ended, int | float) and isinstance(started, int | float) and started >= ended
        )
        goes_on = behind and self._parent.get("end_reason") in ("compression", "branched")
        if goes_on and self._parent.get("end_reason") == "branched":
            self._report.note("branches, which are continuations here")
        kind = (
            v1.ParentKind.PARENT_KIND_CONTINUATION
            if goes_on
            else v1.ParentKind.PARENT_KIND_SUBAGENT
        )
        return v1.SessionParent(id=parent, kind=kind)

    def _messages(self) -> Iterator[v1.TransferRecord]:
        rows = self._database.rows("messages", "id", session_id=self._row["id"])
        for seq, row in enumerate(rows, 1):
            message = _Message(row, self._report).made()
            self._calls += len(tool_calls_of(message))
            nanos = making.nanoseconds(row.get("timestamp"))
            yield making.message_record(message, seq, self._clock.next(nanos))

    def _usage(self) -> Iterator[v1.TransferRecord]:
        row, extras = self._row, Extras(SYSTEM, "sessions", self._report)
        used = v1.Usage()
        for theirs, ours in _TOKENS.items():
            setattr(used, ours, extras.count(theirs, row.get(theirs) or 0, 2**53))
        used.total_tokens = (
            used.input_tokens
            + used.output_tokens
            + used.cache_read_tokens
            + used.cache_write_tokens
        )
        estimated, actual = row.get("estimated_cost_usd"), row.get("actual_cost_usd")
        costly = estimated is not None or actual is not None
        if costly:
            used.costs.add(
                currency="USD",
                estimated="" if estimated is None else making.money(estimated),
                actual="" if actual is None else making.money(actual),
            )
        model = extras.short("model", row.get("model"))
        if costly or any(getattr(used, ours) for ours in _TOKENS.values()):
            started = making.nanoseconds(row.get("started_at")) or 0
            yield v1.TransferRecord(
                usage=v1.TransferUsage(
                    usage=used,
                    day=making.day(started),
                    model=model,
                    currency="USD" if costly else "",
                    record_count=1,
                    estimated_count=int(estimated is not None),
                    actual_count=int(actual is not None),
                )
            )
        facts = {
            ours: making.replaced(str(row[theirs]))
            for theirs, ours in _BILLING.items()
            if row.get(theirs) is not None
        }
        if facts:
            billing = v1.TransferBilling(billing=v1.Billing(**facts), model=model)
            yield v1.TransferRecord(billing=billing)


class _Message:
    """One row of `messages`."""

    def __init__(self, row: Row, report: Report) -> None:
        self._row = row
        self._report = report
        self._extras = Extras(SYSTEM, "messages", report)
        self._raw: dict[str, bytes] = {}

    def made(self) -> v1.Message:
        """The message, from which `to_openai` makes Hermes' own form again."""
        row, extras = self._row, self._extras
        item = self._conversation()
        message = from_openai([_shaped(item)])[0]
        message.client_id = f"hermes:{row['id']}"
        reasoning = row.get("reasoning")
        if reasoning is None:
            reasoning = row.get("reasoning_content")
        if reasoning is not None:
            self._think(message, extras.text("reasoning", reasoning))
        tool_name = extras.short("tool_name", row.get("tool_name"))
        for result in tool_results_of(message):
            result.tool_name = tool_name
        message.finish_reason = extras.short("finish_reason", row.get("finish_reason"))
        message.token_count = extras.count("token_count", row.get("token_count"))
        self._finish(message, item)
        return message

    def _think(self, message: v1.Message, reasoning: str) -> None:
        """Put the reasoning where it was, before what was said."""
        if message.role != v1.Role.ROLE_ASSISTANT:
            self._extras.keep("reasoning", reasoning)
            return
        said = list(message.parts)
        del message.parts[:]
        message.parts.append(v1.Part(reasoning=v1.Reasoning(text=reasoning)))
        message.parts.extend(said)

    def _conversation(self) -> dict[str, Any]:
        """The message as Hermes gives it to models: content, tool calls, and reasoning as it was."""
        row = self._row
        item: dict[str, Any] = {"role": row["role"], "content": self._content()}
        if row.get("tool_call_id") is not None:
            item["tool_call_id"] = making.call_id(row["tool_call_id"])
        if row.get("tool_calls") is not None:
            calls = self._json("tool_calls")
            if calls is not None:
                item["tool_calls"] = calls
        for column in ("reasoning", "reasoning_content"):
            if row.get(column) is not None:
                item[column] = making.replaced(str(row[column]))
        for column in _ITEMS:
            if row.get(column) is not None:
                self._keep_raw(column)
                value = self._json(column)
                if value is not None:
                    item[column] = value
        return item

    def _content(self) -> Any:
        content = self._row.get("content")
        if content is None:
            return None
        if isinstance(content, bytes):
            self._keep_raw("content")
            return content.decode("utf-8", "replace")
        text = str(content)
        if making.has_surrogates(text):
            self._keep_raw("content")
            return making.replaced(text)
        if text.startswith(_PARTS_MARK):
            try:
                parts = making.parsed(text.removeprefix(_PARTS_MARK))
            except ValueError:
                self._report.note("contents whose JSON is broken, kept as text")
                return text
            if isinstance(parts, list) and parts:
                return parts
        return text

    def _json(self, column: str) -> Any:
        try:
            value = making.parsed(self._row[column])
            json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
        except ValueError:
            self._report.note(f"messages.{column} whose JSON is broken, kept as it is")
            self._keep_raw(column)
            return None
        return value

    def _keep_raw(self, column: str) -> None:
        value = self._row[column]
        raw = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")
        name = column if column in _ITEMS else f"hermes.{column}"
        self._raw[name] = raw

    def _finish(self, message: v1.Message, item: dict[str, Any]) -> None:
        row, extras = self._row, self._extras
        if item["role"] in _ROLES:
            names = [it.tool_name for it in tool_results_of(message) if it.tool_name]
            fitted(message, {**item, **({"name": names[0]} if names else {})})
        else:
            self._report.note("messages in a role that isn't known here, which nobody sees")
            extras.keep("role", row["role"])
            message.MergeFrom(making.hidden_entry(message.client_id))
        if not row.get("active", 1):
            message.hidden_from_model = message.hidden_from_people = True
            extras.keep("active", row.get("active"))
        if row.get("compacted"):
            message.hidden_from_model = True
            extras.keep("compacted", row["compacted"])
        nanos = making.nanoseconds(row.get("timestamp"))
        if nanos is not None:
            message.origin_time.CopyFrom(making.timestamp(nanos))
        else:
            extras.keep("timestamp", row.get("timestamp"))
        for name, raw in self._raw.items():
            message.extensions[name] = raw
        extras.keep_unknown(row, _MESSAGE_COLUMNS)
        if extras.values and making.too_large({SYSTEM: extras.values}):
            message.extensions["hermes.columns"] = json.dumps(extras.values).encode()
        elif extras.values:
            message.metadata.CopyFrom(making.struct({SYSTEM: extras.values}))


def _shaped(item: dict[str, Any]) -> dict[str, Any]:
    """What chat completions have fields for; tool calls without ids can't be answered and get none."""
    role = item["role"] if item["role"] in _ROLES else "system"
    shaped = {**item, "role": role}
    shaped.pop("reasoning", None)
    shaped.pop("reasoning_content", None)
    return shaped

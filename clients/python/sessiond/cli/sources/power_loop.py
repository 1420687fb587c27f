"""The SQLite session store of power-loop.

Columns are taken as the file has them: those that are missing are left out, and those that are unknown
here go into metadata, as docs/migrating/power-loop.md lists.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from sessiond import tool_calls_of, tool_results_of, v1
from sessiond.cli.openai_files import FormatError
from sessiond.cli.output import plain_struct
from sessiond.cli.sources import making
from sessiond.cli.sources.making import Clock, Extras, Report
from sessiond.cli.sources.power_loop_messages import SYSTEM, MessageRow, json_object, nanos_of
from sessiond.cli.sources.sqlite_file import Database, Row

_TABLES = ("sessions", "messages", "compactions", "usage_rounds", "session_state")
_SESSION_COLUMNS = {
    *("session_id", "created_at", "updated_at", "system_prompt", "model", "config_json", "status"),
    *("kind", "parent_session_id", "spawn_tool_call_id", "spawn_depth", "lifecycle"),
    "metadata_json",
}
_COMPACTION_COLUMNS = {
    *("session_id", "compact_seq", "note_seq", "from_seq", "to_seq", "before_tokens"),
    *("after_tokens", "round_index", "created_at"),
}
_USAGE_COLUMNS = {
    *("session_id", "round_index", "prompt_tokens", "completion_tokens", "total_tokens", "model"),
    *("created_at", "cached_tokens", "send_index"),
}
_STATE_COLUMNS = {"session_id", "next_seq", "round_index", "last_compact_seq", "pending_json"}
_STATES = {
    "active": v1.SessionState.SESSION_STATE_ACTIVE,
    "archived": v1.SessionState.SESSION_STATE_ACTIVE,
    "ended": v1.SessionState.SESSION_STATE_ENDED,
}
_LIFECYCLES = {
    "ephemeral": v1.Lifecycle.LIFECYCLE_EPHEMERAL,
    "linked": v1.Lifecycle.LIFECYCLE_LINKED,
    "detached": v1.Lifecycle.LIFECYCLE_DETACHED,
}


class PowerLoopReader:
    """Yields the records of all sessions, parents first."""

    def __init__(self, database: Database, report: Report) -> None:
        self._database = database
        self._report = report
        self.prefix = self._prefix()
        names = {self.prefix + name for name in _TABLES}
        database.require("power-loop", self.prefix + "sessions", "session_id")
        database.require("power-loop", self.prefix + "messages", "session_id", "seq", "role")
        self._others = self._tables_of_sessions(names)

    def _prefix(self) -> str:
        """What the names of tables begin with."""
        for table in sorted(self._database.tables):
            prefix = str(table).removesuffix("session_state")
            if prefix != table and f"{prefix}sessions" in self._database.tables:
                return prefix
        raise FormatError("not a store of power-loop: it has no table session_state")

    def _tables_of_sessions(self, names: set[str]) -> list[str]:
        found = []
        for table in sorted(self._database.tables - names):
            if table.startswith("sqlite_"):
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
        sessions = self.prefix + "sessions"
        rows = {
            str(row["session_id"]): row
            for row in self._database.rows(sessions, "created_at session_id")
        }
        for orphan in self._database.values(self.prefix + "messages", "session_id"):
            if str(orphan) not in rows:
                self._report.note("sessions made for messages whose session is missing")
                rows[str(orphan)] = {"session_id": orphan}
        parents = {id: _parent(row) for id, row in rows.items()}
        depths: dict[str, int] = {}
        for id in making.parents_first(parents):
            parent = parents[id] if parents[id] in rows else None
            depths[id] = depths.get(parent, 0) + 1 if parent else 0
            session = _Session(self, rows[id], has_parent=parent is not None, depth=depths[id])
            yield from session.records()

    def rows(self, table: str, order: str, session_id: Any) -> list[Row]:
        return list(self._database.rows(self.prefix + table, order, session_id=session_id))

    def other_rows(self, session_id: Any) -> Iterator[tuple[str, list[Row]]]:
        """The rows of tables that are unknown here."""
        for table in self._others:
            rows = list(self._database.rows(table, session_id=session_id))
            if rows:
                yield (
                    table,
                    [
                        {column: value for column, value in row.items() if column != "session_id"}
                        for row in rows
                    ],
                )

    @property
    def report(self) -> Report:
        return self._report


def _parent(row: Row) -> str | None:
    parent = row.get("parent_session_id")
    return None if parent is None else str(parent)


class _Session:
    def __init__(self, reader: PowerLoopReader, row: Row, *, has_parent: bool, depth: int) -> None:
        self._reader = reader
        self._report = reader.report
        self._row = row
        self._id = row["session_id"]
        self._has_parent = has_parent
        self._depth = depth
        self._extras = Extras(SYSTEM, "sessions", self._report)
        self._clock = Clock(self._report)
        states = reader.rows("session_state", "", self._id)
        self._state: Row = states[0] if states else {}
        self._seqs: dict[int, int] = {}
        self._open: dict[str, int] = {}
        self._pairs: list[tuple[int, int]] = []

    def records(self) -> Iterator[v1.TransferRecord]:
        log = list(self._log())
        log += self._pending(sum(record.HasField("message") for record in log))
        self._keep_state()
        for table, rows in self._reader.other_rows(self._id):
            self._extras.values[table] = making.plain(rows)
            self._report.note(f"rows of {table} in metadata", len(rows))
        session = self._facts(log)
        if self._extras.values:
            metadata = {**plain_struct(session.metadata), SYSTEM: self._extras.values}
            if making.too_large(metadata):
                log.append(self._spill(log))
            else:
                session.metadata.CopyFrom(making.struct(metadata))
        yield v1.TransferRecord(session=v1.TransferSession(session=session))
        yield from log
        yield from self._usage()
        count = sum(record.HasField("message") for record in log)
        yield v1.TransferRecord(end=v1.TransferEnd(message_count=count, next_seq=count + 1))

    def _spill(self, log: list[v1.TransferRecord]) -> v1.TransferRecord:
        """What is too much for metadata, as an entry of the log."""
        entry = making.hidden_entry("power-loop:session")
        entry.extensions["power_loop.session"] = json.dumps(self._extras.values).encode()
        self._report.note(
            "sessions whose metadata were too large and went into an entry of the log"
        )
        seq = sum(record.HasField("message") for record in log) + 1
        return making.message_record(entry, seq, self._clock.next(None))

    def _facts(self, log: list[v1.TransferRecord]) -> v1.Session:
        row, extras = self._row, self._extras
        extras.keep_unknown(row, _SESSION_COLUMNS)
        id = making.session_id(self._id, "power-loop")
        if id != self._id:
            extras.keep("session_id", self._id)
            self._report.note("ids that sessions here can't have and that were replaced")
        first = next((it.message.create_time.ToNanoseconds() for it in log), 0)
        created = nanos_of(row.get("created_at"))
        created = first if created is None else created
        updated = max(created, nanos_of(row.get("updated_at")) or created)
        session = v1.Session(
            id=id,
            source="power-loop",
            model=extras.short("model", row.get("model")),
            system_prompt=self._long("system_prompt"),
            config=self._long("config_json"),
            lifecycle=self._lifecycle(),
            parent=self._parent_of(id),
            turn_index=extras.count("round_index", self._state.get("round_index") or 0),
            create_time=making.timestamp(created),
            update_time=making.timestamp(updated),
            last_activity_time=making.timestamp(max(updated, self._clock.last or updated)),
        )
        self._take_status(session, updated)
        self._take_metadata(session)
        return session

    def _long(self, column: str) -> str:
        value = self._row.get(column)
        return "" if value is None else self._extras.text(column, value)

    def _lifecycle(self) -> v1.Lifecycle.ValueType:
        lifecycle = self._row.get("lifecycle")
        if lifecycle not in _LIFECYCLES:
            self._extras.keep("lifecycle", lifecycle)
        return _LIFECYCLES.get(str(lifecycle), v1.Lifecycle.LIFECYCLE_LINKED)

    def _parent_of(self, id: str) -> v1.SessionParent | None:
        row, extras = self._row, self._extras
        named = row.get("parent_session_id")
        kind = row.get("kind")
        if kind != ("root" if named is None else "subagent"):
            extras.keep("kind", kind)
        depth = self._depth if named is not None else 0
        if row.get("spawn_depth") not in (None, depth):
            extras.keep("spawn_depth", row["spawn_depth"])
        call = row.get("spawn_tool_call_id")
        if named is None or not self._has_parent or making.session_id(named, "power-loop") == id:
            if named is not None:
                self._report.note("sessions whose parent isn't there")
            extras.keep("parent_session_id", named)
            extras.keep("spawn_tool_call_id", call)
            return None
        return v1.SessionParent(
            id=making.session_id(named, "power-loop"),
            kind=v1.ParentKind.PARENT_KIND_SUBAGENT,
            spawn_tool_call_id="" if call is None else making.call_id(call),
        )

    def _take_status(self, session: v1.Session, updated: int) -> None:
        status = self._row.get("status")
        if status not in _STATES:
            self._extras.keep("status", status)
        session.archived = status == "archived"
        session.state = _STATES.get(str(status), v1.SessionState.SESSION_STATE_ACTIVE)
        if session.state == v1.SessionState.SESSION_STATE_ENDED:
            session.end_time.CopyFrom(making.timestamp(updated))

    def _take_metadata(self, session: v1.Session) -> None:
        """The application's metadata stay what they are; what they'd lose as numbers is kept as text."""
        raw = self._row.get("metadata_json")
        if raw is None:
            return
        found = json_object(raw)
        if found is None or SYSTEM in found or making.too_large(found):
            self._extras.keep("metadata_json", raw)
            return
        session.metadata.CopyFrom(making.struct(found))
        if plain_struct(session.metadata) != found:
            self._extras.keep("metadata_json", raw)

    def _keep_state(self) -> None:
        """What is derived here, where theirs says something else."""
        state, extras = self._state, self._extras
        extras.keep_unknown(state, _STATE_COLUMNS)
        last = max(self._seqs, default=0)
        if state.get("next_seq") not in (None, last + 1):
            extras.keep("next_seq", state["next_seq"])
        rows = self._reader.rows("compactions", "", self._id)
        newest = max((row["compact_seq"] for row in rows), default=0)
        if state.get("last_compact_seq") not in (None, newest):
            extras.keep("last_compact_seq", state["last_compact_seq"])

    def _log(self) -> Iterator[v1.TransferRecord]:
        """The messages, and each compaction behind its summary."""
        rows = self._reader.rows("messages", "seq", self._id)
        self._seqs = {row["seq"]: seq for seq, row in enumerate(rows, 1)}
        compactions = self._compactions()
        hidden = {seq for it in compactions.values() for seq in range(it.from_seq, it.to_seq + 1)}
        for seq, row in enumerate(rows, 1):
            compaction = compactions.get(seq)
            made = MessageRow(row, seq, self._report, summary=compaction is not None)
            message = made.message(compacted=seq in hidden)
            for result in tool_results_of(message):
                if result.tool_call_id in self._open:
                    self._pairs.append((self._open.pop(result.tool_call_id), seq))
            self._open.update((call.id, seq) for call in tool_calls_of(message))
            created = self._clock.next(nanos_of(row.get("created_at")))
            yield making.message_record(message, seq, created, summary=compaction is not None)
            if compaction is not None:
                yield v1.TransferRecord(compaction=v1.TransferCompaction(compaction=compaction))

        split = sum(
            any(
                (it.from_seq <= a <= it.to_seq) != (it.from_seq <= b <= it.to_seq)
                for a, b in self._pairs
            )
            for it in compactions.values()
        )
        self._report.note(
            "compactions that separate a tool call from its result, as they did there", split
        )

    def _compactions(self) -> dict[int, v1.Compaction]:
        """By the seqs of their summaries. Where a later one takes in a summary, which stands at the end there
        and in the place of its range here, it takes in that range as well."""
        found: dict[int, v1.Compaction] = {}
        for row in self._reader.rows("compactions", "compact_seq", self._id):
            seqs = self._seqs
            inside = [seqs[it] for it in seqs if row["from_seq"] <= it <= row["to_seq"]]
            summary = seqs.get(row["note_seq"])
            if summary is None or not inside or max(inside) >= summary:
                self._extras.values.setdefault("compactions", []).append(making.plain(row))
                self._report.note("compactions without a summary behind them, kept in metadata")
                continue
            low, high = self._widened(min(inside), max(inside), found)
            if (low, high) != (min(inside), max(inside)):
                self._report.note(
                    "compactions whose range takes in that of an earlier summary here"
                )
            found[summary] = self._compaction(row, summary, low, high)
        return found

    @staticmethod
    def _widened(low: int, high: int, found: dict[int, v1.Compaction]) -> tuple[int, int]:
        for summary, earlier in found.items():
            taken = low <= summary <= high
            overlap = earlier.from_seq <= high and low <= earlier.to_seq
            if taken or overlap:
                low, high = min(low, earlier.from_seq), max(high, earlier.to_seq)
        return low, high

    def _compaction(self, row: Row, summary: int, low: int, high: int) -> v1.Compaction:
        extras = Extras(SYSTEM, "compactions", self._report)
        created = nanos_of(row.get("created_at"))
        return v1.Compaction(
            id=summary,
            from_seq=low,
            to_seq=high,
            message_count=high - low + 1,
            tokens_before=extras.count("before_tokens", row.get("before_tokens") or 0, 2**53),
            tokens_after=extras.count("after_tokens", row.get("after_tokens") or 0, 2**53),
            turn_index=extras.count("round_index", row.get("round_index") or 0),
            create_time=making.timestamp(created or 0),
        )

    def _pending(self, count: int) -> Iterator[v1.TransferRecord]:
        """The calls that wait for their results: those of the log are found there, others get an entry."""
        raw = self._state.get("pending_json")
        if raw is None:
            return
        self._extras.keep("pending_json", raw)
        found = json_object(raw)
        calls = (found or {}).get("tool_calls")
        missing = [
            call
            for call in (calls if isinstance(calls, list) else [])
            if isinstance(call, dict)
            and call.get("id")
            and making.call_id(call["id"]) not in self._open
        ]
        if not missing:
            return
        entry = making.hidden_entry("power-loop:pending", v1.Role.ROLE_ASSISTANT)
        entry.parts.extend(v1.Part(tool_call=_pending_call(call)) for call in missing)
        entry.extensions["power_loop.pending"] = str(raw).encode("utf-8", "replace")
        self._report.note(
            "pending calls that no message holds, in an entry that the model doesn't see",
            len(missing),
        )
        updated = nanos_of(self._row.get("updated_at"))
        yield making.message_record(entry, count + 1, self._clock.next(updated))

    def _usage(self) -> Iterator[v1.TransferRecord]:
        turns: dict[tuple[int, str, str], v1.TransferUsage] = {}
        sums: dict[tuple[str, str], v1.TransferUsage] = {}
        for row in self._reader.rows("usage_rounds", "round_index send_index", self._id):
            used, model, nanos = self._used(row)
            index, day = row["round_index"], making.day(nanos)
            of_turn = turns.setdefault(
                (index, model, day), v1.TransferUsage(day=day, model=model, turn_index=index)
            )
            of_turn.record_time.CopyFrom(making.timestamp(nanos))
            of_day = sums.setdefault((model, day), v1.TransferUsage(day=day, model=model))
            for total in (of_turn, of_day):
                _add(total, used)
        for usage in (*sums.values(), *turns.values()):
            yield v1.TransferRecord(usage=usage)

    def _used(self, row: Row) -> tuple[v1.Usage, str, int]:
        extras = Extras(SYSTEM, "usage_rounds", self._report)
        extras.keep_unknown(row, _USAGE_COLUMNS)
        if extras.values:
            kept = self._extras.values.setdefault("usage_rounds", [])
            kept.append({"round_index": row["round_index"], **extras.values})
        if row.get("send_index"):
            self._report.note("turns of further sends, added to those of the same number")
        prompt, cached = (
            extras.count(it, row.get(it) or 0, 2**53) for it in ("prompt_tokens", "cached_tokens")
        )
        used = v1.Usage(
            input_tokens=max(0, prompt - cached),
            cache_read_tokens=min(cached, prompt),
            output_tokens=extras.count(
                "completion_tokens", row.get("completion_tokens") or 0, 2**53
            ),
            model_calls=1,
        )
        total = row.get("total_tokens")
        used.total_tokens = (
            extras.count("total_tokens", total, 2**53)
            if total is not None
            else prompt + used.output_tokens
        )
        nanos = nanos_of(row.get("created_at")) or nanos_of(self._row.get("created_at")) or 0
        return used, extras.short("model", row.get("model")), nanos


def _add(total: v1.TransferUsage, used: v1.Usage) -> None:
    total.record_count += 1
    for field, value in used.ListFields():
        setattr(total.usage, field.name, getattr(total.usage, field.name) + value)


def _pending_call(call: dict[str, Any]) -> v1.ToolCall:
    function = call.get("function")
    inner = function if isinstance(function, dict) else call
    arguments = inner.get("arguments", "")
    return v1.ToolCall(
        id=making.call_id(call["id"]),
        name=making.clean(inner.get("name") or ""),
        arguments=arguments if isinstance(arguments, str) else json.dumps(arguments),
    )

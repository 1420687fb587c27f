"""docs/errors.md and docs/limits.md say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sessiond_server.config import Settings
from sessiond_server.rpc import limits
from sessiond_server.sessions.reminders import FIRST_PAUSE, LONGEST_PAUSE
from sessiond_server.store import batcher
from tests.rpc.reasons import REASONS

_DOCS = Path(__file__).parents[2] / "docs"


def _rows(name: str) -> dict[str, list[str]]:
    """The rows of a document's tables by their first cell."""
    text = (_DOCS / name).read_text(encoding="utf-8")
    found = [[cell.strip() for cell in row[2:-2].split(" | ")] for row in text.split("\n")]
    return {row[0].strip("`"): row[1:] for row in found if len(row) > 1}


def test_the_errors_are_those_of_the_api() -> None:
    documented = {row for row, cells in _rows("errors.md").items() if len(cells) == 5}
    assert documented - {"reason"} == REASONS.keys()


@pytest.mark.parametrize("name", REASONS)
def test_an_error_is_documented_as_it_is_sent(name: str) -> None:
    code, when, what_to_do, retry, metadata = _rows("errors.md")[name]
    reason = REASONS[name]
    assert code == reason.code.name
    assert when.endswith(".")
    assert what_to_do.endswith(".")
    assert set(re.findall(r"`(\w+)`", metadata)) == reason.metadata
    assert set(re.findall(r"`(\w+)` if there is one", metadata)) == reason.optional
    automatic = code in ("UNAVAILABLE", "RESOURCE_EXHAUSTED")
    assert retry == ("yes" if automatic else "later" if reason.retry_info else "no")
    assert not automatic or reason.retry_info


def _size(size: int) -> str:
    for unit, name in ((2**20, "MiB"), (2**10, "KiB")):
        if size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size} bytes"


_LIMITS = {
    "SHORT_TEXT": "short texts",
    "TITLE": "title",
    "TOOL_CALL_ID_BYTES": "tool call id",
    "SYSTEM_PROMPT_BYTES": "system prompt",
    "CONFIG_BYTES": "config",
    "METADATA_BYTES": "metadata",
    "METADATA_LEVELS": "levels of metadata",
    "LABELS": "labels",
    "LABEL_KEY": "key of a label",
    "LABEL_FILTERS": "labels to select by",
    "SOURCES": "sources to select by",
    "AGENTS": "agents to select by",
    "CALL_MESSAGES": "messages of an append",
    "CALL_BYTES": "their size together",
    "MESSAGE_BYTES": "a message after updates",
    "UPDATED_BYTES": "messages of an update together",
    "FRAME_APPENDS": "appends of a frame",
    "FRAME_EVENTS": "events of a frame",
    "WATCH_TARGETS": "targets of a watch",
    "EVENT_KINDS": "kinds of events to send",
    "TRANSFER_RECORDS": "records of a piece",
    "TRANSFER_IDS": "sessions to export by id",
    "DRAFT_DELTAS": "deltas of a request",
    "DRAFT_BYTES": "a draft",
    "RESUME_TOKENS": "resume tokens of a target",
    "WATCH_DESCENDANTS": "descendants that there are at the start",
    "STREAM_WINDOW": "appends of a stream that wait",
    "PARTS": "parts",
    "MESSAGE_TYPE": "type",
    "MESSAGE_TYPES": "types to list",
    "EXTENSIONS": "extensions",
    "EXTENSION_NAME": "name of an extension",
    "MEDIA_BYTES": "image or file",
    "ATTACHMENT_NAME": "name of an attachment",
    "ATTACHMENT_FRAME_BYTES": "bytes of a frame",
    "RECEIVE_BYTES": "a request",
    "BATCH_SESSIONS": "sessions of a batch",
    "MASK_PATHS": "paths of a mask",
    "SESSION_PAGE": "sessions of a page",
    "PRUNE_PAGE": "sessions of a prune",
    "MESSAGE_PAGE": "messages of a page",
    "RECORD_PAGE": "records of a page",
    "JOURNAL_RECORD_BYTES": "a record of a journal",
    "JOURNAL_KINDS": "kinds to list by",
    "USAGE_RECORDS": "records of a call",
    "BASE_URL": "base URL",
    "REPORT_PAGE": "reports of a page",
    "SEARCH_QUERY": "query",
    "SEARCH_PAGE": "hits of a page",
    "NAME_BYTES": "what to resolve",
    "SEARCH_NEIGHBORS": "messages around a hit",
    "SEARCH_NEIGHBOR_TEXT": "text of a message around a hit",
    "SNIPPET": "snippet",
    "REINDEXED": "sessions to index anew",
    "KEEP_RECENT": "messages to keep",
    "LEASE_SECONDS": "time of a lease",
    "WRITER_LEASE_SECONDS": "time of a writer lease that is left out",
    "COMPACTION_LEASE_SECONDS": "time of a compaction lease that is left out",
    "COMMENT": "comment",
    "API_KEY_DAYS": "days until an API key expires",
    "REMINDER_MESSAGE_BYTES": "message of a reminder",
    "REMINDER_YEARS": "trigger time",
    "REMINDER_INTERVAL_SECONDS": "interval",
    "REMINDER_DELAY_SECONDS": "delay",
    "REMINDER_TYPES": "types to claim",
    "REMINDER_ATTEMPTS": "attempts of a reminder",
    "REMINDER_ERROR": "error of a reminder",
    "RETRY_DELAY_SECONDS": "time until a retry",
    "PENDING_REMINDERS": "pending reminders of a session",
    "CLAIMS": "claims of a call",
    "CLAIM_LEASE_SECONDS": "time of a claim that is left out",
    "WAIT_SECONDS": "wait",
    "CONSUMERS": "consumers",
    "IDLE_SPAN_SECONDS": "idle time",
    "IDLE_SECONDS": "idle time that is left out",
    "APPEND_TIMEOUT_SECONDS": "wait of an append of a stream",
    "SESSION_CLAIM_SECONDS": "time of a session's claim that is left out",
}
_OTHERWISE = {
    "SESSION_ID_BYTES",
    "IMPORT_AHEAD",
    "PAGE_BYTES",
    "JOURNAL_RECORDS",
    "JOURNAL_BYTES",
    "USAGE_COUNT",
    "MAX_SEQ",
    "EARLIEST_SECOND",
    "LATEST_SECOND",
}
"""Numbers that the text says in other words; they are looked at below."""


def test_every_number_of_the_limits_is_documented() -> None:
    numbers = {
        name
        for name, value in vars(limits).items()
        if name.isupper() and isinstance(value, int | tuple)
    }
    assert numbers == _LIMITS.keys() | _OTHERWISE


def _documented(name: str) -> str:
    """A limit as the text must say it."""
    value = getattr(limits, name)
    if name.endswith("_PAGE") or name in ("KEEP_RECENT", "SNIPPET", "CLAIMS"):
        most = f"{value[1]:,}" if value[1] >= 10_000 else str(value[1])
        return f"{value[0]} by default, {most} at most"
    if name.endswith("_SECONDS") and isinstance(value, tuple):
        return f"{value[0]} s to {value[1]} s"
    if name == "REMINDER_YEARS":
        return f"the years {value[0]} to {value[1]}"
    if name.endswith("_BYTES"):
        return f"{value} bytes" if value < 2**10 else _size(value)
    if name in ("WATCH_DESCENDANTS", "RESUME_TOKENS"):
        return f"{value:,}"
    return f"{value} s" if name.endswith("_SECONDS") else str(value)


@pytest.mark.parametrize(("name", "row"), _LIMITS.items())
def test_a_limit_is_documented_as_it_is_held(name: str, row: str) -> None:
    value = _rows("limits.md")[row][0]
    assert re.match(rf"(1–)?{re.escape(_documented(name))}(\W|$)", value)


def test_limits_in_other_words() -> None:
    rows = {row: cells[0] for row, cells in _rows("limits.md").items()}
    call = f"1–{limits.CALL_MESSAGES}, {_size(limits.CALL_BYTES)} together"
    assert rows["changes of an update"] == call
    assert rows["bytes of a page"] == _size(limits.PAGE_BYTES + 4096)
    first, longest = (it.seconds for it in (FIRST_PAUSE, LONGEST_PAUSE))
    pauses = f"{first} s, twice as long after each attempt, at most {longest} s"
    assert rows["time until a retry that is left out"] == pauses
    log = f"{limits.JOURNAL_RECORDS:,} records, {_size(limits.JOURNAL_BYTES)} of content"
    assert rows["journal of a session"].startswith(log)
    assert rows["counts of a record"] == f"0 to 10^{len(str(limits.USAGE_COUNT)) - 1}"
    assert rows["seqs"] == f"0 to 2^{limits.MAX_SEQ.bit_length() - 1}"
    assert rows["value of a label"].startswith(f"{limits.SHORT_TEXT},")
    forms = {
        "session id": limits.SESSION_ID_FORM,
        "client id": limits.CLIENT_ID_FORM,
        "id of a retention policy": limits.POLICY_ID_FORM,
        "request id": limits.REQUEST_ID_FORM.replace("at most ", ""),
        "costs of a record": limits.MONEY_FORM,
        "currency": limits.CURRENCY_FORM,
        "watch id": limits.WATCH_ID_FORM.replace("at most ", ""),
        "reminder id": limits.REMINDER_ID_FORM,
        "consumer id": limits.CLIENT_ID_FORM,
    }
    for row, form in forms.items():
        assert rows[row].replace("`", "") == form.removeprefix("must be ")


@pytest.mark.parametrize(
    ("row", "setting"),
    [
        ("depth of sub-agents", "max_spawn_depth"),
        ("messages that wait to be appended", "append_queue_messages"),
        ("calls that wait for a connection", "read_queue"),
        ("seconds that a call waits for a session which another one holds", "lock_timeout"),
        ("watches", "feed_watches"),
        ("drafts at once", "feed_drafts"),
        ("bytes of an attachment", "attachment_bytes"),
        ("attachments of a session", "session_attachments"),
        ("bytes of a session's attachments", "session_attachment_bytes"),
        ("unfinished uploads of a session", "session_uploads"),
        ("seconds that an unfinished upload waits", "attachment_upload_expiry"),
        ("uploads at once", "attachment_uploads"),
        ("downloads at once", "attachment_downloads"),
        ("imports at once", "imports"),
        ("watches of a connection", "feed_watches_per_connection"),
    ],
)
def test_limits_that_are_settings(row: str, setting: str) -> None:
    default = Settings.model_fields[setting].default
    number = f"{default:,}" if 10_000 <= default < 2**20 else str(default)
    value = _rows("limits.md")[row][0]
    assert value.startswith(f"{number} (setting `{setting}`")
    if setting == "append_queue_messages":
        assert value.endswith(_size(batcher.QUEUE_BYTES))

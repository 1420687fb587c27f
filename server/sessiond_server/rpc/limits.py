"""Every limit on what a client sends, in one table. The protos' comments and docs/limits.md say the same.

Sizes are bytes, lengths are characters, durations are seconds.
"""

from __future__ import annotations

import re
from typing import Final

from sessiond_server.sessions import session_ids

SESSION_ID_BYTES: Final = session_ids.MAX_BYTES
SESSION_ID_FORM: Final = (
    "must be 1–512 bytes without control characters, U+2028, U+2029 and noncharacters"
)
CLIENT_ID: Final = re.compile(r"[!-~]{1,128}")
CLIENT_ID_FORM: Final = "must be 1–128 printable ASCII characters without spaces"
REQUEST_ID: Final = re.compile(r"[!-~]{0,128}")
REQUEST_ID_FORM: Final = "must be at most 128 printable ASCII characters without spaces"
POLICY_NAME: Final = re.compile(r"[a-z0-9._-]{1,63}")
POLICY_ID_FORM: Final = "must be 1–63 of a-z 0-9 . _ -"
CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")

SHORT_TEXT: Final = 256
PLAIN_TEXT: Final = re.compile(r"[ -~]{0,256}")
"""Most short texts look so, and need no closer look."""
TITLE: Final = 100
TOOL_CALL_ID_BYTES: Final = 256
PLAIN_TOOL_CALL_ID: Final = re.compile(r"[!-~]{1,256}")
"""Most ids of tool calls look so, and need no closer look."""
SYSTEM_PROMPT_BYTES: Final = 512 * 2**10
CONFIG_BYTES: Final = 64 * 2**10
METADATA_BYTES: Final = 64 * 2**10
METADATA_LEVELS: Final = 30
LABELS: Final = 64
LABEL_KEY: Final = 63
LABEL_FILTERS: Final = 16
SOURCES: Final = 64
AGENTS: Final = 64

CALL_MESSAGES: Final = 1000
CALL_BYTES: Final = 2 * 2**20
MESSAGE_BYTES: Final = 3 * 2**20
UPDATED_BYTES: Final = 32 * 2**20
"""What updates may make of a message: an answer with it and a system prompt stays within 4 MiB."""
FRAME_APPENDS: Final = 1000
FRAME_EVENTS: Final = 1000
WATCH_TARGETS: Final = 100
WATCH_ID: Final = re.compile(r"[!-~]{0,128}")
WATCH_ID_FORM: Final = "must be at most 128 printable ASCII characters without spaces"
RESUME_TOKENS: Final = 10_000
WATCH_DESCENDANTS: Final = 10_000
TRANSFER_RECORDS: Final = 1000
TRANSFER_IDS: Final = 1000
IMPORT_AHEAD: Final = 24 * 3600
"""How far ahead of the server's clock the times of imported sessions may be."""
DRAFT_DELTAS: Final = 1000
DRAFT_BYTES: Final = 2 * 2**20
STREAM_WINDOW: Final = 1024
APPEND_TIMEOUT_SECONDS: Final = (0, 86_400)
TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
TRACEPARENT_FORM: Final = (
    "must be a W3C traceparent, such as 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
)
PARTS: Final = 256
MESSAGE_TYPE: Final = 128
MESSAGE_TYPES: Final = 64
EXTENSIONS: Final = 64
EXTENSION_NAME: Final = 128
MEDIA_BYTES: Final = 2**20
ATTACHMENT_NAME: Final = 1024
ATTACHMENT_FRAME_BYTES: Final = 2**20
MIME_TYPE: Final = re.compile(
    r"[A-Za-z0-9!#$&^_.+-]{1,127}/[A-Za-z0-9!#$&^_.+-]{1,127}( *;[ -~]*)?"
)
MIME_TYPE_FORM: Final = "must be a media type such as image/png or text/plain; charset=utf-8"
RECEIVE_BYTES: Final = 8 * 2**20
"""What gRPC itself refuses beyond, so that the limits above can answer with a reason."""

REMINDER_ID: Final = re.compile(r"[!-~]{1,100}")
REMINDER_ID_FORM: Final = "must be 1–100 printable ASCII characters without spaces"
COMMENT: Final = 4096
REMINDER_MESSAGE_BYTES: Final = 64 * 2**10
REMINDER_YEARS: Final = (1970, 9998)
REMINDER_INTERVAL_SECONDS: Final = (1, 3650 * 86400)
REMINDER_DELAY_SECONDS: Final = (0, 3650 * 86400)
REMINDER_TYPES: Final = 64
PENDING_REMINDERS: Final = 1000
CLAIMS: Final = (1, 100)
CLAIM_LEASE_SECONDS: Final = 60
WAIT_SECONDS: Final = (0, 60)
CONSUMERS: Final = 100
IDLE_SECONDS: Final = 1800
IDLE_SPAN_SECONDS: Final = (0, 3650 * 86400)
SESSION_CLAIM_SECONDS: Final = 300

PAGE_BYTES: Final = 2 * 2**20 - 4096
BATCH_SESSIONS: Final = 100
MASK_PATHS: Final = 200
SESSION_PAGE: Final = (50, 200)
PRUNE_PAGE: Final = (50, 200)
MESSAGE_PAGE: Final = (100, 1000)
RECORD_PAGE: Final = (100, 1000)
REPORT_PAGE: Final = (20, 100)

JOURNAL_RECORD_BYTES: Final = 2**20
JOURNAL_RECORDS: Final = 100_000
JOURNAL_BYTES: Final = 256 * 2**20
JOURNAL_KINDS: Final = 64
USAGE_RECORDS: Final = 1000
USAGE_COUNT: Final = 10**12
BASE_URL: Final = 2048
MONEY: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12})?")
MONEY_FORM: Final = "must be a decimal of at most 12 digits before the point and 12 behind it"
CURRENCY: Final = re.compile(r"([A-Z]{3})?")
CURRENCY_FORM: Final = "must be three capital letters"
DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
DAY_FORM: Final = "must be a day such as 2026-01-31"
SEARCH_QUERY: Final = 1000
SEARCH_PAGE: Final = (20, 100)
SEARCH_NEIGHBORS: Final = 5
SEARCH_NEIGHBOR_TEXT: Final = 300
SNIPPET: Final = (80, 500)
REINDEXED: Final = 1000

KEEP_RECENT: Final = (4, 10_000)
LEASE_SECONDS: Final = (1, 3600)
WRITER_LEASE_SECONDS: Final = 30
COMPACTION_LEASE_SECONDS: Final = 120
MAX_SEQ: Final = 2**53
"""No history reaches it; what lies beyond is refused as out of range rather than computed with."""
EARLIEST_SECOND: Final = -62_135_596_800
LATEST_SECOND: Final = 253_402_300_799
"""What a `google.protobuf.Timestamp` may hold: years 1 to 9999."""

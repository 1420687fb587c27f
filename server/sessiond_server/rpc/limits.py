"""Every limit on what a client sends, in one table. Those of a single field are its options in the protos;
docs/limits.md says the same.

Sizes are bytes, lengths are characters, durations are seconds.
"""

from __future__ import annotations

import re
from typing import Final

from sessiond import v1
from sessiond.v1 import Format
from sessiond_server.rpc.field_policies import (
    between,
    default_and_most,
    description,
    max_bytes,
    pattern,
    policy,
)

SESSION_ID: Final = pattern(Format.FORMAT_SESSION_ID)
SESSION_ID_BYTES: Final = max_bytes(Format.FORMAT_SESSION_ID)
PLAIN_SESSION_ID: Final = re.compile(rf"[ -~]{{1,{SESSION_ID_BYTES}}}")
"""Most ids look so, and need no closer look."""
NAME_BYTES: Final = policy(v1.ResolveSessionRequest, "query").max_bytes
SESSION_ID_FORM: Final = description(Format.FORMAT_SESSION_ID)
CLIENT_ID: Final = pattern(Format.FORMAT_ID)
CLIENT_ID_FORM: Final = description(Format.FORMAT_ID)
REQUEST_ID: Final = pattern(Format.FORMAT_REQUEST_ID)
REQUEST_ID_FORM: Final = description(Format.FORMAT_REQUEST_ID)
POLICY_NAME: Final = pattern(Format.FORMAT_POLICY_ID)
POLICY_ID_FORM: Final = description(Format.FORMAT_POLICY_ID)
CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")

SHORT_TEXT: Final = policy(v1.Session, "owner").max_characters
PLAIN_TEXT: Final = re.compile(r"[ -~]{0,256}")
"""Most short texts look so, and need no closer look."""
TITLE: Final = policy(v1.Session, "title").max_characters
TOOL_CALL_ID_BYTES: Final = policy(v1.ToolCall, "id").max_bytes
PLAIN_TOOL_CALL_ID: Final = re.compile(r"[!-~]{1,256}")
"""Most ids of tool calls look so, and need no closer look."""
SYSTEM_PROMPT_BYTES: Final = policy(v1.Session, "system_prompt").max_bytes
CONFIG_BYTES: Final = policy(v1.Session, "config").max_bytes
METADATA_BYTES: Final = policy(v1.Session, "metadata").max_bytes
METADATA_LEVELS: Final = 30
LABELS: Final = policy(v1.Session, "labels").max_items
LABEL_KEY: Final = 63
LABEL_FILTERS: Final = policy(v1.SessionFilter, "labels").max_items
SOURCES: Final = policy(v1.SessionFilter, "sources").max_items
AGENTS: Final = policy(v1.SessionFilter, "agents").max_items

CALL_MESSAGES: Final = policy(v1.AppendMessagesRequest, "messages").max_items
CALL_BYTES: Final = 2 * 2**20
MESSAGE_BYTES: Final = 3 * 2**20
UPDATED_BYTES: Final = 32 * 2**20
"""What updates may make of a message: an answer with it and a system prompt stays within 4 MiB."""
FRAME_APPENDS: Final = policy(v1.AppendStreamRequest, "appends").max_items
FRAME_EVENTS: Final = 1000
WATCH_TARGETS: Final = policy(v1.WatchRequest, "targets").max_items
EVENT_KINDS: Final = policy(v1.WatchTarget, "event_kinds").max_items
WATCH_ID: Final = pattern(Format.FORMAT_REQUEST_ID)
WATCH_ID_FORM: Final = description(Format.FORMAT_REQUEST_ID)
RESUME_TOKENS: Final = policy(v1.WatchResume, "tokens").max_items
WATCH_DESCENDANTS: Final = 10_000
TRANSFER_RECORDS: Final = policy(v1.ImportSessionsRequest, "records").max_items
TRANSFER_IDS: Final = policy(v1.ExportSessionsRequest, "session_ids").max_items
IMPORT_AHEAD: Final = 24 * 3600
"""How far ahead of the server's clock the times of imported sessions may be."""
DRAFT_DELTAS: Final = policy(v1.PublishDraftRequest, "deltas").max_items
DRAFT_BYTES: Final = 2 * 2**20
STREAM_WINDOW: Final = 1024
APPEND_TIMEOUT_SECONDS: Final = between(v1.StreamedAppend, "timeout")
TRACEPARENT: Final = pattern(Format.FORMAT_TRACEPARENT)
TRACEPARENT_FORM: Final = description(Format.FORMAT_TRACEPARENT)
PARTS: Final = policy(v1.Message, "parts").max_items
MESSAGE_TYPE: Final = policy(v1.Message, "type").max_characters
MESSAGE_TYPES: Final = policy(v1.ListMessagesRequest, "types").max_items
EXTENSIONS: Final = policy(v1.Message, "extensions").max_items
EXTENSION_NAME: Final = 128
MEDIA_BYTES: Final = policy(v1.Media, "inline").max_bytes
ATTACHMENT_NAME: Final = policy(v1.Attachment, "name").max_characters
ATTACHMENT_FRAME_BYTES: Final = policy(v1.UploadAttachmentRequest, "chunk").max_bytes
MIME_TYPE: Final = pattern(Format.FORMAT_MIME_TYPE)
MIME_TYPE_FORM: Final = description(Format.FORMAT_MIME_TYPE)
RECEIVE_BYTES: Final = 8 * 2**20
"""What gRPC itself refuses beyond, so that the limits above can answer with a reason."""

REMINDER_ID: Final = pattern(Format.FORMAT_REMINDER_ID)
REMINDER_ID_FORM: Final = description(Format.FORMAT_REMINDER_ID)
COMMENT: Final = policy(v1.Reminder, "comment").max_characters
REMINDER_MESSAGE_BYTES: Final = policy(v1.Reminder, "message").max_bytes
REMINDER_YEARS: Final = (1970, 9998)
REMINDER_INTERVAL_SECONDS: Final = between(v1.Reminder, "interval")
REMINDER_DELAY_SECONDS: Final = between(v1.CreateReminderRequest, "delay")
REMINDER_TYPES: Final = policy(v1.ClaimRemindersRequest, "types").max_items
PENDING_REMINDERS: Final = 1000
REMINDER_ATTEMPTS: Final = policy(v1.Reminder, "max_attempts").max_value
REMINDER_ERROR: Final = policy(v1.FailReminderRequest, "error").max_characters
RETRY_DELAY_SECONDS: Final = between(v1.FailReminderRequest, "retry_delay")
CLAIMS: Final = default_and_most(v1.ClaimSessionsRequest, "max_count")
CLAIM_LEASE_SECONDS: Final = policy(v1.ClaimRemindersRequest, "lease_ttl").default_value
WAIT_SECONDS: Final = between(v1.ClaimRemindersRequest, "wait")
CONSUMERS: Final = 100
IDLE_SECONDS: Final = policy(v1.ClaimSessionsRequest, "idle_for").default_value
IDLE_SPAN_SECONDS: Final = between(v1.ClaimSessionsRequest, "idle_for")
SESSION_CLAIM_SECONDS: Final = policy(v1.ClaimSessionsRequest, "lease_ttl").default_value

PAGE_BYTES: Final = 2 * 2**20 - 4096
BATCH_SESSIONS: Final = policy(v1.BatchGetSessionsRequest, "session_ids").max_items
MASK_PATHS: Final = 200
SESSION_PAGE: Final = default_and_most(v1.ListSessionsRequest, "page_size")
PRUNE_PAGE: Final = default_and_most(v1.PruneSessionsRequest, "page_size")
MESSAGE_PAGE: Final = default_and_most(v1.ListMessagesRequest, "page_size")
RECORD_PAGE: Final = default_and_most(v1.ListRewindsRequest, "page_size")
REPORT_PAGE: Final = default_and_most(v1.ListRetentionReportsRequest, "page_size")

API_KEY_DAYS: Final = 36_500
"""How far ahead a key may expire."""

JOURNAL_RECORD_BYTES: Final = policy(v1.JournalRecord, "content").max_bytes
JOURNAL_RECORDS: Final = 100_000
JOURNAL_BYTES: Final = 256 * 2**20
JOURNAL_KINDS: Final = policy(v1.ListJournalRequest, "kinds").max_items
USAGE_RECORDS: Final = policy(v1.RecordUsageRequest, "records").max_items
USAGE_COUNT: Final = policy(v1.Usage, "input_tokens").max_value
BASE_URL: Final = policy(v1.Billing, "base_url").max_characters
MONEY: Final = pattern(Format.FORMAT_MONEY)
MONEY_FORM: Final = description(Format.FORMAT_MONEY)
CURRENCY: Final = pattern(Format.FORMAT_CURRENCY)
CURRENCY_FORM: Final = description(Format.FORMAT_CURRENCY)
DAY: Final = pattern(Format.FORMAT_DAY)
DAY_FORM: Final = description(Format.FORMAT_DAY)
SEARCH_QUERY: Final = policy(v1.SearchMessagesRequest, "query").max_characters
SEARCH_PAGE: Final = default_and_most(v1.SearchMessagesRequest, "page_size")
SEARCH_NEIGHBORS: Final = policy(v1.SearchMessagesRequest, "context_before").max_value
SEARCH_NEIGHBOR_TEXT: Final = 300
SNIPPET: Final = default_and_most(v1.SearchMessagesRequest, "snippet_characters")
REINDEXED: Final = policy(v1.ReindexSessionsRequest, "session_ids").max_items

KEEP_RECENT: Final = default_and_most(v1.PlanCompactionRequest, "keep_recent_messages")
LEASE_SECONDS: Final = between(v1.AcquireWriterRequest, "lease_ttl")
WRITER_LEASE_SECONDS: Final = policy(v1.AcquireWriterRequest, "lease_ttl").default_value
COMPACTION_LEASE_SECONDS: Final = policy(v1.PlanCompactionRequest, "lease_ttl").default_value
MAX_SEQ: Final = policy(v1.ForkSessionRequest, "at_seq").max_value
"""No history reaches it; what lies beyond is refused as out of range rather than computed with."""
EARLIEST_SECOND: Final = -62_135_596_800
LATEST_SECOND: Final = 253_402_300_799
"""What a `google.protobuf.Timestamp` may hold: years 1 to 9999."""

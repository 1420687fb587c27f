"""What the library is to its users: names, methods, and that both clients are one."""

from __future__ import annotations

import inspect
from typing import Any

import sessiond
from sessiond import v1
from sessiond._calls import Paged, Rpc, Streamed, Unary
from sessiond._requests import (
    api_keys,
    attachments,
    compactions,
    consumers,
    contexts,
    journal,
    messages,
    reminders,
    retention,
    searches,
    servers,
    sessions,
    storage,
    tenants,
    transfers,
    usage,
    writers,
)

ERRORS = {
    "ConsumerNotFound",
    "RevisionMismatch",
    "AlreadyExists",
    "ApiKeyNotFound",
    "ApiKeysDisabled",
    "AppendQueueFull",
    "AppendTimeout",
    "AttachmentIdReused",
    "AttachmentNotFound",
    "AttachmentOverLimit",
    "AttachmentTypeRefused",
    "UploadNotFound",
    "UploadOffsetMismatch",
    "Cancelled",
    "ClaimLost",
    "ClientIdReused",
    "CompactionLeaseHeld",
    "CompactionLeaseLost",
    "CompactionNotFound",
    "CompactionOverlap",
    "CompactionRangeEmpty",
    "CompactionSplitsToolCall",
    "Conflict",
    "DatabaseUnavailable",
    "DeadlineExceeded",
    "EtagMismatch",
    "Export",
    "HistoryDiverged",
    "ImportConflict",
    "InternalError",
    "InvalidField",
    "InvalidPageToken",
    "InvalidRequest",
    "InvalidResumeToken",
    "MessageNotFound",
    "NextSeqMismatch",
    "NotFound",
    "NothingToRewind",
    "Overloaded",
    "ParentNotFound",
    "PartialReplay",
    "PermissionDenied",
    "PreconditionFailed",
    "ReadQueueFull",
    "RequestIdReused",
    "RetentionPolicyNotFound",
    "ReminderExists",
    "ReminderNotFound",
    "RewindNotFound",
    "RewindNotRevertible",
    "SeqOutOfRange",
    "SearchDisabled",
    "SearchTooCostly",
    "ServerBug",
    "SessionAmbiguous",
    "SessionDiffers",
    "SessionBusy",
    "SessionEnded",
    "SessionExists",
    "JournalFull",
    "SessionNotFound",
    "SessiondError",
    "ShuttingDown",
    "ResumeTokenExpired",
    "SpawnTooDeep",
    "TitleAlreadySet",
    "TitleTaken",
    "TooManyDrafts",
    "TooManyTransfers",
    "TooManyRetentionPolicies",
    "TooManyConsumers",
    "TooManyReminders",
    "TooManyWatches",
    "Unauthenticated",
    "Unavailable",
    "UnknownField",
    "Unsupported",
    "WriterLeaseHeld",
    "WriterLeaseLost",
}
NAMES = ERRORS | {
    "AppendStream",
    "AsyncAppendStream",
    "AsyncClient",
    "AsyncDraft",
    "AsyncExport",
    "AsyncSessionWatch",
    "AsyncWatch",
    "AsyncWriter",
    "Client",
    "Context",
    "Draft",
    "Event",
    "FieldViolation",
    "SessionUpdate",
    "SessionWatch",
    "Watch",
    "Writer",
    "channel_options",
    "from_anthropic",
    "from_gemini",
    "from_openai",
    "from_openai_responses",
    "message",
    "message_update",
    "reasoning",
    "reasoning_of",
    "retention_rule",
    "session_filter",
    "session_id",
    "text_of",
    "to_anthropic",
    "to_gemini",
    "to_openai",
    "to_openai_responses",
    "tool_call",
    "tool_calls_of",
    "tool_result",
    "tool_results_of",
    "usage_record",
    "with_client_ids",
}
METHODS = {
    "create_api_key",
    "get_api_key",
    "list_api_keys",
    "revoke_api_key",
    "claim_sessions",
    "list_consumers",
    "delete_consumer",
    "list_cursors",
    "get_cursor",
    "set_cursor",
    "extend_reminder_claim",
    "fail_reminder",
    "extend_session_claim",
    "complete_reminder",
    "claim_reminders",
    "skip_reminder",
    "cancel_reminder",
    "list_reminders",
    "get_reminder",
    "create_reminder",
    "acquire_writer",
    "append",
    "append_journal",
    "append_stream",
    "clear_messages",
    "close",
    "compact",
    "create_session",
    "delete_attachment",
    "delete_retention_policy",
    "delete_session",
    "draft",
    "end_session",
    "export_sessions",
    "fork_session",
    "get_attachment",
    "get_context",
    "get_message",
    "get_server_info",
    "get_compaction",
    "get_retention_policy",
    "get_rewind",
    "renew_compaction_lease",
    "batch_get_sessions",
    "get_session",
    "get_tenant_stats",
    "list_attachments",
    "list_attachments_page",
    "get_usage",
    "import_sessions",
    "offload_messages",
    "restore_messages",
    "list_offloads",
    "list_compactions",
    "list_messages",
    "list_messages_page",
    "list_open_tool_calls",
    "list_retention_policies",
    "list_retention_reports",
    "list_rewinds",
    "list_journal",
    "list_journal_page",
    "list_sessions",
    "list_sessions_page",
    "list_usage",
    "next_title",
    "plan_compaction",
    "prune_sessions",
    "prune_sessions_page",
    "read_attachment",
    "record_usage",
    "reindex_sessions",
    "release_compaction_lease",
    "release_writer",
    "renew_writer",
    "reopen_session",
    "resolve_session",
    "revert_compaction",
    "rewind",
    "save_attachment",
    "set_retention_policy",
    "search_messages",
    "search_messages_page",
    "stream_context",
    "revert_rewind",
    "update_messages",
    "update_attachment",
    "update_session",
    "upload_attachment",
    "start_upload",
    "write_upload",
    "get_upload",
    "abort_upload",
    "upload_resumable",
    "watch",
    "watch_sessions",
    "with_timeout",
    "writer",
}


def public(owner: type) -> dict[str, object]:
    return {name: value for name, value in inspect.getmembers(owner) if not name.startswith("_")}


def test_the_exported_names() -> None:
    assert set(sessiond.__all__) == NAMES
    assert all(hasattr(sessiond, name) for name in NAMES)


def test_both_clients_have_the_same_methods_with_the_same_arguments() -> None:
    both = public(sessiond.AsyncClient), public(sessiond.Client)
    assert set(both[0]) == set(both[1]) == METHODS
    for name in METHODS:
        one, other = (inspect.signature(methods[name]) for methods in both)  # type: ignore[arg-type]
        assert one.parameters == other.parameters, name


def test_every_method_is_documented_under_its_own_name() -> None:
    for owner in (sessiond.AsyncClient, sessiond.Client):
        for name, method in public(owner).items():
            assert inspect.getdoc(method), name
            assert getattr(method, "__name__", "") == name


def rpcs() -> dict[str, Rpc[Any, Any]]:
    modules = (
        api_keys,
        attachments,
        compactions,
        consumers,
        contexts,
        journal,
        messages,
        reminders,
        retention,
        searches,
        servers,
        sessions,
        storage,
        tenants,
        transfers,
        usage,
        writers,
    )
    found = [value for module in modules for value in vars(module).values()]
    calls = [value.rpc for value in found if isinstance(value, Unary | Paged | Streamed)]
    files: list[Rpc[Any, Any]] = [attachments.UPLOAD, attachments.DOWNLOAD]
    streams: list[Rpc[Any, Any]] = [messages.APPEND_STREAM, transfers.IMPORT_SESSIONS]
    return {rpc.path: rpc for rpc in [*calls, *files, *streams]}


def test_every_rpc_of_the_contract_has_its_call() -> None:
    files = {
        message.DESCRIPTOR.file
        for message in (
            v1.GetSessionRequest,
            v1.GetMessageRequest,
            v1.GetContextRequest,
            v1.PlanCompactionRequest,
            v1.AcquireWriterRequest,
            v1.SearchMessagesRequest,
            v1.OffloadMessagesRequest,
            v1.GetTenantStatsRequest,
            v1.GetServerInfoRequest,
            v1.GetApiKeyRequest,
            v1.GetAttachmentRequest,
            v1.GetUsageRequest,
            v1.ExportSessionsRequest,
            v1.ListJournalRequest,
            v1.SetRetentionPolicyRequest,
            v1.GetReminderRequest,
            v1.GetCursorRequest,
        )
    }
    methods = {
        f"/{service.full_name}/{method.name}": method
        for file in files
        for service in file.services_by_name.values()
        for method in service.methods
    }
    assert set(rpcs()) == set(methods)
    for path, rpc in rpcs().items():
        assert methods[path].input_type == rpc.request.DESCRIPTOR, path
        assert methods[path].output_type == rpc.response.DESCRIPTOR, path

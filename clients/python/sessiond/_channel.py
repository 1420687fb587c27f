"""How channels are set up: the target, retries, keepalive."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

DEFAULT_TARGET = "127.0.0.1:7443"
TARGET_VARIABLE = "SESSIOND_TARGET"
API_KEY_VARIABLE = "SESSIOND_API_KEY"

_MAX_ATTEMPTS = 5

# These calls are sent again after UNAVAILABLE as well as RESOURCE_EXHAUSTED: to run one a second
# time changes nothing that its first run didn't, and answers the same.
SAFE_TO_REPEAT = {
    "sessiond.v1.SessionService": {
        "CreateSession": "its request_id names the attempt's session",
        "GetSession": "reads",
        "ResolveSession": "reads",
        "ListSessions": "reads",
        "NextTitle": "reads",
        "ForkSession": "its request_id names the attempt's session",
    },
    "sessiond.v1.MessageService": {
        "AppendMessages": "the client ids make it a replay (P4)",
        "ListMessages": "reads",
        "GetMessage": "reads",
        "ListRewinds": "reads",
        "ListOpenToolCalls": "reads",
    },
    "sessiond.v1.ContextService": {
        "GetContext": "reads; gRPC repeats it only while nothing has arrived",
    },
    "sessiond.v1.CompactionService": {
        "PlanCompaction": "reads; a second lease replaces one whose token nobody has",
        "CompactSession": "the summary's client id makes it a replay",
        "RevertCompaction": "nothing takes a revert back",
        "ListCompactions": "reads",
        "ReleaseCompactionLease": "a token is good once",
    },
    "sessiond.v1.WriterService": {
        "AcquireWriter": "a second lease replaces one whose token nobody has",
        "RenewWriter": "renews the same lease",
        "ReleaseWriter": "a token is good once",
    },
    "sessiond.v1.SearchService": {
        "SearchMessages": "reads",
    },
    "sessiond.v1.AttachmentService": {
        "GetAttachment": "reads",
        "ListAttachments": "reads",
    },
    "sessiond.v1.UsageService": {
        "RecordUsage": "its records have request ids, or set their turns",
        "GetUsage": "reads",
    },
    "sessiond.v1.TransferService": {
        "ExportSessions": "reads; gRPC repeats it only while nothing has arrived",
    },
    "sessiond.v1.ReminderService": {
        "CreateReminder": "its id names the attempt's reminder",
        "GetReminder": "reads",
        "ListReminders": "reads",
        "CancelReminder": "one that is over stays as it is",
        "CompleteReminder": "the claim's token is known again",
    },
    "sessiond.v1.ConsumerService": {
        "GetCursor": "reads",
        "ListCursors": "reads",
        "ListConsumers": "reads",
    },
    "sessiond.v1.JournalService": {
        "AppendJournal": "its request_id makes it a replay",
        "ListJournal": "reads",
    },
    "sessiond.v1.RetentionService": {
        "ListRetentionPolicies": "reads",
        "ListRetentionReports": "reads",
    },
    "sessiond.v1.StorageService": {
        "ReindexSessions": "the second has them indexed once more",
        "OffloadMessages": "the second goes on where the first was",
        "RestoreMessages": "the second goes on where the first was",
        "ListOffloads": "reads",
    },
    "sessiond.v1.TenantService": {
        "GetTenantStats": "reads",
    },
}

# These are sent again after RESOURCE_EXHAUSTED alone, which says that nothing was done. After
# UNAVAILABLE an earlier attempt may have taken effect, and then:
UNSAFE_TO_REPEAT = {
    "sessiond.v1.SessionService": {
        "UpdateSession": "the second would undo what another wrote in between, or fail by its etag",
        "EndSession": "the second would end a session that was reopened, or miss an ephemeral one",
        "ReopenSession": "the second would reopen a session that was ended again",
        "DeleteSession": "the second would delete a session made anew, or find none",
    },
    "sessiond.v1.MessageService": {
        "UpdateMessages": "the second would undo what another wrote in between",
        "RewindSession": "the second would hide what was appended in between",
        "RevertRewind": "without an id, the second would undo the rewind before",
        "ClearMessages": "the second would remove what was appended in between",
    },
    "sessiond.v1.AttachmentService": {
        "DeleteAttachment": "the second would find none, or one uploaded anew",
    },
    "sessiond.v1.TransferService": {
        "ImportSessions": "it would do no harm, but gRPC can't send again what came from an iterator",
    },
    "sessiond.v1.ReminderService": {
        "SkipReminder": "without a trigger time, the second would skip the next time as well",
        "ClaimReminders": "the second would claim others; the first ones wait for their lease's end",
        "ExtendReminderClaim": "a claim that was given up isn't the caller's any more",
    },
    "sessiond.v1.ConsumerService": {
        "SetCursor": "the second may take it back again, if it may decrease",
        "DeleteConsumer": "the second would delete a consumer made anew, or find none",
        "ClaimSessions": "the second would claim others; the first ones wait for their lease's end",
    },
    "sessiond.v1.RetentionService": {
        "PruneSessions": "the second wouldn't report what the first deleted",
        "SetRetentionPolicy": "the second would undo what another set in between",
        "DeleteRetentionPolicy": "the second would delete a policy made anew, or find none",
    },
}

# These go on by themselves, over a new stream.
REPEATED_BY_THE_CLIENT = {
    "sessiond.v1.MessageService": {"AppendStream"},
    "sessiond.v1.FeedService": {"Watch", "WatchSessions", "PublishDraft"},
    "sessiond.v1.AttachmentService": {"UploadAttachment", "DownloadAttachment"},
}


def default_target() -> str:
    """`SESSIOND_TARGET` from the environment, or `127.0.0.1:7443`."""
    return os.environ.get(TARGET_VARIABLE) or DEFAULT_TARGET


def call_metadata(api_key: str | None) -> tuple[tuple[str, str], ...] | None:
    """What is sent with every call: the key, or that of the environment, if there is one."""
    key = api_key if api_key is not None else os.environ.get(API_KEY_VARIABLE)
    return (("authorization", f"Bearer {key}"),) if key else None


class _WithMetadata:
    """A channel's callable that sends the same metadata with every call."""

    def __init__(self, call: Any, metadata: tuple[tuple[str, str], ...]) -> None:
        self._call = call
        self._metadata = metadata

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(*args, metadata=self._metadata, **kwargs)

    def future(self, *args: Any, **kwargs: Any) -> Any:
        """The call, under way."""
        return self._call.future(*args, metadata=self._metadata, **kwargs)


def with_metadata(call: Any, metadata: tuple[tuple[str, str], ...] | None) -> Any:
    """A channel's callable, with what is to be sent with every call."""
    return call if metadata is None else _WithMetadata(call, metadata)


def grpc_target(target: str | None) -> str:
    """The target as gRPC knows it: several addresses, separated by commas, are tried in turn."""
    target = target or default_target()
    return f"ipv4:{target}" if "," in target and not target.startswith("ipv") else target


def channel_options(options: Sequence[tuple[str, Any]] = ()) -> list[tuple[str, Any]]:
    """The options of the channels that clients make, for those who make their own.

    They hold the retries and a keepalive that any gRPC server puts up with: a ping after five
    minutes of silence, and only while a call is under way. `options` override them by name.

    Example:
        channel = grpc.aio.secure_channel(target, credentials, options=sessiond.channel_options())
        client = sessiond.AsyncClient(channel=channel)
    """
    defaults: dict[str, Any] = {
        "grpc.service_config": service_config(),
        "grpc.enable_retries": 1,
        "grpc.initial_reconnect_backoff_ms": 100,
        "grpc.max_reconnect_backoff_ms": 5_000,
        "grpc.keepalive_time_ms": 300_000,
        "grpc.keepalive_timeout_ms": 20_000,
        "grpc.keepalive_permit_without_calls": 0,
    }
    return list({**defaults, **dict(options)}.items())


def service_config() -> str:
    """The retries as gRPC's service config, in JSON."""
    return json.dumps(
        {
            "methodConfig": [
                _method_config(SAFE_TO_REPEAT, ["UNAVAILABLE", "RESOURCE_EXHAUSTED"]),
                _method_config(UNSAFE_TO_REPEAT, ["RESOURCE_EXHAUSTED"]),
            ],
            # Nothing is retried when 500 more attempts failed than a tenth of those that succeeded:
            # a server in trouble isn't made busier, a restart under load is still ridden out.
            "retryThrottling": {"maxTokens": 1000, "tokenRatio": 0.1},
        }
    )


def _method_config(services: dict[str, dict[str, str]], codes: list[str]) -> dict[str, Any]:
    names = [
        {"service": service, "method": method}
        for service, methods in services.items()
        for method in methods
    ]
    policy = {
        "maxAttempts": _MAX_ATTEMPTS,
        "initialBackoff": "0.1s",
        "maxBackoff": "2s",
        "backoffMultiplier": 3,
        "retryableStatusCodes": codes,
    }
    return {"name": names, "retryPolicy": policy}

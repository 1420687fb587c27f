"""How channels are set up: the target, retries, keepalive."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from google.protobuf.descriptor import MethodDescriptor

from sessiond import v1
from sessiond._policies import methods, policy_of
from sessiond._retries import ATTEMPTS

DEFAULT_TARGET = "127.0.0.1:7443"
TARGET_VARIABLE = "SESSIOND_TARGET"
API_KEY_VARIABLE = "SESSIOND_API_KEY"


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
    """The retries as gRPC's service config, in JSON.

    gRPC goes by the method alone, so it repeats after UNAVAILABLE only what may always be; what
    may be if a field is set, `_retries.Attempts` repeats. A stream of requests is nobody's to repeat
    but its sender's.
    """
    always: list[MethodDescriptor] = []
    others: list[MethodDescriptor] = []
    for method in methods():
        if not method.client_streaming:
            repeatable = policy_of(method).retry == v1.Retry.RETRY_ALWAYS
            (always if repeatable else others).append(method)
    return json.dumps(
        {
            "methodConfig": [
                _method_config(always, ["UNAVAILABLE", "RESOURCE_EXHAUSTED"]),
                _method_config(others, ["RESOURCE_EXHAUSTED"]),
            ],
            # Nothing is retried when 500 more attempts failed than a tenth of those that succeeded:
            # a server in trouble isn't made busier, a restart under load is still ridden out.
            "retryThrottling": {"maxTokens": 1000, "tokenRatio": 0.1},
        }
    )


def _method_config(methods: list[MethodDescriptor], codes: list[str]) -> dict[str, Any]:
    names = [{"service": it.containing_service.full_name, "method": it.name} for it in methods]
    policy = {
        "maxAttempts": ATTEMPTS,
        "initialBackoff": "0.1s",
        "maxBackoff": "2s",
        "backoffMultiplier": 3,
        "retryableStatusCodes": codes,
    }
    return {"name": names, "retryPolicy": policy}

"""The calls of ApiKeyService."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sessiond import v1
from sessiond._calls import Service, paged, unary, whole
from sessiond._requests import values
from sessiond._requests.values import enum_value

_rpc = Service("sessiond.v1.ApiKeyService").rpc


@unary(_rpc("CreateApiKey", v1.CreateApiKeyRequest, v1.CreateApiKeyResponse), whole)
def create_api_key(
    name: str,
    permissions: Iterable[values.Permission],
    *,
    owner: str = "",
    expire_time: datetime | None = None,
    request_id: str = "",
) -> v1.CreateApiKeyRequest:
    """Makes an API key in the caller's tenant; it gives away at most what the caller's own key allows.

    Args:
        name: What the key is for, 1–256 characters.
        permissions: What it allows, of `read`, `write` and `admin`; none implies another one.
        owner: Whose sessions it opens; left out, everybody's. Not with `admin`.
        expire_time: From when on it is refused; it has a time zone. Left out, it never expires.
        request_id: So that the same call made again makes no second key. If an answer got lost, its secret is
            lost too: the same call again returns the key without it; revoke it, and make another.

    Returns a `CreateApiKeyResponse`: `api_key`, `secret`, which nobody can read again, and `replayed`.

    Raises:
        PermissionDenied: The key would allow more than the caller's own, or last longer.
        ApiKeysDisabled: The server takes calls without a key.
        RequestIdReused: A key of other content was made with this request id.
    """
    return v1.CreateApiKeyRequest(
        api_key=v1.ApiKey(
            name=name,
            owner=owner,
            permissions=[enum_value(v1.Permission, "PERMISSION_", it) for it in permissions],
            expire_time=values.timestamp(expire_time),
        ),
        request_id=request_id,
    )


@unary(_rpc("GetApiKey", v1.GetApiKeyRequest, v1.GetApiKeyResponse), lambda answer: answer.api_key)
def get_api_key(api_key_id: str) -> v1.GetApiKeyRequest:
    """Reads one API key of the caller's tenant, without its secret.

    Raises:
        ApiKeyNotFound: There is no such key.
    """
    return v1.GetApiKeyRequest(api_key_id=api_key_id)


@paged(
    _rpc("ListApiKeys", v1.ListApiKeysRequest, v1.ListApiKeysResponse), lambda page: page.api_keys
)
def list_api_keys(*, page_size: int = 0, page_token: str = "") -> v1.ListApiKeysRequest:
    """Iterates over the API keys of the caller's tenant, the newest first, without their secrets.

    Args:
        page_size: Keys a page: 0 is 100, at most 1000.
        page_token: Where to begin: the `next_page_token` of a page.
    """
    return v1.ListApiKeysRequest(page_size=page_size, page_token=page_token)


@unary(
    _rpc("RevokeApiKey", v1.RevokeApiKeyRequest, v1.RevokeApiKeyResponse),
    lambda answer: answer.revoked,
)
def revoke_api_key(
    api_key_id: str, *, allow_missing: bool = False, allow_self: bool = False
) -> v1.RevokeApiKeyRequest:
    """Ends an API key for good, within 10 s on every server; whether there was one.

    Args:
        api_key_id: The key's id.
        allow_missing: Whether to answer, instead of to raise, if there is no such key.
        allow_self: Whether it may be the key that makes the call.

    Raises:
        ApiKeyNotFound: There is no such key.
    """
    return v1.RevokeApiKeyRequest(
        api_key_id=api_key_id, allow_missing=allow_missing, allow_self=allow_self
    )

"""ApiKeyService: check, translate, call, translate back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sessiond.v1 import api_key_pb2 as pb
from sessiond.v1 import api_key_service_pb2 as rpc
from sessiond.v1.options_pb2 import (
    PERMISSION_ADMIN,
    PERMISSION_READ,
    PERMISSION_WRITE,
    Permission,
)
from sessiond_server.errors import ApiKeysDisabled, PageTokenInvalid
from sessiond_server.operations import api_keys as operations
from sessiond_server.operations.api_keys import Caller, Wanted
from sessiond_server.rpc import access, checks, limits, page_tokens
from sessiond_server.rpc.checks import Checks
from sessiond_server.rpc.registry import Context
from sessiond_server.rpc.times import optional_timestamp, timestamp
from sessiond_server.store import api_keys
from sessiond_server.store.api_keys import Grant, KeyRow
from sessiond_server.store.database import Database

_PERMISSIONS: dict[str, Permission.ValueType] = {
    access.READ: PERMISSION_READ,
    access.WRITE: PERMISSION_WRITE,
    access.ADMIN: PERMISSION_ADMIN,
}
_NAMES = {value: name for name, value in _PERMISSIONS.items()}
_NEWEST = datetime(9999, 12, 31, tzinfo=UTC), ""


@dataclass(slots=True)
class ApiKeyServicer:
    """Keys of the caller's tenant over gRPC."""

    database: Database
    enabled: bool
    """Whether calls need a key."""

    async def CreateApiKey(
        self, request: rpc.CreateApiKeyRequest, _: Context
    ) -> rpc.CreateApiKeyResponse:
        with Checks() as check:
            wanted = _wanted(request, check)
        self._check_enabled()
        most = timedelta(days=limits.API_KEY_DAYS)
        made = await operations.create(self.database, _caller(), wanted, most)
        return rpc.CreateApiKeyResponse(
            api_key=_key_out(made.row), secret=made.secret, replayed=not made.secret
        )

    async def GetApiKey(self, request: rpc.GetApiKeyRequest, _: Context) -> rpc.GetApiKeyResponse:
        with Checks() as check:
            check.client_id("api_key_id", request.api_key_id)
        self._check_enabled()
        row = await operations.get(self.database, access.tenant(), request.api_key_id)
        return rpc.GetApiKeyResponse(api_key=_key_out(row))

    async def ListApiKeys(
        self, request: rpc.ListApiKeysRequest, _: Context
    ) -> rpc.ListApiKeysResponse:
        size = checks.page_size(request, limits.RECORD_PAGE)
        call = page_tokens.call_of("ListApiKeys", request)
        before = _place(request.page_token, call) if request.page_token else _NEWEST
        self._check_enabled()
        async with self.database.connection() as connection:
            rows = await api_keys.page(connection, access.tenant(), before, size + 1)
        answer = rpc.ListApiKeysResponse(api_keys=[_key_out(row) for row in rows[:size]])
        if len(rows) > size:
            last = rows[size - 1]
            place: page_tokens.Place = [last.create_time.isoformat(), last.key_id]
            answer.next_page_token = page_tokens.encode(place, call)
        return answer

    async def RevokeApiKey(
        self, request: rpc.RevokeApiKeyRequest, _: Context
    ) -> rpc.RevokeApiKeyResponse:
        caller = _caller()
        with Checks() as check:
            check.client_id("api_key_id", request.api_key_id)
            if request.api_key_id == caller.key_id and not request.allow_self:
                check.wrong("api_key_id", "is the key that makes the call: that needs allow_self")
        self._check_enabled()
        revoked = await operations.revoke(
            self.database, caller, request.api_key_id, allow_missing=request.allow_missing
        )
        return rpc.RevokeApiKeyResponse(revoked=revoked)

    def _check_enabled(self) -> None:
        if not self.enabled:
            raise ApiKeysDisabled


def _caller() -> Caller:
    return Caller(access.tenant(), access.key_id())


def _wanted(request: rpc.CreateApiKeyRequest, check: Checks) -> Wanted:
    key = request.api_key
    check.request_id("request_id", request.request_id)
    check.required("api_key.name", key.name)
    check.text("api_key.owner", key.owner)
    check.count("api_key.permissions", len(key.permissions), len(_NAMES), least=1)
    for place, permission in enumerate(key.permissions[: len(_NAMES)]):
        check.enum(f"api_key.permissions[{place}]", permission, _NAMES)
    if key.owner and PERMISSION_ADMIN in key.permissions:
        check.wrong("api_key.owner", "must not be set with the permission admin")
    ends = key.HasField("expire_time")
    if ends:
        check.timestamp("api_key.expire_time", key.expire_time)
    permissions = frozenset(_NAMES[it] for it in key.permissions if it in _NAMES)
    return Wanted(
        key.name,
        Grant(access.tenant(), key.owner or None, permissions),
        checks.moment(key.expire_time) if ends and not check.violations else None,
        request.request_id,
    )


def _key_out(row: KeyRow) -> pb.ApiKey:
    return pb.ApiKey(
        id=row.key_id,
        name=row.name,
        owner=row.owner or "",
        permissions=sorted(_PERMISSIONS[it] for it in row.permissions),
        expire_time=optional_timestamp(row.expire_time),
        create_time=timestamp(row.create_time),
        creator=row.creator,
    )


def _place(token: str, call: bytes) -> tuple[datetime, str]:
    time, key_id = page_tokens.decode(token, call, str, str)
    try:
        moment = datetime.fromisoformat(str(time))
    except ValueError as error:
        raise PageTokenInvalid from error
    if moment.tzinfo != UTC or not str(key_id).isalnum() or not str(key_id).isascii():
        raise PageTokenInvalid
    return moment, str(key_id)

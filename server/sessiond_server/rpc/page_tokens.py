"""Page tokens: where a page ended, bound to the call that it belongs to.

A token carries no authority, only places; the check sum tells a token of another call, or a changed one,
from a good one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json

from google.protobuf.message import Message

from sessiond_server.errors import PageTokenInvalid

_VERSION = b"\x01"
_SUM_SIZE = 12

Place = list[int | str | bool | None]


def _sum(body: bytes, call: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_SUM_SIZE, key=hashlib.sha256(call).digest()).digest()


def call_of(method: str, request: Message) -> bytes:
    """What a token is bound to: the method and its arguments but for the page's size and token."""
    bound = type(request)()
    bound.CopyFrom(request)
    bound.ClearField("page_size")
    bound.ClearField("page_token")
    return method.encode() + b"\0" + bound.SerializeToString(deterministic=True)


def encode(place: Place, call: bytes) -> str:
    """The token of a place in a call, which `call` describes."""
    body = _VERSION + json.dumps(place, ensure_ascii=False, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(_sum(body, call) + body).decode().rstrip("=")


def decode(token: str, call: bytes, *kinds: type) -> Place:
    """The place in a token. Raises `PageTokenInvalid` unless it was made for `call`."""
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise PageTokenInvalid from error
    check, body = raw[:_SUM_SIZE], raw[_SUM_SIZE:]
    if body[:1] != _VERSION or _sum(body, call) != check:
        raise PageTokenInvalid
    try:
        place: Place = json.loads(body[1:])
    except (ValueError, RecursionError) as error:
        raise PageTokenInvalid from error
    if not isinstance(place, list) or [type(item) for item in place] != list(kinds):
        raise PageTokenInvalid
    if any(isinstance(item, int) and not -1 <= item <= 2**62 for item in place):
        raise PageTokenInvalid
    return place


def after_text(token: str, call: bytes) -> str:
    """The text behind which a page begins."""
    text = str(decode(token, call, str)[0]) if token else ""
    if any(c == "\0" or "\ud800" <= c <= "\udfff" for c in text):  # forged: Postgres can't store it
        raise PageTokenInvalid
    return text


def before(token: str, call: bytes) -> int:
    """Where a page of records, the newest first, begins: before this number."""
    return int(decode(token, call, int)[0] or 0) if token else 2**62

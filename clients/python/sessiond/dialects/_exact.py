"""What the dialects have in common: values that fit their fields, and what becomes of the rest."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sessiond import v1
from sessiond.dialects._patch import apply, difference

NAME_LENGTH = 256
ID_BYTES = 256
MANY = 256
EXTENSIONS = 64
MEDIA_BYTES = 1 << 20
ATTACHMENT = "attachment:"
_ATTACHMENT_ID = re.compile(r"[!-~]{1,128}")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SURROGATE_PAIR = re.compile(r"[\ud800-\udbff][\udc00-\udfff]")


def text(at: str, value: str) -> str:
    """The text, if it can be encoded."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{at}: an unpaired surrogate at {error.start} can't be encoded in UTF-8"
        ) from None
    return value


def short(at: str, value: Any) -> str:
    """The value, if it is a text that fits a short field; else nothing."""
    return value if isinstance(value, str) and _is_short(text(at, value)) else ""


def call_id(at: str, value: Any) -> str:
    """The value, if it can be a tool call's id; else nothing."""
    if not isinstance(value, str) or len(text(at, value).encode()) > ID_BYTES:
        return ""
    return "" if _CONTROLS.search(value) else value


def _is_short(value: str) -> bool:
    return len(value) <= NAME_LENGTH and not _CONTROLS.search(value)


def media(at: str, url: Any, **facts: Any) -> v1.Media | None:
    """What is at a URL, `attachment:ID` included; None if it doesn't fit."""
    if not isinstance(url, str) or len(text(at, url).encode()) > MEDIA_BYTES:
        return None
    for name, value in facts.items():
        if not isinstance(value, str) or not _is_short(text(f"{at}.{name}", value)):
            return None
    if url.startswith(ATTACHMENT) and _ATTACHMENT_ID.fullmatch(url, len(ATTACHMENT)):
        return v1.Media(attachment_id=url.removeprefix(ATTACHMENT), **facts)
    return v1.Media(uri=url, **facts)


def inline(at: str, data: Any, **facts: Any) -> v1.Media | None:
    """What is given in base64; None if other base64 would come back, or it doesn't fit."""
    for name, value in facts.items():
        if not isinstance(value, str) or not _is_short(text(f"{at}.{name}", value)):
            return None
    if not isinstance(data, str) or len(data) > 2 * MEDIA_BYTES:
        return None
    try:
        found = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return None
    exact = len(found) <= MEDIA_BYTES and base64.b64encode(found).decode() == data
    return v1.Media(inline=found, **facts) if exact else None


def url_of(media: v1.Media) -> str:
    """A URL for it: its own, `data:`, or `attachment:ID`."""
    source = media.WhichOneof("source")
    if source == "attachment_id":
        return ATTACHMENT + media.attachment_id
    if source != "inline":
        return media.uri
    kind = media.mime_type or "application/octet-stream"
    return f"data:{kind};base64,{base64_of(media)}"


def base64_of(media: v1.Media) -> str:
    """Its bytes in base64."""
    return base64.b64encode(media.inline).decode()


def json_text(at: str, value: Any) -> str:
    """The value as JSON text; unpaired surrogates as escapes, which JSON can hold."""
    try:
        found = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{at}: {error}") from error
    try:
        found.encode()
    except UnicodeEncodeError:
        if _SURROGATE_PAIR.search(found):
            # As escapes, the two would be read as one character.
            raise ValueError(f"{at}: a pair of surrogates instead of a character") from None
        return json.dumps(value, separators=(",", ":"))
    return found


def check_keys(at: str, value: Any) -> None:
    """Raises ValueError for a key that JSON would turn into a text."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError(f"{at}: the key {key!r} isn't a text")
            check_keys(f"{at}.{key}", item)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            check_keys(f"{at}[{index}]", item)


def leave(at: str, name: str, message: v1.Message, plain: Any, item: Any, form: Any = None) -> None:
    """Keep in the extension `name` how an item differs from what the fields alone say: `plain`, which is made
    in this form, a JSON value. A form is kept in any case, unless it is empty."""
    extra: dict[str, Any] = {"form": form} if form else {}
    patch = difference(plain, item)
    if patch is not None:
        extra["patch"] = patch
    if extra:
        message.extensions[name] = json_text(at, extra).encode()


def left(name: str, extensions: Mapping[str, bytes]) -> tuple[Any, Any]:
    """The form and the patch that `leave` has kept, None where it hasn't."""
    if name not in extensions:
        return None, None
    extra = json.loads(extensions[name])
    if not isinstance(extra, dict) or not extra.keys() <= {"form", "patch"}:
        raise ValueError(f"the extension {name} isn't one of this library's")
    return extra.get("form"), extra.get("patch")


def patched(plain: Any, patch: Any) -> Any:
    """The item again."""
    return apply(plain, patch)


class Budget:
    """How many more extensions the parts of a message may have; one is the message's own."""

    def __init__(self) -> None:
        self._left = EXTENSIONS - 1

    def spend(self) -> bool:
        """Whether there is room for one more."""
        self._left -= 1
        return self._left >= 0


def each(
    items: Iterable[Mapping[str, Any]], make: Callable[[str, dict[str, Any]], v1.Message]
) -> list[v1.Message]:
    """A message of each dict. What can't be one raises ValueError, with the index and the field."""
    found = []
    for index, item in enumerate(items):
        at = f"messages[{index}]"
        try:
            check_keys(at, item)
            found.append(make(at, dict(item)))
        except RecursionError:
            raise ValueError(f"{at}: nested too deeply") from None
    return found


def back(
    messages: Iterable[v1.Message],
    make: Callable[[v1.Message], list[dict[str, Any]]],
    whose: str,
) -> list[dict[str, Any]]:
    """The dicts of all messages. What can't be read raises ValueError with the index."""
    found: list[dict[str, Any]] = []
    for index, message in enumerate(messages):
        try:
            found += make(message)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise ValueError(
                f"messages[{index}]: not a message from {whose} form: {error}"
            ) from error
    return found


def json_or_none(found: str) -> Any:
    """The value of a JSON text, if it is one."""
    try:
        return json.loads(found)
    except (ValueError, RecursionError):
        return None


def json_object(arguments: str) -> dict[str, Any]:
    """The arguments of a call as an object; those that aren't one as its only text."""
    found = json_or_none(arguments or "{}")
    return found if isinstance(found, dict) else {"arguments": arguments}

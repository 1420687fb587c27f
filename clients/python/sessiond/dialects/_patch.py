"""Differences between JSON values, as JSON values.

A patch turns one value into another exactly: types, and the order of an object's keys, included.

    null                    the value as it is
    {"=": value}            this value instead
    {"items": [patch, …]}   an array of as many items, each patched
    {"keys": {key: patch}}  an object with these keys in this order; a key that wasn't there has "="
        "without": [key]    and these keys of it are left out; others, made since, come last
"""

from __future__ import annotations

from typing import Any, TypeAlias

Json: TypeAlias = Any
Patch: TypeAlias = dict[str, Any] | None


def difference(old: Json, new: Json) -> Patch:
    """The patch that turns `old` into `new`."""
    if isinstance(old, dict) and isinstance(new, dict):
        return _object_difference(old, new)
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        items = [difference(a, b) for a, b in zip(old, new, strict=True)]
        return {"items": items} if any(item is not None for item in items) else None
    return None if _same(old, new) else {"=": new}


def _object_difference(old: dict[str, Json], new: dict[str, Json]) -> Patch:
    keys = {
        key: difference(old[key], value) if key in old else {"=": value}
        for key, value in new.items()
    }
    if list(old) == list(new) and all(patch is None for patch in keys.values()):
        return None
    patch: dict[str, Any] = {"keys": keys}
    if without := [key for key in old if key not in new]:
        patch["without"] = without
    return patch


def _same(old: Json, new: Json) -> bool:
    """Whether two values are one in JSON: 1, 1.0 and true are three, 0.0 and -0.0 two."""
    if isinstance(old, (dict, list, bool, float)) or isinstance(new, (dict, list, bool, float)):
        return type(old) is type(new) and repr(old) == repr(new)
    return bool(old == new)


def apply(old: Json, patch: Patch) -> Json:
    """The value that the patch turns `old` into.

    If `old` isn't what the patch was made for, what still fits is patched. Raises TypeError,
    KeyError or AttributeError if the patch isn't one.
    """
    if patch is None:
        return old
    if "=" in patch:
        return patch["="]
    if "items" in patch:
        items = patch["items"]
        if not isinstance(old, list) or len(old) != len(items):
            return old
        return [apply(a, b) for a, b in zip(old, items, strict=True)]
    return _apply_keys(old, patch["keys"], patch.get("without", ()))


def _apply_keys(old: Json, keys: dict[str, Patch], without: list[str]) -> Json:
    if not isinstance(old, dict):
        return old
    result = {
        key: apply(old.get(key), patch)
        for key, patch in keys.items()
        if key in old or (patch is not None and "=" in patch)
    }
    result.update((key, old[key]) for key in old if key not in keys and key not in without)
    return result

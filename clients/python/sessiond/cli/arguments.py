"""What people type, as values: labels, durations, texts from arguments, files and stdin."""

from __future__ import annotations

import json
import re
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import typer

from sessiond.cli.terminal import note

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|min|m|h|d|w)")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def labels(pairs: list[str] | None) -> dict[str, str]:
    """`key=value` texts as a dict. A usage error for others."""
    result = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise typer.BadParameter(f"{pair!r} isn't KEY=VALUE")
        result[key] = value
    return result


def duration(text: str) -> timedelta:
    """`90s`, `15min`, `2h`, `7d` or `1w`. A usage error for others."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise typer.BadParameter(f"{text!r} isn't a duration such as 90s, 15min, 2h, 7d or 1w")
    try:
        return timedelta(seconds=float(match[1]) * _SECONDS[match[2]])
    except OverflowError:
        raise typer.BadParameter(f"{text!r} is too long") from None


def optional_duration(text: str) -> timedelta | None:
    """A duration, or None if nothing is given."""
    return duration(text) if text else None


def json_object(text: str) -> dict[str, Any]:
    """A JSON object. A usage error for others."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise typer.BadParameter("not a JSON object")
    return value


def text_of(argument: str | None, file: Path | None, what: str) -> str | None:
    """A text that is given itself or by a file (`-` is stdin); None if by neither."""
    if argument is not None and file is not None:
        raise typer.BadParameter(f"give {what} as text or as a file, not both")
    if file is None:
        return argument
    if str(file) == "-":
        return stdin_text(what)
    return _decoded(file.read_bytes(), str(file))


def stdin_text(what: str) -> str:
    """All of stdin as text; asks for it when a person would have to type it."""
    return _decoded(stdin_bytes(what), "stdin")


def stdin_bytes(what: str) -> bytes:
    """All of stdin; asks for it when a person would have to type it."""
    if sys.stdin.isatty():
        note(f"type {what}, end with Ctrl-D:")
    return sys.stdin.buffer.read()


def _decoded(raw: bytes, name: str) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{name} isn't UTF-8: {error}") from None

"""Names of files: what is made of a name that anybody may have sent, so that any file system takes it and
none is led astray; and the numbers of names that are taken."""

from __future__ import annotations

import mimetypes
import re
import unicodedata
from collections.abc import Collection, Iterator

MAX_BYTES = 1024
"""Of a whole path, in UTF-8."""
PART_BYTES = 255
MAX_LEVELS = 16
FALLBACK = "file"
UNKNOWN_TYPE = "application/octet-stream"

_RESERVED = re.compile(r"(?:con|prn|aux|nul|(?:com|lpt)[0-9¹²³]|conin\$|conout\$)", re.IGNORECASE)
_FORBIDDEN = re.compile(r'[<>:"|?*]')
_WHITE = re.compile(r"\s+")
_DROPPED = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_TYPES = mimetypes.MimeTypes(filenames=())
"""The table of the interpreter alone: what a type is doesn't depend on the machine."""


class UnsafeName(ValueError):
    """A name of which nothing safe can be made; the text says why."""


def safe_path(name: str) -> str:
    """The relative path that a name stands for, each part made safe; the same again for what it returns.

    Raises `UnsafeName` for one that leads upwards or from a root, or is too long.
    """
    path = name.replace("\\", "/")
    if path.startswith("/"):
        raise UnsafeName("must be a relative path")
    pieces = path.split("/")
    if ".." in (piece.strip() for piece in pieces):
        raise UnsafeName("must not lead upwards")
    parts = [_safe_part(piece) for piece in pieces if piece.strip(". \t")] or [FALLBACK]
    if len(parts) > MAX_LEVELS:
        raise UnsafeName(f"must have at most {MAX_LEVELS} levels, has {len(parts)}")
    safe = "/".join(parts)
    if len(safe.encode()) > MAX_BYTES:
        raise UnsafeName(f"must be at most {MAX_BYTES} bytes, has {len(safe.encode())}")
    return safe


def _safe_part(piece: str) -> str:
    """A file or directory name."""
    spaced = _FORBIDDEN.sub("_", _WHITE.sub(" ", piece))
    kept = "".join(c for c in spaced if unicodedata.category(c) not in _DROPPED)
    kept = unicodedata.normalize("NFC", _WHITE.sub(" ", kept)).strip(". ")
    if _RESERVED.fullmatch(kept.partition(".")[0].rstrip()):
        kept = f"_{kept}"
    return _shortened(kept, PART_BYTES) or FALLBACK


def _shortened(part: str, most: int) -> str:
    """A part of so many bytes at most; its extension stays."""
    if len(part.encode()) <= most:
        return part
    stem, extension = split(part)
    if len(extension.encode()) > most // 2:
        stem, extension = part, ""
    room = most - len(extension.encode())
    return stem.encode()[:room].decode(errors="ignore").rstrip(". ") + extension


def split(part: str) -> tuple[str, str]:
    """The stem of a file's name and its extension, with the dot: `a.tar` and `.gz`."""
    stem, dot, extension = part.rpartition(".")
    return (stem, dot + extension) if stem else (part, "")


def extension(path: str) -> str:
    """In lower case and without the dot; empty if there is none."""
    return split(path.rpartition("/")[2])[1][1:].lower()


def directories(path: str) -> list[str]:
    """The directories that a path goes through, the outermost first."""
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def unused(path: str, taken: Collection[str]) -> str:
    """A safe path as it is, or numbered where files stand in its way: `a/b_1.txt`."""
    files = frozenset(taken)
    folders = {folder for name in files for folder in directories(name)}
    place = ""
    *above, last = path.split("/")
    for part in above:
        place = next(p for p in _numbered(place, part) if p not in files) + "/"
    return next(p for p in _numbered(place, last) if p not in files and p not in folders)


def _numbered(place: str, part: str) -> Iterator[str]:
    """The paths of a part there: as it is, and with each number."""
    yield place + part
    stem, extension = split(part)
    number = 1
    while True:
        tail = f"_{number}{extension}"
        room = PART_BYTES - len(tail.encode())
        yield place + stem.encode()[:room].decode(errors="ignore") + tail
        number += 1


def type_of(path: str) -> str:
    """The media type that an extension stands for."""
    found, encoding = _TYPES.guess_type(f"x.{extension(path)}", strict=True)
    return "application/gzip" if encoding == "gzip" else found or UNKNOWN_TYPE


def named_after(mime_type: str) -> str:
    """A name for a file that has none."""
    extension = _TYPES.guess_extension(mime_type.partition(";")[0].strip(), strict=True)
    return FALLBACK + (extension or "")

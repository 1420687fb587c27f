"""Writing downloaded files below a directory, and never beside it, whatever their names say."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from sessiond.cli.terminal import Failure

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def parts(name: str) -> list[str]:
    """The parts of an attachment's name. The service makes names safe; one that isn't is refused here."""
    found = name.split("/")
    if any(part in ("", ".", "..") or "\0" in part or "\\" in part for part in found):
        raise Failure(f"the attachment has an unsafe name: {name!r}")
    return found


@contextmanager
def saving(directory: Path, name: str, *, replace: bool) -> Iterator[BinaryIO]:
    """A file to write to, which appears when it is whole, and never in part. Symbolic links below `directory`
    aren't followed."""
    *above, last = parts(name)
    temporary = f".{secrets.token_hex(8)}.part"
    with _explained(directory / name), ExitStack() as stack:
        place = os.open(directory, _DIRECTORY & ~os.O_NOFOLLOW)
        stack.callback(os.close, place)
        for part in above:
            with suppress(FileExistsError):
                os.mkdir(part, dir_fd=place)
            place = os.open(part, _DIRECTORY, dir_fd=place)
            stack.callback(os.close, place)
        handle = os.open(temporary, _NEW_FILE, 0o666, dir_fd=place)
        stack.callback(_forget, place, temporary)
        with os.fdopen(handle, "wb") as file:
            yield file
        if not replace:
            os.close(os.open(last, _NEW_FILE, dir_fd=place))  # fails if there is one
        os.replace(temporary, last, src_dir_fd=place, dst_dir_fd=place)


def _forget(place: int, name: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=place)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError as error:
        raise Failure(f"{path} is there already; --force replaces it") from error
    except OSError as error:
        raise Failure(f"{path}: {error.strerror or error}") from error

"""The private directory of the Unix socket. Only who may enter it can connect: Postgres trusts them
all.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import sys
import tempfile
from pathlib import Path

from .errors import EmbeddedPostgresError
from .process import first_closed
from .user import User, give_to

PORT = 5432
SOCKET = f".s.PGSQL.{PORT}"
LONGEST_SOCKET_PATH = 107 if sys.platform == "linux" else 103
PREFIX = "sessiond-"
# Postgres and the clients' DSNs give commas, quotes and spaces in paths a meaning of their own.
PLAIN = re.compile(r"/[A-Za-z0-9_./+-]*")


def fits(directory: Path) -> bool:
    """Say whether a socket in that directory can be bound and named in a DSN."""
    path = str(directory / SOCKET)
    return len(os.fsencode(path)) <= LONGEST_SOCKET_PATH and PLAIN.fullmatch(path) is not None


async def make_socket_dir(run: Path, user: User | None) -> Path:
    """Make the socket's directory, mode 0700, and return it.

    It is `run`, or, when that path doesn't fit, a directory in the system's place for temporary
    files with `run` as a symbolic link to it. What an earlier server left of either is removed.
    """
    remove_socket_dir(run, user)
    if fits(run):
        os.mkdir(run, 0o700)
        give_to(run, user)
        return run
    made = tempfile.mkdtemp(prefix=PREFIX, dir=await _temporary_place(user))
    give_to(Path(made), user)
    os.symlink(made, run)
    return Path(made)


def remove_socket_dir(run: Path, user: User | None) -> None:
    """Remove `run` and, if it is a link, the directory that it leads to."""
    if run.is_symlink():
        target = Path(os.readlink(run))
        owner = os.geteuid() if user is None else user.uid
        if target.name.startswith(PREFIX) and _is_directory_of(target, owner):
            shutil.rmtree(target)
        run.unlink()
    else:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(run)


def _is_directory_of(path: Path, owner: int) -> bool:
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == owner


async def _temporary_place(user: User | None) -> Path:
    for place in map(Path, (tempfile.gettempdir(), "/tmp")):
        if not fits(place / f"{PREFIX}12345678"):
            continue
        if user is None or await first_closed((place,), user) is None:
            return place
    raise EmbeddedPostgresError(
        "no directory for temporary files is open to Postgres and has a path short enough for "
        "a Unix socket; set TMPDIR"
    )

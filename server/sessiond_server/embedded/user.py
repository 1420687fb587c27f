"""Which user Postgres runs as: it refuses to run as root."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from .errors import EmbeddedPostgresError

CANDIDATES = ("sessiond", "postgres", "nobody")


@dataclass(frozen=True)
class User:
    """A user whom root becomes to run Postgres."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]


def postgres_user(pgdata: Path) -> User | None:
    """Return the user to run Postgres as, or None to run it as the present one, who isn't root.

    It is the owner of an existing `pgdata`, else the first of `CANDIDATES` that exists. Raises
    EmbeddedPostgresError if there is none or if `pgdata` belongs to a user whom it can't be run as.
    """
    owner = _owner(pgdata)
    if os.geteuid() != 0:
        if owner is not None and owner[0] != os.geteuid():
            raise EmbeddedPostgresError(
                f"{pgdata} belongs to {_name(owner[0])}; run the server as that user"
            )
        return None
    if owner is None:
        return _first_candidate()
    uid, gid = owner
    if uid == 0:
        raise EmbeddedPostgresError(
            f"{pgdata} belongs to root, and Postgres refuses to run as root; "
            "give the directory and all in it to an ordinary user"
        )
    return _user(_entry(uid)) or User(str(uid), uid, gid, (gid,))


def give_to(path: Path, user: User | None) -> None:
    """Make `user` the owner of something that the server itself has just made."""
    if user is not None:
        os.chown(path, user.uid, user.gid, follow_symlinks=False)


def _owner(pgdata: Path) -> tuple[int, int] | None:
    try:
        status = pgdata.stat()
    except (FileNotFoundError, PermissionError):
        return None
    return status.st_uid, status.st_gid


def _first_candidate() -> User:
    for name in CANDIDATES:
        try:
            found = _user(pwd.getpwnam(name))
        except KeyError:
            continue
        if found is not None and found.uid != 0:
            return found
    raise EmbeddedPostgresError(
        "Postgres refuses to run as root, and this machine has none of the users "
        f"{', '.join(CANDIDATES)}; make one, or run the server as an ordinary user"
    )


def _user(entry: pwd.struct_passwd | None) -> User | None:
    if entry is None:
        return None
    groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
    return User(entry.pw_name, entry.pw_uid, entry.pw_gid, tuple(groups))


def _entry(uid: int) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        return None


def _name(uid: int) -> str:
    entry = _entry(uid)
    return entry.pw_name if entry else f"the user {uid}"

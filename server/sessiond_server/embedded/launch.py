"""Becomes another user, ties its life to the server's, and then runs a command in its own place.

Run by path in a fresh interpreter (`python -I -S launch.py PARENT SIGNAL UID GID GROUPS
COMMAND...`), because code between fork and exec isn't safe in a process with threads. It imports
the standard library only, all of it before the user changes: the new user may not be able to read
the interpreter's files.

PARENT is the pid of the server; SIGNAL is sent to the command when the server dies; UID is -1 to
stay the user one is; GROUPS is a comma-separated list. The command `reach PATH...` runs nothing: it
prints, one line for each path, the first directory or file on the way that the user can't use, or
an empty line.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1


def become(uid: int, gid: int, groups: Sequence[int]) -> None:
    """Drop root's rights for good."""
    os.setgroups(groups)
    os.setgid(gid)
    os.setuid(uid)


def die_with(parent: int, death_signal: int) -> None:
    """Ask the kernel for a signal when the parent dies. `become` would undo it: it comes first."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        sys.exit("the server ended meanwhile")


def first_closed(path: str) -> str:
    """Return the first part of an absolute path that the user can't use, or an empty one."""
    ends = [index for index, char in enumerate(path) if char == "/" and index > 0]
    for part in ["/", *(path[:end] for end in ends), path]:
        if not os.access(part, os.F_OK):
            return ""
        if not os.access(part, os.X_OK if os.path.isdir(part) else os.R_OK):
            return part
    return ""


def main(arguments: Sequence[str]) -> None:
    """Do what the module's text says; never returns when it runs a command."""
    parent, death_signal, uid, gid = map(int, arguments[:4])
    groups, *command = arguments[4:]
    if uid >= 0:
        try:
            become(uid, gid, [int(group) for group in groups.split(",") if group])
        except OSError as error:
            sys.exit(f"root can't become the user {uid} here: {error.strerror}")
    die_with(parent, death_signal)
    if command[0] == "reach":
        print(*map(first_closed, command[1:]), sep="\n")
        return
    os.umask(0o077)
    # Python ignores these two, and what is ignored stays so across exec.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    try:
        os.execv(command[0], command)
    except OSError as error:
        sys.exit(f"{command[0]} can't be run: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])

"""Starts Postgres's programs: as the right user, with a clean environment, ending when the server
ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Sequence
from pathlib import Path

from . import launch
from .errors import EmbeddedPostgresError
from .user import User

KEPT_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


async def spawn(
    command: Sequence[str], *, user: User | None, death_signal: signal.Signals, output: int
) -> Process:
    """Start a program in a session of its own, so that a terminal's Ctrl-C reaches the server
    alone.

    `output` is a file descriptor (or PIPE) for what the program writes on stdout and stderr. The
    program gets `death_signal` when the thread that runs this event loop ends (Linux).
    """
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-I", "-S", launch.__file__),
        *(str(os.getpid()), str(int(death_signal)), *_identity(user)),
        *command,
        stdin=DEVNULL,
        stdout=output,
        stderr=STDOUT,
        cwd="/",
        env=clean_environment(),
        start_new_session=True,
    )


async def run(command: Sequence[str], *, user: User | None) -> str:
    """Run a program to its end and return its output, stderr included.

    Raises EmbeddedPostgresError with that output if it fails. Cancelled, it kills the program's
    whole session.
    """
    process = await spawn(command, user=user, death_signal=signal.SIGKILL, output=PIPE)
    try:
        output, _ = await process.communicate()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        raise
    text = output.decode(errors="replace").rstrip("\n")
    if process.returncode != 0:
        raise EmbeddedPostgresError(f"{Path(command[0]).name} failed: {text.strip()}")
    return text


async def first_closed(paths: Sequence[Path], user: User) -> Path | None:
    """Return the first part of any of these absolute paths that `user` can't use, or None.

    Directories have to be open for passing through, files for reading. What doesn't exist isn't
    closed.
    """
    answer = await run(("reach", *map(str, paths)), user=user)
    closed = [Path(line) for line in answer.splitlines() if line]
    return closed[0] if closed else None


def clean_environment() -> dict[str, str]:
    """Return what Postgres's programs may see: no locale, no PG* variable, none of the server's
    secrets.
    """
    kept = {name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}


def _identity(user: User | None) -> tuple[str, str, str]:
    if user is None:
        return "-1", "-1", ""
    return str(user.uid), str(user.gid), ",".join(map(str, user.groups))

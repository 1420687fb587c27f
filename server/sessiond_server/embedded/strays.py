"""Ends the processes that a server killed without warning left behind in a data directory.

They are known by their command lines, which every user may read; root in a container usually may
not look at the working directory of another user's process.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import structlog

from .errors import EmbeddedPostgresError

logger = structlog.get_logger()

POLL = 0.02
FAST, IMMEDIATE, LINGER, KILL = 20.0, 5.0, 0.5, 5.0


def cluster_name(pgdata: Path) -> str:
    """Return the name that all processes of the cluster in `pgdata` bear in their titles."""
    return f"sessiond-{hashlib.sha256(os.fsencode(pgdata)).hexdigest()[:16]}"


async def end_strays(pgdata: Path) -> None:
    """Return when no Postgres process works in `pgdata` any more.

    A postmaster is shut down fast (20 s), then immediately (5 s). What still lives is killed, as
    are processes whose postmaster is dead and that don't end by themselves within 0.5 s.
    Raises EmbeddedPostgresError if one can't be ended.
    """
    for order, patience in ((signal.SIGINT, FAST), (signal.SIGQUIT, IMMEDIATE)):
        postmaster = _pid_in_file(pgdata)
        if postmaster is None or postmaster not in processes_of(pgdata):
            break
        logger.warning("stopping the Postgres of an earlier server", pid=postmaster)
        _signal(postmaster, order)
        await _gone(pgdata, patience)
    if await _gone(pgdata, LINGER):
        return
    for pid in processes_of(pgdata):
        _signal(pid, signal.SIGKILL)
    if not await _gone(pgdata, KILL):
        raise EmbeddedPostgresError(
            f"the Postgres processes {processes_of(pgdata)} hold {pgdata} and can't be ended"
        )


def remove_reused_pid_file(pgdata: Path) -> None:
    """Remove a `postmaster.pid` whose pid has since gone to a process that isn't a Postgres, or is that of
    a postmaster which is dead but not yet reaped, and has no command line any more.

    Postgres would take that process for its predecessor and refuse to start; in a container that
    always begins with the same pids, for ever.
    """
    pid = _pid_in_file(pgdata)
    command = dict(_commands()).get(pid) if pid is not None else None
    if command is not None and "postgres" not in command:
        (pgdata / "postmaster.pid").unlink(missing_ok=True)


def is_ready(pgdata: Path, postmaster: int) -> bool:
    """Say whether that postmaster has written that it accepts connections."""
    lines = _pid_file(pgdata)
    return len(lines) > 7 and lines[0] == str(postmaster) and lines[7].strip() == "ready"


def processes_of(pgdata: Path) -> list[int]:
    """Return the pids of the cluster's processes, the postmaster's and its children's."""
    title = re.escape(f"postgres: {cluster_name(pgdata)}: ")
    postmaster = rf"(/[^\0]*/)?postgres[\0 ]-D[\0 ]{re.escape(str(pgdata))}([\0 ]|$)"
    ours = re.compile(f"{title}|{postmaster}")
    return [pid for pid, command in _commands() if ours.match(command)]


def _commands() -> Iterator[tuple[int, str]]:
    """Yield the pid and the command line of every process; on Linux with NULs between its words."""
    if sys.platform == "linux":
        for name in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                yield int(name), os.fsdecode(Path("/proc", name, "cmdline").read_bytes())
    else:
        listing = subprocess.run(
            ("ps", "-axww", "-o", "pid=,command="), capture_output=True, check=True
        )
        for line in os.fsdecode(listing.stdout).splitlines():
            pid, _, command = line.strip().partition(" ")
            yield int(pid), command.lstrip()


def _pid_in_file(pgdata: Path) -> int | None:
    """Return the pid that `postmaster.pid` names, whoever has it now."""
    lines = _pid_file(pgdata)
    return int(lines[0]) if lines and lines[0].isdigit() else None


def _pid_file(pgdata: Path) -> list[str]:
    try:
        return (pgdata / "postmaster.pid").read_text(errors="replace").splitlines()
    except OSError:
        return []


def _signal(pid: int, order: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, order)


async def _gone(pgdata: Path, patience: float) -> bool:
    until = time.monotonic() + patience
    while processes_of(pgdata):
        if time.monotonic() > until:
            return False
        await asyncio.sleep(POLL)
    return True

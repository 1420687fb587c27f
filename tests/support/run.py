"""One directory for all that a run of the tests writes, and a process that removes it however the run ends.

`python -m tests.support.run` is that process. It prints the directory and waits for the end of its standard
input, which the kernel closes even if the run is killed. Then it ends what the run left running, and removes
the directory. It holds a lock on it: if it is killed too, the next run finds a directory that nobody locks.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sessiond_server.embedded.strays import end_strays

ROOT = Path(__file__).parents[2]
PREFIX = "sessiond-run-"
_MEMORY = Path("/dev/shm")
_ROOM = 4 * 2**30
_PATIENCE = 30.0


@contextmanager
def directory() -> Iterator[None]:
    """Make the run's directory the place for temporary files, of this process and of those it starts."""
    process = subprocess.Popen(
        (sys.executable, "-m", "tests.support.run"),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        os.environ["TMPDIR"] = process.stdout.readline().strip()
        tempfile.tempdir = None
        try:
            yield
        finally:
            process.stdin.close()
            process.wait(2 * _PATIENCE)


def _parent() -> Path:
    """`TMPDIR` if it is set, else memory if there is room: file systems are slow at making files after they
    deleted many."""
    if not os.environ.get("TMPDIR") and os.access(_MEMORY, os.W_OK):
        status = os.statvfs(_MEMORY)
        if status.f_bavail * status.f_frsize > _ROOM and not status.f_flag & os.ST_NOEXEC:
            return _MEMORY
    return Path(tempfile.gettempdir()).resolve()


def _lock(place: Path) -> int | None:
    """Lock a directory of a run for as long as this process lives; None if another one has it."""
    try:
        lock = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def _make(parent: Path) -> Path:
    while True:
        place = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        # Another run that begins just now may take it for one that nobody uses.
        if _lock(place) is not None and place.exists():
            place.chmod(0o711)  # as root, Postgres runs as another user
            return place


def _abandoned(parent: Path) -> Iterator[Path]:
    for place in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(FileNotFoundError):
            if place.lstat().st_uid != os.geteuid():
                continue
            lock = _lock(place)
            if lock is not None:
                yield place
                os.close(lock)


def _processes(place: Path) -> list[int]:
    """Those that were started with the directory as their place for temporary files (Linux)."""
    mark = b"\0TMPDIR=%s\0" % os.fsencode(place)
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark in b"\0" + environment.read_bytes():
                found.append(int(environment.parent.name))
    return found


def _clear(place: Path) -> None:
    """End what runs in a directory, and remove it; again and again, since what runs starts more."""
    until = time.monotonic() + _PATIENCE
    while place.exists():
        if time.monotonic() > until:
            sys.exit(f"{place} can't be removed: {[str(it) for it in place.rglob('*')][:10]}")
        for pid in _processes(place):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid_file in list(place.rglob("postmaster.pid")):
            asyncio.run(end_strays(pid_file.parent))
        shutil.rmtree(place, ignore_errors=True)
        time.sleep(0.05)


def main() -> None:
    parent = _parent()
    for place in _abandoned(parent):
        _clear(place)
    place = _make(parent)
    print(place, flush=True)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody may read it any more
    sys.stdin.read()
    _clear(place)


if __name__ == "__main__":
    main()

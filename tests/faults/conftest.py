"""Places for the data and the sockets of servers that are killed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


def _memory() -> str | None:
    """Memory if there is room: file systems are slow at creating after they deleted much."""
    memory = "/dev/shm"
    if not os.access(memory, os.W_OK):
        return None
    status = os.statvfs(memory)
    enough = status.f_bavail * status.f_frsize > 2**30
    return memory if enough and not status.f_flag & os.ST_NOEXEC else None


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a short path that another user, as whom root runs Postgres, can reach."""
    path = Path(tempfile.mkdtemp(prefix="faults-", dir=_memory())).resolve()
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)

"""The data directory: whose it is, who works in it, and what lies where."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .errors import EmbeddedPostgresError

FORMAT = 1
MARKER = "sessiond.json"
NEW_MARKER = "sessiond.json.new"
LOCK = "lock"


def default_data_dir() -> Path:
    """Return `/var/lib/sessiond` for root, else `$XDG_DATA_HOME/sessiond` or
    `~/.local/share/sessiond`.
    """
    if os.geteuid() == 0:
        return Path("/var/lib/sessiond")
    base = os.environ.get("XDG_DATA_HOME", "")
    # The XDG specification has relative paths ignored.
    parent = Path(base) if os.path.isabs(base) else Path.home() / ".local" / "share"
    return parent / "sessiond"


@dataclass(frozen=True)
class _Marker:
    major: int
    initialised: bool

    def encoded(self) -> bytes:
        fields = {
            "format": FORMAT,
            "postgres_major": self.major,
            "initialised": self.initialised,
        }
        return (json.dumps(fields, indent=2) + "\n").encode()


class DataDirectory:
    """A directory that holds one embedded Postgres.

    `sessiond.json` marks it as ours, `lock` is held by the server that works in it (the kernel
    frees it when the server dies), `postgres/` is Postgres's own data directory, `run/` holds the
    socket, `binaries/` a copy of the programs where one is needed. Every method raises
    EmbeddedPostgresError with the reason if the directory can't be used; nothing is changed in a
    directory that isn't ours.
    """

    def __init__(self, path: Path, major: int) -> None:
        self.path = path.expanduser().absolute()
        self.major = major
        self._lock: int | None = None

    @property
    def pgdata(self) -> Path:
        return self.path / "postgres"

    @property
    def new_pgdata(self) -> Path:
        return self.path / "postgres.new"

    @property
    def run(self) -> Path:
        return self.path / "run"

    @property
    def binaries(self) -> Path:
        return self.path / "binaries"

    @property
    def log(self) -> Path:
        return self.path / "postgres.log"

    def check(self) -> None:
        """Find the directory's real path and refuse what isn't ours or can't be used by this
        version.
        """
        with self._reasons():
            self.path = self.path.resolve()
            self._read_marker()

    def claim(self, mode: int) -> None:
        """Make the directory if it is missing (with that mode, as its missing parents), lock and
        mark it.
        """
        with self._reasons():
            _make_directories(self.path, mode)
            if self._read_marker() is None:
                os.close(os.open(self.path / MARKER, os.O_WRONLY | os.O_CREAT, 0o600))
            self._take_lock()
            if self._read_marker() is None:
                self._write_marker(_Marker(self.major, initialised=False))

    def is_initialised(self) -> bool:
        """Say whether Postgres's data is there; refuse if it has been there and is gone."""
        with self._reasons():
            marker = self._read_marker()
            present = self.pgdata.is_dir()
            if marker is not None and marker.initialised and not present:
                raise EmbeddedPostgresError(
                    f"{self.pgdata} is gone, which held this server's data; bring it back, "
                    f"or remove {self.path} to begin with an empty one"
                )
            if present and marker is not None and not marker.initialised:
                self._write_marker(_Marker(self.major, initialised=True))
            return present

    def adopt_new_pgdata(self) -> None:
        """Put a complete `postgres.new` into the place of `postgres`, durably."""
        with self._reasons():
            self.new_pgdata.rename(self.pgdata)
            sync_directory(self.path)
            self._write_marker(_Marker(self.major, initialised=True))

    def release(self) -> None:
        """Give up the lock, if it is held."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _take_lock(self) -> None:
        lock = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise EmbeddedPostgresError(
                f"another server is using the data directory {self.path}"
            ) from None
        self._lock = lock

    def _read_marker(self) -> _Marker | None:
        """Return the marker, or None if the directory is missing, empty, or marked but not yet in
        use.
        """
        if not self.path.exists():
            return None
        names = set(os.listdir(self.path))
        if MARKER in names:
            content = (self.path / MARKER).read_bytes()
            if content:
                return self._parsed(content)
            names -= {MARKER, NEW_MARKER, LOCK}
        if names:
            raise EmbeddedPostgresError(
                f"{self.path} isn't empty and wasn't made by sessiond; "
                "name an empty or a new directory"
            )
        return None

    def _parsed(self, content: bytes) -> _Marker:
        version = _format_of(content)
        if version > FORMAT:
            raise EmbeddedPostgresError(
                f"{self.path} was made by a newer sessiond "
                f"(format {version}; this one knows up to {FORMAT})"
            )
        try:
            fields = json.loads(content)
            major, initialised = int(fields["postgres_major"]), bool(fields["initialised"])
        except (ValueError, TypeError, KeyError):
            raise EmbeddedPostgresError(
                f"{self.path / MARKER} isn't a marker that sessiond wrote"
            ) from None
        if major != self.major:
            raise EmbeddedPostgresError(
                f"{self.path} holds the data of Postgres {major}, which {self.major} can't read; "
                f"run it with {major}, or move the data with pg_dump and pg_restore"
            )
        return _Marker(major, initialised)

    def _write_marker(self, marker: _Marker) -> None:
        new = self.path / NEW_MARKER
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with open(handle, "wb") as file:
            file.write(marker.encoded())
            file.flush()
            os.fsync(handle)
        new.rename(self.path / MARKER)
        sync_directory(self.path)

    @contextmanager
    def _reasons(self) -> Iterator[None]:
        """Turn the system's errors into reasons."""
        try:
            yield
        except OSError as error:
            place = error.filename or self.path
            raise EmbeddedPostgresError(
                f"the data directory {self.path} can't be used: {place}: {error.strerror or error}"
            ) from error


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _make_directories(path: Path, mode: int) -> None:
    if path.is_dir():
        return
    if path.exists():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    _make_directories(path.parent, mode)
    path.mkdir(exist_ok=True)
    path.chmod(mode)
    sync_directory(path.parent)


def _format_of(content: bytes) -> int:
    """Return the format that a marker names: of a newer one we may know no other field."""
    try:
        version = json.loads(content)["format"]
    except (ValueError, TypeError, KeyError):
        return 0
    return version if isinstance(version, int) else 0

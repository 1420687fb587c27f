"""A SQLite file that is read and never changed, not even by what SQLite puts beside it."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sessiond.cli.file_kinds import SQLITE_MAGIC
from sessiond.cli.openai_files import FormatError

_SIDE_FILES = ("-wal", "-journal")
_ATTEMPTS = 5

Row = dict[str, Any]


@contextmanager
def opened(path: Path) -> Iterator[Database]:
    """Opens a file. One that has a log beside it, or would get one when it is read, is copied first,
    so that what stands in the log is read as well and the file needs no write permission.

    Raises FormatError and OSError.
    """
    with path.open("rb") as stream:
        head = stream.read(20)
    if not head.startswith(SQLITE_MAGIC):
        raise FormatError("not a SQLite file")
    beside = [side for side in _SIDE_FILES if Path(f"{path}{side}").exists()]
    if head[18:20] != b"\2\2" and not beside:
        yield from _read(f"file:{quote(str(path.resolve()))}?mode=ro")
        return
    with tempfile.TemporaryDirectory(prefix="sessionctl-") as directory:
        yield from _read(f"file:{quote(str(_copied(path, Path(directory))))}?mode=rw")


def _copied(path: Path, directory: Path) -> Path:
    for _ in range(_ATTEMPTS):
        before = _state(path)
        for side in ("", *_SIDE_FILES):
            target = directory / f"store{side}"
            target.unlink(missing_ok=True)
            if Path(f"{path}{side}").exists():
                shutil.copyfile(f"{path}{side}", target)
        if _state(path) == before:
            return directory / "store"
    raise FormatError("it is being written all the time; stop the agent first")


def _state(path: Path) -> list[tuple[int, int] | None]:
    files = [Path(f"{path}{side}") for side in ("", *_SIDE_FILES)]
    found = [file.stat() if file.exists() else None for file in files]
    return [None if it is None else (it.st_size, it.st_mtime_ns) for it in found]


def _read(uri: str) -> Iterator[Database]:
    connection = sqlite3.connect(
        uri, uri=True, check_same_thread=False
    )  # gRPC reads requests in one of its own
    connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    connection.row_factory = sqlite3.Row
    try:
        connection.execute("BEGIN")
        yield Database(connection)
    except sqlite3.DatabaseError as error:
        raise FormatError(f"the file can't be read: {error}") from error
    finally:
        connection.close()


class Database:
    """An open file, in one state."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        found = self._connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        self.tables = {row[0] for row in found}

    def require(self, system: str, table: str, *columns: str) -> None:
        """Raises FormatError unless there is a table with these columns, as that system's store has it."""
        if table not in self.tables:
            raise FormatError(f"not a store of {system}: it has no table {table}")
        missing = set(columns) - set(self.columns(table))
        if missing:
            raise FormatError(
                f"not a store of {system}: its table {table} has no column {min(missing)}"
            )

    def columns(self, table: str) -> list[str]:
        return [row[1] for row in self._connection.execute(f"PRAGMA table_info({_name(table)})")]

    def rows(self, table: str, order: str = "", **where: object) -> Iterator[Row]:
        """The rows of a table in which columns have these values, by columns that it may lack."""
        if table not in self.tables:
            return
        there = self.columns(table)
        conditions = " AND ".join(f"{_name(column)} = ?" for column in where) or "1"
        by = ", ".join(_name(it) for it in order.split() if it in there) or "1"
        text = f"SELECT * FROM {_name(table)} WHERE {conditions} ORDER BY {by}"
        for row in self._connection.execute(text, tuple(where.values())):
            yield dict(row)

    def count(self, table: str) -> int:
        found = self._connection.execute(f"SELECT count(*) FROM {_name(table)}")
        return int(found.fetchone()[0])

    def values(self, table: str, column: str) -> Iterator[Any]:
        """The different values of a column."""
        text = f"SELECT DISTINCT {_name(column)} FROM {_name(table)}"
        for row in self._connection.execute(text):
            yield row[0]


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'

"""The machinery of `import` and `export` where whole sessions move, as records."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from sessiond import Client, Export, session_filter, v1
from sessiond.cli import native_files
from sessiond.cli.filters import filter_of
from sessiond.cli.openai_files import FormatError, decompressed
from sessiond.cli.patience import PASSING, Patience
from sessiond.cli.sources import sqlite_file
from sessiond.cli.sources.hermes import HermesReader
from sessiond.cli.sources.making import Report
from sessiond.cli.sources.power_loop import PowerLoopReader
from sessiond.cli.terminal import Run

_IN_MEMORY = 8 << 20
_AT_ONCE = 0.001
"""An export tells of a server that went away after so many seconds: `Patience` waits for it."""

Make = Callable[[], Iterator[v1.TransferRecord]]


@dataclass
class Moved:
    """What an import came to."""

    sessions: int = 0
    created: int = 0
    refused: int = 0
    added: int = 0
    known: int = 0
    records_added: int = 0
    records_known: int = 0
    facts_differ: int = 0
    parents_missing: int = 0
    errors: list[str] = field(default_factory=list)
    in_metadata: dict[str, int] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)

    def add(self, outcome: v1.ImportOutcome) -> None:
        """Counts a session in."""
        if outcome.HasField("error"):
            self.refused += 1
            self.errors.append(f"session {outcome.session_id}: {_explained(outcome.error)}")
            return
        self.sessions += 1
        self.created += outcome.created
        self.added += outcome.messages_added
        self.known += outcome.messages_known
        self.records_added += outcome.records_added
        self.records_known += outcome.records_known
        self.facts_differ += outcome.facts_differ
        self.parents_missing += outcome.parent_missing


def _explained(error: v1.CallError) -> str:
    reason = v1.ErrorReason.Name(error.reason).removeprefix("ERROR_REASON_")
    fields = "; ".join(f"{it.field}: {it.description}" for it in error.field_violations)
    return f"{error.message}{' — ' if fields else ''}{fields} ({reason})"


class MoveRun:
    """Imports records. `on_record` is told how many were sent, `on_error` each refused session."""

    def __init__(
        self,
        client: Client,
        patience: Patience,
        on_record: Callable[[int], None],
        on_error: Callable[[str], None],
    ) -> None:
        self.moved = Moved()
        self._client = client
        self._patience = patience
        self._on_record = on_record
        self._on_error = on_error

    def run(self, make: Make) -> None:
        """Imports what `make` gives; again what is left of it when the server went away."""
        done: set[str] = set()

        def attempt() -> None:
            for answer in self._client.import_sessions(self._left(make(), done)):
                self._patience.call(lambda: None)  # as long as answers come, the server is there
                for outcome in answer.outcomes:
                    done.add(outcome.session_id)
                    self.moved.add(outcome)
                    if outcome.HasField("error"):
                        self._on_error(self.moved.errors[-1])

        self._patience.call(
            lambda: self._client.list_sessions_page(session_filter(whole_tenant=True), page_size=1)
        )
        self._patience.call(attempt)

    def _left(
        self, records: Iterator[v1.TransferRecord], done: set[str]
    ) -> Iterator[v1.TransferRecord]:
        """The records of the sessions that aren't done yet."""
        skipped = False
        done = set(done)
        for count, record in enumerate(records, 1):
            if record.HasField("session"):
                skipped = record.session.session.id in done
            if not skipped:
                yield record
            self._on_record(count)


@contextmanager
def native(name: str) -> Iterator[tuple[Make, int]]:
    """A native file, checked to its end before anything of it is imported, and how many records it has."""
    with contextlib.ExitStack() as stack:
        path = Path(name)
        if name == "-":
            copy = stack.enter_context(tempfile.NamedTemporaryFile())
            shutil.copyfileobj(sys.stdin.buffer, copy)
            copy.flush()
            path = Path(copy.name)

        def make() -> Iterator[v1.TransferRecord]:
            return native_files.records(_lines(path))

        yield make, native_files.check(_lines(path))


def _lines(path: Path) -> Iterator[bytes]:
    """Opened for each reading: a call that was lost may still read for a moment while the next one begins."""
    with path.open("rb") as stream:
        try:
            yield from decompressed(stream)
        except (EOFError, OSError) as error:
            raise FormatError(f"can't be read to its end: {error}") from error


_READERS: dict[str, type[HermesReader] | type[PowerLoopReader]] = {
    "hermes": HermesReader,
    "power-loop": PowerLoopReader,
}


@contextmanager
def other_store(kind: str, name: str, moved: Moved) -> Iterator[tuple[Make, int]]:
    """Another system's SQLite file; what has no place in it is counted when it has been read."""
    report = Report()
    with sqlite_file.opened(Path(name)) as database:
        reader = _READERS[kind]

        def make() -> Iterator[v1.TransferRecord]:
            report.in_metadata.clear()
            report.notes.clear()
            return reader(database, report).records()

        yield make, 0
    moved.in_metadata = dict(Counter(moved.in_metadata) + report.in_metadata)
    moved.notes = dict(Counter(moved.notes) + report.notes)


class Source:
    """The records of an export, which goes on when the server comes back."""

    def __init__(self, patience: Patience, make: Callable[[str], Export]) -> None:
        self._patience = patience
        self._make = make
        self._export = make("")

    def __iter__(self) -> Iterator[v1.TransferRecord]:
        while (record := self._patience.call(self._next)) is not None:
            yield record

    def _next(self) -> v1.TransferRecord | None:
        try:
            return next(self._export, None)
        except PASSING:  # by then everything that came has been given
            self._export = self._make(self._export.resume_token)
            raise


def export_native(
    run: Run, ids: Sequence[str], stream: BinaryIO, patience: Patience, *, continuations: bool
) -> Iterator[str]:
    """Writes sessions to a stream; yields each id when it is written. One that is gone by its turn, or
    goes while it is read, is left out; one that was under way when the server went away comes again."""
    writer = native_files.Writer(stream)
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as waiting:
        id = ""
        wanted = None if ids else filter_of(run, subagents=True)
        client = run.client.with_timeout(_AT_ONCE)

        def make(token: str) -> Export:
            return client.export_sessions(
                ids, wanted, continuations=continuations, resume_token=token
            )

        for record in Source(patience, make):
            kind = record.WhichOneof("record")
            if kind == "session":
                id = record.session.session.id
                waiting.seek(0)
                waiting.truncate()
            _put(waiting, record)
            if kind == "end" and not record.end.gone:
                waiting.seek(0)
                for kept in _taken(waiting):
                    writer.add(kept)
                yield id
    writer.close()


def _put(waiting: Any, record: v1.TransferRecord) -> None:
    encoded = record.SerializeToString()
    waiting.write(len(encoded).to_bytes(8) + encoded)


def _taken(waiting: Any) -> Iterator[v1.TransferRecord]:
    while size := waiting.read(8):
        yield v1.TransferRecord.FromString(waiting.read(int.from_bytes(size)))

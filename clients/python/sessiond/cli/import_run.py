"""An import of whole files: reads ahead a little, works on several sessions at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from io import BufferedReader
from typing import Any

from sessiond.cli.file_kinds import other_than_openai
from sessiond.cli.importer import Outcome, Refused, SessionImporter, Summary
from sessiond.cli.openai_files import FormatError, SessionLine, decompressed, parse_line
from sessiond.cli.patience import Patience, Stopped

JOBS = 8
MOST_UNREADABLE = 5
"""Lines at the beginning of a file after which it isn't taken for one of sessions."""
_READ_AHEAD = 2 * JOBS


class ImportRun:
    """Runs one import.

    `on_bytes` is told how much of a file was read, `on_error` each error's line.
    """

    def __init__(
        self,
        importer: SessionImporter,
        patience: Patience,
        on_bytes: Callable[[int], None],
        on_error: Callable[[str], None],
    ) -> None:
        self.summary = Summary()
        self._importer = importer
        self._patience = patience
        self._on_bytes = on_bytes
        self._on_error = on_error
        self._lock = threading.Lock()
        self._gave_up: BaseException | None = None
        self._running: dict[str, Future[None]] = {}

    def run(self, name: str, stream: BufferedReader[Any]) -> None:
        """Imports one file. Raises what a first call of all raises, or GaveUp.

        Interrupted, it leaves the threads behind: closing the client ends them.
        """
        pool = ThreadPoolExecutor(JOBS)
        try:
            for line in self._lines(name, stream):
                self._submit(pool, line)
                if self._gave_up:
                    break
            pool.shutdown()
        except BaseException:
            self._patience.stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        self._running.clear()
        if self._gave_up:
            raise self._gave_up

    def _submit(self, pool: ThreadPoolExecutor, line: SessionLine) -> None:
        earlier = self._running.get(line.id)
        if earlier is not None:
            wait([earlier])
        if len(self._running) >= _READ_AHEAD:
            done = wait(self._running.values(), return_when=FIRST_COMPLETED).done
            self._running = {id: job for id, job in self._running.items() if job not in done}
        self._running[line.id] = pool.submit(self._work, line)

    def _work(self, line: SessionLine) -> None:
        outcome, error = Outcome(), ""
        try:
            outcome = self._importer.run(line)
        except Refused as refused:
            error = str(refused)
        except Stopped:
            return
        except BaseException as fatal:
            self._patience.stop()
            self._gave_up = self._gave_up or fatal
            return
        with self._lock:
            if error:
                self.summary.refused += 1
                self._tell(error)
            else:
                self.summary.add(outcome)

    def _lines(self, name: str, stream: BufferedReader[Any]) -> Iterator[SessionLine]:
        found, unreadable = False, 0
        try:
            for number, raw in enumerate(decompressed(stream), 1):
                self._on_bytes(stream.tell() if stream.seekable() else 0)
                if number == 1 and (other := other_than_openai(raw)):
                    return self._unreadable(f"{name}: {other}")
                if not raw.strip():
                    continue
                try:
                    line = parse_line(raw)
                except FormatError as error:
                    self._unreadable(f"{name}, line {number}: {error}")
                    unreadable += 1
                    if not found and unreadable == MOST_UNREADABLE:
                        return self._unreadable(
                            f"{name}: no sessions at its beginning, so no more of it is read"
                        )
                else:
                    found = True
                    yield line
        except (EOFError, OSError) as error:
            self._unreadable(f"{name}: can't be read to its end: {error}")

    def _unreadable(self, error: str) -> None:
        with self._lock:
            self.summary.unreadable += 1
            self._tell(error)

    def _tell(self, error: str) -> None:
        self.summary.errors.append(error)
        self._on_error(error)

"""A running `sessionctl tail`, on pipes or on a terminal, read as it writes."""

from __future__ import annotations

import os
import pty
import queue
import re
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Iterator
from fcntl import ioctl
from typing import IO

import pytest

from tests.cli.command import COMMAND, Cli

SECONDS = 60.0


class Tail:
    """A running `sessionctl tail`, read as it writes."""

    def __init__(self, cli: Cli, *arguments: str, verb: str = "tail") -> None:
        self.process = cli.start(verb, *arguments)
        self._pieces: queue.Queue[tuple[str, str]] = queue.Queue()
        self.texts = {"out": "", "err": ""}
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        streams = {"out": self.process.stdout, "err": self.process.stderr}
        self._threads = [
            threading.Thread(target=self._read, args=it, daemon=True) for it in streams.items()
        ]
        for thread in self._threads:
            thread.start()

    def _read(self, name: str, stream: IO[bytes]) -> None:
        for line in stream:
            self._pieces.put((name, line.decode()))

    @property
    def output(self) -> str:
        return self.texts["out"]

    def wait_for(self, text: str, stream: str = "out") -> None:
        """Waits until it has written a text."""
        deadline = time.monotonic() + SECONDS
        while text not in self.texts[stream]:
            try:
                name, piece = self._pieces.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                pytest.fail(f"{text!r} isn't in {self.texts}")
            self.texts[name] += piece

    def ended(self) -> int:
        """Waits for its end; the exit code."""
        code = self.process.wait(SECONDS)
        for thread in self._threads:
            thread.join(SECONDS)
        while not self._pieces.empty():
            name, piece = self._pieces.get()
            self.texts[name] += piece
        return code

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for thread in self._threads:
            thread.join(SECONDS)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


class Terminal:
    """A running `sessionctl tail` on a pseudo-terminal of 80 columns and 16 rows."""

    def __init__(self, cli: Cli, *arguments: str) -> None:
        self._mine, theirs = pty.openpty()
        ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 16, 80, 0, 0))
        self.process = subprocess.Popen(
            (*COMMAND, "tail", *arguments),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=cli.environment(TERM="xterm-256color", NO_COLOR="1"),
        )
        os.close(theirs)
        self._written = b""
        self._more = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while True:
            try:
                piece = os.read(self._mine, 4096)
            except OSError:
                return
            with self._more:
                self._written += piece
                self._more.notify_all()

    @property
    def rows(self) -> list[str]:
        """What stands on the terminal, and what has scrolled away."""
        return rows_of(self._written.decode(errors="replace"))

    def wait_until(self, seen: Callable[[list[str]], bool]) -> list[str]:
        """Waits until what is seen fulfils a condition; that."""
        deadline = time.monotonic() + SECONDS
        with self._more:
            while not seen(rows := self.rows):
                if not self._more.wait(max(0.0, deadline - time.monotonic())):
                    pytest.fail("\n".join(rows))
        return rows

    def wait_for(self, text: str) -> list[str]:
        """Waits until a text is seen."""
        return self.wait_until(lambda rows: text in "\n".join(rows))

    def wait_for_last(self, *lines: str) -> list[str]:
        """Waits until these are the last lines, as `words` has them."""
        return self.wait_until(lambda rows: words(rows)[-len(lines) :] == list(lines))

    def interrupted(self) -> int:
        """Its exit code after Ctrl-C."""
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(SECONDS)
        self._thread.join(SECONDS)
        return code

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._thread.join(SECONDS)
        os.close(self._mine)


def words(rows: list[str]) -> list[str]:
    """The rows that say anything, without margins, seqs and times."""
    said = (" ".join(re.sub(r"^.*?[│┃](?: |$)", "", row).split()) for row in rows)
    return [words for words in said if words]


def rows_of(written: str) -> list[str]:
    """What a terminal without end shows of text with the few controls that `tail` uses."""
    rows, row, column = [""], 0, 0
    for piece in tokens(written):
        if piece == "\r":
            column = 0
        elif piece == "\n":
            row += 1
            rows += [""] * (row + 1 - len(rows))
        elif piece == "\x1b[J":
            rows[row:] = [rows[row][:column]]
        elif piece.startswith("\x1b") and piece.endswith("A"):
            row -= int(piece[2:-1])
            assert row >= 0
        elif not piece.startswith("\x1b"):
            rows[row] = rows[row][:column].ljust(column) + piece + rows[row][column + len(piece) :]
            column += len(piece)
        else:
            assert piece[-1] == "m", repr(piece)
    return rows


def tokens(written: str) -> Iterator[str]:
    """Controls and characters, one by one; the last control may be unfinished."""
    place = 0
    while place < len(written):
        end = place + 1
        if written[place] == "\x1b":
            end = place + 2
            while end < len(written) and not written[end].isalpha():
                end += 1
            if end == len(written):
                return
            end += 1
        yield written[place:end]
        place = end

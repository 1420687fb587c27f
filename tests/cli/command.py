"""The real command, and real conversations."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

from sessiond.cli import main

COMMAND = (sys.executable, "-m", "sessiond.cli")


class Cli:
    """Runs `sessionctl` against a server: in this process, or as one where that matters."""

    def __init__(self, target: str) -> None:
        self.target = target

    def environment(self, **more: str) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "LINES")}
        return {**kept, "SESSIOND_TARGET": self.target, "PYTHONUNBUFFERED": "1", **more}

    def __call__(
        self, *arguments: str, given: str | bytes = b"", **more: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end; `given` is its stdin, `more` are environment variables."""
        raw = given.encode() if isinstance(given, str) else given
        output, errors = io.BytesIO(), io.BytesIO()
        with ExitStack() as stack:
            stack.enter_context(mock.patch.dict(os.environ, self.environment(**more), clear=True))
            stack.enter_context(mock.patch.object(sys, "argv", ["sessionctl", *arguments]))
            stdin = io.TextIOWrapper(io.BufferedReader(io.BytesIO(raw)), "utf-8")
            stack.enter_context(mock.patch.object(sys, "stdin", stdin))
            for name, sink in (("stdout", output), ("stderr", errors)):
                stream = io.TextIOWrapper(sink, "utf-8", write_through=True)
                stack.callback(stream.detach)
                stack.enter_context(mock.patch.object(sys, name, stream))
            code = _exit_code(main)
        return subprocess.CompletedProcess(
            arguments, code, output.getvalue().decode(), errors.getvalue().decode()
        )

    def process(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end as a process of its own."""
        return subprocess.run(
            (*COMMAND, *arguments),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=self.environment(**more),
            encoding="utf-8",
            timeout=90,
            check=False,
        )

    def ok(self, *arguments: str, given: str | bytes = b"", **more: str) -> str:
        """Runs a command that must succeed; its stdout."""
        done = self(*arguments, given=given, **more)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    def json(self, *arguments: str, given: str | bytes = b"", **more: str) -> Any:
        """Runs a command that must succeed with `-o json`; what its stdout holds."""
        return json.loads(self.ok(*arguments, "-o", "json", given=given, **more))

    def refused(self, *arguments: str, given: str | bytes = b"", code: int = 1, **more: str) -> str:
        """Runs a command that must fail with an exit code and nothing on stdout; its stderr."""
        done = self(*arguments, given=given, **more)
        assert done.returncode == code, (done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        assert done.stdout == ""
        return done.stderr

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Starts a command and doesn't wait for it."""
        return subprocess.Popen(
            (*COMMAND, *arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment(),
        )


def _exit_code(work: Callable[[], None]) -> int:
    try:
        work()
    except SystemExit as ended:
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
            return 1
        return ended.code or 0
    return 0


def write_lines(path: Path, sessions: Sequence[object]) -> Path:
    """Writes sessions as JSON lines."""
    path.write_text("".join(json.dumps(session) + "\n" for session in sessions))
    return path


def read_lines(text: str | bytes) -> list[dict[str, Any]]:
    """The sessions of JSON lines."""
    return [json.loads(line) for line in text.splitlines()]

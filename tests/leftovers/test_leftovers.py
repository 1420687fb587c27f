"""Whatever ends a run of the tests, no file and no process of it stays."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.run import PREFIX, ROOT

pytestmark = pytest.mark.timeout(400)


class Run:
    """A run of two workers, each in the middle of a test, whose files all go to one place."""

    def __init__(self, place: Path, told: Path, *arguments: str) -> None:
        self.place, self.told = place, told
        kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider"),
                *("-n", "2", *arguments, "tests/leftovers/holding.py"),
            ],
            cwd=ROOT,
            env={**kept, "TMPDIR": str(place), "HOLDING": str(told)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def holding(self) -> list[int]:
        """The workers, once each is in its test."""
        files = [self.told / "1", self.told / "2"]
        wait(lambda: all(it.exists() and it.read_text() for it in files))
        return [int(it.read_text()) for it in files]

    def end(self) -> str:
        output, _ = self.process.communicate(timeout=120)
        return output

    def processes(self) -> dict[int, bytes]:
        """Those that have the place in their environment or their command line, and the latter."""
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                command = (process / "cmdline").read_bytes()
                environment = b""
                with contextlib.suppress(PermissionError):
                    environment = (process / "environ").read_bytes()
                if os.fsencode(self.place) in command + environment and command:
                    found[int(process.name)] = command
        return found

    def check_nothing_stays(self) -> None:
        wait(lambda: not list(self.place.iterdir()) and not self.processes())


def wait(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.fixture
def holding(place: Path, tmp_path: Path) -> Iterator[Run]:
    run = Run(place, tmp_path)
    yield run
    for pid in [run.process.pid, *run.processes()]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    run.process.communicate()


@pytest.mark.parametrize("order", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_ended_leaves_nothing(holding: Run, order: signal.Signals) -> None:
    holding.holding()
    assert list(holding.place.iterdir())
    holding.process.send_signal(order)
    assert " passed" not in holding.end()
    holding.check_nothing_stays()


def test_a_worker_that_is_killed_leaves_nothing(holding: Run) -> None:
    _, victim = holding.holding()
    os.kill(victim, signal.SIGKILL)
    (holding.told / "go_on").touch()
    output = holding.end()
    assert "crashed" in output
    assert "1 failed, 1 passed" in output
    holding.check_nothing_stays()


def test_what_stays_when_everything_is_killed_goes_with_the_next_run(holding: Run) -> None:
    holding.holding()
    commands = holding.processes()
    python = [pid for pid, command in commands.items() if b"postgres\0-D" not in command]
    for pid in python:
        os.kill(pid, signal.SIGKILL)
    holding.end()
    assert len(list(holding.place.glob(f"{PREFIX}*"))) == 1
    Run(holding.place, holding.told, "--collect-only").end()
    holding.check_nothing_stays()

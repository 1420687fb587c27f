"""What appends and reads take in this tree and at a git ref, side by side in one run.

Each side is a worker process with a server of its own code (`bench/worker.py`) and a database of its own on
the same Postgres. Both run a load at the same time, round by round, so that what else the machine does hits
both alike.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import postgres
from bench.processes import process
from bench.report import ROOT

LOADS = {
    "page": "newest page of 50, p50",
    "context": "context of 100 behind a compaction, p50",
    "append_unary": "append of 1 message, 64 callers",
    "append_turns": "append of 4 messages, 64 sessions",
    "append_stream": "AppendStream, 64 sessions",
    "append_batch": "append of 100, 8 callers",
}
"""Reads come first, before appends make the databases differ."""

_PARTS = ("wall", "server", "postgres", "client")
_SECONDS = 0.5
_STARTS = 3
"""How often the sides start anew: two processes of the same code differ by some percent all their life."""

_Measured = dict[str, float]
"""Seconds that a message or call takes, by part."""

_WORKER = Path("bench", "worker.py")
_LOCK = Path("requirements", "runtime.txt")


class _Side:
    """The worker of one tree."""

    def __init__(self, name: str, child: subprocess.Popen[str]) -> None:
        self._name = name
        self._child = child

    def answer(self) -> str:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            raise RuntimeError(f"the worker of {self._name} ended")
        return line

    def begin(self, load: str, seconds: float) -> None:
        assert self._child.stdin is not None
        self._child.stdin.write(f"{load} {seconds}\n")
        self._child.stdin.flush()

    def measured(self) -> _Measured:
        found: _Measured = json.loads(self.answer())
        return found


@contextmanager
def _side(name: str, tree: Path, python: str, dsn: str) -> Iterator[_Side]:
    worker = tree / _WORKER
    if not worker.exists():
        worker = ROOT / _WORKER
    path = os.pathsep.join(str(tree / part) for part in ("", "server", "clients/python"))
    with subprocess.Popen(
        [python, "-P", str(worker), dsn],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "0"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            side = _Side(name, child)
            side.answer()  # it is ready
            yield side
        finally:
            assert child.stdin is not None
            child.stdin.close()  # it stops its server and ends
            child.wait(60)


def _commit(ref: str) -> str:
    """The commit that a ref names; ValueError if it names none."""
    name = f"{ref}^{{commit}}"
    found = _git("rev-parse", "--verify", "--quiet", "--end-of-options", name, check=False)
    if not found:
        raise ValueError(f"--against: git knows no commit {ref!r}")
    return found.decode().strip()


def _git(*arguments: str, check: bool = True) -> bytes:
    done = subprocess.run(["git", "-C", ROOT, *arguments], stdout=subprocess.PIPE, check=check)
    return done.stdout


def _check_out(commit: str, place: Path) -> tuple[Path, str]:
    """The files of a commit, and a Python with what they depend on: this one if that is the same."""
    tree = place / "tree"
    with tarfile.open(fileobj=io.BytesIO(_git("archive", commit))) as archive:
        archive.extractall(tree, filter="data")
    if (tree / _LOCK).read_bytes() == (ROOT / _LOCK).read_bytes():
        return tree, sys.executable
    subprocess.run([sys.executable, "-m", "venv", place / "venv"], check=True)
    python = str(place / "venv" / "bin" / "python")
    install = ("-m", "pip", "install", "--quiet", "--require-hashes", "--no-deps", "-r")
    subprocess.run([python, *install, tree / _LOCK], check=True)
    return tree, python


def run(ref: str, only: list[str], seconds: float) -> None:
    """Measure these loads, or all, for about so many seconds each, and print the ratios.

    ValueError if there is no such ref or load.
    """
    if unknown := set(only) - LOADS.keys():
        raise ValueError(f"--only: no load {min(unknown)!r}; there are {', '.join(LOADS)}")
    commit = _commit(ref)
    loads = {load: _Found() for load in LOADS if not only or load in only}
    rounds = round(seconds / (_SECONDS * _STARTS))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what is temporary goes then, too
    with (
        tempfile.TemporaryDirectory(prefix="sessiond-against-") as place,
        process(postgres.READY, "bench.postgres") as dsn,
    ):
        tree, python = _check_out(commit, Path(place))
        for start in range(_STARTS):
            this_dsn, ref_dsn = (
                asyncio.run(postgres.create_database(dsn, f"{name}_{start}"))
                for name in ("this", "ref")
            )
            with (
                _side("this tree", ROOT, sys.executable, this_dsn) as this,
                _side(ref, tree, python, ref_dsn) as other,
            ):
                for load, found in loads.items():
                    _compare(found, load, (this, other), rounds)
    print(f"this tree / {ref}: time per message or call, below 1 this tree takes less")
    print(f"median (middle half) of {_STARTS * rounds} rounds; all but wall is processor time")
    print(f"{'':14}", *(f"{part:20}" for part in _PARTS), "for scale, wall")
    for load, found in loads.items():
        found.print(load)


class _Found:
    """What was measured of a load."""

    def __init__(self) -> None:
        self._ratios: dict[str, list[float]] = {part: [] for part in _PARTS}
        self._walls: tuple[list[float], list[float]] = ([], [])

    def add(self, ours: _Measured, theirs: _Measured) -> None:
        """A round."""
        for part, ratios in self._ratios.items():
            ratios.append(ours[part] / theirs[part])
        for walls, measured in zip(self._walls, (ours, theirs), strict=True):
            walls.append(measured["wall"])

    def print(self, load: str) -> None:
        cells = (f"{_spread(ratios):20}" for ratios in self._ratios.values())
        ours, theirs = (f"{1e6 * statistics.median(walls):,.0f}" for walls in self._walls)
        print(f"{load:14}", *cells, f"{ours} and {theirs} µs: {LOADS[load]}")


def _spread(values: list[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:.2f} ({low:.2f} … {high:.2f})"


def _compare(found: _Found, load: str, sides: tuple[_Side, _Side], rounds: int) -> None:
    for number in range(rounds + 1):
        for side in sides:
            side.begin(load, _SECONDS)
        ours, theirs = (side.measured() for side in sides)
        if number:  # the first round warms up
            found.add(ours, theirs)

"""Run a command again and again while the machine is busy, to find out whether it depends on time.

    python tools/busy.py --runs 5 --busy 2 -- python -m pytest

Stops at the first run that fails, with its exit code. The processes that keep the machine busy end with this
one, whatever becomes of it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


def _spin(parent: int) -> None:
    """Take a core until the parent is gone."""
    while os.getppid() == parent:
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            sum(range(10_000))


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Keep so many cores busy."""
    context = multiprocessing.get_context("spawn")
    spinning = [
        context.Process(target=_spin, args=(os.getpid(),), daemon=True) for _ in range(count)
    ]
    for process in spinning:
        process.start()
    try:
        yield
    finally:
        for process in spinning:
            process.terminate()
            process.join()


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Run a command again and again while the machine is busy."
    )
    parser.add_argument("--runs", type=int, default=5, help="how often (default: %(default)s)")
    parser.add_argument(
        "--busy",
        type=int,
        default=os.cpu_count() or 1,
        help="processes that each keep a core busy (default: the number of cores)",
    )
    parser.add_argument("command", nargs="+", help="what to run, behind --")
    chosen = parser.parse_args()
    with busy(chosen.busy):
        for number in range(1, chosen.runs + 1):
            print(f"run {number} of {chosen.runs}, {chosen.busy} busy processes", flush=True)
            began = time.monotonic()
            code = subprocess.run(chosen.command, check=False).returncode
            print(
                f"run {number} ended with {code} after {time.monotonic() - began:.0f} s", flush=True
            )
            if code:
                return code
    return 0


if __name__ == "__main__":
    sys.exit(main())

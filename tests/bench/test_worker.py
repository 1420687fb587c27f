"""The loads of the benchmarks run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from bench.against import LOADS

ROOT = Path(__file__).parents[2]


def test_every_load_runs_and_is_measured(dsn: str) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "bench/worker.py", dsn],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        input="".join(f"{load} 0.1\n" for load in LOADS),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    ready, *lines = done.stdout.splitlines()
    assert ready == "worker is ready"
    measured = [json.loads(line) for line in lines]
    assert len(measured) == len(LOADS)
    assert all(it["wall"] > 0 and it["server"] > 0 and it["postgres"] > 0 for it in measured)

"""Tests of a run that `test_leftovers.py` ends in the middle; they go on when there is a file `go_on`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.processes import ServerProcess


def hold(name: str) -> None:
    told = Path(os.environ["HOLDING"])
    (told / name).write_text(str(os.getpid()))
    while not (told / "go_on").exists():
        time.sleep(0.05)


def test_holding_the_postgres_of_the_run(postgres: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    hold("1")


def test_holding_a_server_with_a_postgres_of_its_own(
    start_server: Callable[..., ServerProcess], place: Path
) -> None:
    start_server("--data-dir", str(place / "data"))
    hold("2")

"""The processes of a benchmark: each server in one of its own, the client in this one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from bench import echo, postgres

_SESSIOND_READY = "sessiond is ready on "


@contextmanager
def process(ready: str, *arguments: str, **environment: str) -> Iterator[str]:
    """Run a Python module until the context ends; what it says after `ready`."""
    child = subprocess.Popen(
        [sys.executable, "-m", *arguments],
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,  # Ctrl-C reaches the benchmark alone, which ends its processes
    )
    assert child.stdin is not None
    assert child.stdout is not None
    with child:
        line = next((text for text in child.stdout if text.startswith(ready)), None)
        if line is None:
            raise RuntimeError(f"{' '.join(arguments)} didn't start")
        try:
            yield line.removeprefix(ready).strip()
        finally:
            child.stdin.close()
            if arguments[0] != "bench.postgres":
                child.terminate()
            child.wait(60)


@contextmanager
def sessiond(dsn: str, **more: str) -> Iterator[str]:
    """The address of a server on a Postgres, with more settings."""
    settings = {"SESSIOND_DSN": dsn, "SESSIOND_LISTEN": "127.0.0.1:0", **more}
    with process(_SESSIOND_READY, "sessiond_server", "serve", **settings) as address:
        yield address


@contextmanager
def servers() -> Iterator[tuple[str, str, str]]:
    """The DSN of the Postgres, the addresses of the service, which doesn't index, and of the echo."""
    with (
        process(postgres.READY, "bench.postgres") as dsn,
        sessiond(dsn, SESSIOND_SEARCH="false") as service,
        process(echo.READY, "bench.echo") as echo_address,
    ):
        yield dsn, service, echo_address

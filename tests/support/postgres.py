"""Databases for tests: a template that is migrated once, and a clone for each test."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import subprocess
import sys
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import asyncpg

from sessiond_server.store.migrate import migrate
from tests.support.run import ROOT


@contextmanager
def cluster(major: int, programs: Path | None = None) -> Iterator[str]:
    """The DSN of a new cluster, of the wheel's programs or others, which goes away with the context."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.support.cluster",
            str(major),
            *([str(programs)] if programs else []),
        ],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,  # Ctrl-C doesn't reach it
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        lines = (line.strip() for line in process.stdout)
        dsn = next((line for line in lines if line.startswith("postgres")), None)
        assert dsn is not None, "the test cluster didn't start"
        try:
            yield dsn
        finally:
            process.stdin.close()
            process.wait(30)


@contextmanager
def server_for_tests() -> Iterator[str]:
    """`SESSIOND_TEST_DSN` if it is given, else a cluster of `SESSIOND_TEST_PG` (18)."""
    given = os.environ.get("SESSIOND_TEST_DSN")
    if given is not None:
        yield given
        return
    with cluster(int(os.environ.get("SESSIOND_TEST_PG", "18"))) as dsn:
        yield dsn


def _run_apart(work: Coroutine[object, object, object]) -> None:
    """Run it in a loop and thread of its own, since the caller may be in a loop itself."""
    with ThreadPoolExecutor(1) as executor:
        executor.submit(asyncio.run, work).result()


class Databases:
    """Makes databases on one server, and drops them at the end."""

    def __init__(self, admin_dsn: str) -> None:
        self._admin_dsn = admin_dsn
        self._prefix = f"sessiond_test_{os.getpid()}"
        self._numbers = itertools.count()
        self._made: list[str] = []
        self._template: str | None = None

    def dsn(self, name: str) -> str:
        """The DSN of a database on the same server."""
        return re.sub(r"(://[^/?]*/)[^?]*", rf"\g<1>{name}", self._admin_dsn)

    def _execute(self, sql: str) -> None:
        async def run() -> None:
            connection = await asyncpg.connect(self._admin_dsn)
            try:
                await connection.execute(sql)
            finally:
                await connection.close()

        _run_apart(run())

    def empty(self) -> str:
        """A new database without a schema; its DSN."""
        return self._create("template0")

    def migrated(self) -> str:
        """A new database with the schema; its DSN."""
        if self._template is None:
            template = self._create("template0")
            _run_apart(migrate(template))
            self._template = self._made[-1]
        return self._create(self._template)

    def _create(self, template: str) -> str:
        name = f"{self._prefix}_{next(self._numbers)}"
        self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        self._made.append(name)
        return self.dsn(name)

    def drop_all(self) -> None:
        for name in self._made:
            self._execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

"""The Postgres that the service and the direct inserts share, fsync on: `python -m bench.postgres`.

It prints its DSN and ends, with its data, when its standard input does.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
import tempfile
from pathlib import Path

import asyncpg

from sessiond_server.embedded import EmbeddedPostgres

READY = "postgres is ready on "


async def create_database(dsn: str, name: str) -> str:
    """Make another database on a Postgres; its DSN."""
    admin = await asyncpg.connect(dsn)
    await admin.execute(f"CREATE DATABASE {name}")
    await admin.close()
    return re.sub(r"(://[^/?]*/)[^?]*", rf"\g<1>{name}", dsn)


async def _run(place: Path) -> None:
    postgres = EmbeddedPostgres(place / "data")
    await postgres.start()
    print(f"{READY}{postgres.dsn}", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await postgres.stop()


def main() -> None:
    place = Path(tempfile.mkdtemp(prefix="sessiond-bench-"))
    place.chmod(0o711)  # as root, Postgres runs as another user
    try:
        asyncio.run(_run(place))
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    main()

"""A throw-away Postgres cluster in a process of its own: `python -m tests.support.cluster MAJOR [PROGRAMS]`.

It prints its DSN and ends, with its Postgres, when its standard input does.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

from sessiond_server.embedded import EmbeddedPostgres

_SETTINGS = {"max_connections": "300", "shared_buffers": "128MB"}


async def _run(major: int, programs: Path | None, place: Path) -> None:
    postgres = EmbeddedPostgres(
        place / "data", major=major, bin_dir=programs, settings=_SETTINGS, durable=False
    )
    await postgres.start()
    print(postgres.dsn, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await postgres.stop()


def main() -> None:
    place = Path(tempfile.mkdtemp(prefix="cluster-"))
    place.chmod(0o711)  # as root, Postgres runs as another user
    asyncio.run(_run(int(sys.argv[1]), Path(sys.argv[2]) if sys.argv[2:] else None, place))
    shutil.rmtree(place)


if __name__ == "__main__":
    main()

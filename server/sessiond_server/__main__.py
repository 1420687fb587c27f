"""`sessiond`: serve, migrate, keys, healthcheck."""

from __future__ import annotations

import sys


def main() -> int:
    """The console script; the exit code."""
    try:
        from sessiond_server.cli import commands  # a while's work, which Ctrl-C may interrupt too

        return commands.main()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())

"""`sessiond`: serve, migrate, healthcheck."""

from __future__ import annotations

import sys

from sessiond_server.cli.commands import main

if __name__ == "__main__":
    sys.exit(main())

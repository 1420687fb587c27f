"""`python -m sessiond.cli` is `sessionctl`."""

from __future__ import annotations

from sessiond.cli import main

main()

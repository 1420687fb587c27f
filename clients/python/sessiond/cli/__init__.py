"""The command `sessionctl`: sessions of a sessiond server from the command line."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Runs `sessionctl` with the process's arguments; ends the process with its exit code."""
    try:
        import rich  # noqa: F401
        import typer  # noqa: F401
    except ModuleNotFoundError as error:
        sys.exit(f"error: sessionctl needs {error.name}: install sessiond[cli]")
    try:
        from sessiond.cli.app import run

        run()
    except KeyboardInterrupt:
        sys.exit(130)

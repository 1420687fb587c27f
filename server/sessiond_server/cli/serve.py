"""`sessiond serve`: run the service."""

from __future__ import annotations

import asyncio

from sessiond_server import app, logs
from sessiond_server.cli.failure import fail
from sessiond_server.config import SettingsError, load


def run(arguments: list[str]) -> int:
    """Serve until a signal; the exit code."""
    try:
        settings = load(arguments, "sessiond serve")
        logs.configure(settings.log_level, settings.log_format)
        return asyncio.run(app.serve(settings))
    except (SettingsError, app.StartError) as error:
        return fail(f"can't start: {error}")

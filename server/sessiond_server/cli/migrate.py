"""`sessiond migrate`: bring a database's schema up to date without serving."""

from __future__ import annotations

import asyncio

from sessiond_server import logs
from sessiond_server.cli.failure import fail
from sessiond_server.config import SettingsError, load
from sessiond_server.store.database import UNAVAILABLE
from sessiond_server.store.migrate import SchemaError, migrate


def run(arguments: list[str]) -> int:
    """Migrate the database of the DSN; the exit code."""
    try:
        settings = load(arguments, "sessiond migrate")
        if settings.dsn is None:
            return fail("migrate needs a DSN (--dsn or SESSIOND_DSN)")
        logs.configure(settings.log_level, settings.log_format)
        applied = asyncio.run(migrate(settings.dsn))
    except (SettingsError, SchemaError) as error:
        return fail(f"can't migrate: {error}")
    except UNAVAILABLE as error:
        return fail(f"the database can't be used: {error}")
    print("\n".join(f"applied {name}" for name in applied) or "up to date")
    return 0

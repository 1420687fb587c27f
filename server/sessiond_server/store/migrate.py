"""Bringing the database's schema up to date: numbered plain SQL, forward only.

Each file says in a line `-- compatible: N` which release's schema number still runs on it, so that the
previous release goes on working while the next one migrates, and an older one says why it can't.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib import resources

import asyncpg
import structlog

log = structlog.get_logger(__name__)

_LOCK = 0x5E5510  # an advisory lock of this database: one migration at a time
_FILE = re.compile(r"(?P<version>\d{4})_(?P<name>\w+)\.sql")
_COMPATIBLE = re.compile(r"^-- compatible: (\d+)$", re.MULTILINE)

_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migration (
    version integer NOT NULL,
    name text COLLATE "C" NOT NULL,
    checksum text COLLATE "C" NOT NULL,
    compatible_from integer NOT NULL,
    apply_time timestamptz NOT NULL,
    CONSTRAINT schema_migration_pkey PRIMARY KEY (version),
    CONSTRAINT schema_migration_name_length CHECK (char_length(name) <= 100),
    CONSTRAINT schema_migration_checksum_length CHECK (char_length(checksum) <= 64)
)
"""


class SchemaError(Exception):
    """The database's schema doesn't suit this release; the text says why."""


@dataclass(frozen=True, slots=True)
class Migration:
    version: int
    name: str
    sql: str
    compatible_from: int

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations() -> list[Migration]:
    """All migrations of this release, in order."""
    found = []
    for file in resources.files(__package__).joinpath("migrations").iterdir():
        if match := _FILE.fullmatch(file.name):
            sql = file.read_text(encoding="utf-8")
            compatible = _COMPATIBLE.search(sql)
            if compatible is None:
                raise SchemaError(f"{file.name} doesn't say what it is compatible with")
            found.append(Migration(int(match["version"]), match["name"], sql, int(compatible[1])))
    return sorted(found, key=lambda migration: migration.version)


async def migrate(dsn: str) -> list[str]:
    """Apply what is missing, under a lock, and return the names. Raises `SchemaError`.

    A schema that lacks nothing is only looked at, which needs no rights to change it.
    """
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        if not await _missing(connection):
            return []
        await connection.execute("SET lock_timeout = '60s'")
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
        await connection.execute(_TABLE)
        missing = await _missing(connection)
        for migration in missing:
            await _apply(connection, migration)
        return [f"{migration.version:04} {migration.name}" for migration in missing]
    except asyncpg.InsufficientPrivilegeError as error:
        raise SchemaError(f"the user may not make the schema: {error}") from error
    finally:
        await connection.close()


async def _missing(connection: asyncpg.Connection[asyncpg.Record]) -> list[Migration]:
    known = migrations()
    if await connection.fetchval("SELECT to_regclass('schema_migration')") is None:
        return known
    rows = await connection.fetch("SELECT * FROM schema_migration ORDER BY version")
    applied = {row["version"]: row for row in rows}
    _check(applied, known)
    return [migration for migration in known if migration.version not in applied]


async def _apply(connection: asyncpg.Connection[asyncpg.Record], migration: Migration) -> None:
    async with connection.transaction():
        await connection.execute(migration.sql)
        await connection.execute(
            "INSERT INTO schema_migration VALUES ($1, $2, $3, $4, now())",
            migration.version,
            migration.name,
            migration.checksum,
            migration.compatible_from,
        )
    log.info("migrated", version=migration.version, name=migration.name)


def _check(applied: dict[int, asyncpg.Record], known: list[Migration]) -> None:
    newest = known[-1].version
    for version, row in applied.items():
        if version > newest and row["compatible_from"] > newest:
            raise SchemaError(
                f"the database's schema is {version} ({row['name']}), which needs a release with"
                f" schema {row['compatible_from']} at least; this one has {newest}"
            )
    for migration in known:
        stored = applied.get(migration.version)
        if stored is not None and stored["checksum"] != migration.checksum:
            raise SchemaError(
                f"migration {migration.version} ({migration.name}) was applied with other contents:"
                " the database wasn't made by a release of sessiond, or was changed by hand"
            )

"""`sessiond keys`: make, list and revoke API keys, in the database itself."""

from __future__ import annotations

import argparse
import asyncio
import sys
from datetime import UTC, datetime, timedelta

import asyncpg

from sessiond_server import logs
from sessiond_server.app import StartError, postgres
from sessiond_server.cli.failure import fail
from sessiond_server.config import Settings, SettingsError, load
from sessiond_server.rpc.access import ADMIN, PERMISSIONS
from sessiond_server.store import api_keys
from sessiond_server.store.api_keys import Grant
from sessiond_server.store.database import UNAVAILABLE
from sessiond_server.store.keys import DEFAULT_TENANT
from sessiond_server.store.migrate import SchemaError, migrate

_EPILOG = """\
The other options are those of `sessiond serve`: --dsn or --data-dir says where the keys are. A data
directory must not be in use: stop the service first.

examples:
  sessiond keys create --name "web app" --permissions read,write --expires-days 90
  sessiond keys create --name "ada's browser" --owner ada --permissions read
  sessiond keys revoke 1f0c9d2e8b7a6543
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "sessiond keys",
        description="API keys, for a service whose setting `auth` is `keys`.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="create | list | revoke")
    create = verbs.add_parser("create", help="make a key and show it, this one time")
    create.add_argument("--name", required=True, help="what it is for")
    create.add_argument("--tenant", default=DEFAULT_TENANT, help="whose sessions it opens")
    create.add_argument("--owner", help="only this owner's sessions; left out, all of the tenant")
    create.add_argument(
        "--permissions",
        default="read,write",
        help="of read, write and admin, separated by commas (default: read,write)",
    )
    create.add_argument("--expires-days", type=int, help="left out, it never expires")
    verbs.add_parser("list", help="show all keys, without their secrets")
    revoke = verbs.add_parser("revoke", help="end a key; servers notice within 10 seconds")
    revoke.add_argument("key_id", help="the id of the key, from `list`")
    return parser


def run(arguments: list[str]) -> int:
    """Do what is asked; the exit code."""
    asked, rest = _parser().parse_known_args(arguments)
    try:
        settings = load(rest, "sessiond keys")
        logs.configure("warning", settings.log_format)
        return asyncio.run(_in_database(settings, asked))
    except (SettingsError, StartError, SchemaError) as error:
        return fail(error)
    except UNAVAILABLE as error:
        return fail(f"the database can't be used: {error}")


async def _in_database(settings: Settings, asked: argparse.Namespace) -> int:
    async with postgres(settings) as (dsn, _):
        await migrate(dsn)
        connection = await asyncpg.connect(dsn, timeout=10)
        try:
            if asked.verb == "create":
                return await _create(connection, asked)
            if asked.verb == "revoke":
                return await _revoke(connection, asked.key_id)
            return await _list(connection)
        finally:
            await connection.close()


async def _create(connection: asyncpg.Connection[asyncpg.Record], asked: argparse.Namespace) -> int:
    permissions = frozenset(it.strip() for it in asked.permissions.split(",") if it.strip())
    if problem := _problem(asked, permissions):
        return fail(problem)
    expire_time = None
    if asked.expires_days is not None:
        expire_time = datetime.now(UTC) + timedelta(days=asked.expires_days)
    grant = Grant(asked.tenant, asked.owner, permissions)
    made = await api_keys.create(connection, asked.name, grant, expire_time)
    assert made is not None  # which only a request id that is known could be
    print(made[1])
    print("This is the only time that the key is shown.", file=sys.stderr)
    return 0


def _problem(asked: argparse.Namespace, permissions: frozenset[str]) -> str:
    """What is wrong with a key that is asked for, or nothing."""
    if not permissions or permissions - PERMISSIONS:
        return f"--permissions: of {', '.join(sorted(PERMISSIONS))}, at least one"
    if asked.owner is not None and ADMIN in permissions:
        return "--owner: a key with the permission admin can't be bound to an owner"
    if not 1 <= len(asked.tenant.encode()) <= 128 or not asked.tenant.isprintable():
        return "--tenant: 1 to 128 bytes without control characters"
    if asked.owner is not None and not (1 <= len(asked.owner) <= 256 and asked.owner.isprintable()):
        return "--owner: 1 to 256 characters without control characters"
    if not (1 <= len(asked.name) <= 256 and asked.name.isprintable()):
        return "--name: 1 to 256 characters without control characters"
    if asked.expires_days is not None and not 1 <= asked.expires_days <= 36_500:
        return "--expires-days: 1 to 36500"
    return ""


async def _revoke(connection: asyncpg.Connection[asyncpg.Record], key_id: str) -> int:
    if not await api_keys.revoke(connection, key_id):
        return fail(f"there is no key {key_id!r}")
    print(f"revoked {key_id}")
    return 0


async def _list(connection: asyncpg.Connection[asyncpg.Record]) -> int:
    lines = [("KEY", "TENANT", "SESSIONS", "PERMISSIONS", "UNTIL", "NAME")]
    for row in await api_keys.list_all(connection):
        owner = "everybody's" if row.owner is None else f"owner {row.owner}"
        until = "" if row.expire_time is None else f"{row.expire_time:%Y-%m-%d}"
        lines.append((row.key_id, row.tenant, owner, ",".join(row.permissions), until, row.name))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip())
    return 0

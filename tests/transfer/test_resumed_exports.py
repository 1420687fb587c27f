"""Exports that go on where they broke: no session that ended comes again, and none is missed."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise

import grpc
import pytest

import sessiond
from sessiond import AsyncClient, Client, v1
from sessiond.cli import native_files
from tests.access.keyed import start_keyed
from tests.cli.command import Cli
from tests.client.flaky import Flaky
from tests.rpc.api import Api, new, refused, said
from tests.support.patience import PATIENCE
from tests.support.processes import ServerProcess

COUNT = 12
LARGE = 700_000


@pytest.fixture
def server(start_server: Callable[..., ServerProcess], dsn: str) -> ServerProcess:
    """A server with a database of its own."""
    return start_server(SESSIOND_DSN=dsn)


@pytest.fixture
def api(server: ServerProcess) -> Iterator[Api]:
    with grpc.insecure_channel(server.target) as channel:
        yield Api(channel)


def filled(api: Api, count: int = COUNT, size: int = LARGE, **fields: str) -> list[str]:
    """Sessions of which one or two fit a piece, in the order in which they are exported."""
    ids = []
    for number in range(count):
        id = f"s{number:03} é東 {new()}"
        api.create(id, **fields)
        api.append(id, said("x" * size), said("end"))
        ids.append(id)
    return ids


def everything(resume_token: str = "") -> v1.ExportSessionsRequest:
    wanted = v1.SessionFilter(whole_tenant=True, include_subagents=True)
    return v1.ExportSessionsRequest(filter=wanted, resume_token=resume_token)


def pieces(api: Api, token: str = "") -> list[v1.ExportSessionsResponse]:
    return list(api.transfers.ExportSessions(everything(token)))


def records(found: list[v1.ExportSessionsResponse]) -> list[v1.TransferRecord]:
    return [record for piece in found for record in piece.records]


def ended(found: list[v1.TransferRecord]) -> list[str]:
    """The sessions that came to their end, in order; each session's records come together."""
    ids, id = [], ""
    for record in found:
        if record.HasField("session"):
            id = record.session.session.id
        if record.HasField("end") and not record.end.gone:
            assert id
            ids.append(id)
            id = ""
    return ids


def test_B_every_token_of_an_export_resumes_it_right_behind_the_last_session_that_ended(
    api: Api,
) -> None:
    ids = filled(api)
    whole = pieces(api)
    assert ended(records(whole)) == ids
    tokens = [(place, it.resume_token) for place, it in enumerate(whole) if it.resume_token]
    assert len(tokens) > COUNT // 2
    for place, token in tokens:
        before = ended(records(whole[: place + 1]))
        rest = records(pieces(api, token))
        assert before + ended(rest) == ids
        if rest:
            assert rest[0].HasField("session")
            start = next(
                n
                for n, it in enumerate(records(whole))
                if it.HasField("session") and it.session.session.id == ids[len(before)]
            )
            assert rest == records(whole)[start:], "and byte for byte"
    assert pieces(api, tokens[-1][1]) == []
    for piece in whole:
        assert bool(piece.resume_token) == any(it.HasField("end") for it in piece.records)


def test_B_what_changes_between_the_calls_is_as_if_it_changed_meanwhile(api: Api) -> None:
    ids = filled(api, 8)
    call = api.transfers.ExportSessions(everything())
    first = next(it for it in call if it.resume_token)
    call.cancel()
    done = ended(list(first.records))
    assert 0 < len(done) < 4
    api.append(ids[0], said("later"))
    api.delete(ids[4])
    api.append(ids[5], said("later"))
    api.delete(ids[1])
    api.create(ids[1])
    later = api.create(f"later-{new()}").id
    rest = records(pieces(api, first.resume_token))
    came = ended(rest)
    kept = [id for id in ids if id not in (done[0], ids[1], ids[4])]
    assert [id for id in came if id in kept] == [id for id in kept if id not in done]
    assert ids[4] not in came
    assert not set(came) & (set(done) - {ids[1]})
    assert len(set(came)) == len(came)
    assert set(came) <= {*ids, later}
    messages: dict[str, int] = {}
    for record in rest:
        if record.HasField("session"):
            id = record.session.session.id
        messages[id] = messages.get(id, 0) + record.HasField("message")
    assert messages[ids[5]] == 3, "as it stands when its turn comes"


def test_B_a_named_session_that_is_gone_stops_an_export_at_its_beginning_only(api: Api) -> None:
    ids = filled(api, 4)
    request = v1.ExportSessionsRequest(session_ids=ids)
    call = api.transfers.ExportSessions(request)
    first = next(it for it in call if it.resume_token)
    call.cancel()
    done = ended(list(first.records))
    api.delete(ids[0])
    api.delete(ids[3])
    found = refused(lambda: list(api.transfers.ExportSessions(request)))
    assert found.reason == "SESSION_NOT_FOUND"
    request.resume_token = first.resume_token
    rest = ended(records(list(api.transfers.ExportSessions(request))))
    assert rest == [id for id in ids[:3] if id not in done]


def test_P14_a_token_of_another_export_is_refused(api: Api) -> None:
    ids = filled(api, 2, 10)
    token = pieces(api)[-1].resume_token
    changed = ("A" if token[0] != "A" else "B") + token[1:]

    def refusal(request: v1.ExportSessionsRequest) -> tuple[str, object]:
        found = refused(lambda: list(api.transfers.ExportSessions(request)))
        return found.reason, found.metadata

    for request in (
        v1.ExportSessionsRequest(session_ids=ids, resume_token=token),
        v1.ExportSessionsRequest(filter=v1.SessionFilter(whole_tenant=True), resume_token=token),
        everything(changed),
        everything("nonsense"),
    ):
        assert refusal(request) == ("RESUME_TOKEN_INVALID", {"field": "resume_token"})


def test_P12_a_token_opens_no_other_owners_sessions(dsn: str) -> None:
    keyed = start_keyed(dsn)
    with contextlib.ExitStack() as stack:
        stack.callback(keyed.server.stop)
        ada, bob = (stack.enter_context(keyed.client(key)) for key in (keyed.ada, keyed.bob))
        mine, theirs = ada.create_session().id, bob.create_session().id
        export = ada.export_sessions()
        assert ended(list(export)) == [mine]
        with pytest.raises(sessiond.InvalidResumeToken):
            list(bob.export_sessions(resume_token=export.resume_token))
        with pytest.raises(sessiond.SessionNotFound):
            list(ada.export_sessions([theirs]))
        named = ada.export_sessions([mine])
        list(named)
        ada.delete_session(mine)
        bob.create_session(mine)
        assert list(ada.export_sessions([mine], resume_token=named.resume_token)) == []


def checked(found: list[v1.TransferRecord], ids: list[str], breaks: int) -> None:
    """What the library gave: each session once to its end, and a cut one ends before it comes again."""
    assert ended(found) == ids
    cut = [record for record in found if record.HasField("end") and record.end.gone]
    assert len(cut) <= breaks
    opened = False
    for record, following in pairwise(found):
        if record.HasField("session"):
            opened = True
        opened = opened and not record.HasField("end")
        assert following.HasField("session") is not opened


BUDGETS = [400_000, 2_500_000, 1_000_000, 3_000_000]


def test_B_an_export_over_connections_that_break_goes_on(server: ServerProcess, api: Api) -> None:
    ids = filled(api)
    everybody = sessiond.session_filter(whole_tenant=True, include_subagents=True)
    with Flaky(server.target, BUDGETS) as way, Client(way.target) as client:
        export = client.export_sessions(filter=everybody)
        checked(list(export), ids, len(BUDGETS))
        assert way.connections > len(BUDGETS)
        assert (
            list(client.export_sessions(filter=everybody, resume_token=export.resume_token)) == []
        )


async def test_B_an_asynchronous_export_over_connections_that_break_goes_on(
    server: ServerProcess, api: Api
) -> None:
    ids = filled(api)
    everybody = sessiond.session_filter(whole_tenant=True, include_subagents=True)
    with Flaky(server.target, BUDGETS) as way:
        async with AsyncClient(way.target) as client:
            export = client.export_sessions(filter=everybody)
            checked([record async for record in export], ids, len(BUDGETS))
            assert export.resume_token
            await export.aclose()
        assert way.connections > len(BUDGETS)


def test_D_an_import_of_an_export_that_broke_has_everything(
    server: ServerProcess, api: Api, target: ServerProcess
) -> None:
    ids = filled(api, 6)
    everybody = sessiond.session_filter(whole_tenant=True, include_subagents=True)
    with (
        Flaky(server.target, BUDGETS) as way,
        Client(way.target) as old,
        Client(server.target) as source,
        Client(target.target) as into,
    ):
        export = old.export_sessions(filter=everybody)
        outcomes = [it for answer in into.import_sessions(export) for it in answer.outcomes]
        assert way.connections > 2
        assert [it.session_id for it in outcomes if not it.HasField("error")] == ids
        for id in ids:
            assert list(into.list_messages(id)) == list(source.list_messages(id))


def test_B_sessionctl_export_goes_on_when_its_server_was_killed_and_comes_back(
    start_server: Callable[..., ServerProcess], dsn: str
) -> None:
    """A server killed with -9 in the middle, and another one at its address."""
    server = start_server(SESSIOND_DSN=dsn)
    with grpc.insecure_channel(server.target) as channel:
        ids = filled(Api(channel), 20, 1_500_000)
    export = Cli(server.target).start("export", "--format", "native")
    with export:
        lines, errors = killed_in_the_middle(export, server, start_server, dsn)
    assert export.returncode == 0, errors
    assert b"the server went away" in b"".join(errors)
    found = list(native_files.records(iter(lines)))
    assert ended(found) == ids
    assert not [record for record in found if record.HasField("end") and record.end.gone]


def killed_in_the_middle(
    export: subprocess.Popen[bytes],
    server: ServerProcess,
    start_server: Callable[..., ServerProcess],
    dsn: str,
) -> tuple[list[bytes], list[bytes]]:
    """What an export writes whose server is killed after some lines, and comes back when that was noticed."""
    errors: list[bytes] = []
    told = threading.Event()

    def listen() -> None:
        for line in export.stderr or ():
            errors.append(line)
            told.set()

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    assert export.stdout is not None
    lines = [export.stdout.readline() for _ in range(5)]
    assert b"session" in lines[1]
    server.kill()

    def rest() -> None:
        lines.extend(export.stdout or ())

    reader = threading.Thread(target=rest, daemon=True)
    reader.start()
    assert told.wait(PATIENCE), "it noticed"
    host, _, port = server.target.rpartition(":")
    again = start_server(SESSIOND_DSN=dsn, SESSIOND_LISTEN=f"{host}:{port}")
    export.wait(PATIENCE)
    reader.join(PATIENCE)
    listener.join(PATIENCE)
    assert not again.bugs()
    return lines, errors

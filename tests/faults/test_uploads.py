"""kill -9 in the middle of uploads: nothing half stored is ever seen, and nothing stays for ever."""

from __future__ import annotations

import asyncio
import hashlib
import random
import threading
import time
from collections.abc import Callable, Iterator

import asyncpg
import grpc

import sessiond
from sessiond import Client, v1
from tests.support.attachments import BAD
from tests.support.patience import PATIENCE
from tests.support.processes import ServerProcess

SHARED = random.Random(5).randbytes(3_000_000)
ROUNDS, UPLOADS = 4, 6


def numbers(dsn: str) -> dict[str, int]:
    """How many rows there are about attachments, all at one moment."""
    tables = "attachment", "attachment_content", "attachment_chunk", "attachment_upload"
    counts = ", ".join(f"(SELECT count(*) FROM {table}) AS {table}" for table in tables)

    async def count() -> dict[str, int]:
        connection = await asyncpg.connect(dsn)
        try:
            (found,) = await connection.fetch(f"SELECT {counts}")
            return dict(found)
        finally:
            await connection.close()

    return asyncio.run(count())


async def bad(dsn: str) -> list[str]:
    connection = await asyncpg.connect(dsn)
    try:
        return [row["what"] for row in await connection.fetch(BAD) if row["number"]]
    finally:
        await connection.close()


def content(name: str) -> bytes:
    """What an upload of this name sends: every other one the same."""
    return SHARED if int(name.split("-")[1]) % 2 else random.Random(name).randbytes(2_500_000)


def frames(name: str, chance: random.Random) -> Iterator[v1.UploadAttachmentRequest]:
    """An upload that takes a while."""
    rest = content(name)
    facts = v1.Attachment(id=name, name=name)
    yield v1.UploadAttachmentRequest(session_id="s", attachment=facts)
    while rest:
        size = chance.randint(1, 300_000)
        yield v1.UploadAttachmentRequest(chunk=rest[:size], last=len(rest) <= size)
        rest = rest[size:]
        time.sleep(0.06)


def upload(target: str, name: str, outcomes: dict[str, grpc.StatusCode]) -> None:
    with grpc.insecure_channel(target) as channel:
        call = v1.AttachmentServiceStub(channel).UploadAttachment
        outcomes[name] = call.future(frames(name, random.Random(name))).code()


def test_P2_P11_killed_uploads_are_whole_or_gone(
    start_server: Callable[..., ServerProcess], dsn: str
) -> None:
    """Servers are killed while they take uploads. What was acknowledged is there, at another replica; what
    was not is there whole or not at all, can be repeated, and leaves nothing behind."""
    environment = {"SESSIOND_DSN": dsn, "SESSIOND_ATTACHMENT_TIMEOUT": "1"}
    names: list[str] = []
    outcomes: dict[str, grpc.StatusCode] = {}
    with Client(start_server(**environment).target) as replica:
        replica.create_session("s")
        for number in range(ROUNDS):
            victim = start_server(**environment)
            started = [f"{number}-{place}" for place in range(UPLOADS)]
            threads = [
                threading.Thread(target=upload, args=(victim.target, name, outcomes))
                for name in started
            ]
            for thread in threads:
                thread.start()
            time.sleep(random.uniform(0.3, 1.3))
            victim.kill()
            for thread in threads:
                thread.join()
            names += started
        assert set(outcomes.values()) <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
        acknowledged = {name for name, code in outcomes.items() if code is grpc.StatusCode.OK}
        print(len(acknowledged), "of", len(names), "acknowledged;", numbers(dsn))
        assert acknowledged <= {it.id for it in replica.list_attachments("s")}
        assert asyncio.run(bad(dsn)) == []
        _wait_for_the_sweep(dsn)  # Postgres may still commit what a killed server told it to
        there = {it.id for it in replica.list_attachments("s")}
        assert acknowledged <= there
        for name in there:
            assert replica.read_attachment("s", name) == content(name)
        _check_numbers(dsn, len(there), len({content(name) for name in there}))
        for name in names:
            answer = replica.upload_attachment("s", content(name), attachment_id=name)
            assert answer.replayed == (name in there)
        replica.delete_session("s")
        assert set(numbers(dsn).values()) == {0}


def test_P2_an_upload_goes_on_at_another_replica_when_its_server_is_killed(
    start_server: Callable[..., ServerProcess], dsn: str
) -> None:
    """Servers are killed in the middle of writes, again and again. What a write answered is there at the next
    one, and the end may be lost as well."""
    names = ["0-0", "0-1", "1-1"]
    with Client(start_server(SESSIOND_DSN=dsn).target) as replica:
        replica.create_session("s")
        for name in names:
            known = 0
            while name not in {it.id for it in replica.list_attachments("s")}:
                victim = start_server(SESSIOND_DSN=dsn)
                known = _write_until_killed(victim, name, known, random.randint(2, 6))
            answer = replica.upload_resumable("s", content(name), attachment_id=name)
            assert answer.replayed
            assert replica.read_attachment("s", name) == content(name)
        _check_numbers(dsn, len(names), len({content(name) for name in names}))
        assert asyncio.run(bad(dsn)) == []


def _write_until_killed(victim: ServerProcess, name: str, known: int, writes: int) -> int:
    """Go on with an upload at a server that is killed soon after so many writes, from where it is; what is
    known then to be stored."""
    with grpc.insecure_channel(victim.target) as channel:
        stub = v1.AttachmentServiceStub(channel)
        killing = threading.Timer(random.uniform(0, 0.03), victim.kill)
        try:
            begun = _begin(stub, name)
            if begun.HasField(
                "attachment"
            ):  # what was written last was stored after its server's death
                return len(content(name))
            upload = begun.upload
            assert upload.offset >= known
            while True:
                known, writes = upload.offset, writes - 1
                if not writes:
                    killing.start()
                answer = stub.WriteUpload(_next(upload, name), timeout=PATIENCE)
                if answer.HasField("attachment"):
                    return len(content(name))
                upload = answer.upload
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
        finally:
            if killing.ident is not None:
                killing.join()
    return known


def _begin(stub: v1.AttachmentServiceStub, name: str) -> v1.StartUploadResponse:
    whole = content(name)
    request = v1.StartUploadRequest(
        session_id="s",
        attachment=v1.Attachment(id=name, name=name),
        size=len(whole),
        sha256=hashlib.sha256(whole).digest(),
    )
    return stub.StartUpload(request, timeout=PATIENCE)


def _next(upload: v1.Upload, name: str) -> v1.WriteUploadRequest:
    chunk = content(name)[upload.offset : upload.offset + 2**18]
    return v1.WriteUploadRequest(
        session_id="s",
        upload_token=upload.token,
        offset=upload.offset,
        chunk=chunk,
        last=upload.offset + len(chunk) == upload.size,
    )


def _wait_for_the_sweep(dsn: str) -> None:
    until = time.monotonic() + 60
    while (found := numbers(dsn))["attachment_upload"]:
        assert time.monotonic() < until, found
        time.sleep(0.1)


def _check_numbers(dsn: str, attachments: int, contents: int) -> None:
    found = numbers(dsn)
    assert (found["attachment"], found["attachment_content"]) == (attachments, contents)
    assert found["attachment_upload"] == 0
    assert found["attachment_chunk"] <= contents * 12


def test_P2_an_upload_survives_that_its_postgres_is_lost(
    start_server: Callable[..., ServerProcess], dsn: str
) -> None:
    """All its connections are ended in the middle: it is refused, repeated by the library, and whole."""
    with Client(start_server(SESSIOND_DSN=dsn).target) as client:
        client.create_session("s")
        over = threading.Event()

        def harass() -> None:
            while not over.wait(0.15):
                asyncio.run(_end_connections(dsn))

        thread = threading.Thread(target=harass)
        thread.start()
        stored = []
        for number in range(8):
            try:
                stored.append(client.upload_attachment("s", SHARED, name=f"{number}").attachment)
            except sessiond.Unavailable:
                continue
        over.set()
        thread.join()
        for it in stored:
            assert client.read_attachment("s", it.id) == SHARED
        assert asyncio.run(bad(dsn)) == []
        assert {it.id for it in stored} <= {it.id for it in client.list_attachments("s")}


async def _end_connections(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'sessiond' AND datname = current_database()"
        )
    finally:
        await connection.close()

"""Exports that take long, since their caller reads slowly: each session is what it was when its turn came."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from sessiond import v1
from tests.access.keyed import Keyed, start_keyed
from tests.rpc.api import Api, new, said
from tests.support.processes import ServerProcess


@pytest.fixture
def api(source: ServerProcess) -> Iterator[Api]:
    with grpc.insecure_channel(source.target) as channel:
        yield Api(channel)


@pytest.fixture
def keyed(dsn: str) -> Iterator[Keyed]:
    made = start_keyed(dsn)
    yield made
    made.server.stop()
    assert not made.server.bugs()


def long_talk(api: Api, id: str = "", **fields: str) -> str:
    """A session of more than what is on its way to a caller who doesn't read."""
    id = api.create(id, **fields).id
    for _ in range(20):
        api.append(id, said("x" * 1_900_000))
    return id


class SlowExport:
    """An export of which only the first piece has been read."""

    def __init__(self, call: Iterator[v1.ExportSessionsResponse]) -> None:
        self._call = call
        self._first = next(call)

    def rest(self) -> list[v1.TransferRecord]:
        """All records."""
        pieces = [self._first, *self._call]
        return [record for piece in pieces for record in piece.records]


def of(api: Api, id: str) -> SlowExport:
    return SlowExport(api.transfers.ExportSessions(v1.ExportSessionsRequest(session_ids=[id])))


def kinds(records: list[v1.TransferRecord]) -> list[str]:
    return [str(record.WhichOneof("record")) for record in records]


def test_P12_an_id_that_became_somebody_elses_is_not_exported(keyed: Keyed) -> None:
    """The caller may read the sessions of one owner, and did when they were selected."""
    ada = (("authorization", f"Bearer {keyed.ada}"),)
    with (
        grpc.insecure_channel(keyed.server.target) as channel,
        keyed.client(keyed.service) as service,
    ):
        root, child = new(), new()
        service.create_session(root, owner="ada")
        for _ in range(20):
            service.append(root, said("x" * 1_900_000))
        service.create_session(child, owner="ada", parent_id=root, parent_kind="subagent")
        request = v1.ExportSessionsRequest(filter=v1.SessionFilter(subtree_of=root))
        stub = v1.TransferServiceStub(channel)
        export = SlowExport(stub.ExportSessions(request, metadata=ada))
        service.delete_session(child)
        service.create_session(child, owner="bob")
        service.append(child, said("bob's secret"))
        records = export.rest()
    assert [it.session.session.id for it in records if it.HasField("session")] == [root]
    assert not any(b"secret" in record.message.payload for record in records)


def test_P11_P12_a_session_that_was_made_again_ends_the_export_of_the_one_before(api: Api) -> None:
    id = long_talk(api)
    export = of(api, id)
    api.delete(id)
    api.create(id)
    api.append(id, *(said("of the new session") for _ in range(30)))
    records = export.rest()
    assert records[-1].end.gone
    assert not any(b"new session" in record.message.payload for record in records)


def test_P11_a_session_that_was_cleared_ends_its_export(api: Api) -> None:
    id = long_talk(api)
    export = of(api, id)
    api.messages.ClearMessages(v1.ClearMessagesRequest(session_id=id))
    assert export.rest()[-1].end.gone


def test_B_an_export_is_of_one_state_whatever_happens_meanwhile(api: Api) -> None:
    id = long_talk(api)
    kind = new("type")
    usage = v1.Usage(input_tokens=1)
    reminder = api.reminder(id, "now", type=kind)
    api.reminder(id, "later", delay=3600)
    api.journal_records(id, b"before", request_id="log-before")
    api.spend(id, v1.UsageRecord(usage=usage, request_id="before"))
    before = api.export(session_ids=[id])

    export = of(api, id)
    (claim,) = api.claim(kind)
    api.complete(claim, append_message=True)
    api.reminder(id, "new", delay=3600)
    api.journal_records(id, b"after", request_id="log-after")
    api.spend(id, v1.UsageRecord(usage=usage, request_id="after"))
    api.update(id, "title", title=new("Title"))
    api.rewind(id, 3)

    assert kinds(before).count("reminder") == 2
    assert kinds(before).count("request") == 2
    assert reminder.id in {record.reminder.reminder.id for record in before}
    assert export.rest() == before


def test_B_an_export_in_many_pages_has_everything_in_its_order(api: Api) -> None:
    """Entries of the feed and request ids come in pages: none twice, none missing, each behind its seq."""
    id = api.talk(3)
    usage = v1.Usage(input_tokens=1)
    for start in range(0, 2500, 500):
        ids = [f"r{number}" for number in range(start, start + 500)]
        api.spend(id, *(v1.UsageRecord(usage=usage, request_id=it) for it in ids))
    update = v1.UpdateMessagesRequest(session_id=id)
    update.updates.add(message=v1.Message(seq=1)).update_mask.paths.append("model")
    for number in range(240):
        update.updates[0].message.model = f"model {number}"
        api.messages.UpdateMessages(update)
        if number % 60 == 0:
            api.append(id, said())
            rewind = api.rewind(id, api.get(id).next_seq - 2)
            request = v1.RevertRewindRequest(session_id=id, rewind_id=rewind.id)
            api.messages.RevertRewind(request)
    records = api.export(session_ids=[id])
    numbers = [record.change.change_no for record in records if record.HasField("change")]
    assert numbers == sorted(set(numbers))
    assert kinds(records).count("revision") == 240
    places = [
        record.change.change_no or record.revision.change_no
        for record in records
        if record.HasField("change") or record.HasField("revision")
    ]
    assert places == sorted(places), "a version stands before what tells of its change"
    seen = [record.request.request_id for record in records if record.HasField("request")]
    assert sorted(seen) == sorted(f"r{number}" for number in range(2500))
    api.delete(id)
    pieces = [records[at : at + 500] for at in range(0, len(records), 500)]
    requests = (v1.ImportSessionsRequest(records=piece) for piece in pieces)
    answers = api.transfers.ImportSessions(requests)
    (outcome,) = (outcome for answer in answers for outcome in answer.outcomes)
    assert not outcome.HasField("error"), outcome.error
    assert api.export(session_ids=[id])[1:] == records[1:]

"""P9: attachments, recorded usage and writer leases stand in the feed, in one order with the messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import asyncpg
import grpc
import pytest

from sessiond import Client, Event, v1
from sessiond_server.store.changes import ATTACHMENT, CLEARED, FACTS, USAGE
from tests.rpc.api import Api, new, said
from tests.rpc.test_reminder_feed import past
from tests.rpc.test_usage import used
from tests.support.processes import ServerProcess

STORED = v1.AttachmentChange.ATTACHMENT_CHANGE_STORED
UPDATED = v1.AttachmentChange.ATTACHMENT_CHANGE_UPDATED
DELETED = v1.AttachmentChange.ATTACHMENT_CHANGE_DELETED
ACQUIRED = v1.WriterChange.WRITER_CHANGE_ACQUIRED
TAKEN_OVER = v1.WriterChange.WRITER_CHANGE_TAKEN_OVER
RELEASED = v1.WriterChange.WRITER_CHANGE_RELEASED


@pytest.fixture
def client(server: ServerProcess) -> Any:
    with Client(server.target) as client:
        yield client


def of(events: list[Event], kind: str) -> list[Any]:
    return [event.value for event in events if event.kind == kind]


def test_P9_attachments_are_told_in_order_without_their_bytes(api: Api, client: Client) -> None:
    id = api.talk()
    facts = {"page": "x" * 50_000}
    stored = client.upload_attachment(id, b"y" * 300_000, name="may.pdf", metadata=facts).attachment
    client.append(id, said())
    live = [it for it in past(client, id) if it.kind == "attachment_changed"]
    client.update_attachment(id, stored.id, name="june.pdf")
    client.delete_attachment(id, stored.id)
    client.delete_attachment(id, stored.id, allow_missing=True)
    events = past(client, id)
    assert [it.kind for it in events] == [
        *("message_appended", "attachment_changed", "message_appended"),
        *("attachment_changed", "attachment_changed"),
    ]
    (first,) = of(live, "attachment_changed")
    assert (first.change, first.attachment_id) == (STORED, stored.id)
    stored.ClearField("metadata")
    assert first.attachment == stored
    assert first.ByteSize() < 1000
    changes = of(events, "attachment_changed")
    assert [it.change for it in changes] == [STORED, UPDATED, DELETED]
    assert {it.attachment_id for it in changes} == {stored.id}
    assert not any(it.HasField("attachment") for it in changes), "it is gone now"


def test_P9_attachments_that_a_clear_takes_are_told(api: Api, client: Client) -> None:
    id = api.talk()
    ids = sorted(client.upload_attachment(id, b"z", name=name).attachment.id for name in "abc")
    client.clear_messages(id, delete_attachments=True)
    client.append(id, said())
    events = past(client, id)
    changes = of(events, "attachment_changed")
    assert [it.attachment_id for it in changes if it.change == DELETED] == ids
    assert [it.kind for it in events][-2:] == ["messages_cleared", "message_appended"]
    assert len(changes) == 6, "that they were stored is told though the messages are gone"


def test_P9_an_upload_that_is_repeated_is_told_once(api: Api, client: Client) -> None:
    id = api.talk()
    for _ in range(2):
        client.upload_attachment(id, b"same", name="a.txt", attachment_id="one")
    assert len(of(past(client, id), "attachment_changed")) == 1


def test_P9_recorded_usage_is_told_with_the_sums(api: Api, client: Client) -> None:
    """Records that follow each other are one event; what was counted before is none."""
    id = api.talk()
    record = used(100, 20, request_id="r-1")
    client.record_usage(id, [record, used(1)])
    client.record_usage(id, used(2))
    client.record_usage(id, record)
    client.append(id, said())
    client.record_usage(id, used(4))
    events = past(client, id)
    assert [it.kind for it in events] == [
        *("message_appended", "usage_recorded", "message_appended", "usage_recorded"),
    ]
    told = of(events, "usage_recorded")
    assert [it.record_count for it in told] == [3, 1]
    own = api.get(id).usage
    assert told[1].usage == own
    assert told[1].usage.own.input_tokens == 107


def test_P15_usage_of_an_append_and_renewals_of_a_lease_record_nothing(
    api: Api, client: Client
) -> None:
    id = api.talk()
    lease = client.acquire_writer(id, "h")
    client.append(id, said(), usage=used(5, 5), writer_token=lease.writer_token)
    for _ in range(3):
        client.renew_writer(id, lease.writer_token)
    kinds = [event.kind for event in past(client, id)]
    assert kinds == ["message_appended", "writer_changed", "message_appended"]


def test_P5_who_holds_the_writer_lease_is_told_and_never_its_token(
    api: Api, client: Client
) -> None:
    id = api.talk()
    one = client.acquire_writer(id, "one")
    again = client.acquire_writer(id, "one")
    client.release_writer(id, one.writer_token)
    client.release_writer(id, again.writer_token)
    client.release_writer(id, again.writer_token)
    two = client.acquire_writer(id, "two" * 80)
    events = past(client, id)
    changes = of(events, "writer_changed")
    assert [(it.change, it.holder) for it in changes] == [
        *[(ACQUIRED, "one"), (TAKEN_OVER, "one"), (RELEASED, "one"), (ACQUIRED, "two" * 80)],
    ]
    assert [it.expire_time for it in changes[:2]] == [one.expire_time, again.expire_time]
    assert not changes[2].HasField("expire_time")
    assert changes[3].expire_time == two.expire_time
    told = b"".join(it.SerializeToString() for it in changes)
    for lease in (one, again, two):
        assert lease.writer_token.encode() not in told


def test_P9_they_are_told_live_at_another_replica_and_resumed(
    start_server: Callable[..., ServerProcess], dsn: str
) -> None:
    one, other = (start_server(SESSIOND_DSN=dsn) for _ in range(2))
    with grpc.insecure_channel(one.target) as channel, Client(one.target) as writing:
        id = Api(channel).talk()
        with Client(other.target) as client:
            watch = client.watch(id, start="now")
            events = iter(watch)
            assert next(events).kind == "caught_up"
            writing.upload_attachment(id, b"a", name="a")
            assert next(events).kind == "attachment_changed"
            writing.record_usage(id, used(1))
            assert next(events).kind == "usage_recorded"
            next_event = iter(client.watch(id, resume=watch.tokens))
            assert next(next_event).kind == "usage_recorded", "which wasn't dealt with"
            assert next(next_event).kind == "caught_up"
            writing.acquire_writer(id, "h")
            assert next(events).kind == next(next_event).kind == "writer_changed"


def test_P12_a_session_that_is_new_under_an_id_tells_nothing_of_the_old_one(
    api: Api, client: Client
) -> None:
    id = new()
    for _ in range(2):
        client.create_session(id)
        client.upload_attachment(id, b"a", name="a")
        client.acquire_writer(id, "h")
        client.record_usage(id, used(1))
        assert len(past(client, id)) == 3
        client.delete_session(id)


async def test_P9_what_one_call_changes_belongs_together(
    start_server: Callable[..., ServerProcess], dsn: str
) -> None:
    """Changes of one time are of one transaction, whose events no token parts."""
    id = new()
    with Client(start_server(SESSIOND_DSN=dsn).target) as client:
        client.create_session(id)
        client.upload_attachment(id, b"a", name="a")
        client.upload_attachment(id, b"b", name="b")
        client.record_usage(id, used(1, model="m"))
        client.clear_messages(id, delete_attachments=True)
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(_CHANGES, id)
    finally:
        await connection.close()
    assert [list(row["kinds"]) for row in rows] == [
        *([ATTACHMENT], [ATTACHMENT], [FACTS, USAGE], [ATTACHMENT, ATTACHMENT, CLEARED]),
    ]


_CHANGES = """
SELECT array_agg(c.kind ORDER BY c.change_no) AS kinds
FROM session_change AS c JOIN session AS s USING (bucket, session_key)
WHERE s.session_id = $1
GROUP BY c.create_time
ORDER BY min(c.change_no)
"""

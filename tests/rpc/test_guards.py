"""Guards and versions: who writes under which conditions, and how far a session has come then (P4, P5)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from sessiond import v1
from tests.rpc.api import Api, new, refused, said

Prepared = tuple[str, Any, Any]
"""A session, the stub of a service, and a request that is right but for its guard."""


def _append(api: Api, id: str) -> tuple[Any, Any]:
    return api.messages, v1.AppendMessagesRequest(messages=[said("new", new())])


def _update(api: Api, id: str) -> tuple[Any, Any]:
    update = v1.MessageUpdate(message=v1.Message(seq=1, token_count=9))
    update.update_mask.paths.append("token_count")
    return api.messages, v1.UpdateMessagesRequest(updates=[update])


def _rewind(api: Api, id: str) -> tuple[Any, Any]:
    return api.messages, v1.RewindSessionRequest(after_seq=2)


def _revert_rewind(api: Api, id: str) -> tuple[Any, Any]:
    return api.messages, v1.RevertRewindRequest(rewind_id=api.rewind(id, 3).id)


def _clear(api: Api, id: str) -> tuple[Any, Any]:
    return api.messages, v1.ClearMessagesRequest()


def _compact(api: Api, id: str) -> tuple[Any, Any]:
    summary = said("what was said", token_count=2)
    return api.compactions, v1.CompactSessionRequest(from_seq=1, to_seq=2, summary=summary)


def _revert_compaction(api: Api, id: str) -> tuple[Any, Any]:
    made = api.compact(id, 1, 2).compaction
    return api.compactions, v1.RevertCompactionRequest(compaction_id=made.id)


def _end(api: Api, id: str) -> tuple[Any, Any]:
    return api.sessions, v1.EndSessionRequest(reason="done")


def _reopen(api: Api, id: str) -> tuple[Any, Any]:
    api.end(id)
    return api.sessions, v1.ReopenSessionRequest()


def _delete(api: Api, id: str) -> tuple[Any, Any]:
    return api.sessions, v1.DeleteSessionRequest()


def _complete(api: Api, id: str) -> tuple[Any, Any]:
    kind = new("type")
    reminder = api.reminder(id, "go on", type=kind)
    (claim,) = api.claim(kind)
    request = v1.CompleteReminderRequest(
        reminder_id=reminder.id, claim_token=claim.claim_token, append_message=True
    )
    return api.reminders, request


def _complete_silently(api: Api, id: str) -> tuple[Any, Any]:
    stub, request = _complete(api, id)
    request.ClearField("append_message")
    return stub, request


GUARDED: dict[str, list[Callable[[Api, str], tuple[Any, Any]]]] = {
    "AppendMessages": [_append],
    "UpdateMessages": [_update],
    "RewindSession": [_rewind],
    "RevertRewind": [_revert_rewind],
    "ClearMessages": [_clear],
    "CompactSession": [_compact],
    "RevertCompaction": [_revert_compaction],
    "EndSession": [_end],
    "ReopenSession": [_reopen],
    "DeleteSession": [_delete],
    "CompleteReminder": [_complete, _complete_silently],
}
CASES = [(name, prepare) for name, makers in GUARDED.items() for prepare in makers]
REPEATABLE = [
    (name, prepare) for name, prepare in CASES if name not in ("ClearMessages", "DeleteSession")
]
LEASED = [(name, prepare) for name, prepare in CASES if name != "ReopenSession"]
"""An ended session has no writer."""
NEEDS_THE_TOKEN = frozenset(GUARDED) - {"EndSession", "ReopenSession", "DeleteSession"}


def version_of(session: v1.Session) -> v1.SessionVersion:
    return v1.SessionVersion(
        next_seq=session.next_seq,
        revision=session.revision,
        context_token_count=session.context_token_count,
    )


def prepared(api: Api, prepare: Callable[[Api, str], tuple[Any, Any]]) -> Prepared:
    id = api.talk(5, said("counted", token_count=7))
    api.rewind(id, 5)
    stub, request = prepare(api, id)
    request.session_id = id
    return id, stub, request


def everything(api: Api, id: str) -> list[bytes]:
    """All that there is of a session, and what is in its context."""
    records = api.export(session_ids=[id])
    found = [record.SerializeToString(deterministic=True) for record in records]
    return found + [m.SerializeToString(deterministic=True) for m in api.context(id)]


def test_every_call_with_a_guard_is_tested_and_answers_with_a_version() -> None:
    services = [
        service
        for name in ("Append", "GetSession", "PlanCompaction", "GetReminder")
        for service in _file(name).services_by_name.values()
    ]
    guarded = {
        method.name: method
        for service in services
        for method in service.methods
        if "guard" in method.input_type.fields_by_name
    }
    assert guarded.keys() == GUARDED.keys()
    for method in guarded.values():
        assert "version" in method.output_type.fields_by_name, method.name


def _file(name: str) -> Any:
    request: Any = getattr(v1, "AppendMessagesRequest" if name == "Append" else f"{name}Request")
    return request.DESCRIPTOR.file


@pytest.mark.parametrize(("name", "prepare"), CASES)
def test_P5_a_guard_that_does_not_hold_is_refused_and_changes_nothing(
    api: Api, name: str, prepare: Callable[[Api, str], tuple[Any, Any]]
) -> None:
    id, stub, request = prepared(api, prepare)
    session = api.get(id)
    seq, revision = session.next_seq, session.revision
    before = everything(api, id)
    wrong = [
        ("NEXT_SEQ_MISMATCH", v1.WriteGuard(expected_next_seq=seq - 1)),
        ("NEXT_SEQ_MISMATCH", v1.WriteGuard(expected_next_seq=seq + 1, expected_revision=revision)),
        ("REVISION_MISMATCH", v1.WriteGuard(expected_revision=revision - 1)),
        ("REVISION_MISMATCH", v1.WriteGuard(expected_next_seq=seq, expected_revision=revision + 1)),
        ("WRITER_LEASE_LOST", v1.WriteGuard(writer_token="writer-of-nobody")),
    ]
    for reason, guard in wrong:
        request.guard.CopyFrom(guard)
        found = refused(partial(getattr(stub, name), request))
        assert found.reason == reason
        assert everything(api, id) == before
    request.guard.CopyFrom(v1.WriteGuard(expected_next_seq=seq, expected_revision=revision))
    answer = getattr(stub, name)(request)
    if name == "DeleteSession":
        assert answer.deleted
        assert answer.version == version_of(session)
    else:
        assert answer.version == version_of(api.get(id))
        assert everything(api, id) != before


@pytest.mark.parametrize(("name", "prepare"), LEASED)
def test_P5_a_writer_lease_guards_what_writes_messages(
    api: Api, name: str, prepare: Callable[[Api, str], tuple[Any, Any]]
) -> None:
    id, stub, request = prepared(api, prepare)
    token = api.lease(id)
    if name in NEEDS_THE_TOKEN and prepare is not _complete_silently:
        assert refused(partial(getattr(stub, name), request)).reason == "WRITER_LEASE_HELD"
    else:
        request.guard.writer_token = "writer-of-nobody"
        assert refused(partial(getattr(stub, name), request)).reason == "WRITER_LEASE_LOST"
    request.guard.writer_token = token
    assert getattr(stub, name)(request).HasField("version")


@pytest.mark.parametrize(("name", "prepare"), REPEATABLE)
def test_P4_a_replay_is_answered_as_such_before_its_guard_is_looked_at(
    api: Api, name: str, prepare: Callable[[Api, str], tuple[Any, Any]]
) -> None:
    """A retry of a guarded call, whose guard its first attempt made stale, isn't told of a conflict; its
    version is what it is now."""
    id, stub, request = prepared(api, prepare)
    session = api.get(id)
    request.guard.expected_next_seq = session.next_seq
    request.guard.expected_revision = session.revision
    first = getattr(stub, name)(request)
    assert not first.replayed
    api.update(id, "system_prompt", system_prompt="Be brief.")
    again = getattr(stub, name)(request)
    assert again.replayed
    assert again.version == version_of(api.get(id))
    assert again.version.revision == first.version.revision + 1


def test_P5_the_revision_changes_with_what_the_model_sees_and_with_nothing_else(api: Api) -> None:
    id = api.create(system_prompt="Be kind.").id

    def revision() -> int:
        return api.get(id).revision

    assert revision() == 1
    assert api.append(id, said(), said()).version.revision == 3
    api.update(id, "title", "pinned", "labels", title=new("T"), pinned=True, labels={"a": "b"})
    api.update(id, "system_prompt", system_prompt="Be kind.")
    api.storage.OffloadMessages(v1.OffloadMessagesRequest(session_id=id, all=True))
    api.end(id)
    api.reopen(id)
    api.archive(id)
    api.reopen(id)
    api.lease(id)
    assert revision() == 3
    api.update(id, "system_prompt", system_prompt="Be brief.")
    assert revision() == 4


def test_P5_every_append_of_a_batch_is_told_its_own_version(api: Api) -> None:
    """Those of one session that are stored together, among those of others."""
    ids = [api.talk(1, said("counted", token_count=5)) for _ in range(3)]
    api.rewind(ids[2], 1)
    sent: list[v1.AppendMessagesRequest] = []
    for number in range(120):
        messages = [
            said(token_count=number + n, hidden_from_model=(number + n) % 3 == 0)
            for n in range(1 + number % 3)
        ]
        sent.append(v1.AppendMessagesRequest(session_id=ids[number % 3], messages=messages))
    expected = {id: version_of(api.get(id)) for id in ids}
    frame = v1.AppendStreamRequest(
        appends=[v1.StreamedAppend(append=it, tag=tag) for tag, it in enumerate(sent)]
    )
    found: dict[int, v1.AppendMessagesResponse] = {}
    for answer in api.messages.AppendStream(iter([frame])):
        found |= {result.tag: result.ack for result in answer.results}
    assert sorted(found) == list(range(len(sent)))
    for tag, request in enumerate(sent):
        version = expected[request.session_id]
        version.next_seq += len(request.messages)
        version.revision += len(request.messages)
        version.context_token_count += sum(
            m.token_count for m in request.messages if not m.hidden_from_model
        )
        assert found[tag].version == version
    for id in ids:
        assert version_of(api.get(id)) == expected[id]


def test_P8_a_compaction_lease_is_renewed_by_whoever_holds_it(api: Api) -> None:
    id = api.talk(6)
    planned = api.plan(id, "one")
    request = v1.RenewCompactionLeaseRequest(
        session_id=id, lease_token=planned.lease.token, lease_ttl=Duration(seconds=1000)
    )
    renewed = api.compactions.RenewCompactionLease(request).lease
    assert (renewed.token, renewed.holder) == (planned.lease.token, "one")
    longer = renewed.expire_time.ToDatetime() - planned.lease.expire_time.ToDatetime()
    assert longer.total_seconds() > 800
    assert refused(lambda: api.plan(id, "two")).reason == "COMPACTION_LEASE_HELD"
    plan = planned.plan
    api.compact(id, plan.from_seq, plan.to_seq, lease_token=renewed.token)
    assert refused(lambda: api.compactions.RenewCompactionLease(request)).reason == (
        "COMPACTION_LEASE_LOST"
    )


def test_P6_a_compaction_and_a_rewind_are_read_by_their_ids(api: Api) -> None:
    id = api.talk(6)
    compaction = api.compact(id, 1, 2, author="ann", model="small").compaction
    rewind = api.rewind(id, 5)
    one = v1.GetCompactionRequest(session_id=id, compaction_id=compaction.id)
    other = v1.GetRewindRequest(session_id=id, rewind_id=rewind.id)
    now = api.compactions.GetCompaction(one).compaction
    assert not now.in_context, "its summary is rewound"
    assert (now.author, now.model, now.actor) == ("ann", "small", "")
    assert api.messages.GetRewind(other).rewind == rewind
    api.messages.RevertRewind(v1.RevertRewindRequest(session_id=id, rewind_id=rewind.id))
    assert api.messages.GetRewind(other).rewind.HasField("revert_time")
    assert api.compactions.GetCompaction(one).compaction == compaction


def test_B_prune_only_says_what_would_go_unless_it_is_forced(api: Api) -> None:
    id, source = api.create(source=(source := new("source"))).id, source
    api.end(id)
    request = v1.PruneSessionsRequest(
        rule=v1.RetentionRule(
            sessions=v1.SessionFilter(sources=[source], whole_tenant=True), ended_for=Duration()
        )
    )
    (would,) = api.retention.PruneSessions(request).sessions
    assert would.outcome == v1.PruneOutcome.PRUNE_OUTCOME_WOULD_BE_DELETED
    assert api.get(id).id == id
    request.force = True
    (went,) = api.retention.PruneSessions(request).sessions
    assert went.outcome == v1.PruneOutcome.PRUNE_OUTCOME_DELETED
    assert refused(lambda: api.get(id)).reason == "SESSION_NOT_FOUND"


def test_deletions_say_whether_there_was_something(api: Api) -> None:
    id, policy = api.create().id, new("policy")
    assert api.delete(id).deleted
    missing = api.delete(id, allow_missing=True)
    assert (missing.deleted, missing.HasField("version")) == (False, False)
    rule = v1.RetentionRule(
        sessions=v1.SessionFilter(owner="nobody"), ended_for=Duration(seconds=10**9)
    )
    made = v1.SetRetentionPolicyRequest(policy=v1.RetentionPolicy(id=policy, rule=rule))
    assert api.retention.SetRetentionPolicy(made).created
    gone = v1.DeleteRetentionPolicyRequest(policy_id=policy, allow_missing=True)
    assert [api.retention.DeleteRetentionPolicy(gone).deleted for _ in range(2)] == [True, False]


def test_P4_a_fork_is_created_once_by_its_request(api: Api) -> None:
    request = v1.ForkSessionRequest(session_id=api.talk(2), request_id=new())
    first, again = api.sessions.ForkSession(request), api.sessions.ForkSession(request)
    assert (first.created, again.created) == (True, False)
    assert first.session.id == again.session.id

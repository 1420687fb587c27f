"""Every reason for which a client's doing is refused, each with a call that provokes it.

A case returns the refusal and the metadata that it must have, all of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sessiond
from sessiond import v1
from tests.rpc.api import EVERYTHING, Api, answering, calling, new, refused, said
from tests.rpc.refusals import Refusal, refusal_in_stream
from tests.rpc.session_tokens import elsewhere, older

Expected = tuple[Refusal, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Case:
    """A call that must be refused for this reason."""

    reason: str
    provoke: Callable[[Api], Expected]


CASES: list[Case] = []


def case(reason: str) -> Callable[[Callable[[Api], Expected]], Callable[[Api], Expected]]:
    """Put a function into the table of cases."""

    def register(provoke: Callable[[Api], Expected]) -> Callable[[Api], Expected]:
        CASES.append(Case(reason, provoke))
        return provoke

    return register


@case("SESSION_NOT_FOUND")
def reading_an_unknown_session(api: Api) -> Expected:
    return refused(lambda: api.get("nobody")), {"session_id": "nobody"}


@case("SESSION_NOT_FOUND")
def appending_to_an_unknown_session(api: Api) -> Expected:
    return refused(lambda: api.append("nobody", said())), {"session_id": "nobody"}


@case("SESSION_NOT_FOUND")
def the_context_of_an_unknown_session(api: Api) -> Expected:
    return refused(lambda: api.context("nobody")), {"session_id": "nobody"}


@case("SESSION_NOT_FOUND")
def resolving_what_fits_nothing(api: Api) -> Expected:
    request = v1.ResolveSessionRequest(query="\U0010ffff nothing")
    found = refused(lambda: api.sessions.ResolveSession(request))
    return found, {"session_id": "\U0010ffff nothing"}


@case("SESSION_EXISTS")
def creating_with_an_id_in_use(api: Api) -> Expected:
    id = api.create().id
    return refused(lambda: api.create(id)), {"session_id": id}


@case("SESSION_EXISTS")
def forking_to_an_id_in_use(api: Api) -> Expected:
    id, other = api.create().id, api.create().id
    return refused(lambda: api.fork(id, fork=v1.Session(id=other))), {"session_id": other}


@case("SESSION_ENDED")
def appending_to_an_ended_session(api: Api) -> Expected:
    id = api.create().id
    api.end(id)
    found = refused(lambda: api.append(id, said()))
    api.reopen(id)
    api.append(id, said())
    return found, {"session_id": id}


@case("SESSION_DIFFERS")
def creating_if_missing_with_another_source(api: Api) -> Expected:
    id = api.create(source="cli").id
    session = v1.Session(id=id, source="web")
    request = v1.CreateSessionRequest(session=session, if_exists=v1.IfExists.IF_EXISTS_RETURN)
    found = refused(lambda: api.sessions.CreateSession(request))
    session.source = "cli"
    assert api.append(id, said(), create_session=session).first_seq == 1
    return found, {"session_id": id, "field": "source"}


@case("SESSION_AMBIGUOUS")
def resolving_a_prefix_of_several_ids(api: Api) -> Expected:
    prefix = new()
    ids = [api.create(f"{prefix}-{n}").id for n in range(3)]
    request = v1.ResolveSessionRequest(query=prefix)
    found = refused(lambda: api.sessions.ResolveSession(request))
    return found, {"query": prefix, "candidates": json.dumps(ids), "candidate_count": 3}


@case("PARENT_NOT_FOUND")
def creating_a_child_of_nobody(api: Api) -> Expected:
    return refused(lambda: api.child("nobody")), {"parent_id": "nobody"}


@case("SPAWN_TOO_DEEP")
def spawning_deeper_than_allowed(api: Api) -> Expected:
    id = api.create().id
    for _ in range(3):
        id = api.child(id).id
    return refused(lambda: api.child(id)), {"spawn_depth": 4, "max_spawn_depth": 3}


@case("TITLE_TAKEN")
def creating_with_a_title_that_is_taken(api: Api) -> Expected:
    title, owner = new("Title"), new("owner")
    id = api.create(title=title, owner=owner).id
    request = v1.CreateSessionRequest(
        session=v1.Session(title=f"  {title}\u200b ", owner=owner),
        title_conflict=v1.TitleConflict.TITLE_CONFLICT_REFUSE,
    )
    found = refused(lambda: api.sessions.CreateSession(request))
    request.session.owner = new("owner")
    api.sessions.CreateSession(request)
    return found, {"title": title, "session_id": id}


@case("TITLE_TAKEN")
def giving_a_title_that_is_taken(api: Api) -> Expected:
    title = new("Title")
    id, other = api.create(title=title).id, api.create().id
    facts = {"title": title, "pinned": True}
    refuse = v1.TitleConflict.TITLE_CONFLICT_REFUSE
    found = refused(lambda: api.update(other, "title", "pinned", _title_conflict=refuse, **facts))
    assert not api.get(other).pinned  # all or none
    return found, {"title": title, "session_id": id}


@case("TITLE_ALREADY_SET")
def an_automatic_title_over_a_person_s(api: Api) -> Expected:
    id = api.create(title=(title := new("Mine"))).id
    automatic = v1.TitleSource.TITLE_SOURCE_AUTOMATIC
    return refused(lambda: api.update(id, "title", title="x", title_source=automatic)), {
        "title": title
    }


@case("TITLE_ALREADY_SET")
def a_title_only_if_there_is_none(api: Api) -> Expected:
    automatic = v1.TitleSource.TITLE_SOURCE_AUTOMATIC
    id = api.create(title=(title := new("Auto")), title_source=automatic).id
    found = refused(lambda: api.update(id, "title", title="x", _title_only_if_unset=True))
    return found, {"title": title}


@case("ETAG_MISMATCH")
def updating_with_an_old_etag(api: Api) -> Expected:
    session = api.create()
    now = api.update(session.id, "pinned", pinned=True)
    found = refused(lambda: api.update(session.id, "pinned", etag=session.etag))
    assert api.get(session.id).pinned
    return found, {"etag": now.etag}


@case("ETAG_MISMATCH")
def deleting_with_an_old_etag(api: Api) -> Expected:
    session = api.create()
    return refused(lambda: api.delete(session.id, etag="old")), {"etag": session.etag}


@case("NEXT_SEQ_MISMATCH")
def appending_where_somebody_else_wrote(api: Api) -> Expected:
    id = api.talk(2)
    found = refused(lambda: api.append(id, said(), expected_next_seq=2))
    return found, {"expected_next_seq": 2, "next_seq": 3}


@case("NEXT_SEQ_MISMATCH")
def rewinding_where_somebody_else_wrote(api: Api) -> Expected:
    id = api.talk(2)
    found = refused(lambda: api.rewind(id, 1, expected_next_seq=2))
    return found, {"expected_next_seq": 2, "next_seq": 3}


@case("NEXT_SEQ_MISMATCH")
def forking_where_somebody_else_wrote(api: Api) -> Expected:
    found = refused(lambda: api.fork(api.talk(2), expected_next_seq=9))
    return found, {"expected_next_seq": 9, "next_seq": 3}


@case("NEXT_SEQ_MISMATCH")
def compacting_where_somebody_else_wrote(api: Api) -> Expected:
    id = api.talk(3)
    found = refused(lambda: api.compact(id, 1, 2, expected_next_seq=3))
    return found, {"expected_next_seq": 3, "next_seq": 4}


@case("REVISION_MISMATCH")
def appending_where_somebody_else_hid_messages(api: Api) -> Expected:
    id = api.talk(2)
    api.rewind(id, 1)
    found = refused(lambda: api.append(id, said(), expected_revision=3))
    return found, {"expected_revision": 3, "revision": 4, "next_seq": 3}


@case("REVISION_MISMATCH")
def compacting_what_somebody_else_compacted(api: Api) -> Expected:
    id = api.talk(5)
    api.compact(id, 1, 2)
    found = refused(lambda: api.compact(id, 3, 4, expected_next_seq=7, expected_revision=6))
    return found, {"expected_revision": 6, "revision": 8, "next_seq": 7}


@case("CLIENT_ID_REUSED")
def a_client_id_with_other_content(api: Api) -> Expected:
    id = api.create().id
    api.append(id, said(), said("first", "one"))
    return refused(lambda: api.append(id, said("other", "one"))), {"client_id": "one", "seq": 2}


@case("CLIENT_ID_REUSED")
def a_client_id_twice_in_a_call_with_other_content(api: Api) -> Expected:
    id = api.create().id
    found = refused(lambda: api.append(id, said("a", "one"), said("b", "one")))
    assert api.get(id).next_seq == 1
    return found, {"client_id": "one"}


@case("CLIENT_ID_REUSED")
def a_summary_with_the_client_id_of_a_message(api: Api) -> Expected:
    id = api.talk(1, said("x", "one"))
    summary = v1.Message(client_id="one", parts=[v1.Part(text="short")])
    return refused(lambda: api.compact(id, 1, 1, summary=summary)), {"client_id": "one", "seq": 2}


@case("IMPORT_CONFLICT")
def importing_a_session_with_another_message(api: Api) -> Expected:
    id = api.talk(2)
    records = api.export(session_ids=[id])
    payload = v1.Message.FromString(records[2].message.payload)
    payload.parts[0].text = "other"
    records[2].message.payload = payload.SerializeToString()
    (outcome,) = api.bring(*records)
    assert sessiond.text_of(api.log(id)[1]) == "message 2"
    return refusal_in_stream(outcome.error), {"session_id": id, "seq": 2}


@case("IMPORT_CONFLICT")
def importing_a_session_of_another_time(api: Api) -> Expected:
    id = api.talk(2)
    records = api.export(session_ids=[id])
    records[0].session.session.create_time.seconds -= 1
    (outcome,) = api.bring(*records)
    return refusal_in_stream(outcome.error), {"session_id": id}


@case("PARTIAL_REPLAY")
def a_batch_of_which_a_part_is_known(api: Api) -> Expected:
    id = api.create().id
    first, second = said(), said()
    api.append(id, first, second)
    found = refused(lambda: api.append(id, said(), second, first))
    expected = {
        "known_count": 2,
        "message_count": 3,
        "client_id": second.client_id,
        "seq": 2,
    }
    assert api.append(id, said(), second, on_known=v1.OnKnown.ON_KNOWN_SKIP).seqs == [3, 2]
    return found, expected


@case("MESSAGE_NOT_FOUND")
def a_message_beyond_the_end(api: Api) -> Expected:
    request = v1.GetMessageRequest(session_id=api.talk(2), seq=3)
    found = refused(lambda: api.messages.GetMessage(request))
    return found, {"seq": 3, "first_seq": 1, "next_seq": 3}


@case("MESSAGE_NOT_FOUND")
def a_message_that_was_cleared(api: Api) -> Expected:
    id = api.talk(2)
    api.messages.ClearMessages(v1.ClearMessagesRequest(session_id=id))
    request = v1.GetMessageRequest(session_id=id, seq=1)
    found = refused(lambda: api.messages.GetMessage(request))
    return found, {"seq": 1, "first_seq": 3, "next_seq": 3}


@case("MESSAGE_NOT_FOUND")
def changing_a_message_beyond_the_end(api: Api) -> Expected:
    id = api.talk(2)
    request = v1.UpdateMessagesRequest(session_id=id)
    for seq in (1, 7):
        update = request.updates.add(message=v1.Message(seq=seq, type="late"))
        update.update_mask.paths.append("type")
    found = refused(lambda: api.messages.UpdateMessages(request))
    assert not api.log(id)[0].type  # all or none
    return found, {"seq": 7, "first_seq": 1, "next_seq": 3}


@case("SEQ_OUT_OF_RANGE")
def forking_beyond_the_end(api: Api) -> Expected:
    found = refused(lambda: api.fork(api.talk(2), 3))
    return found, {"field": "at_seq", "seq": 3, "first_seq": 1, "next_seq": 3}


@case("SEQ_OUT_OF_RANGE")
def a_context_as_of_beyond_the_end(api: Api) -> Expected:
    found = refused(lambda: api.context(api.talk(2), as_of_seq=3))
    return found, {"field": "as_of_seq", "seq": 3, "first_seq": 1, "next_seq": 3}


@case("SEQ_OUT_OF_RANGE")
def rewinding_beyond_the_end(api: Api) -> Expected:
    found = refused(lambda: api.rewind(api.talk(2), 3))
    return found, {"field": "after_seq", "seq": 3, "first_seq": 1, "next_seq": 3}


@case("SEQ_OUT_OF_RANGE")
def compacting_beyond_the_end(api: Api) -> Expected:
    found = refused(lambda: api.compact(api.talk(2), 1, 3))
    return found, {"field": "to_seq", "seq": 3, "first_seq": 1, "next_seq": 3}


@case("REWIND_NOT_FOUND")
def reverting_a_rewind_that_is_not_there(api: Api) -> Expected:
    request = v1.RevertRewindRequest(session_id=api.talk(2), rewind_id=77)
    return refused(lambda: api.messages.RevertRewind(request)), {"rewind_id": 77}


@case("REWIND_NOT_FOUND")
def reverting_the_newest_of_no_rewinds(api: Api) -> Expected:
    request = v1.RevertRewindRequest(session_id=api.talk(2), newest=True)
    return refused(lambda: api.messages.RevertRewind(request)), {"rewind_id": 0}


@case("REWIND_NOT_FOUND")
def reading_a_rewind_that_is_not_there(api: Api) -> Expected:
    request = v1.GetRewindRequest(session_id=api.talk(2), rewind_id=3)
    return refused(lambda: api.messages.GetRewind(request)), {"rewind_id": 3}


@case("REWIND_NOT_REVERTIBLE")
def reverting_a_rewind_that_a_later_compaction_cuts(api: Api) -> Expected:
    """The first compaction, of 2 to 5, is hidden by the rewind; the second takes in a part of it."""
    id = api.talk(6)
    first = api.compact(id, 2, 5).compaction
    rewind = api.rewind(id, 6)
    second = api.compact(id, 1, 4).compaction
    request = v1.RevertRewindRequest(session_id=id, newest=True)
    found = refused(lambda: api.messages.RevertRewind(request))
    assert first.id < second.id
    revert = v1.RevertCompactionRequest(session_id=id, compaction_id=second.id)
    api.compactions.RevertCompaction(revert)
    assert api.messages.RevertRewind(request).rewind.HasField("revert_time")
    return found, {"rewind_id": rewind.id, "compaction_id": second.id}


@case("NOTHING_TO_REWIND")
def rewinding_what_is_rewound(api: Api) -> Expected:
    id = api.talk(5)
    api.rewind(id, 2)
    return refused(lambda: api.rewind(id, 3)), {"after_seq": 3, "next_seq": 6}


@case("NOTHING_TO_REWIND")
def rewinding_to_the_end(api: Api) -> Expected:
    return refused(lambda: api.rewind(api.talk(2), 2)), {"after_seq": 2, "next_seq": 3}


@case("COMPACTION_RANGE_EMPTY")
def compacting_what_the_context_does_not_hold(api: Api) -> Expected:
    id = api.talk(5)
    api.rewind(id, 3)
    return refused(lambda: api.compact(id, 4, 5)), {"from_seq": 4, "to_seq": 5}


def _usable(api: Api, id: str, found: Refusal) -> None:
    """The nearest range of a refusal can be compacted."""
    nearest = found.metadata
    api.compact(id, int(nearest["nearest_from_seq"]), int(nearest["nearest_to_seq"]))


@case("COMPACTION_OVERLAP")
def compacting_a_part_of_a_compaction(api: Api) -> Expected:
    id = api.talk(6)
    api.compact(id, 2, 4)
    found = refused(lambda: api.compact(id, 3, 5))
    _usable(api, id, found)
    return found, {
        "from_seq": 3,
        "to_seq": 5,
        "compaction_id": 7,
        "nearest_from_seq": 2,
        "nearest_to_seq": 5,
    }


@case("COMPACTION_SPLITS_TOOL_CALL")
def compacting_a_call_without_its_result(api: Api) -> Expected:
    id = api.talk(2, calling("a"), answering("a"), said())
    found = refused(lambda: api.compact(id, 1, 3))
    _usable(api, id, found)
    return found, {
        "from_seq": 1,
        "to_seq": 3,
        "tool_call_id": "a",
        "nearest_from_seq": 1,
        "nearest_to_seq": 2,
    }


@case("COMPACTION_SPLITS_TOOL_CALL")
def compacting_a_result_without_its_call(api: Api) -> Expected:
    id = api.talk(0, calling("a"), answering("a"), said())
    found = refused(lambda: api.compact(id, 2, 2))
    _usable(api, id, found)
    return found, {
        "from_seq": 2,
        "to_seq": 2,
        "tool_call_id": "a",
        "nearest_from_seq": 1,
        "nearest_to_seq": 2,
    }


@case("COMPACTION_SPLITS_TOOL_CALL")
def compacting_an_open_call(api: Api) -> Expected:
    """No range near it would do: there is none in the metadata."""
    id = api.talk(0, calling("a"))
    found = refused(lambda: api.compact(id, 1, 1))
    return found, {"from_seq": 1, "to_seq": 1, "tool_call_id": "a"}


@case("COMPACTION_NOT_FOUND")
def reverting_what_is_no_compaction(api: Api) -> Expected:
    request = v1.RevertCompactionRequest(session_id=api.talk(2), compaction_id=2)
    return refused(lambda: api.compactions.RevertCompaction(request)), {"compaction_id": 2}


@case("COMPACTION_NOT_FOUND")
def reading_what_is_no_compaction(api: Api) -> Expected:
    request = v1.GetCompactionRequest(session_id=api.talk(2), compaction_id=2)
    return refused(lambda: api.compactions.GetCompaction(request)), {"compaction_id": 2}


@case("SESSION_NOT_FOUND")
def watching_an_unknown_session(api: Api) -> Expected:
    return refused(lambda: api.watch("nobody")), {"session_id": "nobody"}


@case("RESUME_TOKEN_INVALID")
def resuming_with_a_changed_token(api: Api) -> Expected:
    id = api.talk(1)
    token = api.watch(id).resume_token
    resume = v1.WatchResume(tokens=[token[:-3] + "abc"])
    return refused(lambda: api.watch(id, resume=resume)), {"field": "resume.tokens[0]"}


@case("RESUME_TOKEN_INVALID")
def resuming_with_the_token_of_another_session(api: Api) -> Expected:
    token = api.watch(api.talk(1)).resume_token
    resume = v1.WatchResume(tokens=[token])
    return refused(lambda: api.watch(api.talk(1), resume=resume)), {"field": "resume.tokens"}


@case("HISTORY_DIVERGED")
def resuming_with_the_token_of_a_session_that_was_made_anew(api: Api) -> Expected:
    id = api.talk(1)
    resume = v1.WatchResume(tokens=[api.watch(id).resume_token])
    api.sessions.DeleteSession(v1.DeleteSessionRequest(session_id=id))
    api.create(id)
    api.append(id, said("another"))
    return refused(lambda: api.watch(id, resume=resume)), {"session_id": id}


@case("RESUME_TOKEN_INVALID")
def resuming_a_stream_of_sessions_with_another_filter(api: Api) -> Expected:
    token = api.watch_sessions(filter=v1.SessionFilter(owner="ann"), from_now=True).resume_token
    other = v1.SessionFilter(owner="ben")
    found = refused(lambda: api.watch_sessions(filter=other, resume_token=token))
    return found, {"field": "resume_token"}


@case("RESUME_TOKEN_EXPIRED")
def resuming_a_stream_of_sessions_after_too_long(api: Api) -> Expected:
    token = older(_token_of_sessions(api), days=8)
    found = refused(lambda: api.watch_sessions(filter=EVERYTHING, resume_token=token))
    return found, {"field": "resume_token"}


@case("HISTORY_DIVERGED")
def resuming_a_stream_of_sessions_of_another_database(api: Api) -> Expected:
    token = elsewhere(_token_of_sessions(api))
    return refused(lambda: api.watch_sessions(filter=EVERYTHING, resume_token=token)), {}


def _token_of_sessions(api: Api) -> str:
    return api.watch_sessions(filter=EVERYTHING, from_now=True).resume_token


@case("ATTACHMENT_NOT_FOUND")
def downloading_an_unknown_attachment(api: Api) -> Expected:
    id = api.create().id
    return refused(lambda: api.download(id, "no")), {"session_id": id, "attachment_id": "no"}


@case("ATTACHMENT_NOT_FOUND")
def deleting_an_unknown_attachment(api: Api) -> Expected:
    id = api.create().id
    request = v1.DeleteAttachmentRequest(session_id=id, attachment_id="no")
    found = refused(lambda: api.attachments.DeleteAttachment(request))
    return found, {"session_id": id, "attachment_id": "no"}


@case("ATTACHMENT_NOT_FOUND")
def updating_an_unknown_attachment(api: Api) -> Expected:
    id = api.create().id
    found = refused(lambda: api.change_file(id, "no", "name", name="x"))
    return found, {"session_id": id, "attachment_id": "no"}


@case("ETAG_MISMATCH")
def updating_an_attachment_that_changed(api: Api) -> Expected:
    id = api.create().id
    old = api.upload(id, b"x", "x", id="a").attachment
    now = api.change_file(id, "a", "name", name="y")
    stale = refused(lambda: api.change_file(id, "a", "name", name="z", etag=old.etag))
    return stale, {"etag": now.etag}


@case("ATTACHMENT_TYPE_REFUSED")
def renaming_to_an_executable(api: Api) -> Expected:
    id = api.create().id
    api.upload(id, b"x", "x", id="a")
    found = refused(lambda: api.change_file(id, "a", "name", name="b/a.exe"))
    return found, {"name": "a.exe", "kind": ".exe"}


@case("UPLOAD_NOT_FOUND")
def asking_for_an_unknown_upload(api: Api) -> Expected:
    id = api.create().id
    request = v1.GetUploadRequest(session_id=id, upload_token="0" * 32)
    return refused(lambda: api.attachments.GetUpload(request)), {"session_id": id}


@case("UPLOAD_OFFSET_MISMATCH")
def writing_beyond_what_is_stored_of_an_upload(api: Api) -> Expected:
    id = api.create().id
    begun = api.attachments.StartUpload(v1.StartUploadRequest(session_id=id, size=2**20)).upload
    request = v1.WriteUploadRequest(
        session_id=id, upload_token=begun.token, offset=2**18, chunk=bytes(2**18)
    )
    return refused(lambda: api.attachments.WriteUpload(request)), {"expected_offset": 0}


@case("ATTACHMENT_ID_REUSED")
def uploading_other_bytes_with_an_id_in_use(api: Api) -> Expected:
    id = api.create().id
    api.upload(id, b"some", id="a")
    return refused(lambda: api.upload(id, b"others", id="a")), {"attachment_id": "a"}


@case("ATTACHMENT_OVER_LIMIT")
def uploading_what_is_too_large(api: Api) -> Expected:
    limit = 64 * 2**20
    request = v1.UploadAttachmentRequest(session_id=api.create().id, size=limit + 1)
    found = refused(lambda: api.attachments.UploadAttachment(iter([request])))
    return found, {"setting": "attachment_bytes", "limit": str(limit)}


@case("ATTACHMENT_TYPE_REFUSED")
def uploading_an_executable(api: Api) -> Expected:
    id = api.create().id
    found = refused(lambda: api.upload(id, b"#!/bin/sh", "a/b.txt"))
    return found, {"name": "b.txt", "kind": "script"}


@case("SESSION_NOT_FOUND")
def uploading_to_an_unknown_session(api: Api) -> Expected:
    return refused(lambda: api.upload("nobody")), {"session_id": "nobody"}


@case("API_KEYS_DISABLED")
def keys_of_a_server_that_wants_none(api: Api) -> Expected:
    key = v1.ApiKey(name="web app", permissions=[v1.Permission.PERMISSION_READ])
    stub = api.api_keys
    calls = (
        lambda: stub.CreateApiKey(v1.CreateApiKeyRequest(api_key=key)),
        lambda: stub.GetApiKey(v1.GetApiKeyRequest(api_key_id="a")),
        lambda: stub.ListApiKeys(v1.ListApiKeysRequest()),
        lambda: stub.RevokeApiKey(v1.RevokeApiKeyRequest(api_key_id="a", allow_missing=True)),
    )
    first, *others = map(refused, calls)
    assert {it.reason for it in others} == {first.reason}
    return first, {}

"""P12: tenants are apart, and a caller sees of others' sessions what he sees of sessions that don't exist."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2

import sessiond
from sessiond import Client, v1
from sessiond_server.rpc import access
from sessiond_server.rpc.policies import NONE, policy_of
from sessiond_server.rpc.server import SERVICES
from tests.access.keyed import Keyed, Raw, keys_command, make_key, said
from tests.cli.command import Cli
from tests.rpc.refusals import breaches, refusal
from tests.rpc.requests import Requests
from tests.rpc.world import World

METHODS = sorted(
    (method for service in SERVICES for method in service.methods), key=lambda m: m.full_name
)
KEYED = [method for method in METHODS if policy_of(method).permission != NONE]
PER_METHOD = 12


def of(method: MethodDescriptor) -> str:
    return f"{method.containing_service.full_name}/{method.name}"


def outcome(raw: Raw, method: MethodDescriptor, request: bytes) -> tuple[str, str]:
    """What a caller can see of an answer: the reason and the text, or what was answered."""
    try:
        answer = raw.call(method, request)
    except grpc.RpcError as error:
        found = refusal(error)
        assert not breaches(found), (method.name, found)
        return found.reason, found.message
    return "OK", b"".join(answer).hex()


@pytest.mark.parametrize("method", KEYED, ids=of)
@pytest.mark.parametrize("key", ["", "sk_0_0", "nonsense", "sk_%_x"])
def test_P12_nobody_gets_in_without_a_key(keyed: Keyed, method: MethodDescriptor, key: str) -> None:
    with grpc.insecure_channel(keyed.server.target) as channel:
        assert outcome(Raw(channel, key), method, b"")[0] == "CREDENTIALS_INVALID"


@pytest.mark.parametrize("method", KEYED, ids=of)
def test_A_access_by_named_permissions(keyed: Keyed, method: MethodDescriptor) -> None:
    """A key that has every permission but the one that the method needs is refused, and told which."""
    needed = policy_of(method).permission
    with grpc.insecure_channel(keyed.server.target) as channel:
        raw = Raw(channel, key_without(keyed.dsn, needed))
        with pytest.raises(grpc.RpcError) as raised:
            raw.call(method, b"")
    found = refusal(raised.value)
    assert (found.reason, found.metadata) == ("PERMISSION_DENIED", {"permission": needed})


@cache
def key_without(dsn: str, permission: str) -> str:
    return make_key(dsn, "--permissions", ",".join(sorted(access.PERMISSIONS - {permission})))


@pytest.mark.parametrize("name", ["ada", "service"])
def test_P12_tenants_are_apart(keyed: Keyed, name: str) -> None:
    """The same id in two tenants is two sessions, and neither is seen from the other one."""
    session_id, title = f"both-{uuid4()}", f"Trip {uuid4().hex[:8]}"
    with keyed.client(getattr(keyed, name)) as here, keyed.client(keyed.elsewhere) as there:
        here.create_session(session_id, owner="ada", title=title)
        here.append(session_id, said("here"))
        with pytest.raises(sessiond.SessionNotFound):
            there.get_session(session_id)
        there.create_session(session_id, owner="ada", title=title)
        assert [sessiond.text_of(m) for m in here.list_messages(session_id)] == ["here"]
        assert list(there.list_messages(session_id)) == []
        assert there.resolve_session(title).message_count == 0
        assert here.next_title(title) if name == "service" else True
        there.delete_session(session_id)
        assert here.get_session(session_id).message_count == 1


def test_A_access_of_an_owner(keyed: Keyed) -> None:
    """What an owner makes is his, lists hold his own alone, and another owner's name is refused."""
    with keyed.client(keyed.ada) as ada, keyed.client(keyed.bob) as bob:
        mine = ada.create_session(title=f"Mine {uuid4().hex[:8]}")
        assert mine.owner == "ada"
        bob.append(f"bobs-{uuid4()}", said("hi"), create_session=v1.Session())
        assert {s.session.owner for s in ada.list_sessions()} == {"ada"}
        assert {s.session.owner for s in bob.list_sessions()} == {"bob"}
        with pytest.raises(sessiond.SessionNotFound):
            bob.resolve_session(mine.title)
        for refused in (
            lambda: bob.create_session(owner="ada"),
            lambda: list(bob.list_sessions(sessiond.session_filter(owner="ada"))),
            lambda: bob.resolve_session(mine.id, owner="ada"),
        ):
            with pytest.raises(sessiond.PermissionDenied) as raised:
                refused()
            assert raised.value.metadata == {"permission": "owner"}
        assert ada.create_session(parent_id=mine.id, parent_kind="subagent").owner == "ada"
        with pytest.raises(sessiond.ParentNotFound):
            bob.create_session(parent_id=mine.id, parent_kind="subagent")
        with pytest.raises(sessiond.SessionExists):
            bob.create_session(mine.id)
        with pytest.raises(sessiond.SessionExists):
            bob.create_session(mine.id, if_exists="return")


def test_P12_an_owners_consumers_take_no_room_from_others_and_are_not_seen(keyed: Keyed) -> None:
    full, other = (f"owner-{uuid4().hex}" for _ in range(2))
    keys = [make_key(keyed.dsn, "--owner", owner) for owner in (full, other)]
    consumers = {f"c{n}" for n in range(100)}
    with keyed.client(keys[0]) as one, keyed.client(keys[1]) as two:
        for consumer in consumers:
            one.claim_sessions(consumer)
        with pytest.raises(sessiond.TooManyConsumers):
            one.claim_sessions("one-more")
        two.claim_sessions("one-more")
        assert {it.id for it in one.list_consumers()} == consumers
        assert [(it.owner, it.id) for it in two.list_consumers()] == [(other, "one-more")]
        assert not two.delete_consumer("c7", owner="", allow_missing=True)
        assert not one.delete_consumer("one-more", owner="", allow_missing=True)
        with pytest.raises(sessiond.PermissionDenied):
            two.delete_consumer("c7", owner=full)
    with keyed.client(keyed.service) as service:
        service.claim_sessions("one-more", sessiond.session_filter(whole_tenant=True))
        assert {it.owner for it in service.list_consumers()} >= {"", full, other}
        assert service.delete_consumer("c7", owner=full)


FILTERED: dict[str, Callable[[v1.SessionFilter], Message]] = {
    "ListSessions": lambda it: v1.ListSessionsRequest(filter=it),
    "SearchMessages": lambda it: v1.SearchMessagesRequest(query="a", filter=it),
    "ExportSessions": lambda it: v1.ExportSessionsRequest(filter=it),
    "ListReminders": lambda it: v1.ListRemindersRequest(filter=it),
    "ClaimReminders": lambda it: v1.ClaimRemindersRequest(filter=it),
    "ClaimSessions": lambda it: v1.ClaimSessionsRequest(consumer_id="memory", filter=it),
    "GetUsage": lambda it: v1.GetUsageRequest(sessions=it),
    "WatchSessions": lambda it: v1.WatchSessionsRequest(filter=it),
    "GetTenantStats": lambda it: v1.GetTenantStatsRequest(filter=it),
    "PruneSessions": lambda it: v1.PruneSessionsRequest(
        rule=v1.RetentionRule(sessions=it, ended_for=Duration(seconds=10**9))
    ),
    "SetRetentionPolicy": lambda it: v1.SetRetentionPolicyRequest(
        policy=v1.RetentionPolicy(
            id="of-ada", rule=v1.RetentionRule(sessions=it, ended_for=Duration(seconds=10**9))
        )
    ),
}
"""Requests with a filter of sessions."""


def has_filter(descriptor: Descriptor, seen: frozenset[str] = frozenset()) -> bool:
    """Whether a type has a filter of sessions, at any depth."""
    if descriptor is v1.SessionFilter.DESCRIPTOR:
        return True
    return descriptor.full_name not in seen and any(
        it.message_type is not None and has_filter(it.message_type, seen | {descriptor.full_name})
        for it in descriptor.fields
    )


def test_every_rpc_with_a_filter_is_looked_at() -> None:
    assert {m.name for m in METHODS if has_filter(m.input_type)} == FILTERED.keys()


BINDABLE = [m for m in METHODS if m.name in FILTERED and policy_of(m).permission != access.ADMIN]
"""Those that a key may call which is bound to an owner."""


@pytest.mark.parametrize("method", BINDABLE, ids=lambda method: method.name)
def test_P12_a_key_that_is_bound_to_an_owner_implies_that_owner_in_every_filter(
    keyed: Keyed, method: MethodDescriptor
) -> None:
    key = make_key(keyed.dsn, "--owner", "ada", "--permissions", "read,write")
    make = FILTERED[method.name]
    with grpc.insecure_channel(keyed.server.target) as channel:
        bound, service = Raw(channel, key), Raw(channel, keyed.service)

        def asked(raw: Raw, **wanted: Any) -> tuple[str, str]:
            return outcome(raw, method, make(v1.SessionFilter(**wanted)).SerializeToString())

        for others in ({"whole_tenant": True}, {"owner": "bob"}, {"owner": ""}):
            for more in ({}, {"include_subagents": True}):
                assert asked(bound, **others, **more)[0] == "PERMISSION_DENIED"
        assert asked(bound)[0] == asked(bound, owner="ada")[0] == "OK"
        assert asked(service)[0] == "INVALID_FIELD", "nothing says whose sessions"
        assert asked(service, owner="ada")[0] == "OK"


def test_A_sessionctl_with_the_key_of_an_owner_is_about_his_sessions(keyed: Keyed) -> None:
    """Where it would be about everybody's with another key."""
    cli, word = Cli(keyed.server.target), f"w{uuid4().hex}"
    with keyed.client(keyed.service) as service:
        for owner in ("ada", "bob"):
            service.append(f"{owner}-{word}", said(word), create_session=v1.Session(owner=owner))
        while service.search_messages_page("a", session_id=f"bob-{word}").indexed_through < 1:
            time.sleep(0.05)
    for key, owners in ((keyed.service, {"ada", "bob"}), (keyed.ada, {"ada"})):
        environment = {"SESSIOND_API_KEY": key}
        listed = cli.json("ls", "--limit", "0", **environment)
        assert {it["owner"] for it in listed} - {""} >= owners
        assert ("bob" in {it["owner"] for it in listed}) == ("bob" in owners)
        hits = cli.json("search", word, **environment)
        assert {it["session_id"] for it in hits} == {f"{owner}-{word}" for owner in owners}
        assert cli.json("usage", **environment)["groups"] == []
        cli.ok("reminder", "ls", **environment)
        exported = cli.ok("export", "--format", "native", **environment)
        assert (f"bob-{word}" in exported) == ("bob" in owners)


def comparable(method: MethodDescriptor, request: bytes) -> bytes:
    """The request without what makes a session, since that an id is taken can't be hidden, and without what
    the passing of time answers otherwise."""
    message = GetMessageClass(method.input_type).FromString(request)
    if isinstance(message, v1.AppendMessagesRequest):
        message.ClearField("create_session")
    if isinstance(message, v1.AppendStreamRequest):
        for append in message.appends:
            append.append.ClearField("create_session")
    if isinstance(message, v1.ForkSessionRequest):
        message.fork.Clear()
    if isinstance(message, v1.ClaimSessionsRequest):
        message.idle_for.FromSeconds(86_400)
    for holder in access.owners(message):
        holder.owner = ""
    for wanted in access.filters(message):
        wanted.ClearField("owner")
        wanted.whole_tenant = False
    return message.SerializeToString()


_NOT_ALIKE = ("CreateSession", "ImportSessions", "DeleteConsumer", "WatchSessions")
"""What makes sessions, or names none and answers otherwise when it is said again: tokens hold the time."""


@pytest.mark.parametrize("method", [m for m in METHODS if m.name not in _NOT_ALIKE], ids=of)
def test_P12_somebody_elses_session_is_like_none(keyed: Keyed, method: MethodDescriptor) -> None:
    """Every call of a stranger is answered alike for a session that is another owner's and for none, and
    leaves the other's as it was."""
    theirs, none = f"s-{uuid4()}", f"s-{uuid4()}"
    with keyed.client(keyed.bob) as bob, grpc.insecure_channel(keyed.server.target) as channel:
        bob.create_session(theirs, title=f"Bob's {uuid4().hex[:8]}")
        bob.append(theirs, [said(f"secret {n}", client_id=f"m{n}") for n in range(12)])
        before = bob.get_session(theirs), list(bob.list_messages(theirs, view="all"))
        stranger = Raw(channel, keyed.ada)
        requests = Requests(World(ids=[theirs], client_ids=["m1"], leased=theirs), seed=7)
        for _ in range(PER_METHOD):
            request = comparable(method, requests.sensible(method).SerializeToString())
            found = outcome(stranger, method, request)
            missing = outcome(stranger, method, request.replace(theirs.encode(), none.encode()))
            assert renamed(found, theirs, none) == missing, (method.name, request)
        assert (bob.get_session(theirs), list(bob.list_messages(theirs, view="all"))) == before


def renamed(found: tuple[str, str], theirs: str, none: str) -> tuple[str, str]:
    """Both have ids of one length, which also stand in answers and in texts."""
    reason, text = found
    return reason, text.replace(theirs, none).replace(theirs.encode().hex(), none.encode().hex())


def test_P12_in_a_stream_only_the_strangers_append_is_refused(keyed: Keyed) -> None:
    mine, theirs = f"s-{uuid4()}", f"s-{uuid4()}"
    with keyed.client(keyed.ada) as ada, keyed.client(keyed.bob) as bob:
        ada.create_session(mine)
        bob.create_session(theirs)
        with ada.append_stream() as stream:
            acks = [stream.append(it, said("hi")) for it in (mine, theirs, mine)]
            assert acks[0].result().first_seq == 1
            with pytest.raises(sessiond.SessionNotFound):
                acks[1].result()
            assert acks[2].result().first_seq == 2
        assert bob.get_session(theirs).message_count == 0


def test_P12_a_watch_of_a_tree_shows_the_owners_sessions_alone(keyed: Keyed) -> None:
    root, own, others = (f"s-{uuid4()}" for _ in range(3))
    with keyed.client(keyed.ada) as ada, keyed.client(keyed.service) as service:
        ada.create_session(root)
        service.create_session(others, owner="bob", parent_id=root, parent_kind="subagent")
        service.append(others, said("not for ada"))
        ada.create_session(own, parent_id=root, parent_kind="subagent")
        ada.append(own, said("before"))
        told = []
        for event in ada.watch(root, descendants=True):
            if event.kind == "message_appended":
                told.append((event.session_id, sessiond.text_of(event.value)))
            if told == [(own, "before")] and event.kind == "caught_up":
                service.append(others, said("nor this"))
                ada.append(own, said("later"))
            if len(told) == 2:
                break
        assert told == [(own, "before"), (own, "later")]


def test_P12_a_stream_of_sessions_shows_the_owners_alone_and_its_tokens_tell_of_no_others(
    keyed: Keyed,
) -> None:
    """Whether the filter names the owner or nobody; neither changes nor deletions of others' are told."""
    own, others, gone = (f"s-{uuid4()}" for _ in range(3))
    with keyed.client(keyed.ada) as ada, keyed.client(keyed.service) as service:
        ada.create_session(own)
        service.create_session(others, owner="bob")
        service.create_session(gone, owner="bob")
        told: set[str] = set()
        for owner in ("ada", None):
            watch = ada.watch_sessions(sessiond.session_filter(owner=owner, include_subagents=True))
            done = False
            for update in watch:
                told.add(update.session_id)
                if update.kind == "caught_up" and not done:
                    token, done = watch.token, True
                    service.append(others, said("not for ada"))
                    service.delete_session(gone, allow_missing=True)
                    for seen in service.watch_sessions(sessiond.session_filter(owner="bob")):
                        if seen.session_id == others and seen.session and seen.session.next_seq > 1:
                            break
                    ada.append(own, said("mine"))
                if done and update.session_id == own and update.kind == "changed":
                    break
            with pytest.raises(sessiond.InvalidResumeToken):
                next(
                    iter(service.watch_sessions(sessiond.session_filter(owner="bob"), resume=token))
                )
        assert others not in told
        assert gone not in told
        for forbidden in (
            sessiond.session_filter(owner="bob"),
            sessiond.session_filter(whole_tenant=True),
        ):
            with pytest.raises(sessiond.PermissionDenied):
                next(iter(ada.watch_sessions(forbidden)))
    with keyed.client(keyed.elsewhere) as elsewhere:
        (first,) = [
            next(iter(elsewhere.watch_sessions(sessiond.session_filter(whole_tenant=True))))
        ]
        assert first.kind == "caught_up", "another tenant has none of them"


def test_P12_the_usage_of_a_tree_is_that_of_the_owners_sessions_alone(keyed: Keyed) -> None:
    root, own, others = (f"s-{uuid4()}" for _ in range(3))
    with keyed.client(keyed.ada) as ada, keyed.client(keyed.service) as service:
        ada.create_session(root)
        ada.create_session(own, parent_id=root, parent_kind="subagent")
        service.create_session(others, owner="bob", parent_id=root, parent_kind="subagent")
        for id, tokens in ((root, 1), (own, 10), (others, 100)):
            service.record_usage(id, sessiond.usage_record(input_tokens=tokens))
        for client, tokens in ((ada, 11), (service, 111)):
            groups = list(client.list_usage(None, "session", subtree_of=root))
            assert sum(group.usage.input_tokens for group in groups) == tokens
            assert (others in {group.session_id for group in groups}) == (client is service)
        everything = sessiond.session_filter(whole_tenant=True)
        with pytest.raises(sessiond.PermissionDenied):
            ada.get_usage(sessions=everything)
        hers = sessiond.session_filter(include_subagents=True)
        assert {it.owner for it in ada.list_usage(None, "owner", sessions=hers)} == {"ada"}
        with pytest.raises(sessiond.SessionNotFound):
            ada.get_usage(others)


def test_A_planning_logs_are_read_with_the_permission_admin(keyed: Keyed) -> None:
    id = f"s-{uuid4()}"
    with keyed.client(keyed.service) as service:
        service.create_session(id)
        key = make_key(keyed.dsn, "--permissions", "read,write")
        with keyed.client(key) as agent:
            agent.append_journal(id, v1.JournalRecord(content=b"{}", kind="plan"))
            with pytest.raises(sessiond.PermissionDenied) as raised:
                list(agent.list_journal(id))
            assert raised.value.metadata == {"permission": "admin"}
            assert "journal" not in {it.WhichOneof("record") for it in agent.export_sessions([id])}
        assert [it.content for it in service.list_journal(id)] == [b"{}"]
        assert "journal" in {it.WhichOneof("record") for it in service.export_sessions([id])}


def test_P12_continuations_end_before_somebody_elses_session(keyed: Keyed) -> None:
    ids = [uuid4().hex for _ in range(3)]
    with keyed.client(keyed.ada) as ada, keyed.client(keyed.service) as service:
        for id, owner, parent in zip(ids, ("ada", "bob", "ada"), ("", *ids), strict=False):
            service.create_session(
                id,
                owner=owner,
                parent_id=parent,
                parent_kind="continuation" if parent else None,
            )
            service.append(id, said(owner))
        whole = [m.session_id for m in service.list_messages(ids[2], continuations=True)]
        own = [m.session_id for m in ada.list_messages(ids[2], continuations=True)]
    assert (whole, own) == (ids, ids[2:])


def test_a_key_can_be_listed_and_revoked(keyed: Keyed) -> None:
    key = make_key(keyed.dsn, "--owner", "eve", "--expires-days", "3")
    key_id, secret = key.split("_")[1:]
    with keyed.client(key) as eve:
        eve.create_session()
        listed = keys_command(keyed.dsn, "list").stdout
        assert listed.split()[:6] == ["KEY", "TENANT", "SESSIONS", "PERMISSIONS", "UNTIL", "NAME"]
        assert key_id in listed
        assert "owner eve" in listed
        assert secret not in listed
        assert keys_command(keyed.dsn, "revoke", key_id).returncode == 0
        assert refused_within(60, eve)
    assert keys_command(keyed.dsn, "revoke", key_id).returncode == 1


def refused_within(seconds: float, client: Client) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            client.create_session()
        except sessiond.Unauthenticated:
            return True
        time.sleep(0.2)
    return False


@pytest.mark.parametrize(
    "arguments",
    [
        ("--permissions", "everything"),
        ("--permissions", ""),
        ("--owner", "ada", "--permissions", "admin"),
        ("--owner", ""),
        ("--tenant", "a\nb"),
        ("--expires-days", "0"),
    ],
)
def test_a_key_that_makes_no_sense_is_refused(keyed: Keyed, arguments: tuple[str, ...]) -> None:
    made = keys_command(keyed.dsn, "create", "--name", "test", *arguments)
    assert (made.returncode, made.stdout) == (1, "")
    assert made.stderr.startswith(f"sessiond: {arguments[0]}")


def test_streams_of_the_library_send_the_key(keyed: Keyed) -> None:
    session_id = f"s-{uuid4()}"
    with keyed.client(keyed.ada) as ada:
        ada.create_session(session_id)
        with ada.draft(session_id) as draft:
            draft.text("hel")
            draft.text("lo")
            ada.append(session_id, said("hello", client_id=draft.client_id))
        with ada.append_stream() as stream:
            assert stream.append(session_id, said("on")).result().first_seq == 2
        made = ada.upload_attachment(session_id, b"12345", name="five.txt").attachment
        assert ada.read_attachment(session_id, made.id) == b"12345"


def test_health_needs_no_key(keyed: Keyed) -> None:
    with grpc.insecure_channel(keyed.server.target) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        assert check(health_pb2.HealthCheckRequest()).status == 1


def test_the_library_takes_the_key_from_the_environment(
    keyed: Keyed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SESSIOND_API_KEY", keyed.ada)
    with Client(keyed.server.target) as ada:
        assert ada.create_session().owner == "ada"


def test_P12_attachments_are_seen_by_their_owner_alone(keyed: Keyed) -> None:
    """Uploads of several frames, ranges and lists; equal bytes of others change nothing."""
    content = bytes(range(256)) * 5000
    with keyed.client(keyed.ada) as ada, keyed.client(keyed.bob) as bob:
        mine = ada.create_session().id
        stored = ada.upload_attachment(mine, content, name="x").attachment
        assert ada.read_attachment(mine, stored.id, offset=7) == content[7:]
        begun = ada.start_upload(mine, 1, attachment_id="begun").upload
        theirs = bob.create_session().id
        copy = bob.upload_attachment(theirs, content, name="x", attachment_id=stored.id)
        assert not copy.replayed
        for name in (mine, "nobody"):
            for refused in (
                lambda name=name: bob.upload_attachment(name, b"x"),
                lambda name=name: bob.read_attachment(name, stored.id),
                lambda name=name: bob.get_attachment(name, stored.id),
                lambda name=name: list(bob.list_attachments(name)),
                lambda name=name: bob.update_attachment(name, stored.id, name="y"),
                lambda name=name: bob.start_upload(name, 1),
                lambda name=name: bob.get_upload(name, begun.token),
                lambda name=name: bob.write_upload(name, begun.token, 0, b"x"),
                lambda name=name: bob.abort_upload(name, begun.token),
                lambda name=name: bob.delete_attachment(name, stored.id, allow_missing=True),
            ):
                with pytest.raises(sessiond.SessionNotFound):
                    refused()
        with pytest.raises(sessiond.UploadNotFound):
            bob.write_upload(theirs, begun.token, 0, b"x")
        bob.delete_session(theirs)
        assert ada.read_attachment(mine, stored.id) == content
        assert ada.write_upload(mine, begun.token, 0, b"x", last=True).attachment.size == 1
    with keyed.client(keyed.elsewhere) as elsewhere:
        with pytest.raises(sessiond.SessionNotFound):
            elsewhere.read_attachment(mine, stored.id)
        other = elsewhere.create_session().id
        elsewhere.upload_attachment(other, content)
        elsewhere.delete_session(other)
    with keyed.client(keyed.service) as service:
        assert service.read_attachment(mine, stored.id) == content


def test_P12_an_upload_is_gone_on_with_by_the_key_that_began_it(keyed: Keyed) -> None:
    """Another key, though it may do everything else with the session, begins one of its own."""
    with keyed.client(keyed.ada) as ada, keyed.client(keyed.service) as service:
        id = ada.create_session().id
        begun = ada.start_upload(id, 3, attachment_id="it").upload
        own = service.start_upload(id, 3, attachment_id="it").upload
        assert own.token != begun.token
        service.abort_upload(id, begun.token)
        for call in (
            lambda: service.get_upload(id, begun.token),
            lambda: service.write_upload(id, begun.token, 0, b"abc", last=True),
        ):
            with pytest.raises(sessiond.UploadNotFound):
                call()
        made = ada.write_upload(id, begun.token, 0, b"abc", last=True).attachment
        again = service.write_upload(id, own.token, 0, b"abc", last=True)
        assert (again.replayed, again.attachment) == (True, made)


def test_P6_records_say_whose_key_made_them_also_after_a_move(keyed: Keyed) -> None:
    """Beside what the caller says, the id of the key, which nobody but the server sets."""
    key_id = keyed.service.split("_")[1]
    id = f"records-{uuid4()}"
    with keyed.client(keyed.service) as service, keyed.client(keyed.elsewhere) as elsewhere:
        service.create_session(id)
        service.append(id, [said(f"{n}") for n in range(6)])
        service.compact(id, 1, 2, "what was said", author="ada")
        service.rewind(id, 6, author="ada")
        records = list(service.export_sessions([id]))
        list(elsewhere.import_sessions(records))
        for client in (service, elsewhere):
            (compaction,) = client.list_compactions(id)
            (rewind,) = client.list_rewinds(id)
            assert (compaction.author, compaction.actor) == ("ada", key_id)
            assert (rewind.author, rewind.actor) == ("ada", key_id)
        service.offload_messages(id, before_seq=3, author="ada")
        (offload,) = service.list_offloads(id)
        assert (offload.author, offload.actor) == ("ada", key_id)

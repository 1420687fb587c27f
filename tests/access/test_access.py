"""P12: tenants are apart, and a caller sees of others' sessions what he sees of sessions that don't exist."""

from __future__ import annotations

import re
import time
from functools import cache
from uuid import uuid4

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2

import sessiond
from sessiond import Client, v1
from sessiond_server.rpc import access
from sessiond_server.rpc.server import SERVICES
from tests.access.keyed import Keyed, Raw, keys_command, make_key, said
from tests.rpc.refusals import breaches, refusal
from tests.rpc.requests import Requests
from tests.rpc.world import World

METHODS = sorted(
    (method for service in SERVICES for method in service.methods), key=lambda m: m.full_name
)
BY_NAME = {method.name: method for method in METHODS}
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


@pytest.mark.parametrize("method", METHODS, ids=of)
@pytest.mark.parametrize("key", ["", "sk_0_0", "nonsense", "sk_%_x"])
def test_P12_nobody_gets_in_without_a_key(keyed: Keyed, method: MethodDescriptor, key: str) -> None:
    with grpc.insecure_channel(keyed.server.target) as channel:
        assert outcome(Raw(channel, key), method, b"")[0] == "CREDENTIALS_INVALID"


@pytest.mark.parametrize("method", METHODS, ids=of)
def test_A_access_by_named_permissions(keyed: Keyed, method: MethodDescriptor) -> None:
    """A key that has every permission but the one that the method needs is refused, and told which."""
    needed = access.permission(of(method))
    with grpc.insecure_channel(keyed.server.target) as channel:
        raw = Raw(channel, key_without(keyed.dsn, needed))
        with pytest.raises(grpc.RpcError) as raised:
            raw.call(method, b"")
    found = refusal(raised.value)
    assert (found.reason, found.metadata) == ("PERMISSION_DENIED", {"permission": needed})


@cache
def key_without(dsn: str, permission: str) -> str:
    return make_key(dsn, "--permissions", ",".join(sorted(access.PERMISSIONS - {permission})))


def test_the_permissions_of_methods_fit_their_names() -> None:
    """What only reads needs `read`; what concerns more than conversations needs `admin`."""
    reads = {m.name for m in METHODS if access.permission(of(m)) == access.READ}
    changing = re.compile(
        r"Create|Update|Append|Delete|Set|Claim|Publish|Upload|Record|Import|Prune"
    )
    assert {"GetSession", "ListMessages", "GetContext", "Watch", "ResolveSession"} <= reads
    assert not any(changing.match(name) for name in reads)


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
        assert [m.text for m in here.list_messages(session_id)] == ["here"]
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
            lambda: list(bob.list_sessions(owner="ada")),
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
        assert not two.delete_consumer("c7")
        assert not one.delete_consumer("one-more")
        with pytest.raises(sessiond.PermissionDenied):
            two.delete_consumer("c7", owner=full)
    with keyed.client(keyed.service) as service:
        service.claim_sessions("one-more")
        assert {it.owner for it in service.list_consumers()} >= {"", full, other}
        assert service.delete_consumer("c7", owner=full)


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
    return message.SerializeToString()


_NOT_ALIKE = (
    "CreateSession",
    "ImportSessions",
    "ClaimSessions",
    "DeleteConsumer",
    "WatchSessions",
)
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
                told.append((event.session_id, event.value.text))
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
            watch = ada.watch_sessions(
                owner=owner, whole_tenant=owner is None, include_subagents=True
            )
            done = False
            for update in watch:
                told.add(update.session_id)
                if update.kind == "caught_up" and not done:
                    token, done = watch.token, True
                    service.append(others, said("not for ada"))
                    service.delete_session(gone, allow_missing=True)
                    for seen in service.watch_sessions(owner="bob", resume="", from_now=False):
                        if seen.session_id == others and seen.session and seen.session.next_seq > 1:
                            break
                    ada.append(own, said("mine"))
                if done and update.session_id == own and update.kind == "changed":
                    break
            with pytest.raises(sessiond.InvalidResumeToken):
                next(iter(service.watch_sessions(owner="bob", resume=token)))
        assert others not in told
        assert gone not in told
        with pytest.raises(sessiond.PermissionDenied):
            next(iter(ada.watch_sessions(owner="bob")))
    with keyed.client(keyed.elsewhere) as elsewhere:
        (first,) = [next(iter(elsewhere.watch_sessions(whole_tenant=True)))]
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
            assert client.get_session(root).usage.subtree.input_tokens == tokens
            groups = list(client.list_usage(root, "session", include_descendants=True))
            assert sum(group.usage.input_tokens for group in groups) == tokens
            assert (others in {group.session_id for group in groups}) == (client is service)
        with pytest.raises(sessiond.PermissionDenied):
            ada.get_usage()
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
        theirs = bob.create_session().id
        copy = bob.upload_attachment(theirs, content, name="x", attachment_id=stored.id)
        assert not copy.replayed
        for name in (mine, "nobody"):
            for refused in (
                lambda name=name: bob.upload_attachment(name, b"x"),
                lambda name=name: bob.read_attachment(name, stored.id),
                lambda name=name: bob.get_attachment(name, stored.id),
                lambda name=name: list(bob.list_attachments(name)),
                lambda name=name: bob.delete_attachment(name, stored.id, allow_missing=True),
            ):
                with pytest.raises(sessiond.SessionNotFound):
                    refused()
        bob.delete_session(theirs)
        assert ada.read_attachment(mine, stored.id) == content
    with keyed.client(keyed.elsewhere) as elsewhere:
        with pytest.raises(sessiond.SessionNotFound):
            elsewhere.read_attachment(mine, stored.id)
        other = elsewhere.create_session().id
        elsewhere.upload_attachment(other, content)
        elsewhere.delete_session(other)
    with keyed.client(keyed.service) as service:
        assert service.read_attachment(mine, stored.id) == content

"""Sessions in every state, so that malformed requests get past the first checks and reach the last ones."""

from __future__ import annotations

from dataclasses import dataclass, field

import grpc
from google.protobuf.duration_pb2 import Duration

from sessiond import v1
from tests.rpc.api import EVERYTHING, Api, answering, calling, new, said


@dataclass
class World:
    """What a request may name that exists."""

    ids: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=lambda: ["", "writer-of-nobody"])
    page_tokens: list[str] = field(default_factory=lambda: [""])
    etags: list[str] = field(default_factory=lambda: [""])
    client_ids: list[str] = field(default_factory=list)
    titles: list[str] = field(default_factory=list)
    attachment_ids: list[str] = field(default_factory=lambda: ["a1", "none"])
    upload_tokens: list[str] = field(default_factory=lambda: ["", "0" * 32])
    leased: str = ""

    def add(self, session: v1.Session) -> str:
        self.ids.append(session.id)
        self.etags.append(session.etag)
        if session.title:
            self.titles.append(session.title)
        return session.id


def _conversation() -> list[v1.Message]:
    return [
        said("who are you?", "m1", token_count=4),
        calling("call-1", "call-2"),
        answering("call-1"),
        answering("call-2"),
        said("thanks"),
        said("and now?"),
        calling("call-3"),
        said("hello?"),
    ]


def _compacted(api: Api, id: str) -> None:
    api.compact(id, 1, 4)
    api.append(id, said(), said(), said())
    api.compact(id, 10, 11)


def _rewound(api: Api, id: str) -> None:
    api.rewind(id, 6)
    api.append(id, said(), said())
    api.rewind(id, 9)
    api.append(id, said())


def _revertible(api: Api, id: str) -> None:
    """A rewind that a later compaction keeps from being reverted."""
    api.compact(id, 2, 5)
    api.rewind(id, 6)
    api.append(id, said(), said())
    api.compact(id, 1, 4)


def _pages(api: Api, world: World, id: str) -> None:
    listed = api.messages.ListMessages(v1.ListMessagesRequest(session_id=id, page_size=2))
    around = api.messages.ListMessages(
        v1.ListMessagesRequest(session_id=id, page_size=2, around_seq=4)
    )
    sessions = api.sessions.ListSessions(v1.ListSessionsRequest(filter=EVERYTHING, page_size=2))
    calls = api.messages.ListOpenToolCalls(v1.ListOpenToolCallsRequest(session_id=id, page_size=1))
    world.page_tokens += [
        listed.next_page_token,
        around.next_page_token,
        around.previous_page_token,
        sessions.next_page_token,
        calls.next_page_token,
        listed.next_page_token[:-3],
        listed.next_page_token[:5] + "AAAA" + listed.next_page_token[9:],
        sessions.next_page_token + "=",
    ]


def _reminders(api: Api, world: World, id: str) -> None:
    """One that is pending, one that is claimed, one that is done."""
    api.reminder(id, id="r1", delay=3600)
    kind = new("type")
    for name in ("done", "r2"):
        api.reminder(id, id=name, type=kind, interval=Duration(seconds=60))
        (claim,) = api.claim(kind)
        world.tokens.append(claim.claim_token)
        if name == "done":
            api.complete(claim)
    listed = api.reminders.ListReminders(v1.ListRemindersRequest(filter=EVERYTHING, page_size=1))
    for consumer in ("memory", "titles"):
        mark = v1.SetCursorRequest(session_id=id, consumer_id=consumer, seq=1)
        api.consumers.SetCursor(mark)
    marks = v1.ListCursorsRequest(session_id=id, page_size=1)
    world.page_tokens += [
        listed.next_page_token,
        api.consumers.ListCursors(marks).next_page_token,
    ]


def make_world(channel: grpc.Channel) -> World:
    """A fresh set of sessions: empty, with a history, ended, archived, leased, compacted, rewound,
    cleared, parents and children."""
    api, world = Api(channel), World(client_ids=["m1", "summary"])
    world.add(api.create())
    made = [world.add(api.create(owner="o", title=f"Trip {new()[:9]}")) for _ in range(9)]
    for id in made:
        api.append(id, *_conversation())
    plain, ended, archived, leased, planned, compacted, rewound, cleared, stuck = made
    _pages(api, world, plain)
    _reminders(api, world, plain)
    _reminders(api, world, ended)
    api.sessions.EndSession(v1.EndSessionRequest(session_id=ended, reason="over"))
    api.archive(archived)
    world.leased = leased
    world.tokens += [api.lease(leased), api.plan(planned).lease.token]
    _compacted(api, compacted)
    _rewound(api, rewound)
    api.messages.ClearMessages(v1.ClearMessagesRequest(session_id=cleared))
    api.append(cleared, *_conversation())
    _revertible(api, stuck)
    for number in range(3):
        api.upload(plain, b"%d" % number, f"d/{number}.txt", id=f"a{number}")
    for number in (1, 2):
        begun = v1.StartUploadRequest(session_id=plain, size=number)
        world.upload_tokens.append(api.attachments.StartUpload(begun).upload.token)
    listed = v1.ListAttachmentsRequest(session_id=plain, page_size=2)
    world.page_tokens.append(api.attachments.ListAttachments(listed).next_page_token)
    child = world.add(api.child(plain))
    world.add(api.child(child, v1.Lifecycle.LIFECYCLE_EPHEMERAL))
    world.add(api.child(plain, v1.Lifecycle.LIFECYCLE_DETACHED))
    fork = v1.ForkSessionRequest(session_id=compacted)
    world.add(api.sessions.ForkSession(fork).session)
    return world

"""Writers that append, and now and then change what is there: for those who watch."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import grpc
import grpc.aio
from google.protobuf.field_mask_pb2 import FieldMask

import sessiond
from sessiond import v1
from tests.faults.load import channel, error_info, is_unknown, message
from tests.faults.seen import HIDING, SUMMARY, Truth
from tests.support.patience import PATIENCE, until

ROOT = "root"
CHILDREN = 12
OVERLOAD = {"APPEND_QUEUE_FULL", "DATABASE_UNAVAILABLE", "READ_QUEUE_FULL", "SHUTTING_DOWN"}


def appending(session: str, number: int, *texts: str) -> v1.AppendMessagesRequest:
    """An append of messages with these texts."""
    texts = texts or ("hello",)
    messages = [
        sessiond.message("user", text, client_id=f"{number}.{n + 1}/{len(texts)}")
        for n, text in enumerate(texts)
    ]
    return v1.AppendMessagesRequest(
        session_id=session, messages=messages, create_session=v1.Session()
    )


class Stubs:
    """The services of one server."""

    def __init__(self, one: grpc.aio.Channel) -> None:
        self.channel = one
        self.sessions = v1.SessionServiceStub(one)
        self.messages = v1.MessageServiceStub(one)
        self.contexts = v1.ContextServiceStub(one)
        self.compactions = v1.CompactionServiceStub(one)


@dataclass
class Scribes:
    """What is written to, how, and what became of it."""

    targets: Sequence[str]
    sessions: Sequence[str]
    seed: int = 1
    pause: float = 0.5
    """Seconds between two calls of a writer, on the average."""
    acked: dict[str, set[str]] = field(default_factory=dict)
    """The client ids of what was acknowledged, by session."""
    acks: int = 0
    changes: int = 0
    stopping: bool = False
    surprises: list[str] = field(default_factory=list)
    last: dict[str, int] = field(default_factory=dict)
    """The last seq of each session that somebody heard of."""

    async def run(self, writers: int) -> None:
        """Run the writers until `stopping` is set."""
        stubs = [Stubs(channel(target)) for target in self.targets]
        try:
            async with asyncio.TaskGroup() as tasks:
                for number in range(writers):
                    tasks.create_task(_Scribe(self, stubs, number).run())
        finally:
            for each in stubs:
                await each.channel.close()

    async def progress(self, wanted: int = 30) -> None:
        """Wait until calls are acknowledged."""
        goal = self.acks + wanted
        await until(lambda: self.acks >= goal, "nothing is acknowledged any more")


class _Scribe:
    def __init__(self, all: Scribes, stubs: Sequence[Stubs], number: int) -> None:
        self._all = all
        self._stubs = stubs
        self._number = number
        self._chance = random.Random(f"{all.seed} {number}")
        self._ids = itertools.count(1)
        self._rewinds_to_revert: list[tuple[str, int]] = []
        self._compactions_to_revert: list[tuple[str, int]] = []

    async def run(self) -> None:
        chance, all = self._chance, self._all
        changes: list[Callable[[str], Awaitable[None]]] = [
            self._rewind, self._revert_rewind, self._compact, self._revert, self._update, self._title,
        ]  # fmt: skip
        while not all.stopping:
            session = chance.choice(all.sessions)
            if chance.random() < 0.8 or session not in all.last:
                await self._append(session)
            else:
                await self._change(chance.choice(changes), session)
            await asyncio.sleep(all.pause * chance.uniform(0.5, 1.5))

    def _stub(self) -> Stubs:
        return self._chance.choice(self._stubs)

    async def _append(self, session: str) -> None:
        """Append 1 to 4 messages, again until it is known what became of them."""
        name = f"{self._number}.{next(self._ids)}"
        count = self._chance.randint(1, 4)
        messages = [message(f"{name}.{n + 1}/{count}", self._chance) for n in range(count)]
        request = v1.AppendMessagesRequest(
            session_id=session, messages=messages, create_session=v1.Session(source="scribe")
        )
        if session == ROOT and self._chance.random() < 0.2:
            self._to_child(request)
        while True:
            try:
                answer = await self._stub().messages.AppendMessages(request, timeout=10)
            except grpc.aio.AioRpcError as error:
                if not self._again(error):
                    return
                await asyncio.sleep(self._chance.uniform(0.05, 0.2))
                continue
            session = request.session_id
            self._all.acks += 1
            self._all.acked.setdefault(session, set()).update(m.client_id for m in messages)
            self._all.last[session] = max(self._all.last.get(session, 0), answer.last_seq)
            return

    def _to_child(self, request: v1.AppendMessagesRequest) -> None:
        """Make it an append to a child of the root, or to a child's."""
        known = [id for id in self._all.last if id.startswith(ROOT)]
        parent = self._chance.choice([ROOT, *known])
        depth = parent.count(".")
        if not known or depth > 1:
            return
        request.session_id = f"{parent}.{self._chance.randrange(3)}"
        origin = v1.SessionParent(id=parent, kind=v1.ParentKind.PARENT_KIND_SUBAGENT)
        lifecycle = v1.Lifecycle.LIFECYCLE_LINKED
        request.create_session.MergeFrom(v1.Session(parent=origin, lifecycle=lifecycle))

    def _again(self, error: grpc.aio.AioRpcError) -> bool:
        """Whether the call may succeed later; notes what nobody expects."""
        reason = error_info(error).reason
        if is_unknown(error) or reason in OVERLOAD:
            return True
        if not reason or reason in ("INTERNAL", "INVALID_ARGUMENT"):
            self._all.surprises.append(f"{reason} {error.code().name}: {error.details()}")
        return False

    async def _change(self, change: Callable[[str], Awaitable[None]], session: str) -> None:
        """Change something, once: it may be refused, or get lost."""
        try:
            await change(session)
            self._all.changes += 1
        except grpc.aio.AioRpcError as error:
            self._again(error)

    async def _rewind(self, session: str) -> None:
        after = max(0, self._all.last[session] - self._chance.randrange(3))
        request = v1.RewindSessionRequest(session_id=session, after_seq=after)
        answer = await self._stub().messages.RewindSession(request, timeout=10)
        self._rewinds_to_revert.append((session, answer.rewind.id))

    async def _revert_rewind(self, session: str) -> None:
        if self._rewinds_to_revert:
            session, rewind_id = self._rewinds_to_revert.pop()
            request = v1.RevertRewindRequest(session_id=session, rewind_id=rewind_id)
            await self._stub().messages.RevertRewind(request, timeout=10)

    async def _compact(self, session: str) -> None:
        last = self._all.last[session]
        name = f"{SUMMARY}{self._number}.{next(self._ids)}"
        request = v1.CompactSessionRequest(
            session_id=session,
            from_seq=max(1, last - self._chance.randint(3, 12)),
            to_seq=max(1, last - self._chance.randrange(3)),
            summary=sessiond.message("user", name, client_id=name),
        )
        answer = await self._stub().compactions.CompactSession(request, timeout=10)
        self._compactions_to_revert.append((session, answer.compaction.id))

    async def _revert(self, session: str) -> None:
        if self._compactions_to_revert:
            session, summary_seq = self._compactions_to_revert.pop()
            request = v1.RevertCompactionRequest(session_id=session, compaction_id=summary_seq)
            await self._stub().compactions.RevertCompaction(request, timeout=10)

    async def _update(self, session: str) -> None:
        seqs = {self._chance.randint(1, self._all.last[session]) for _ in range(2)}
        updates = [
            v1.MessageUpdate(
                message=v1.Message(seq=seq, token_count=self._chance.randrange(100)),
                update_mask=FieldMask(paths=["token_count"]),
            )
            for seq in sorted(seqs)
        ]
        request = v1.UpdateMessagesRequest(session_id=session, updates=updates)
        await self._stub().messages.UpdateMessages(request, timeout=10)

    async def _title(self, session: str) -> None:
        title = f"{session} {self._number}.{next(self._ids)}"
        request = v1.UpdateSessionRequest(
            session=v1.Session(id=session, title=title), update_mask=FieldMask(paths=["title"])
        )
        await self._stub().sessions.UpdateSession(request, timeout=10)


async def read_truth(stubs: Stubs, session: str) -> Truth:
    """A session as the service lists it."""
    got = await stubs.sessions.GetSession(
        v1.GetSessionRequest(session_id=session), timeout=PATIENCE
    )
    changes = await _rewinds(stubs, session) | await _compactions(stubs, session)
    children = v1.ListSessionsRequest(filter=v1.SessionFilter(parent_id=session), page_size=200)
    listed = await stubs.sessions.ListSessions(children, timeout=PATIENCE)
    return Truth(
        await _messages(stubs, session),
        changes,
        {each.session.id for each in listed.sessions},
        got.session.title,
        got.session.next_seq,
    )


async def _messages(stubs: Stubs, session: str) -> dict[int, v1.Message]:
    request = v1.ListMessagesRequest(
        session_id=session, view=v1.MessageView.MESSAGE_VIEW_ALL, page_size=1000
    )
    found: dict[int, v1.Message] = {}
    while True:
        page = await stubs.messages.ListMessages(request, timeout=PATIENCE)
        for each in page.messages:
            for name in HIDING:
                each.ClearField(name)  # type: ignore[arg-type]
            found[each.seq] = each
        request.page_token = page.next_page_token
        if not page.next_page_token:
            return found


async def _rewinds(stubs: Stubs, session: str) -> dict[tuple[str, int], int]:
    request = v1.ListRewindsRequest(session_id=session, page_size=1000)
    page = await stubs.messages.ListRewinds(request, timeout=PATIENCE)
    assert not page.next_page_token
    found = {("rewound", each.id): each.to_seq for each in page.rewinds}
    reverted = [each for each in page.rewinds if each.HasField("revert_time")]
    return found | {("rewind_reverted", each.id): 0 for each in reverted}


async def _compactions(stubs: Stubs, session: str) -> dict[tuple[str, int], int]:
    request = v1.ListCompactionsRequest(session_id=session, page_size=1000)
    page = await stubs.compactions.ListCompactions(request, timeout=PATIENCE)
    assert not page.next_page_token
    found = {("compacted", each.id): each.id for each in page.compactions}
    reverted = [each for each in page.compactions if each.HasField("revert_time")]
    return found | {("compaction_reverted", each.id): 0 for each in reverted}

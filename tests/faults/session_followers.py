"""Writers of many sessions, and followers that check what a stream of sessions promises."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import grpc
import grpc.aio

from sessiond import v1
from tests.faults.load import channel, error_info, is_ending, is_unknown
from tests.support.patience import until

EVERYTHING = v1.SessionFilter(whole_tenant=True, include_subagents=True)
REFUSED = {"DATABASE_UNAVAILABLE", "READ_QUEUE_FULL", "SHUTTING_DOWN", "APPEND_QUEUE_FULL"}
EXPECTED = {
    "SESSION_NOT_FOUND",
    "SESSION_EXISTS",
    "SESSION_ENDED",
    "NOTHING_TO_REWIND",
    "SEQ_OUT_OF_RANGE",
}


class Version(NamedTuple):
    """What a caller was told, or a follower: of one creation of a session, all numbers only grow."""

    incarnation: str
    next_seq: int
    revision: int
    facts: int

    def covers(self, other: Version) -> bool:
        return all(mine >= its for mine, its in zip(self[1:], other[1:], strict=True))


def version(session: v1.Session) -> Version:
    facts = int(session.etag.rpartition("-")[2] or "0")
    return Version(session.incarnation, session.next_seq, session.revision, facts)


def acked_version(answer: v1.SessionVersion) -> Version:
    """What an answer says that tells nothing of the facts."""
    return Version("", answer.next_seq, answer.revision, 0)


class Acked(NamedTuple):
    """A committed change, and when that was known. `None` is a deletion."""

    time: float
    session_id: str
    version: Version | None


@dataclass
class Changes:
    """Changes sessions in all ways, by all servers, and notes what was acknowledged."""

    targets: Sequence[str]
    sessions: Sequence[str]
    seed: int = 1
    pause: float = 0.1
    acked: list[Acked] = field(default_factory=list)
    surprises: list[str] = field(default_factory=list)
    stopping: bool = False

    async def run(self, writers: int) -> None:
        channels = [channel(target) for target in self.targets]
        try:
            async with asyncio.TaskGroup() as tasks:
                for number in range(writers):
                    tasks.create_task(self._write(channels, number))
        finally:
            for each in channels:
                await each.close()

    async def _write(self, channels: Sequence[grpc.aio.Channel], number: int) -> None:
        chance = random.Random(f"{self.seed} {number}")
        mine = [it for place, it in enumerate(self.sessions) if place % 4 == number % 4]
        count = 0
        while not self.stopping:
            count += 1
            id, one = chance.choice(mine), chance.choice(channels)
            kinds, weights = zip(*_KINDS, strict=True)
            kind = chance.choices(kinds, weights)[0]
            try:
                found = await kind(_Stubs(one), id, f"{number}.{count}")
            except grpc.aio.AioRpcError as error:
                reason = error_info(error).reason.removeprefix("ERROR_REASON_")
                if not is_unknown(error) and reason not in REFUSED | EXPECTED:
                    self.surprises.append(f"{kind.__name__} of {id}: {error.code()} {reason}")
                found = []
            now = time.monotonic()
            self.acked += [Acked(now, id, it) for id, it in found]
            await asyncio.sleep(chance.uniform(0, 2 * self.pause))

    async def progress(self, wanted: int = 30) -> None:
        """Wait until calls are acknowledged."""
        goal = len(self.acked) + wanted
        await until(lambda: len(self.acked) >= goal, "nothing is acknowledged any more")


class _Stubs:
    def __init__(self, one: grpc.aio.Channel) -> None:
        self.sessions = v1.SessionServiceStub(one)
        self.messages = v1.MessageServiceStub(one)
        self.usage = v1.UsageServiceStub(one)


Found = list[tuple[str, Version | None]]
_TIMEOUT = 20


async def _append(stubs: _Stubs, id: str, name: str) -> Found:
    message = v1.Message(client_id=name, role=v1.Role.ROLE_USER, parts=[v1.Part(text=name)])
    request = v1.AppendMessagesRequest(
        session_id=id, messages=[message], create_session=v1.Session(source="storm")
    )
    answer = await stubs.messages.AppendMessages(request, timeout=_TIMEOUT)
    return [(id, acked_version(answer.version))]


async def _rename(stubs: _Stubs, id: str, name: str) -> Found:
    request = v1.UpdateSessionRequest(session=v1.Session(id=id, title=f"{id} {name}"))
    request.update_mask.paths.append("title")
    answer = await stubs.sessions.UpdateSession(request, timeout=_TIMEOUT)
    return [(id, version(answer.session))]


async def _end(stubs: _Stubs, id: str, name: str) -> Found:
    request = v1.EndSessionRequest(session_id=id, reason=name)
    ended = await stubs.sessions.EndSession(request, timeout=_TIMEOUT)
    reopen = v1.ReopenSessionRequest(session_id=id)
    reopened = await stubs.sessions.ReopenSession(reopen, timeout=_TIMEOUT)
    return [(id, version(ended.session)), (id, version(reopened.session))]


async def _rewind(stubs: _Stubs, id: str, name: str) -> Found:
    request = v1.RewindSessionRequest(session_id=id, after_seq=1)
    answer = await stubs.messages.RewindSession(request, timeout=_TIMEOUT)
    return [(id, acked_version(answer.version))]


async def _spend(stubs: _Stubs, id: str, name: str) -> Found:
    record = v1.UsageRecord(model="m", usage=v1.Usage(model_calls=1, input_tokens=10))
    request = v1.RecordUsageRequest(session_id=id, records=[record])
    await stubs.usage.RecordUsage(request, timeout=_TIMEOUT)
    return []


async def _fork(stubs: _Stubs, id: str, name: str) -> Found:
    request = v1.ForkSessionRequest(session_id=id, fork=v1.Session(id=f"{id}-fork-{name}"))
    answer = await stubs.sessions.ForkSession(request, timeout=_TIMEOUT)
    return [(answer.session.id, version(answer.session))]


async def _delete(stubs: _Stubs, id: str, name: str) -> Found:
    request = v1.DeleteSessionRequest(session_id=id)
    await stubs.sessions.DeleteSession(request, timeout=_TIMEOUT)
    return [(id, None)]


_KINDS = [
    (_append, 60),
    (_rename, 12),
    (_end, 5),
    (_rewind, 4),
    (_spend, 8),
    (_fork, 3),
    (_delete, 4),
]


class Told(NamedTuple):
    """What a follower received of a session, and when; `None` is its deletion."""

    time: float
    session: v1.Session | None


@dataclass
class SessionFollower:
    """Follows all sessions, breaks off, and resumes at another server."""

    targets: Sequence[str]
    seed: int
    life: float
    """Seconds between two breaks, on the average."""
    start: int = 0
    """The target to begin with."""
    token: str = ""
    now: dict[str, v1.Session] = field(default_factory=dict)
    told: dict[str, list[Told]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    breaks: int = 0
    frames: int = 0
    caught_up: int = 0
    _dead: set[str] = field(default_factory=set)

    async def run(self) -> None:
        """Follow until cancelled."""
        chance = random.Random(self.seed)
        target = self.targets[self.start]
        while True:
            try:
                async with asyncio.timeout(chance.uniform(0, 2) * self.life + 0.1):
                    await self._follow(target)
            except TimeoutError:
                self.breaks += 1
            except grpc.aio.AioRpcError as error:
                reason = error_info(error).reason.removeprefix("ERROR_REASON_")
                if not is_unknown(error) and reason not in REFUSED:
                    self.problems.append(f"{error.code()} {reason} {error.details()}")
                await asyncio.sleep(0.1)
            except asyncio.CancelledError:
                if is_ending():
                    raise
            target = chance.choice(self.targets)

    async def _follow(self, target: str) -> None:
        request = v1.WatchSessionsRequest(filter=EVERYTHING, resume_token=self.token)
        async with channel(target) as one:
            async for frame in v1.FeedServiceStub(one).WatchSessions(request):
                self._take(frame)

    def _take(self, frame: v1.WatchSessionsResponse) -> None:
        self.frames += 1
        for change in frame.changes:
            if change.HasField("session"):
                self._changed(change.session)
                told = acked_version(change.version)[1:3]
                if told != version(change.session)[1:3]:
                    self.problems.append(f"{change.session.id} is at {told} and {change.session}")
            else:
                self._deleted(change.deleted)
        self.caught_up += frame.caught_up
        if frame.HasField("goodbye"):
            return
        assert frame.resume_token
        self.token = frame.resume_token

    def _changed(self, session: v1.Session) -> None:
        known, it = self.now.get(session.id), version(session)
        if it.incarnation in self._dead:
            self.problems.append(f"{session.id} came back from the dead")
        if known is not None:
            before = version(known)
            if before.incarnation != it.incarnation:
                self._dead.add(before.incarnation)
            elif not it.covers(before):
                self.problems.append(f"{session.id} went back from {before} to {it}")
        self.now[session.id] = session
        self.told.setdefault(session.id, []).append(Told(time.monotonic(), session))

    def _deleted(self, gone: v1.SessionTombstone) -> None:
        known = self.now.get(gone.id)
        self.told.setdefault(gone.id, []).append(Told(time.monotonic(), None))
        self._dead.add(gone.incarnation)
        if known is None or known.incarnation != gone.incarnation:
            return  # of an earlier session with this id
        del self.now[gone.id]

    def lag(self, acked: Acked) -> float | None:
        """Seconds from a change to the first frame that covers it; `None` if there is none."""
        for told in self.told.get(acked.session_id, ()):
            if told.time > acked.time and told.session is None:
                return told.time - acked.time
            if _covered(acked.version, told.session):
                return max(0.0, told.time - acked.time)
        return None


def _covered(wanted: Version | None, session: v1.Session | None) -> bool:
    if wanted is None or session is None:
        return wanted is None and session is None
    it = version(session)
    return wanted.incarnation in ("", it.incarnation) and it.covers(wanted)

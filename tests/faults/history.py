"""What writers sent and were told, and whether the sessions agree with it (P1 to P5).

`History` is filled by the writers of a test, one `Attempt` for every call; `check` compares it with what the
service and the database hold afterwards, and says what is wrong.

Messages of one call keep together in later calls: a retry sends all of an earlier call, perhaps with more
before or behind it.
"""

from __future__ import annotations

import enum
import hashlib
import math
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sessiond import v1


class Outcome(enum.Enum):
    """How a call ended, as its caller sees it."""

    UNKNOWN = "unknown"
    """Unavailable, out of time, cancelled, cut off: it may be stored or not, now or a little later."""
    ACKED = "acked"
    REFUSED = "refused"


class Sent(NamedTuple):
    """A message of a call."""

    client_id: str
    digest: bytes


def digest(message: v1.Message) -> bytes:
    """A message's content: all of it but what the server sets."""
    copy = v1.Message()
    copy.CopyFrom(message)
    copy.ClearField("seq")
    copy.ClearField("create_time")
    return hashlib.blake2b(copy.SerializeToString(deterministic=True), digest_size=16).digest()


@dataclass(slots=True, eq=False)
class Attempt:
    """A call, from the moment it was made. Without an answer its outcome stays unknown."""

    writer: str
    session: str
    messages: tuple[Sent, ...]
    skips: bool = False
    """Whether known messages of it are skipped."""
    stream: int = 0
    """The number of the stream that it went through; 0 for a call of its own."""
    started: float = 0.0
    ended: float = math.inf
    outcome: Outcome = Outcome.UNKNOWN
    detail: str = ""
    """The refusal's reason, or the status code of an unknown outcome."""
    seqs: tuple[int, ...] = ()
    replayed: bool = False

    @property
    def client_ids(self) -> tuple[str, ...]:
        return tuple(message.client_id for message in self.messages)

    @property
    def added(self) -> bool:
        """Whether it was acknowledged as new, all of it."""
        return self.outcome is Outcome.ACKED and not self.replayed and not self.skips

    def acked(self, answer: v1.AppendMessagesResponse) -> None:
        seqs = answer.seqs or range(answer.first_seq, answer.last_seq + 1)
        self._end(Outcome.ACKED)
        self.seqs = tuple(seqs)
        self.replayed = answer.replayed

    def refused(self, reason: str) -> None:
        self._end(Outcome.REFUSED)
        self.detail = reason

    def unknown(self, code: str) -> None:
        self._end(Outcome.UNKNOWN)
        self.detail = code

    def _end(self, outcome: Outcome) -> None:
        assert self.ended == math.inf, "a call was answered twice"
        self.ended = time.monotonic()
        self.outcome = outcome


class Stored(NamedTuple):
    """A message as it is read back."""

    seq: int
    client_id: str
    digest: bytes
    tool_calls: int
    context_tokens: int | None
    """Its tokens; None for what the model doesn't see."""


class Counters(NamedTuple):
    """What the head row says."""

    next_seq: int
    messages: int
    tool_calls: int
    context_messages: int
    context_tokens: int


@dataclass(slots=True)
class Log:
    """A session as the service shows it and as the database holds it; both in order of reading."""

    service: list[Stored] = field(default_factory=list)
    database: list[Stored] = field(default_factory=list)
    counters: Counters = field(default_factory=lambda: Counters(1, 0, 0, 0, 0))


class History:
    """Everything that the writers of a test did."""

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []

    def begin(
        self,
        writer: str,
        session: str,
        messages: Iterable[v1.Message],
        *,
        skips: bool = False,
        stream: int = 0,
    ) -> Attempt:
        """Note a call that is about to be made."""
        sent = tuple(Sent(message.client_id, digest(message)) for message in messages)
        attempt = Attempt(writer, session, sent, skips, stream, time.monotonic())
        self.attempts.append(attempt)
        return attempt

    @property
    def sessions(self) -> list[str]:
        return list(dict.fromkeys(attempt.session for attempt in self.attempts))

    def count(self, outcome: Outcome) -> int:
        return sum(attempt.outcome is outcome for attempt in self.attempts)

    def reasons(self) -> set[str]:
        """Why calls were refused."""
        return {a.detail for a in self.attempts if a.outcome is Outcome.REFUSED}


def check(history: History, logs: Mapping[str, Log]) -> list[str]:
    """What is wrong, each line beginning with the number of the promise that it breaks."""
    attempts: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in history.attempts:
        attempts[attempt.session].append(attempt)
    found: list[str] = []
    for session in dict.fromkeys([*attempts, *logs]):
        log = logs.get(session, Log())
        view = _View(attempts[session], log.database)
        for wrong in (*_log_problems(log), *view.problems()):
            promise, _, text = wrong.partition(" ")
            found.append(f"{promise} {session}: {text}")
    return found


def _log_problems(log: Log) -> Iterator[str]:
    """What is wrong with a log whoever wrote it."""
    if log.service != log.database:
        yield (
            f"P1 the service shows {len(log.service)} messages, the database holds"
            f" {len(log.database)}: {_difference(log.service, log.database)}"
        )
    seqs = [stored.seq for stored in log.database]
    if seqs != list(range(1, len(seqs) + 1)):
        places = zip(seqs, range(1, len(seqs) + 1), strict=True)
        yield f"P1 a gap or a repeat at {next(place for place in places if place[0] != place[1])}"
    seen = [s.context_tokens for s in log.database if s.context_tokens is not None]
    held = Counters(
        max(seqs, default=0) + 1,
        len(seqs),
        sum(s.tool_calls for s in log.database),
        len(seen),
        sum(seen),
    )
    if log.counters != held:
        yield f"P1 the head says {log.counters}, the log holds {held}"


def _difference(one: Sequence[Stored], other: Sequence[Stored]) -> str:
    extra = [s.seq for s in one if s not in set(other)]
    missing = [s.seq for s in other if s not in set(one)]
    return f"only shown {extra[:5]}, not shown {missing[:5]}"


class _View:
    """The attempts at one session, beside what it holds."""

    def __init__(self, attempts: Sequence[Attempt], log: Sequence[Stored]) -> None:
        self.attempts = attempts
        self.log = log
        self.seqs: dict[str, list[int]] = defaultdict(list)
        for stored in log:
            self.seqs[stored.client_id].append(stored.seq)
        self.calls: dict[str, list[Attempt]] = defaultdict(list)
        for attempt in attempts:
            for client_id in attempt.client_ids:
                self.calls[client_id].append(attempt)

    def problems(self) -> Iterator[str]:
        yield from self._acknowledged()
        yield from self._stored_once()
        yield from self._nothing_foreign()
        yield from self._whole_calls()
        yield from self._stream_order()
        yield from self._order_in_time()

    def _acknowledged(self) -> Iterator[str]:
        at = {stored.seq: Sent(stored.client_id, stored.digest) for stored in self.log}
        for attempt in self.attempts:
            if attempt.outcome is not Outcome.ACKED:
                continue
            if len(attempt.seqs) != len(attempt.messages):
                yield f"P2 {len(attempt.messages)} messages got the seqs {attempt.seqs}"
                continue
            for seq, message in zip(attempt.seqs, attempt.messages, strict=True):
                if not self.seqs.get(message.client_id):
                    yield f"P2 {message.client_id} was acknowledged as {seq} and is lost"
                elif seq not in self.seqs[message.client_id]:
                    yield (
                        f"P4 {message.client_id} was acknowledged as {seq} and is"
                        f" {self.seqs[message.client_id]}"
                    )
                elif at[seq] != message:
                    yield f"P2 {message.client_id} at {seq} has other content than was acknowledged"

    def _stored_once(self) -> Iterator[str]:
        contents: dict[bytes, int] = {}
        for client_id, seqs in self.seqs.items():
            if len(seqs) > 1:
                yield f"P4 {client_id} is stored {len(seqs)} times: {seqs[:5]}"
            if sum(attempt.added for attempt in self.calls[client_id]) > 1:
                yield f"P4 {client_id} was acknowledged as new more than once"
        for stored in self.log:
            if stored.digest in contents:
                yield f"P4 the same content at {contents[stored.digest]} and {stored.seq}"
            contents[stored.digest] = stored.seq

    def _nothing_foreign(self) -> Iterator[str]:
        """Everything stored comes from a call that wasn't refused."""
        for stored in self.log:
            sent = Sent(stored.client_id, stored.digest)
            calls = [a for a in self.calls[stored.client_id] if sent in a.messages]
            if not calls:
                yield f"P2 {stored.client_id} at {stored.seq} was never sent like this"
            elif all(a.outcome is Outcome.REFUSED for a in calls):
                yield f"P3 {stored.client_id} at {stored.seq} was refused: {calls[0].detail}"

    def _whole_calls(self) -> Iterator[str]:
        """Messages that were always sent together are stored together, or not at all."""
        for group in self._groups():
            seqs = [self.seqs[client_id][0] for client_id in group if self.seqs.get(client_id)]
            if seqs and len(seqs) < len(group):
                yield f"P3 {len(seqs)} of {len(group)} messages of a call are stored: {group[0]} …"
            elif seqs and seqs != list(range(seqs[0], seqs[0] + len(seqs))):
                yield f"P3 a call is stored as {seqs}"
        for attempt in self.attempts:
            if attempt.added and list(attempt.seqs) != list(
                range(attempt.seqs[0], attempt.seqs[0] + len(attempt.seqs))
            ):
                yield f"P3 a call was acknowledged as {attempt.seqs}"

    def _groups(self) -> Iterable[list[str]]:
        groups: dict[frozenset[tuple[str, ...]], list[str]] = defaultdict(list)
        for client_id, attempts in self.calls.items():
            ways = frozenset(a.client_ids for a in attempts if a.outcome is not Outcome.REFUSED)
            if ways:
                groups[ways].append(client_id)
        return groups.values()

    def _stream_order(self) -> Iterator[str]:
        """What a stream added stands in the order in which it was sent."""
        last: dict[int, int] = {}
        for attempt in self.attempts:
            if not attempt.stream or attempt.outcome is Outcome.REFUSED:
                continue
            seqs = self._added_by(attempt)
            if not seqs:
                continue
            if min(seqs) <= last.get(attempt.stream, 0):
                yield (
                    f"P5 {attempt.writer} sent {attempt.client_ids[0]} in stream {attempt.stream}"
                    f" after what is {last[attempt.stream]}, and it is {min(seqs)}"
                )
            last[attempt.stream] = max(seqs)

    def _added_by(self, attempt: Attempt) -> list[int]:
        """The seqs that surely came with this call and no other one."""
        if attempt.added:
            return list(attempt.seqs)
        alone = (i for i in attempt.client_ids if len(self.calls[i]) == 1)
        return [seq for client_id in alone for seq in self.seqs.get(client_id, ())]

    def _order_in_time(self) -> Iterator[str]:
        """A call that began after another one's acknowledgement has the larger seqs."""
        latest_start, latest = 0.0, 0
        for attempt in sorted((a for a in self.attempts if a.added), key=lambda a: a.seqs):
            if attempt.ended < latest_start:
                yield (
                    f"P1 the call with {latest} began after the acknowledgement of"
                    f" {attempt.seqs[0]}, a larger seq"
                )
            if attempt.started > latest_start:
                latest_start, latest = attempt.started, attempt.seqs[0]

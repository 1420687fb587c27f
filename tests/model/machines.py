"""Random histories: what may happen to a session, and to its forks, in any order."""

from __future__ import annotations

import enum
import itertools
import uuid
from typing import Any, ClassVar

from google.protobuf.duration_pb2 import Duration
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

import sessiond
from sessiond import v1
from tests.model import plans
from tests.model.contents import CONVERSATIONS, FACTS, MESSAGES, SUMMARIES, TOKENS
from tests.model.driver import Pair, Stubs
from tests.model.log import Refused
from tests.model.model import Session

PICKS = st.integers(0, 2**16)
"""Chooses among what there is then, modulo its number."""
RARELY = st.integers(0, 9).map(lambda n: n == 7)
LONG = Duration(seconds=3600)
MOST_FORKS = 3


class Fault(enum.Enum):
    """What is wrong with a write."""

    NONE = enum.auto()
    NONE_AS_EXPECTED = enum.auto()
    TOKEN = enum.auto()
    TOO_LATE = enum.auto()
    TOO_EARLY = enum.auto()
    STALE = enum.auto()
    AHEAD = enum.auto()
    OTHER_LEASE = enum.auto()


FAULTS = st.integers(0, 29).map(
    lambda n: {
        7: Fault.TOKEN,
        11: Fault.TOO_LATE,
        13: Fault.STALE,
        14: Fault.AHEAD,
        17: Fault.TOO_EARLY,
        23: Fault.OTHER_LEASE,
    }.get(n, (Fault.NONE, Fault.NONE_AS_EXPECTED)[n % 2])
)


def spell_out(message: v1.Message) -> None:
    """Say what is meant if it is left out."""
    message.kind = message.kind or v1.MessageKind.MESSAGE_KIND_NORMAL
    message.metadata.SetInParent()
    for call in sessiond.tool_calls_of(message):
        call.type = call.type or "function"


class History(RuleBasedStateMachine):
    """A session that grows, its forks, and a comparison after every step."""

    stubs: ClassVar[Stubs]

    def __init__(self) -> None:
        super().__init__()
        self.ids = itertools.count(1)
        first = Session(f"model/{uuid.uuid4()}")
        self.stubs.call(
            "CreateSession", v1.CreateSessionRequest(session=v1.Session(id=first.session_id))
        )
        self.pairs = [Pair(self.stubs, first)]
        self.sent: dict[str, list[v1.Message]] = {first.session_id: []}
        self.summaries: dict[str, list[v1.CompactSessionRequest]] = {first.session_id: []}
        self.old_tokens: list[str] = ["never"]

    @property
    def pair(self) -> Pair:
        """The session that things happen to: the newest fork, if there is one."""
        return self.pairs[-1]

    def named(self, messages: list[v1.Message]) -> list[v1.Message]:
        named = []
        for message in messages:
            copy = v1.Message()
            copy.CopyFrom(message)
            copy.client_id = f"m{next(self.ids)}"
            named.append(copy)
        return named

    def seq(self, pick: int) -> int:
        """A seq of the log, rarely one beyond its end or before what was cleared."""
        log = self.pair.log
        if pick % 64 in (17, 45) or not log.messages:
            return log.next_seq if pick % 64 == 17 else 1
        return log.first_seq + pick % len(log.messages)

    def guard(self, request: Any, fault: Fault) -> Any:
        """Fill in what guards a write, right but for the fault."""
        model, guard = self.pair.model, request.guard
        guard.writer_token = model.writer.token
        if fault is Fault.TOKEN:
            without = model.writer.token and len(self.old_tokens) % 2
            guard.writer_token = "" if without else self.old_tokens[-1]
        next_seq, revision = model.log.next_seq, model.version().revision
        guard.expected_next_seq = {
            Fault.TOO_LATE: next_seq + 1,
            Fault.TOO_EARLY: next_seq - 1,
            Fault.NONE_AS_EXPECTED: next_seq,
        }.get(fault, 0)
        guard.expected_revision = {
            Fault.STALE: revision - 1,
            Fault.AHEAD: revision + 1,
            Fault.NONE: 0,
        }.get(fault, revision if next_seq % 3 else 0)
        return request

    def compare(self, pick: int) -> None:
        self.pair.check(pick % 3, pick // 3 % 2, 1 + pick // 7 % 6, 1 + pick // 5 % 7)

    def teardown(self) -> None:
        for pair in self.pairs:
            pair.check(0, 0, 2, 3)
            pair.check_thoroughly(3)


class Appends(History):
    """Plain appends, and those that expect a next seq or hold the lease (P1, P3, P5)."""

    @initialize(messages=CONVERSATIONS)
    def begin(self, messages: list[v1.Message]) -> None:
        self.append(messages, Fault.NONE, 0)

    @rule(messages=CONVERSATIONS, pick=PICKS)
    def converse(self, messages: list[v1.Message], pick: int) -> None:
        self.append(messages, Fault.NONE_AS_EXPECTED, pick)

    @rule(messages=st.lists(MESSAGES, min_size=1, max_size=5), fault=FAULTS, pick=PICKS)
    def append(self, messages: list[v1.Message], fault: Fault, pick: int) -> None:
        named = self.named(messages)
        request = self.guard(v1.AppendMessagesRequest(messages=named), fault)
        if not isinstance(self.pair.call("AppendMessages", request), Refused):
            self.sent[self.pair.session_id] += named
        self.compare(pick)


class Retries(History):
    """Appends of messages that were sent before, in every mixture (P4)."""

    @precondition(lambda self: self.sent[self.pair.session_id])
    @rule(
        pick=PICKS,
        count=st.integers(1, 6),
        new=st.lists(MESSAGES, max_size=2),
        on_known=st.sampled_from(v1.OnKnown.values()),
        doubled=st.integers(0, 9).map(lambda n: max(0, n - 6)),
        backwards=st.booleans(),
        changed=RARELY,
        spelled=st.booleans(),
        fault=FAULTS,
    )
    def retry(
        self,
        pick: int,
        count: int,
        new: list[v1.Message],
        on_known: v1.OnKnown.ValueType,
        doubled: int,
        backwards: bool,
        changed: bool,
        spelled: bool,
        fault: Fault,
    ) -> None:
        sent = self.sent[self.pair.session_id]
        place = pick % len(sent)
        messages = sent[place : place + count] + self.named(new)
        messages = messages[::-1] if backwards else messages
        messages += messages[:doubled]
        request = v1.AppendMessagesRequest(messages=messages, on_known=on_known)
        if changed:
            request.messages[0].model += "!"
        if spelled:
            spell_out(request.messages[-1])
        answer = self.pair.call("AppendMessages", self.guard(request, fault))
        if not isinstance(answer, Refused):
            sent += [m for m in messages if m not in sent]
        self.compare(pick)

    @precondition(lambda self: self.summaries[self.pair.session_id])
    @rule(pick=PICKS, changed=RARELY)
    def retry_compaction(self, pick: int, changed: bool) -> None:
        summaries = self.summaries[self.pair.session_id]
        request = v1.CompactSessionRequest()
        request.CopyFrom(summaries[pick % len(summaries)])
        request.guard.writer_token = self.pair.model.writer.token
        if changed:
            request.summary.model += "!"
        self.pair.call("CompactSession", request)
        self.compare(pick)

    @precondition(lambda self: self.pair.log.messages)
    @rule(
        new=st.lists(MESSAGES, min_size=1, max_size=3),
        places=st.lists(st.integers(0, 2), min_size=1, max_size=4),
        on_known=st.sampled_from(v1.OnKnown.values()),
        spelled=st.booleans(),
        changed=RARELY,
    )
    def same_message_twice(
        self,
        new: list[v1.Message],
        places: list[int],
        on_known: v1.OnKnown.ValueType,
        spelled: bool,
        changed: bool,
    ) -> None:
        messages = self.named(new)
        messages += [messages[place % len(messages)] for place in places]
        request = v1.AppendMessagesRequest(messages=messages, on_known=on_known)
        if spelled:
            spell_out(request.messages[-1])
        if changed:
            request.messages[-1].model += "!"
        if not isinstance(
            self.pair.call("AppendMessages", self.guard(request, Fault.NONE)), Refused
        ):
            self.sent[self.pair.session_id] += messages[: len(new)]


class Leases(History):
    """The writer lease, and the end of a session (P5)."""

    @rule(holder=st.sampled_from(("one", "two")), wanted=st.booleans())
    def acquire_writer(self, holder: str, wanted: bool) -> None:
        model = self.pair.model
        if model.ended or not (wanted or model.writer.token):
            return
        request = v1.AcquireWriterRequest(
            session_id=model.session_id, holder=holder, lease_ttl=LONG
        )
        answer = self.stubs.outcome("AcquireWriter", request)
        if isinstance(answer, Refused):
            assert answer.reason == "WRITER_LEASE_HELD"
            assert model.writer.holder not in ("", holder)
            return
        assert model.writer.holder in ("", holder)
        assert answer.version == model.version()
        self.old_tokens += [model.writer.token] if model.writer.token else []
        model.writer.take(holder, answer.writer_token)

    @rule(old=RARELY)
    def release_writer(self, old: bool) -> None:
        model = self.pair.model
        token = self.old_tokens[-1] if old else model.writer.token
        if token:
            self.stubs.call(
                "ReleaseWriter",
                v1.ReleaseWriterRequest(session_id=model.session_id, writer_token=token),
            )
            self.old_tokens.append(token)
            model.writer.release(token)

    @rule(wanted=RARELY, fault=FAULTS)
    def end(self, wanted: bool, fault: Fault) -> None:
        if wanted:
            request = v1.EndSessionRequest(reason="done")
            self.pair.call("EndSession", self.guard(request, fault))
            self.pair.check_counters()

    @precondition(lambda self: self.pair.model.ended)
    @rule(fault=FAULTS)
    def reopen(self, fault: Fault) -> None:
        self.pair.call("ReopenSession", self.guard(v1.ReopenSessionRequest(), fault))
        self.pair.check_counters()


class Hiding(History):
    """Compactions, rewinds, their reverting, late changes, and clearing (P6, P7, P8)."""

    @rule(pick=PICKS, width=st.integers(0, 9), summary=SUMMARIES, fault=FAULTS, author=RARELY)
    def compact(
        self, pick: int, width: int, summary: v1.Message, fault: Fault, author: bool
    ) -> None:
        low = self.seq(pick)
        high = low + width if pick % 16 == 9 else min(low + width, self.pair.log.last_seq)
        request = v1.CompactSessionRequest(
            from_seq=low, to_seq=max(low, high), summary=self.named([summary])[0]
        )
        if author:
            request.author, request.model, request.tokens_before = "me", "small", 1000
        request.lease_token = self.pair.model.compactor.token
        if fault is Fault.OTHER_LEASE:
            request.lease_token = "" if request.lease_token else "never"
        self._compact(self.guard(request, fault))
        self.compare(pick)

    def _compact(self, request: v1.CompactSessionRequest) -> None:
        if not isinstance(self.pair.call("CompactSession", request), Refused):
            self.summaries[self.pair.session_id].append(request)

    @precondition(lambda self: self.pair.log.context())
    @rule(pick=PICKS, summary=SUMMARIES)
    def compact_safely(self, pick: int, summary: v1.Message) -> None:
        """Compact a range that the model finds safe, so that there are many."""
        log = self.pair.log
        entries = log.context()
        ranges = [
            (first.low, last.high)
            for place, first in enumerate(entries)
            for last in entries[place:]
            if not log.refusal(first.low, last.high)
        ]
        if ranges:
            low, high = ranges[pick % len(ranges)]
            request = v1.CompactSessionRequest(
                from_seq=low, to_seq=high, summary=self.named([summary])[0]
            )
            if pick % 5:  # else it is refused while somebody holds the lease
                request.lease_token = self.pair.model.compactor.token
            self._compact(self.guard(request, Fault.NONE))
            self.compare(pick)

    @rule(
        pick=PICKS,
        keep=st.sampled_from((1, 1, 2, 3, 0)),
        goal=st.integers(0, 11),
        in_tokens=st.sampled_from((None, True, False)),
        summary_tokens=st.integers(0, 4),
        holder=st.sampled_from(("", "", "one", "two")),
        use=st.booleans(),
    )
    def plan(
        self,
        pick: int,
        keep: int,
        goal: int,
        in_tokens: bool | None,
        summary_tokens: int,
        holder: str,
        use: bool,
    ) -> None:
        request = v1.PlanCompactionRequest(
            keep_recent_messages=keep, summary_token_count=summary_tokens
        )
        if in_tokens is not None:
            counters = self.pair.model.counters()
            if in_tokens:
                request.max_context_tokens = counters.context_token_count * goal // 10
            else:
                request.max_context_messages = counters.context_message_count * goal // 10
        if holder:
            request.acquire_lease, request.holder = True, holder
            request.lease_ttl.CopyFrom(LONG)
        answer = plans.checked(self.pair, request)
        if answer.HasField("plan") and use:
            compaction = v1.CompactSessionRequest(
                from_seq=answer.plan.from_seq,
                to_seq=answer.plan.to_seq,
                summary=self.named(
                    [v1.Message(parts=[v1.Part(text="planned")], token_count=summary_tokens)]
                )[0],
                lease_token=self.pair.model.compactor.token,
            )
            self._compact(self.guard(compaction, Fault.NONE_AS_EXPECTED))
        self.compare(pick)

    @precondition(lambda self: len(self.pair.log.context()) > 2)
    @rule(pick=PICKS, other=PICKS, summary=SUMMARIES)
    def revert_a_rewind_behind_a_compaction(
        self, pick: int, other: int, summary: v1.Message
    ) -> None:
        """Bring back a summary over what was compacted anew meanwhile."""
        self.compact_safely(pick, summary)
        if self.pair.log.summary(self.pair.log.last_seq) is not None:
            request = v1.RewindSessionRequest(after_seq=self.pair.log.last_seq - 1)
            self.pair.call("RewindSession", self.guard(request, Fault.NONE))
            self.compact_safely(other, summary)
            self.revert_rewind(pick, Fault.NONE, True)

    @rule(old=RARELY)
    def release_compaction_lease(self, old: bool) -> None:
        model = self.pair.model
        token = "never" if old else model.compactor.token
        if token:
            request = v1.ReleaseCompactionLeaseRequest(
                session_id=model.session_id, lease_token=token
            )
            self.stubs.call("ReleaseCompactionLease", request)
            model.compactor.release(token)

    @precondition(lambda self: self.pair.log.compactions)
    @rule(pick=PICKS, fault=FAULTS, missing=RARELY)
    def revert(self, pick: int, fault: Fault, missing: bool) -> None:
        compactions = self.pair.log.compactions
        request = v1.RevertCompactionRequest(compaction_id=self.seq(pick))
        if not missing:
            request.compaction_id = compactions[pick % len(compactions)].summary_seq
        self.pair.call("RevertCompaction", self.guard(request, fault))
        self.compare(pick)

    @rule(pick=PICKS, fault=FAULTS, near=st.booleans())
    def rewind(self, pick: int, fault: Fault, near: bool) -> None:
        last = self.pair.log.last_seq
        after = max(last - pick % 5, 0) if near else self.seq(pick) - 1
        request = v1.RewindSessionRequest(after_seq=after, author="me")
        self.pair.call("RewindSession", self.guard(request, fault))
        self.compare(pick)

    @precondition(lambda self: self.pair.log.rewinds)
    @rule(pick=PICKS, fault=FAULTS, newest=st.booleans())
    def revert_rewind(self, pick: int, fault: Fault, newest: bool) -> None:
        rewinds = self.pair.log.rewinds
        request = v1.RevertRewindRequest(newest=True)
        if not newest:
            request.rewind_id = rewinds[pick % len(rewinds)].rewind_id
        self.pair.call("RevertRewind", self.guard(request, fault))
        self.compare(pick)

    @rule(
        picks=st.lists(PICKS, min_size=1, max_size=3, unique=True),
        fields=st.sets(
            st.sampled_from(
                (
                    "hidden_from_model",
                    "hidden_from_people",
                    "token_count",
                    "type",
                    "kind",
                    "extensions",
                )
            ),
            min_size=1,
        ),
        tokens=TOKENS,
        flag=st.booleans(),
        fault=FAULTS,
    )
    def update(
        self, picks: list[int], fields: set[str], tokens: int, flag: bool, fault: Fault
    ) -> None:
        if not self.pair.log.messages:
            return
        request = v1.UpdateMessagesRequest()
        for seq in sorted({self.seq(pick) for pick in picks}):
            update = request.updates.add(
                message=v1.Message(
                    seq=seq,
                    hidden_from_model=not flag,
                    hidden_from_people=flag,
                    token_count=tokens,
                    kind=v1.MessageKind.MESSAGE_KIND_REMINDER,
                    type="plan" if flag else "",
                    extensions={"late": bytes([tokens, 255])},
                )
            )
            update.update_mask.paths.extend(sorted(fields))
        self.pair.call("UpdateMessages", self.guard(request, fault))
        self.compare(picks[0])

    @rule(pick=PICKS, fault=FAULTS, wanted=st.integers(0, 30))
    def clear(self, pick: int, fault: Fault, wanted: int) -> None:
        if wanted == 19:
            self.pair.call("ClearMessages", self.guard(v1.ClearMessagesRequest(), fault))
            self.compare(pick)


class Forks(History):
    """Forks, with which the history then goes on (P7)."""

    @precondition(lambda self: len(self.pairs) <= MOST_FORKS)
    @rule(pick=PICKS, whole=st.booleans(), facts=st.one_of(st.none(), FACTS), fault=FAULTS)
    def fork(self, pick: int, whole: bool, facts: v1.Session | None, fault: Fault) -> None:
        pair = self.pair
        request = v1.ForkSessionRequest(
            session_id=pair.session_id,
            at_seq=0 if whole else self.seq(pick),
            fork=facts,
        )
        request.fork.id = f"model/{uuid.uuid4()}"
        if fault is not Fault.NONE:
            request.expected_next_seq = pair.log.next_seq + (fault is Fault.TOO_LATE)
        try:
            forked = pair.model.fork(request)
        except Refused as refusal:
            expected = refusal.reason
        else:
            expected = ""
        answer = self.stubs.outcome("ForkSession", request)
        assert (answer.reason if isinstance(answer, Refused) else "") == expected
        if expected:
            return
        self.pairs.append(Pair(self.stubs, forked))
        self.sent[forked.session_id] = list(self.sent[pair.session_id])
        self.summaries[forked.session_id] = list(self.summaries[pair.session_id])
        self.compare(pick)

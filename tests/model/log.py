"""A naive log of messages: what is seen of it now, computed from scratch at every question."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import sessiond
from sessiond import v1

UNNAMED = -1
"""The id of a rewind that the server has yet to name."""


class Refused(Exception):
    """The call is refused for a reason: the name of an `ErrorReason` without its prefix."""

    @property
    def reason(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True)
class Compaction:
    """A compaction, as it was recorded."""

    summary_seq: int
    from_seq: int
    to_seq: int
    message_count: int
    tokens_before: int
    tokens_after: int
    author: str
    model: str
    reverted: bool = False

    def holds(self, low: int, high: int) -> bool:
        return self.from_seq <= low and high <= self.to_seq

    def touches(self, low: int, high: int) -> bool:
        return self.from_seq <= high and low <= self.to_seq


@dataclass(frozen=True)
class Rewind:
    """A rewind, as it was recorded."""

    rewind_id: int
    after_seq: int
    to_seq: int
    author: str
    reverted: bool = False


@dataclass(frozen=True)
class Entry:
    """What stands in a context: a message, or a summary in the place of the range `low` to `high`."""

    low: int
    high: int
    message: v1.Message

    @property
    def tokens(self) -> int:
        return self.message.token_count

    @property
    def calls(self) -> list[str]:
        return [call.id for call in sessiond.tool_calls_of(self.message)]


def answers(message: v1.Message) -> list[str]:
    """Which calls the results in a message answer."""
    ids = (result.tool_call_id for result in sessiond.tool_results_of(message))
    return list(dict.fromkeys(filter(None, ids)))


def pairs(entries: list[Entry]) -> list[tuple[int, int]]:
    """The places of each result and its call: a result answers every open call with its id, up to its own
    message, and one that answers no open call belongs to the newest call with its id."""
    found = []
    for result, entry in enumerate(entries):
        for wanted in answers(entry.message):
            calls = [place for place in range(result + 1) if wanted in entries[place].calls]
            answered = [wanted in answers(e.message) for e in entries]
            waiting = [place for place in calls if not any(answered[place:result])]
            found += [(place, result) for place in waiting or calls[-1:]]
    return found


def leading(entries: list[Entry], *, summaries: bool) -> int:
    """How many system and developer messages stand at the very beginning, 16 at most."""
    count = 0
    while (
        count < min(len(entries), 16)
        and entries[count].message.role in (v1.Role.ROLE_SYSTEM, v1.Role.ROLE_DEVELOPER)
        and (summaries or entries[count].low == entries[count].message.seq)
    ):
        count += 1
    return count


def limited(entries: list[Entry], max_tokens: int, max_messages: int) -> list[Entry]:
    """The largest end of a context that fits, behind its leading messages, and tears no pair."""
    head = leading(entries, summaries=True)
    for start in range(head, len(entries) + 1):
        kept = entries[:head] + entries[start:]
        if max_tokens and sum(e.tokens for e in kept) > max_tokens:
            continue
        if max_messages and len(kept) > max_messages:
            continue
        if start == head or not any(_cut_off(entries, start, end) for end in range(len(entries))):
            return kept
    return entries[:head]


def _cut_off(entries: list[Entry], start: int, result: int) -> bool:
    """Whether a context from `start` on has this result without any call for it."""
    for wanted in answers(entries[result].message):
        calls = [place for place in range(result + 1) if wanted in entries[place].calls]
        if start <= result and calls and max(calls) < start:
            return True
    return False


@dataclass
class Log:
    """What a session holds at one time."""

    first_seq: int = 1
    next_seq: int = 1
    messages: dict[int, v1.Message] = field(default_factory=dict)
    originals: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    compactions: list[Compaction] = field(default_factory=list)
    rewinds: list[Rewind] = field(default_factory=list)
    setup: v1.Session = field(default_factory=v1.Session)
    """System prompt, model and config, replaced when they change."""
    setup_seq: int = 0
    """From which seq on that holds."""
    updates: int = 0
    """How many calls changed messages."""

    @property
    def changes(self) -> int:
        """How many changes of the context it holds besides its messages."""
        compactions = sum(1 + it.reverted for it in self.compactions)
        return compactions + sum(1 + it.reverted for it in self.rewinds) + self.updates

    def copy(self) -> Log:
        return replace(
            self,
            messages=dict(self.messages),
            originals=dict(self.originals),
            compactions=list(self.compactions),
            rewinds=list(self.rewinds),
        )

    @property
    def last_seq(self) -> int:
        return self.next_seq - 1

    def add(self, message: v1.Message) -> int:
        seq = self.next_seq
        self.originals[message.client_id] = (seq, content_of(message))
        self.messages[seq] = v1.Message()
        self.messages[seq].CopyFrom(message)
        self.messages[seq].seq = seq
        self.next_seq += 1
        return seq

    def known(self, message: v1.Message, *, any_content: bool = False) -> int:
        """The seq of a message that is stored already, or 0."""
        seq, content = self.originals.get(message.client_id, (0, b""))
        if seq and not any_content and content != content_of(message):
            raise Refused("CLIENT_ID_REUSED")
        return seq

    def rewound(self, seq: int) -> bool:
        return any(r.after_seq < seq <= r.to_seq and not r.reverted for r in self.rewinds)

    def summary(self, seq: int) -> Compaction | None:
        return next((c for c in self.compactions if c.summary_seq == seq), None)

    def counting(self) -> list[Compaction]:
        """The compactions that count: neither reverted, nor their summaries rewound. Inner ones first."""
        found = [c for c in self.compactions if not c.reverted and not self.rewound(c.summary_seq)]
        return sorted(found, key=lambda c: (c.to_seq - c.from_seq, c.summary_seq))

    def torn(self) -> bool:
        """Whether two compactions count of which neither holds the other."""
        found = self.counting()
        return any(
            a.touches(b.from_seq, b.to_seq)
            and not a.holds(b.from_seq, b.to_seq)
            and not b.holds(a.from_seq, a.to_seq)
            for a in found
            for b in found
        )

    def without_rewind(self, rewind_id: int) -> Log:
        """The same log with a rewind reverted, whether or not that is allowed."""
        tried = self.copy()
        tried.rewinds = [
            replace(it, reverted=True) if it.rewind_id == rewind_id else it for it in tried.rewinds
        ]
        return tried

    def unsuited(self, after: int, to: int) -> bool:
        """Whether a later compaction stands where these messages come back, or holds a result of theirs."""
        back = {seq: m for seq, m in self.messages.items() if after < seq <= to}
        ids = {(call.id, seq) for seq, m in back.items() for call in sessiond.tool_calls_of(m)}
        return any(
            c.touches(after + 1, to)
            or any(
                c.from_seq <= seq <= c.to_seq and call_id in answers(m) and call < seq
                for seq, m in self.messages.items()
                for call_id, call in ids
            )
            for c in self.counting()
            if c.summary_seq > to
        )

    def standing(self) -> list[Entry]:
        """The context, with what is flagged out of it: messages first, then summaries over ranges."""
        entries = [
            Entry(seq, seq, message)
            for seq, message in self.messages.items()
            if not self.rewound(seq) and self.summary(seq) is None
        ]
        for c in self.counting():
            entries = [e for e in entries if not c.holds(e.low, e.high)]
            entries.append(Entry(c.from_seq, c.to_seq, self.messages[c.summary_seq]))
        return sorted(entries, key=lambda e: e.low)

    def context(self) -> list[Entry]:
        return [entry for entry in self.standing() if not entry.message.hidden_from_model]

    def open_calls(self) -> list[tuple[int, v1.ToolCall]]:
        seen = [m for seq, m in self.messages.items() if not self.rewound(seq)]
        return [
            (message.seq, call)
            for place, message in enumerate(seen)
            for call in sessiond.tool_calls_of(message)
            if all(call.id not in answers(later) for later in seen[place:])
        ]

    def splits(self, entries: list[Entry], inside: list[Entry]) -> bool:
        """Whether a range would separate a call from a result, or holds an open call."""
        seqs = {entry.message.seq for entry in inside}
        torn = any(
            (entries[call].message.seq in seqs) != (entries[result].message.seq in seqs)
            for call, result in pairs(entries)
        )
        return torn or any(seq in seqs for seq, _ in self.open_calls())

    def refusal(self, from_seq: int, to_seq: int) -> str:
        """Why a range can't be compacted; empty if it can."""
        if to_seq > self.last_seq:
            return "SEQ_OUT_OF_RANGE"
        for c in self.counting():
            if c.touches(from_seq, to_seq) and not (from_seq <= c.from_seq and c.to_seq <= to_seq):
                return "COMPACTION_OVERLAP"
        entries = self.context()
        inside = [e for e in entries if from_seq <= e.low and e.high <= to_seq]
        if not inside:
            return "COMPACTION_RANGE_EMPTY"
        return "COMPACTION_SPLITS_TOOL_CALL" if self.splits(entries, inside) else ""

    def shown(self, message: v1.Message) -> v1.Message:
        """A message as it is answered, but for `compacted_by_seq`."""
        answer = v1.Message()
        answer.CopyFrom(message)
        answer.rewound = self.rewound(message.seq)
        if (summary := self.summary(message.seq)) is not None:
            answer.replaces_from_seq, answer.replaces_to_seq = summary.from_seq, summary.to_seq
        return answer

    def compacted_by(self, seq: int) -> int | None:
        """The summary that stands for a message; `None` where the API leaves it open: for what is flagged out
        of the context, and where the summary is."""
        by_seq = {entry.message.seq: entry for entry in self.standing()}
        summary = self.summary(seq)
        if seq in by_seq or self.rewound(seq) or (summary is not None and summary.reverted):
            return 0
        if self.messages[seq].hidden_from_model:
            return None
        low, high = (summary.from_seq, summary.to_seq) if summary else (seq, seq)
        over = next(e for e in by_seq.values() if e.low <= low and high <= e.high)
        return None if over.message.hidden_from_model else over.message.seq

    def compaction(self, found: Compaction) -> v1.Compaction:
        answer = v1.Compaction(
            id=found.summary_seq,
            from_seq=found.from_seq,
            to_seq=found.to_seq,
            message_count=found.message_count,
            tokens_before=found.tokens_before,
            tokens_after=found.tokens_after,
            author=found.author,
            model=found.model,
            in_context=any(e.message.seq == found.summary_seq for e in self.context()),
        )
        answer.create_time.SetInParent()
        if found.reverted:
            answer.revert_time.SetInParent()
        return answer

    def recorded_rewinds(self) -> list[v1.Rewind]:
        return [rewind(found) for found in reversed(self.rewinds)]

    def view(self, view: v1.MessageView.ValueType) -> list[v1.Message]:
        if view == v1.MessageView.MESSAGE_VIEW_CONTEXT:
            return [entry.message for entry in self.context()]
        if view == v1.MessageView.MESSAGE_VIEW_ALL:
            return list(self.messages.values())
        return [
            m for seq, m in self.messages.items() if not (m.hidden_from_people or self.rewound(seq))
        ]


def content_of(message: v1.Message) -> bytes:
    """What a completed message says, whether it spells its defaults out or not."""
    bare = v1.Message()
    bare.CopyFrom(message)
    if not len(bare.metadata):
        bare.ClearField("metadata")
    for call in sessiond.tool_calls_of(bare):
        call.type = "" if call.type == "function" else call.type
    return bare.SerializeToString(deterministic=True)


def completed(message: v1.Message, *, summary: bool = False) -> v1.Message:
    """A message with what it leaves out, and without what only answers hold."""
    done = v1.Message()
    done.CopyFrom(message)
    for name in ("seq", "create_time", "rewound", "compacted_by_seq"):
        done.ClearField(name)
    done.role = done.role or (v1.Role.ROLE_SYSTEM if summary else v1.Role.ROLE_UNSPECIFIED)
    done.kind = done.kind or (
        v1.MessageKind.MESSAGE_KIND_SUMMARY if summary else v1.MessageKind.MESSAGE_KIND_NORMAL
    )
    done.hidden_from_people |= summary
    return done


def rewind(found: Rewind) -> v1.Rewind:
    answer = v1.Rewind(
        id=found.rewind_id,
        after_seq=found.after_seq,
        to_seq=found.to_seq,
        author=found.author,
    )
    answer.create_time.SetInParent()
    if found.reverted:
        answer.revert_time.SetInParent()
    return answer

"""A naive model of sessions, written from the promises and the API's comments alone.

It keeps everything in plain lists, computes every answer from scratch, and remembers the past as whole
copies taken right after each message. Each method is named as the call that it predicts: it takes the
request and returns the answer, without times and other values that only the server can choose, or raises
`Refused`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import sessiond
from sessiond import v1
from tests.model.log import (
    UNNAMED,
    Compaction,
    Log,
    Refused,
    Rewind,
    completed,
    content_of,
    limited,
    rewind,
)


def updated(old: v1.Message, update: v1.MessageUpdate) -> v1.Message:
    """A message with the fields that the mask names as they are in the update."""
    named = set(update.update_mask.paths)
    new = v1.Message(seq=old.seq)
    for each in v1.Message.DESCRIPTOR.fields:
        source = update.message if each.name in named else old
        part = v1.Message()
        part.CopyFrom(source)
        for other in v1.Message.DESCRIPTOR.fields:
            if other.name != each.name:
                part.ClearField(other.name)  # type: ignore[arg-type]
        new.MergeFrom(part)
    done = completed(new)
    done.seq = old.seq
    return done


_REFUSES = (v1.OnKnown.ON_KNOWN_UNSPECIFIED, v1.OnKnown.ON_KNOWN_REFUSE)
SETUP = ("system_prompt", "model", "config")


def changed(old: v1.Session, new: v1.Session, names: set[str]) -> v1.Session:
    """What a session runs with, with these of its facts replaced."""
    return v1.Session(**{n: getattr(new if n in names else old, n) for n in SETUP})


@dataclass
class Lease:
    """A lease of either kind; nobody's while it has no token."""

    holder: str = ""
    token: str = ""

    def check(self, token: str, kind: str) -> None:
        if token and token != self.token:
            raise Refused(f"{kind}_LEASE_LOST")
        if not token and self.token:
            raise Refused(f"{kind}_LEASE_HELD")

    def take(self, holder: str, token: str) -> None:
        self.holder, self.token = holder, token

    def release(self, token: str) -> None:
        if token == self.token:
            self.take("", "")


@dataclass
class Session:
    """A session, and its log right after each message."""

    session_id: str
    log: Log = field(default_factory=Log)
    past: dict[int, Log] = field(default_factory=dict)
    changes: int = 0
    """How many changes of the context its log doesn't hold any more, or never did."""
    ended: bool = False
    writer: Lease = field(default_factory=Lease)
    compactor: Lease = field(default_factory=Lease)
    model_named: bool = False
    """Whether usage named a model."""

    def version(self) -> v1.SessionVersion:
        return v1.SessionVersion(
            next_seq=self.log.next_seq,
            revision=self.log.next_seq + self.log.changes + self.changes,
            context_token_count=sum(entry.tokens for entry in self.log.context()),
        )

    def counters(self) -> v1.Session:
        entries = self.log.context()
        return v1.Session(
            next_seq=self.log.next_seq,
            revision=self.version().revision,
            first_seq=min(self.log.messages, default=self.log.next_seq),
            message_count=len(self.log.messages),
            tool_call_count=sum(len(sessiond.tool_calls_of(m)) for m in self.log.messages.values()),
            context_message_count=len(entries),
            context_token_count=sum(entry.tokens for entry in entries),
            open_tool_call_count=len(self.log.open_calls()),
            state=v1.SessionState.SESSION_STATE_ENDED
            if self.ended
            else v1.SessionState.SESSION_STATE_ACTIVE,
        )

    def _check(self, guard: v1.WriteGuard) -> None:
        if self.ended:
            raise Refused("SESSION_ENDED")
        self.writer.check(guard.writer_token, "WRITER")
        self._check_expected(guard)

    def _check_expected(self, guard: v1.WriteGuard) -> None:
        if guard.expected_next_seq not in (0, self.log.next_seq):
            raise Refused("NEXT_SEQ_MISMATCH")
        if guard.expected_revision not in (0, self.version().revision):
            raise Refused("REVISION_MISMATCH")

    def check_guard(self, guard: v1.WriteGuard) -> None:
        """What guards calls that need no writer token."""
        if guard.writer_token:
            self.writer.check(guard.writer_token, "WRITER")
        self._check_expected(guard)

    def _commit(self, messages: Iterable[v1.Message]) -> None:
        for message in messages:
            seq = self.log.add(message)
            self.past[seq] = self.log.copy()

    def AppendMessages(self, request: v1.AppendMessagesRequest) -> v1.AppendMessagesResponse:
        messages = [completed(message) for message in request.messages]
        any_content = request.on_known == v1.OnKnown.ON_KNOWN_SKIP_ANY_CONTENT
        first: dict[str, v1.Message] = {}
        for message in messages:
            told = first.setdefault(message.client_id, message)
            if not any_content and content_of(told) != content_of(message):
                raise Refused("CLIENT_ID_REUSED")
        stored = [self.log.known(message, any_content=any_content) for message in messages]
        new = [message for message in first.values() if message.client_id not in self.log.originals]
        if new:
            if any(stored) and request.on_known in _REFUSES:
                raise Refused("PARTIAL_REPLAY")
            self._check(request.guard)
            self.name_model(request.usage.model, appended=True)
            self._commit(new)
        known = [not any(message is it for it in new) for message in messages]
        seqs = [self.log.known(message, any_content=True) for message in messages]
        gapless = seqs == list(range(seqs[0], seqs[0] + len(seqs)))
        return v1.AppendMessagesResponse(
            first_seq=seqs[0],
            last_seq=seqs[-1],
            version=self.version(),
            replayed=not new,
            seqs=[] if gapless else seqs,
            known=known if any(known) else [],
        )

    def UpdateMessages(self, request: v1.UpdateMessagesRequest) -> v1.UpdateMessagesResponse:
        if any(update.message.seq not in self.log.messages for update in request.updates):
            self._check(request.guard)
            raise Refused("MESSAGE_NOT_FOUND")
        old = [self.log.messages[update.message.seq] for update in request.updates]
        new = [updated(*pair) for pair in zip(old, request.updates, strict=True)]
        if new != old:
            self._check(request.guard)
            self.log.messages |= {message.seq: message for message in new}
            self.log.updates += 1
        answer = v1.UpdateMessagesResponse(version=self.version(), replayed=new == old)
        for update in request.updates:
            shown = self.log.shown(self.log.messages[update.message.seq])
            for name in ("parts", "extensions", "metadata"):
                shown.ClearField(name)
            answer.messages.append(shown)
        return answer

    def CompactSession(self, request: v1.CompactSessionRequest) -> v1.CompactSessionResponse:
        summary = completed(request.summary, summary=True)
        if known := self.log.known(summary):
            there = self.log.summary(known)
            if there is None:
                raise Refused("CLIENT_ID_REUSED")
            return self._compacted(there, replayed=True)
        self._check(v1.WriteGuard(writer_token=request.guard.writer_token))
        self.compactor.check(request.lease_token, "COMPACTION")
        self._check_expected(request.guard)
        if reason := self.log.refusal(request.from_seq, request.to_seq):
            raise Refused(reason)
        made = self._made(request, summary)
        self.log.compactions.append(made)
        self._commit([summary])
        self.compactor.release(request.lease_token)
        return self._compacted(made, replayed=False)

    def _made(self, request: v1.CompactSessionRequest, summary: v1.Message) -> Compaction:
        inside = [
            entry
            for entry in self.log.context()
            if request.from_seq <= entry.low and entry.high <= request.to_seq
        ]
        return Compaction(
            summary_seq=self.log.next_seq,
            from_seq=inside[0].low,
            to_seq=inside[-1].high,
            message_count=len(inside),
            tokens_before=request.tokens_before or sum(entry.tokens for entry in inside),
            tokens_after=request.tokens_after or summary.token_count,
            author=request.author,
            model=request.model,
        )

    def _compacted(self, found: Compaction, *, replayed: bool) -> v1.CompactSessionResponse:
        return v1.CompactSessionResponse(
            compaction=self.log.compaction(found), replayed=replayed, version=self.version()
        )

    def RevertCompaction(self, request: v1.RevertCompactionRequest) -> v1.RevertCompactionResponse:
        found = self.log.summary(request.compaction_id)
        if found is None:
            raise Refused("COMPACTION_NOT_FOUND")
        replayed = found.reverted
        if not replayed:
            self._check(request.guard)
            place = self.log.compactions.index(found)
            self.log.compactions[place] = found = replace(found, reverted=True)
        return v1.RevertCompactionResponse(
            compaction=self.log.compaction(found), version=self.version(), replayed=replayed
        )

    def RewindSession(self, request: v1.RewindSessionRequest) -> v1.RewindSessionResponse:
        log, after = self.log, request.after_seq
        for there in reversed(log.rewinds):
            if (there.after_seq, there.to_seq, there.reverted) == (after, log.last_seq, False):
                return self._rewound(there, replayed=True)
        self._check(request.guard)
        if after > log.last_seq:
            raise Refused("SEQ_OUT_OF_RANGE")
        if all(seq <= after or log.rewound(seq) for seq in log.messages):
            raise Refused("NOTHING_TO_REWIND")
        made = Rewind(UNNAMED, after, log.last_seq, request.author)
        log.rewinds.append(made)
        return self._rewound(made, replayed=False)

    def _rewound(self, found: Rewind, *, replayed: bool) -> v1.RewindSessionResponse:
        return v1.RewindSessionResponse(
            rewind=rewind(found), version=self.version(), replayed=replayed
        )

    def name_rewind(self, rewind_id: int) -> None:
        """Take over the id that the server gave."""
        rewinds = self.log.rewinds
        if rewinds and rewinds[-1].rewind_id == UNNAMED:
            assert all(rewind_id > there.rewind_id for there in rewinds)
            rewinds[-1] = replace(rewinds[-1], rewind_id=rewind_id)

    def RevertRewind(self, request: v1.RevertRewindRequest) -> v1.RevertRewindResponse:
        wanted = request.rewind_id
        found = [
            r
            for r in self.log.rewinds
            if (not r.reverted if request.newest else r.rewind_id == wanted)
        ]
        if not found:
            raise Refused("REWIND_NOT_FOUND")
        there = found[-1]
        replayed = there.reverted
        if not replayed:
            self._check(request.guard)
            tried = self.log.copy()
            place = tried.rewinds.index(there)
            tried.rewinds[place] = there = replace(there, reverted=True)
            if tried.torn() or tried.unsuited(there.after_seq, there.to_seq):
                raise Refused("REWIND_NOT_REVERTIBLE")
            self.log = tried
        return v1.RevertRewindResponse(
            rewind=rewind(there), version=self.version(), replayed=replayed
        )

    def ClearMessages(self, request: v1.ClearMessagesRequest) -> v1.ClearMessagesResponse:
        self._check(request.guard)
        count, next_seq = len(self.log.messages), self.log.next_seq
        self.changes += self.log.changes + 1
        self.log = Log(first_seq=next_seq, next_seq=next_seq, setup=self.log.setup)
        self.past = {}
        return v1.ClearMessagesResponse(message_count=count, version=self.version())

    def EndSession(self, request: v1.EndSessionRequest) -> v1.EndSessionResponse:
        replayed = self.ended
        if not replayed:
            self.check_guard(request.guard)
        self.ended = True
        return v1.EndSessionResponse(version=self.version(), replayed=replayed)

    def ReopenSession(self, request: v1.ReopenSessionRequest) -> v1.ReopenSessionResponse:
        replayed = not self.ended
        if not replayed:
            self.check_guard(request.guard)
        self.ended = False
        return v1.ReopenSessionResponse(version=self.version(), replayed=replayed)

    def fork(self, request: v1.ForkSessionRequest) -> Session:
        """The fork: what was there right after the message, and everything before."""
        self._check_expected(v1.WriteGuard(expected_next_seq=request.expected_next_seq))
        at = request.at_seq
        if at and at not in self.past:
            raise Refused("SEQ_OUT_OF_RANGE")
        log = (self.past[at] if at else self.log).copy()
        given = {n for n in SETUP if getattr(request.fork, n)}
        past = {seq: there for seq, there in self.past.items() if not at or seq <= at}
        made = Session(request.fork.id, log, past)
        at_end = log.setup_seq == log.next_seq > log.first_seq
        made.changes = int(made.set_up(request.fork, given) or at_end)
        return made

    def UpdateSession(self, request: v1.UpdateSessionRequest) -> None:
        """Of what it runs with."""
        self.changes += self.set_up(request.session, set(request.update_mask.paths))

    def set_up(self, session: v1.Session, fields: set[str]) -> bool:
        """Let it run with other fields of these from now on; whether they are others."""
        before, self.log.setup = self.log.setup, changed(self.log.setup, session, fields)
        if self.log.setup == before:
            return False
        self.log.setup_seq = self.log.next_seq
        return True

    def name_model(self, model: str, *, appended: bool = False) -> None:
        """The first model that usage names is the session's, if it has none."""
        if model and not self.model_named:
            self.model_named = True
            if not self.log.setup.model:
                named = self.set_up(v1.Session(model=model), {"model"})
                self.changes += named and not appended

    def totals(self, request: v1.GetContextRequest) -> tuple[v1.ContextTotals, list[v1.Message]]:
        at = request.as_of_seq
        if at and at not in self.past:
            raise Refused("SEQ_OUT_OF_RANGE")
        log = self.past[at] if at else self.log
        entries = log.context()
        kept = limited(entries, request.max_context_tokens, request.max_context_messages)
        totals = v1.ContextTotals(
            message_count=len(kept),
            token_count=sum(entry.tokens for entry in kept),
            omitted_message_count=len(entries) - len(kept),
            as_of_seq=at or self.log.last_seq,
            version=self.version(),
            system_prompt=log.setup.system_prompt,
            model=log.setup.model,
            config=log.setup.config,
        )
        return totals, [entry.message for entry in kept]

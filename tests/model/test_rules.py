"""The rules without a server: what they say of random histories is what the model says."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

import sessiond
from sessiond import v1
from sessiond_server.sessions import contents, planning, titles, visibility
from sessiond_server.sessions.toolcalls import Item, ToolCalls, suffix_start
from tests.model import plans
from tests.model.contents import CONVERSATIONS, MESSAGES, SUMMARIES, payloads
from tests.model.log import UNNAMED, Entry, Log, Refused, answers, completed, content_of
from tests.model.model import Session
from tests.support.encodings import other_encoding
from tests.support.examples import examples

PICKS = st.integers(0, 2**10)
STEPS = st.one_of(
    CONVERSATIONS,
    st.lists(MESSAGES, min_size=1, max_size=3),
    st.tuples(st.just("compact"), PICKS, SUMMARIES),
    st.tuples(st.sampled_from(("rewind", "revert_rewind", "revert", "hide")), PICKS),
)
HISTORIES = st.lists(STEPS, min_size=2, max_size=20)


@dataclass
class Told:
    """A random history, told to the model, and recorded as the rules want it."""

    session: Session = field(default_factory=lambda: Session("told"))
    compactions: dict[int, visibility.Compaction] = field(default_factory=dict)
    rewinds: dict[int, visibility.Rewind] = field(default_factory=dict)

    @property
    def log(self) -> Log:
        return self.session.log

    def tell(self, steps: list[object]) -> None:
        for step in steps:
            if isinstance(step, list):
                self._append(step)
            elif isinstance(step, tuple):
                name, pick, *summary = step
                if self.log.messages:
                    getattr(self, name)(pick, *summary)

    def _named(self, message: v1.Message) -> v1.Message:
        copy = v1.Message(client_id=f"m{self.log.next_seq}-{len(self.log.originals)}")
        copy.MergeFrom(message)
        return copy

    def _append(self, messages: list[v1.Message]) -> None:
        for message in messages:
            self.session.AppendMessages(v1.AppendMessagesRequest(messages=[self._named(message)]))

    def compact(self, pick: int, summary: v1.Message) -> None:
        ranges = safe_ranges(self.log)
        if ranges:
            low, high = ranges[pick % len(ranges)]
            request = v1.CompactSessionRequest(
                from_seq=low, to_seq=high, summary=self._named(summary)
            )
            made = self.session.CompactSession(request).compaction
            self.compactions[made.id] = visibility.Compaction(made.id, made.from_seq, made.to_seq)

    def revert(self, pick: int) -> None:
        made = self.log.compactions
        if made and not made[pick % len(made)].reverted:
            seq = made[pick % len(made)].summary_seq
            self.session.RevertCompaction(v1.RevertCompactionRequest(compaction_id=seq))
            self.compactions[seq] = self.compactions[seq]._replace(
                revert_effective_seq=self.log.next_seq
            )

    def rewind(self, pick: int) -> None:
        after = max(self.log.last_seq - pick % 9, 0)
        try:
            found = self.session.RewindSession(v1.RewindSessionRequest(after_seq=after)).rewind
        except Refused:
            return
        if found.id == UNNAMED:
            number = len(self.rewinds) + 1
            self.session.name_rewind(number)
            self.rewinds[number] = visibility.Rewind(
                number, found.after_seq, found.to_seq, self.log.next_seq
            )

    def revert_rewind(self, pick: int) -> None:
        """Revert a rewind; the rules refuse where the model does."""
        made = self.log.rewinds
        if not made or made[pick % len(made)].reverted:
            return
        number = made[pick % len(made)].rewind_id
        tried = self.rewinds | {
            number: self.rewinds[number]._replace(revert_effective_seq=self.log.next_seq)
        }
        try:
            self.session.RevertRewind(v1.RevertRewindRequest(rewind_id=number))
        except Refused:
            there = made[pick % len(made)]
            reverted = self.log.copy()
            reverted.rewinds[made.index(there)] = replace(there, reverted=True)
            assert self._overlaps(tried) or reverted.unsuited(there.after_seq, there.to_seq)
        else:
            assert not self._overlaps(tried)
            self.rewinds = tried

    def _overlaps(self, rewinds: dict[int, visibility.Rewind]) -> bool:
        try:
            visibility.hidden_spans(self.compactions.values(), rewinds.values())
        except visibility.PartialOverlap:
            return True
        return False

    def hide(self, pick: int) -> None:
        message = v1.Message(seq=1 + pick % self.log.last_seq, hidden_from_model=pick % 3 > 0)
        request = v1.UpdateMessagesRequest()
        request.updates.add(message=message).update_mask.paths.append("hidden_from_model")
        self.session.UpdateMessages(request)

    def pieces(self, as_of: int | None, last: int) -> list[visibility.Segment]:
        spans = visibility.hidden_spans(self.compactions.values(), self.rewinds.values(), as_of)
        return visibility.segments(visibility.shown(*spans), 1, last)

    def places(self, pieces: list[visibility.Segment]) -> list[tuple[int, int]]:
        """The positions and seqs that segments stand for."""
        found: list[tuple[int, int]] = []
        for piece in pieces:
            if piece.summary:
                found.append((piece.position, piece.low))
            else:
                assert piece.position == piece.low <= piece.high
                seqs = range(piece.low, piece.high + 1)
                found += [(seq, seq) for seq in seqs if seq not in self.compactions]
        return found


def told(steps: list[object]) -> Told:
    found = Told()
    found.tell(steps)
    return found


def standing(log: Log) -> list[tuple[int, int]]:
    return [(entry.low, entry.message.seq) for entry in log.standing()]


def safe_ranges(log: Log) -> list[tuple[int, int]]:
    entries = log.context()
    return [
        (first.low, last.high)
        for place, first in enumerate(entries)
        for last in entries[place:]
        if not log.refusal(first.low, last.high)
    ]


def item(log: Log, entry: Entry) -> Item:
    return Item(
        entry.low,
        entry.message.seq,
        log.summary(entry.message.seq) is not None,
        entry.message.role,
        entry.tokens,
        tuple(entry.calls),
        tuple(answers(entry.message)),
    )


def tool_calls(log: Log) -> ToolCalls:
    entries = log.context()
    return ToolCalls([item(log, e) for e in entries], {seq for seq, _ in log.open_calls()})


@given(steps=HISTORIES)
@settings(max_examples=examples(80))
def test_P6_P7_segments_are_what_stands_in_the_context_now_and_then(steps: list[object]) -> None:
    history = told(steps)
    pieces = history.pieces(None, history.log.last_seq)
    assert history.places(pieces) == standing(history.log)
    for seq, past in history.session.past.items():
        assert history.places(history.pieces(seq, seq)) == standing(past), seq


@given(steps=HISTORIES, low=PICKS, width=st.integers(0, 20))
@settings(max_examples=examples(50))
def test_P7_segments_between_positions_are_those_of_the_whole(
    steps: list[object], low: int, width: int
) -> None:
    history = told(steps)
    low = low % (history.log.next_seq + 1)
    pieces = history.pieces(None, history.log.last_seq)
    cut = visibility.between(pieces, low, low + width)
    expected = [p for p in standing(history.log) if low <= p[0] <= low + width]
    assert history.places(cut) == expected


@given(steps=HISTORIES)
@settings(max_examples=examples(50))
def test_P8_a_range_is_split_exactly_when_a_call_would_part_from_its_result(
    steps: list[object],
) -> None:
    log = told(steps).log
    entries, calls = log.context(), tool_calls(log)
    for first in range(len(entries)):
        for last in range(first, len(entries)):
            found = calls.split(first, last)
            assert (found is not None) == log.splits(entries, entries[first : last + 1])
            if found is not None and found.nearest is not None:
                low, high = found.nearest
                assert not log.splits(entries, entries[low : high + 1])


@given(steps=HISTORIES)
@settings(max_examples=examples(50))
def test_P8_safe_ranges_are_safe_and_hold_every_other(steps: list[object]) -> None:
    log = told(steps).log
    entries, calls = log.context(), tool_calls(log)
    found = calls.safe(0, len(entries) - 1)
    for first in range(len(entries)):
        for last in range(first, len(entries)):
            if not log.splits(entries, entries[first : last + 1]):
                assert any(low <= first and last <= high for low, high in found)
    assert all(not log.splits(entries, entries[low : high + 1]) for low, high in found)


@given(
    steps=HISTORIES,
    keep=st.integers(1, 4),
    share=st.integers(0, 11),
    in_tokens=st.sampled_from((None, True, False)),
    summary_tokens=st.integers(0, 3),
)
@settings(max_examples=examples(100))
def test_P8_plans_are_accepted_and_the_best_there_are(
    steps: list[object], keep: int, share: int, in_tokens: bool | None, summary_tokens: int
) -> None:
    log = told(steps).log
    entries = log.context()
    request = v1.PlanCompactionRequest(
        keep_recent_messages=keep, summary_token_count=summary_tokens
    )
    goal = planning.Goal(summary_tokens=summary_tokens, keep_recent=keep)
    if in_tokens is True:
        request.max_context_tokens = sum(e.tokens for e in entries) * share // 10
        goal = planning.Goal(request.max_context_tokens, None, summary_tokens, keep)
    elif in_tokens is False:
        request.max_context_messages = len(entries) * share // 10
        goal = planning.Goal(None, request.max_context_messages, summary_tokens, keep)
    plans.check(log, request, answer(log, planning.plan(tool_calls(log), goal)))


def answer(log: Log, found: planning.Plan | int) -> v1.PlanCompactionResponse:
    """A plan as PlanCompaction answers it."""
    if isinstance(found, int):
        return v1.PlanCompactionResponse(nothing=found)  # type: ignore[arg-type]
    entries = log.context()
    return v1.PlanCompactionResponse(
        plan=v1.CompactionPlan(
            from_seq=entries[found.first].low,
            to_seq=entries[found.last].high,
            message_count=found.last - found.first + 1,
            token_count=found.tokens,
            reaches_goal=found.reaches_goal,
        )
    )


@given(messages=st.lists(MESSAGES, max_size=20), start=PICKS)
@settings(max_examples=examples(100))
def test_P8_a_cut_context_begins_where_no_result_lacks_its_call(
    messages: list[v1.Message], start: int
) -> None:
    items = [
        Item(
            seq,
            seq,
            False,
            m.role,
            0,
            tuple(c.id for c in sessiond.tool_calls_of(m)),
            tuple(answers(m)),
        )
        for seq, m in enumerate(messages, start=1)
    ]
    start %= len(items) + 1
    begins = suffix_start(items, start)
    assert begins >= start
    whole = [s for s in range(start, len(items) + 1) if not torn(items, s)]
    assert begins == whole[0]


def torn(items: list[Item], start: int) -> bool:
    """Whether a result from `start` on has its newest call before it."""
    for place in range(start, len(items)):
        for result in items[place].results:
            calls = [c for c in range(place + 1) if result in items[c].calls]
            if calls and calls[-1] < start:
                return True
    return False


TITLES = st.text(max_size=120) | st.text(
    st.sampled_from("ab #0123456789\t\u200b\u202e\u00a0\x00"), max_size=120
)


@given(title=TITLES)
def test_titles_are_clean_once_cleaned(title: str) -> None:
    cleaned = titles.clean(title)
    assert titles.clean(cleaned) == cleaned
    assert cleaned == cleaned.strip()
    assert "  " not in cleaned
    assert "\u200b" not in cleaned


@given(title=TITLES)
def test_a_title_is_what_its_series_and_number_say(title: str) -> None:
    cleaned = titles.clean(title)[: titles.MAX_LENGTH].strip()
    assert titles.numbered(*titles.series(cleaned)) == cleaned


@given(title=TITLES.filter(titles.clean), number=st.integers(2, 10**6))
def test_the_next_title_is_of_the_same_series_and_fits(title: str, number: int) -> None:
    name = titles.series(titles.clean(title)).name
    proposed = titles.numbered(name, number)
    assert len(proposed) <= titles.MAX_LENGTH
    assert titles.clean(proposed) == proposed
    series = titles.series(proposed)
    assert series.number == number
    assert name.startswith(series.name)


@given(one=payloads(), other=payloads(), named=st.booleans())
@settings(max_examples=examples(300))
def test_P4_messages_are_the_same_however_they_are_encoded_and_only_then(
    one: v1.Message, other: v1.Message, named: bool
) -> None:
    encoded = one.SerializeToString()
    assert contents.same(encoded, other_encoding(one))
    assert contents.same(other_encoding(completed(one)), encoded)
    if named:
        other.CopyFrom(one)
        other.name += "!"
    expected = content_of(completed(one)) == content_of(completed(other))
    assert contents.same(encoded, other.SerializeToString()) == expected
    assert not (named and expected)

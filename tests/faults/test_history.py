"""The checker itself: it accepts what is right, and finds every kind of violation."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.faults.history import Attempt, Counters, History, Log, Outcome, Sent, Stored, check


def sent(*names: str) -> tuple[Sent, ...]:
    return tuple(Sent(name, f"content of {name}".encode()) for name in names)


def held(*names: str, first: int = 1) -> list[Stored]:
    found = enumerate(sent(*names), start=first)
    return [Stored(seq, name, content, 1, 10) for seq, (name, content) in found]


class Case:
    """One session: a call `a b` acknowledged, then `c` on a stream, an unknown `d e`, a refused `x`."""

    def __init__(self) -> None:
        self.history = History()
        self.log = Log()
        self.ab = self.add("a", "b", outcome=Outcome.ACKED, seqs=(1, 2))
        self.c = self.add("c", outcome=Outcome.ACKED, seqs=(3,), stream=1)
        self.de = self.add("d", "e", stream=1)
        self.x = self.add("x", outcome=Outcome.REFUSED)
        self.hold(*held("a", "b", "c", "d", "e"))

    def add(
        self,
        *names: str,
        outcome: Outcome = Outcome.UNKNOWN,
        seqs: tuple[int, ...] = (),
        skips: bool = False,
        replayed: bool = False,
        stream: int = 0,
    ) -> Attempt:
        moment = float(len(self.history.attempts))
        attempt = Attempt(
            "writer",
            "s",
            sent(*names),
            skips,
            stream,
            moment,
            moment + 0.5,
            outcome,
            "NEXT_SEQ_MISMATCH" if outcome is Outcome.REFUSED else "",
            seqs,
            replayed,
        )
        self.history.attempts.append(attempt)
        return attempt

    def hold(self, *messages: Stored) -> None:
        """Let the service and the database hold this, with counters that fit."""
        count = len(messages)
        last = max((message.seq for message in messages), default=0)
        self.log = Log(
            list(messages), list(messages), Counters(last + 1, count, count, count, 10 * count)
        )

    def problems(self) -> list[str]:
        return check(self.history, {"s": self.log})


def test_what_is_right_passes() -> None:
    assert Case().problems() == []


def test_an_unknown_call_may_be_stored_or_not() -> None:
    case = Case()
    case.hold(*held("a", "b", "c"))
    assert case.problems() == []


def test_a_retry_may_be_acknowledged_as_replayed_and_come_with_more() -> None:
    case = Case()
    case.add("d", "e", outcome=Outcome.ACKED, seqs=(4, 5), replayed=True)
    case.add("d", "e", "f", outcome=Outcome.ACKED, seqs=(4, 5, 6), skips=True)
    case.hold(*held("a", "b", "c", "d", "e", "f"))
    assert case.problems() == []


def test_a_refused_call_may_succeed_when_sent_again() -> None:
    case = Case()
    case.add("x", outcome=Outcome.ACKED, seqs=(6,))
    case.hold(*held("a", "b", "c", "d", "e", "x"))
    assert case.problems() == []


def lost(case: Case) -> None:
    case.hold(*held("a", "b"), *held("d", "e", first=3))


def elsewhere(case: Case) -> None:
    case.hold(*held("c", "a", "b", "d", "e"))


def other_content(case: Case) -> None:
    case.hold(*held("a", "b"), Stored(3, "c", b"other", 1, 10), *held("d", "e", first=4))


def gap(case: Case) -> None:
    case.hold(*held("a", "b", "c"), *held("d", "e", first=5))


def repeated_seq(case: Case) -> None:
    case.hold(*held("a", "b", "c"), *held("d", first=4), *held("e", first=4))


def not_from_one(case: Case) -> None:
    case.history = History()
    case.add("d", "e")
    case.hold(*held("d", "e", first=2))


def half_a_call(case: Case) -> None:
    case.hold(*held("a", "b", "c", "d"))


def torn_call(case: Case) -> None:
    case.add("f")
    case.hold(*held("a", "b", "c", "d", "f", "e"))


def call_in_disorder(case: Case) -> None:
    case.hold(*held("a", "b", "c", "e", "d"))


def torn_retry(case: Case) -> None:
    case.add("d", "e", "f", "g", outcome=Outcome.ACKED, seqs=(4, 5, 6, 8), skips=True)
    case.add("h")
    case.hold(*held("a", "b", "c", "d", "e", "f", "h", "g"))


def acknowledged_with_a_hole(case: Case) -> None:
    case.add("f", "g", outcome=Outcome.ACKED, seqs=(6, 8))
    case.hold(*held("a", "b", "c", "d", "e", "f", "x2", "g"))


def stored_twice(case: Case) -> None:
    case.hold(*held("a", "b", "c", "d", "e"), *held("d", first=6))


def content_twice(case: Case) -> None:
    content = sent("d")[0].digest
    case.history.attempts.append(Attempt("writer", "s", (Sent("f", content),)))
    case.hold(*held("a", "b", "c", "d", "e"), Stored(6, "f", content, 1, 10))


def new_twice(case: Case) -> None:
    case.add("a", "b", outcome=Outcome.ACKED, seqs=(1, 2))


def never_sent(case: Case) -> None:
    case.hold(*held("a", "b", "c", "d", "e", "z"))


def never_sent_like_this(case: Case) -> None:
    case.hold(*held("a", "b", "c"), Stored(4, "d", b"other", 1, 10), *held("e", first=5))


def refused_and_stored(case: Case) -> None:
    case.hold(*held("a", "b", "c", "d", "e", "x"))


def reused_id_stored(case: Case) -> None:
    case.x.messages = (Sent("d", b"other"),)
    case.hold(*held("a", "b", "c"), Stored(4, "d", b"other", 1, 10), *held("e", first=5))


def stream_out_of_order(case: Case) -> None:
    case.c.seqs = (5,)
    case.hold(*held("a", "b", "d", "e", "c"))


def acknowledged_out_of_order(case: Case) -> None:
    case.add("f", outcome=Outcome.ACKED, seqs=(7,), stream=2)
    case.add("g", outcome=Outcome.ACKED, seqs=(6,), stream=2)
    case.hold(*held("a", "b", "c", "d", "e", "g", "f"))


def back_in_time(case: Case) -> None:
    case.c.started, case.c.ended = 7, 8
    case.add("f", outcome=Outcome.ACKED, seqs=(6,))
    case.hold(*held("a", "b", "c", "d", "e", "f"))


def wrong_next_seq(case: Case) -> None:
    case.log.counters = case.log.counters._replace(next_seq=7)


def wrong_message_count(case: Case) -> None:
    case.log.counters = case.log.counters._replace(messages=4)


def wrong_tool_calls(case: Case) -> None:
    case.log.counters = case.log.counters._replace(tool_calls=4)


def wrong_context(case: Case) -> None:
    case.log.counters = case.log.counters._replace(context_messages=4)


def wrong_tokens(case: Case) -> None:
    case.log.counters = case.log.counters._replace(context_tokens=51)


def hidden_by_the_service(case: Case) -> None:
    case.log.service.pop()


def invented_by_the_service(case: Case) -> None:
    case.log.service += held("z", first=6)


def shown_with_other_content(case: Case) -> None:
    case.log.service[1] = case.log.service[1]._replace(digest=b"other")


def too_few_seqs(case: Case) -> None:
    case.ab.seqs = (1,)


@pytest.mark.parametrize(
    ("plant", "promise", "words"),
    [
        (lost, "P2", "is lost"),
        (elsewhere, "P4", "was acknowledged as 1 and is [2]"),
        (other_content, "P2", "other content than was acknowledged"),
        (too_few_seqs, "P2", "got the seqs"),
        (gap, "P1", "gap or a repeat at (5, 4)"),
        (repeated_seq, "P1", "gap or a repeat at (4, 5)"),
        (not_from_one, "P1", "gap or a repeat at (2, 1)"),
        (half_a_call, "P3", "1 of 2 messages"),
        (torn_call, "P3", "stored as [4, 6]"),
        (call_in_disorder, "P3", "stored as [5, 4]"),
        (torn_retry, "P3", "stored as [6, 8]"),
        (acknowledged_with_a_hole, "P3", "acknowledged as (6, 8)"),
        (stored_twice, "P4", "d is stored 2 times"),
        (content_twice, "P4", "same content at 4 and 6"),
        (new_twice, "P4", "as new more than once"),
        (never_sent, "P2", "z at 6 was never sent"),
        (never_sent_like_this, "P2", "d at 4 was never sent"),
        (refused_and_stored, "P3", "x at 6 was refused: NEXT_SEQ_MISMATCH"),
        (reused_id_stored, "P3", "d at 4 was refused"),
        (stream_out_of_order, "P5", "sent d in stream 1 after what is 5, and it is 3"),
        (acknowledged_out_of_order, "P5", "sent g in stream 2 after what is 7, and it is 6"),
        (back_in_time, "P1", "the call with 3 began after the acknowledgement of 6"),
        (wrong_next_seq, "P1", "the head says"),
        (wrong_message_count, "P1", "the head says"),
        (wrong_tool_calls, "P1", "the head says"),
        (wrong_context, "P1", "the head says"),
        (wrong_tokens, "P1", "the head says"),
        (hidden_by_the_service, "P1", "not shown [5]"),
        (invented_by_the_service, "P1", "only shown [6]"),
        (shown_with_other_content, "P1", "only shown [2], not shown [2]"),
    ],
)
def test_finds(plant: Callable[[Case], None], promise: str, words: str) -> None:
    case = Case()
    plant(case)
    problems = case.problems()
    assert [p for p in problems if p.startswith(f"{promise} s: ") and words in p], problems


def test_finds_a_session_that_nobody_wrote_to() -> None:
    case = Case()
    stray = Log(held("y"), held("y"), Counters(2, 1, 1, 1, 10))
    problems = check(case.history, {"s": case.log, "other": stray})
    assert problems == ["P2 other: y at 1 was never sent like this"]


def test_finds_a_session_that_is_gone() -> None:
    assert any("is lost" in problem for problem in check(Case().history, {}))

"""The window of a conversation that `show` shows: what it reads, folds and hides."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import sessiond
from sessiond import v1
from sessiond.cli.render.pairs import Call, Turn, pair
from sessiond.cli.transcript import (
    Fold,
    Gap,
    Row,
    Window,
    WindowOptions,
    hidden_ranges,
    read_window,
)


class Log:
    """A session's messages in memory; remembers which were read."""

    def __init__(self, messages: Iterable[v1.Message]) -> None:
        self.messages = list(messages)
        self.read_seqs: set[int] = set()

    def read(self, start: int, descending: bool, count: int) -> Iterator[v1.Message]:
        order = reversed(self.messages) if descending else iter(self.messages)
        for message in order:
            if message.seq <= start if descending else message.seq >= start:
                self.read_seqs.add(message.seq)
                yield message

    def window(self, hidden: list[Fold | Gap], **options: int | bool) -> Window:
        return read_window(self.read, hidden, len(self.messages), WindowOptions(**options))  # type: ignore[arg-type]


def talk(count: int) -> list[v1.Message]:
    roles = (v1.Role.ROLE_USER, v1.Role.ROLE_ASSISTANT)
    return [
        sessiond.message(roles[seq % 2], f"message {seq}", seq=seq) for seq in range(1, count + 1)
    ]


def compaction(summary_seq: int, from_seq: int, to_seq: int, **more: bool) -> v1.Compaction:
    return v1.Compaction(
        id=summary_seq,
        from_seq=from_seq,
        to_seq=to_seq,
        message_count=to_seq - from_seq + 1,
        in_context=more.get("in_context", True),
    )


def compacted(log: Log, made: v1.Compaction) -> None:
    summary = log.messages[made.id - 1]
    summary.kind = v1.MessageKind.MESSAGE_KIND_SUMMARY
    summary.replaces_from_seq, summary.replaces_to_seq = made.from_seq, made.to_seq
    for message in log.messages[made.from_seq - 1 : made.to_seq]:
        message.compacted_by_seq = made.id


def shape(rows: Iterable[Row]) -> list[int | tuple[str, int, int]]:
    return [
        row.seq if isinstance(row, v1.Message) else (type(row).__name__, *row.span) for row in rows
    ]


def test_the_newest_messages_are_shown_with_a_word_that_there_are_earlier_ones() -> None:
    window = Log(talk(120)).window([], limit=50)
    assert shape(window.rows) == list(range(71, 121))
    assert (window.earlier, window.later, window.span) == (True, False, (71, 120))


def test_a_window_up_to_a_seq_ends_there() -> None:
    log = Log(talk(120))
    between = log.window([], from_seq=10, to_seq=13, limit=50)
    assert ([m.seq for m in between.rows if isinstance(m, v1.Message)], between.later) == (
        [10, 11, 12, 13],
        False,
    )
    last = log.window([], to_seq=40, limit=3)
    assert [m.seq for m in last.rows if isinstance(m, v1.Message)] == [38, 39, 40]
    assert last.earlier


def test_a_window_from_a_seq_on_says_that_there_is_more() -> None:
    window = Log(talk(120)).window([], from_seq=10, limit=5)
    assert shape(window.rows) == [10, 11, 12, 13, 14]
    assert (window.earlier, window.later) == (True, True)


def test_a_short_session_is_shown_whole() -> None:
    window = Log(talk(3)).window([], limit=50)
    assert shape(window.rows) == [1, 2, 3]
    assert (window.earlier, window.later) == (False, False)


def test_P15_a_compacted_range_is_folded_where_it_stood_and_not_read() -> None:
    log = Log(talk(1000))
    made = compaction(990, 3, 980)
    compacted(log, made)
    window = log.window(hidden_ranges([made], [], show_all=False), limit=50)
    assert shape(window.rows) == [1, 2, ("Fold", 3, 980), *range(981, 990), *range(991, 1001)]
    assert log.read_seqs.isdisjoint(range(3, 980))
    fold = window.rows[2]
    assert isinstance(fold, Fold)
    assert fold.summary is not None
    assert sessiond.text_of(fold.summary) == "message 990"


def test_an_expanded_fold_holds_the_messages_of_its_range_without_inner_summaries() -> None:
    log = Log(talk(20))
    inner, outer = compaction(6, 2, 4, in_context=False), compaction(15, 2, 12)
    compacted(log, inner)
    compacted(log, outer)
    window = log.window(hidden_ranges([outer, inner], [], show_all=False), expand=True)
    fold = window.rows[1]
    assert isinstance(fold, Fold)
    assert fold.messages is not None
    assert [message.seq for message in fold.messages] == [2, 3, 4, 5, *range(7, 13)]


def test_a_reverted_compaction_folds_nothing_and_its_summary_is_not_shown() -> None:
    log = Log(talk(10))
    made = compaction(8, 2, 5, in_context=False)
    made.revert_time.GetCurrentTime()
    log.messages[7].replaces_from_seq = 2
    window = log.window(hidden_ranges([made], [], show_all=False))
    assert shape(window.rows) == [1, 2, 3, 4, 5, 6, 7, 9, 10]


def test_P6_rewound_messages_are_hidden_in_one_row_and_shown_on_demand() -> None:
    log = Log(talk(10))
    for message in log.messages[3:7]:
        message.rewound = True
    rewinds = [v1.Rewind(after_seq=3, to_seq=5), v1.Rewind(after_seq=4, to_seq=7)]
    hidden = hidden_ranges([], rewinds, show_all=False)
    assert shape(log.window(hidden).rows) == [1, 2, 3, ("Gap", 4, 7), 8, 9, 10]
    every = hidden_ranges([], rewinds, show_all=True)
    assert shape(log.window(every, show_all=True).rows) == list(range(1, 11))


def test_an_reverted_rewind_hides_nothing() -> None:
    rewind = v1.Rewind(after_seq=3, to_seq=5)
    rewind.revert_time.GetCurrentTime()
    assert hidden_ranges([], [rewind], show_all=False) == []


def test_a_rewind_inside_a_fold_is_part_of_the_fold() -> None:
    hidden = hidden_ranges(
        [compaction(20, 2, 12)], [v1.Rewind(after_seq=4, to_seq=6)], show_all=False
    )
    assert [it.span for it in hidden] == [(2, 12)]


def test_P8_a_window_does_not_begin_inside_the_results_of_a_call() -> None:
    log = Log(talk(60))
    log.messages[9].role = v1.Role.ROLE_ASSISTANT
    for message in log.messages[10:12]:
        message.role = v1.Role.ROLE_TOOL
    window = log.window([], limit=49)
    assert window.span == (10, 60)


def calls(turn: object) -> list[Call]:
    assert isinstance(turn, Turn)
    return turn.calls


def call_message(seq: int, *ids: str) -> v1.Message:
    return sessiond.message(
        "assistant",
        *(v1.Part(tool_call=it) for it in [v1.ToolCall(id=id, name="f") for id in ids]),
        seq=seq,
    )


def result_message(seq: int, id: str, rewound: bool = False) -> v1.Message:
    return sessiond.message("tool", sessiond.tool_result(id, "r"), seq=seq, rewound=rewound)


def test_results_stand_beneath_their_calls_in_whatever_order_they_came() -> None:
    rows = [call_message(1, "a", "b"), result_message(2, "b"), result_message(3, "a")]
    (turn,) = pair(rows, frozenset())
    found = [(it.call.id, it.result_seq or None) for it in calls(turn)]
    assert found == [("a", 3), ("b", 2)]


def test_an_id_that_is_used_again_pairs_with_its_own_result() -> None:
    rows = [
        call_message(1, "a"),
        result_message(2, "a"),
        call_message(3, "a"),
        result_message(4, "a"),
    ]
    first, second = pair(rows, frozenset())
    assert [it.result_seq for it in calls(first) + calls(second)] == [2, 4]


def test_an_open_call_is_marked_and_a_result_without_its_call_stays() -> None:
    stray, turn = pair([result_message(1, "gone"), call_message(2, "a")], frozenset({(2, "a")}))
    assert isinstance(stray, Turn)
    assert stray.message.seq == 1
    assert [(it.is_open, it.result) for it in calls(turn)] == [(True, None)]


def test_a_rewound_result_does_not_answer_a_call_that_stands() -> None:
    items = pair(
        [call_message(1, "a"), result_message(2, "a", rewound=True)], frozenset({(1, "a")})
    )
    assert calls(items[0])[0].result is None
    assert len(items) == 2

"""Lists and headers for people."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from sessiond import v1
from sessiond.cli.render.records import compactions_lines, rewinds_lines
from sessiond.cli.render.sessions import header, sessions_lines
from sessiond.cli.render.times import relative

NOW = datetime(2026, 5, 20, 12, 0, tzinfo=UTC)


def before(seconds: int) -> Timestamp:
    return Timestamp(seconds=int(NOW.timestamp()) - seconds)


def summary(id: str, title: str = "", opening: str = "", pinned: bool = False) -> v1.SessionSummary:
    session = v1.Session(id=id, title=title, last_activity_time=before(120), pinned=pinned)
    return v1.SessionSummary(session=session, opening=opening)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "now"),
        (59, "now"),
        (60, "1 min ago"),
        (7199, "1 h ago"),
        (86400 * 3, "3 d ago"),
        (86400 * 75, "2 mo ago"),
        (86400 * 800, "2 y ago"),
        (-120, "in 2 min"),
    ],
)
def test_times_are_relative_in_their_largest_unit(seconds: int, text: str) -> None:
    assert relative(before(seconds), NOW) == text


def test_no_time_is_no_text() -> None:
    assert relative(Timestamp(), NOW) == ""


@pytest.mark.parametrize("width", [20, 60, 100, 200])
def test_ids_are_never_cut_and_titles_only_as_needed(width: int) -> None:
    id = "0198c0de-0000-7000-8000-000000000001"
    rows = [summary(id, "A title " * 10, pinned=True), summary("s2", opening="世界 " * 20)]
    lines = [line.plain for line in sessions_lines(rows, width, NOW)]
    assert id in lines[1]
    assert lines[1].startswith("📌 A title")
    assert all(line.endswith("2 min ago") for line in lines[1:])
    if width == 200:
        assert "A title A title A title A title A title A title" in lines[1]
    columns = [line.cell_len for line in sessions_lines(rows, width, NOW)]
    assert max(columns) <= max(width, 100)


def test_titles_cannot_take_over_the_terminal() -> None:
    rows = [summary("s", "evil\x1b[2J\nline")]
    assert [line.plain for line in sessions_lines(rows, 100, NOW)][1].startswith("evil␛[2J line")


def test_a_header_names_what_there_is() -> None:
    session = v1.Session(
        id="s1",
        title="Trip",
        source="cli",
        model="m1",
        state=v1.SessionState.SESSION_STATE_ENDED,
        end_reason="done",
        labels={"team": "a"},
        message_count=1200,
        open_tool_call_count=2,
        parent=v1.SessionParent(id="s0", kind=v1.ParentKind.PARENT_KIND_FORK, fork_seq=7),
    )
    text = "\n".join(line.plain for line in header(session, NOW))
    for part in ("Trip  s1  ● ended", "source cli", "model m1", "fork of s0 at 7", "ended: done"):
        assert part in text
    for part in ("team=a", "1,200 messages", "⚠ 2 open tool calls"):
        assert part in text


def test_compactions_and_rewinds_say_whether_they_count() -> None:
    made = v1.Compaction(id=9, from_seq=2, to_seq=5, message_count=4, in_context=True)
    reverted = v1.Compaction(id=8, from_seq=2, to_seq=2, revert_time=before(60))
    lines = [line.plain for line in compactions_lines([made, reverted], 100, NOW)]
    assert "2–5" in lines[1]
    assert lines[1].endswith("in the context")
    assert lines[2].endswith("reverted 1 min ago")
    rewinds = [v1.Rewind(id=1, after_seq=3, to_seq=4, author="ann")]
    assert [line.plain for line in rewinds_lines(rewinds, 100, NOW)][1].split() == [
        *("ann", "1", "4", "in", "force"),
    ]

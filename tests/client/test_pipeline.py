"""The bookkeeping of an append stream: order, bounds, deadlines."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future

import grpc
import pytest

import sessiond
from sessiond import v1
from sessiond._pipeline import (
    MAX_FRAME_APPENDS,
    MAX_FRAME_BYTES,
    MAX_UNANSWERED,
    MAX_UNANSWERED_BYTES,
    Pipeline,
)


class Ended(grpc.RpcError):
    """A stream's end."""

    def __init__(self, code: grpc.StatusCode) -> None:
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return "ended"

    def trailing_metadata(self) -> tuple[()]:
        return ()


class Sending(Pipeline):
    """A pipeline that knows what it has sent and not seen answered."""

    def __init__(self, timeout: float | None) -> None:
        super().__init__(timeout)
        self.tags: deque[int] = deque()

    def breaks(self, error: grpc.RpcError | None) -> float:
        self.tags.clear()
        return super().breaks(error)


def add(pipeline: Sending, text: str = "", now: float = 0.0) -> Future[v1.AppendMessagesResponse]:
    future: Future[v1.AppendMessagesResponse] = Future()
    pipeline.add(
        v1.AppendMessagesRequest(messages=[v1.Message(parts=[v1.Part(text=text)])]), future, now
    )
    return future


def frame(pipeline: Sending, now: float = 0.0) -> list[str]:
    """The texts of the next frame."""
    made = pipeline.frame(now)
    if made is None:
        return []
    pipeline.tags.extend(streamed.tag for streamed in made.appends)
    return [sessiond.text_of(streamed.append.messages[0]) for streamed in made.appends]


def answer(pipeline: Sending, count: int, now: float = 0.0) -> None:
    """Acknowledge the oldest."""
    ack = v1.AppendMessagesResponse(first_seq=1)
    tags = [pipeline.tags.popleft() for _ in range(count)]
    results = [v1.AppendResult(ack=ack, tag=tag) for tag in tags]
    pipeline.answer(v1.AppendStreamResponse(results=results), now)


def test_a_frame_holds_what_waits() -> None:
    pipeline = Sending(30)
    assert frame(pipeline) == []
    futures = [add(pipeline, text) for text in "abc"]
    assert frame(pipeline) == ["a", "b", "c"]
    assert frame(pipeline) == []
    answer(pipeline, 2)
    assert [future.done() for future in futures] == [True, True, False]
    assert pipeline.unanswered == 1


def test_P13_a_frame_and_what_is_unanswered_are_bounded() -> None:
    pipeline = Sending(30)
    for _ in range(MAX_UNANSWERED + 10):
        add(pipeline)
    assert len(frame(pipeline)) == MAX_FRAME_APPENDS
    assert len(frame(pipeline)) == MAX_UNANSWERED - MAX_FRAME_APPENDS
    assert not pipeline.sendable
    assert not pipeline.has_room
    answer(pipeline, 3)
    assert len(frame(pipeline)) == 3


def test_P13_frames_and_what_is_unanswered_are_bounded_in_bytes() -> None:
    pipeline = Sending(30)
    for _ in range(100):
        add(pipeline, "x" * (MAX_FRAME_BYTES // 3))
    frames = []
    while texts := frame(pipeline):
        frames.append(len(texts))
    assert set(frames) <= {1, 2}
    assert sum(frames) * (MAX_FRAME_BYTES // 3) < MAX_UNANSWERED_BYTES + MAX_FRAME_BYTES
    add(other := Sending(30), "x" * 2 * MAX_FRAME_BYTES)
    assert len(frame(other)) == 1


def test_P4_what_has_no_answer_is_sent_again_in_order() -> None:
    pipeline = Sending(30)
    for text in "abcd":
        add(pipeline, text)
    frame(pipeline)
    answer(pipeline, 1)
    add(pipeline, "e")
    assert pipeline.breaks(Ended(grpc.StatusCode.UNAVAILABLE)) < 1
    assert frame(pipeline) == ["b", "c", "d", "e"]


def test_pauses_between_streams_grow_up_to_two_seconds() -> None:
    pipeline = Sending(30)
    add(pipeline)
    pauses = []
    for _ in range(12):
        frame(pipeline)
        pauses.append(pipeline.breaks(Ended(grpc.StatusCode.UNAVAILABLE)))
    assert pauses[0] <= 0.1
    assert 1 <= pauses[-1] <= 2
    frame(pipeline)
    answer(pipeline, 1)
    assert pipeline.breaks(None) == 0.0
    add(pipeline)
    assert pipeline.breaks(None) <= 0.1


@pytest.mark.parametrize("code", ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "INTERNAL", "CANCELLED"])
def test_a_broken_connection_is_tried_again(code: str) -> None:
    pipeline = Sending(30)
    future = add(pipeline)
    frame(pipeline)
    pipeline.breaks(Ended(grpc.StatusCode[code]))
    assert not future.done()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("PERMISSION_DENIED", sessiond.PermissionDenied),
        ("UNIMPLEMENTED", sessiond.Unsupported),
        ("INVALID_ARGUMENT", sessiond.InvalidRequest),
    ],
)
def test_a_refused_stream_fails_all_appends(code: str, kind: type[sessiond.SessiondError]) -> None:
    pipeline = Sending(30)
    futures = [add(pipeline), add(pipeline)]
    frame(pipeline)
    futures.append(add(pipeline))
    pipeline.breaks(Ended(grpc.StatusCode[code]))
    errors = [future.exception() for future in futures]
    assert {type(error) for error in errors} == {kind}
    assert len({id(error) for error in errors}) == 3
    assert pipeline.unanswered == 0


def test_an_append_fails_when_its_time_runs_out_and_isn_t_sent_again() -> None:
    pipeline = Sending(10)
    early, late = add(pipeline, "a", now=0), add(pipeline, "b", now=5)
    frame(pipeline)
    assert pipeline.next_deadline == 10
    assert pipeline.expire(now=10)
    assert isinstance(early.exception(), sessiond.DeadlineExceeded)
    assert not late.done()
    assert pipeline.next_deadline == 15
    pipeline.breaks(None)
    assert frame(pipeline) == ["b"]


def test_a_late_append_keeps_its_place_for_its_answer() -> None:
    pipeline = Sending(10)
    add(pipeline, "a", now=0)
    late = add(pipeline, "b", now=5)
    frame(pipeline)
    pipeline.expire(now=10)
    answer(pipeline, 1)
    assert not late.done()
    answer(pipeline, 1)
    assert late.result().first_seq == 1


def test_a_stream_that_answers_isn_t_stuck() -> None:
    pipeline = Sending(10)
    add(pipeline, now=0)
    add(pipeline, now=0)
    frame(pipeline)
    answer(pipeline, 1, now=9)
    assert not pipeline.expire(now=10)
    assert pipeline.expire(now=19)


def test_time_that_runs_out_between_streams_says_why_there_is_none() -> None:
    pipeline = Sending(10)
    future = add(pipeline)
    frame(pipeline)
    pipeline.breaks(Ended(grpc.StatusCode.UNAVAILABLE))
    assert not pipeline.expire(now=10)
    assert isinstance(future.exception(), sessiond.Unavailable)
    assert pipeline.unanswered == 0


def test_what_ran_out_of_time_is_settled_though_unanswered() -> None:
    pipeline = Sending(10)
    add(pipeline, "a", now=0)
    add(pipeline, "b", now=5)
    frame(pipeline)
    answer(pipeline, 1, now=9)
    settled = [pipeline.settled]
    assert not pipeline.expire(now=15)
    settled.append(pipeline.settled)
    assert settled == [False, True]
    assert pipeline.unanswered == 1


def test_P14_what_no_frame_can_hold_fails_alone() -> None:
    pipeline = Sending(10)
    large, small = add(pipeline, "x" * (4 << 20)), add(pipeline, "a")
    assert isinstance(large.exception(), sessiond.InvalidRequest)
    assert frame(pipeline) == ["a"]
    assert not small.done()


def test_an_answer_is_that_of_its_tag() -> None:
    pipeline = Sending(30)
    first, second = add(pipeline, "a"), add(pipeline, "b")
    frame(pipeline)
    pipeline.tags.reverse()
    answer(pipeline, 1)
    assert (first.done(), second.done()) == (False, True)
    pipeline.breaks(Ended(grpc.StatusCode.UNAVAILABLE))
    assert frame(pipeline) == ["a"]


@pytest.mark.parametrize(("timeout", "seconds"), [(10, 6), (0.5, 0), (100_000, None), (None, None)])
def test_the_service_hears_how_long_an_append_is_waited_for(
    timeout: float | None, seconds: int | None
) -> None:
    pipeline = Sending(timeout)
    add(pipeline)
    made = pipeline.frame(now=4)
    assert made is not None
    told = made.appends[0]
    assert (told.timeout.seconds if told.HasField("timeout") else None) == seconds


def test_stray_answers_are_ignored() -> None:
    pipeline = Sending(None)
    future = add(pipeline)
    frame(pipeline)
    pipeline.tags.extend([77, *pipeline.tags])
    answer(pipeline, 3)
    assert future.done()
    assert pipeline.next_deadline is None

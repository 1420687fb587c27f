"""Asks the server and the model the same, and compares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message as ProtoMessage
from google.rpc import error_details_pb2, status_pb2

from sessiond import v1
from tests.model.log import Log, Refused
from tests.model.model import Session

VIEWS = (
    v1.MessageView.MESSAGE_VIEW_TRANSCRIPT,
    v1.MessageView.MESSAGE_VIEW_CONTEXT,
    v1.MessageView.MESSAGE_VIEW_ALL,
)
ORDERS = (v1.SortOrder.SORT_ORDER_ASCENDING, v1.SortOrder.SORT_ORDER_DESCENDING)
MARKS = ("rewound", "compacted_by_seq", "replaces_from_seq", "replaces_to_seq")
RECORDS = (v1.Compaction, v1.Rewind)
TIMES = ("create_time", "revert_time")


class Stubs:
    """The services over one channel."""

    def __init__(self, target: str) -> None:
        self.channel = grpc.insecure_channel(target)
        self.sessions = v1.SessionServiceStub(self.channel)
        self.messages = v1.MessageServiceStub(self.channel)
        self.contexts = v1.ContextServiceStub(self.channel)
        self.compactions = v1.CompactionServiceStub(self.channel)
        self.writers = v1.WriterServiceStub(self.channel)
        self.searches = v1.SearchServiceStub(self.channel)
        self.storage = v1.StorageServiceStub(self.channel)

    def call(self, name: str, request: ProtoMessage) -> Any:
        """The answer of a unary call. Raises `Refused`."""
        stubs = (
            self.sessions,
            self.messages,
            self.contexts,
            self.compactions,
            self.writers,
            self.searches,
            self.storage,
        )
        for stub in stubs:
            if hasattr(stub, name):
                try:
                    return getattr(stub, name)(request, timeout=20)
                except grpc.RpcError as error:
                    raise refused(error) from None
        raise AttributeError(name)

    def outcome(self, name: str, request: ProtoMessage) -> Any:
        """The answer of a unary call, or why it was `Refused`."""
        try:
            return self.call(name, request)
        except Refused as refusal:
            return refusal

    def context(self, request: v1.GetContextRequest) -> tuple[v1.ContextTotals, list[v1.Message]]:
        """A whole context. Raises `Refused`."""
        messages: list[v1.Message] = []
        totals = None
        try:
            for answer in self.contexts.GetContext(request, timeout=20):
                totals = totals or answer.totals
                messages += answer.messages
        except grpc.RpcError as error:
            raise refused(error) from None
        assert totals is not None
        return totals, messages

    def pages(self, name: str, request: Any, field: str) -> Iterator[Any]:
        """All items of a list, page by page."""
        while True:
            page = self.call(name, request)
            items = getattr(page, field)
            assert len(items) <= request.page_size
            assert items or not page.next_page_token
            yield from items
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token


def refused(error: Any) -> Refused:
    """Why a call was refused; the second argument is what the refusal says besides."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info):
                    return Refused(info.reason, dict(info.metadata), error.details())
    raise error


def timeless(found: Any) -> Any:
    """A copy that only says which times there are."""
    copy = type(found)()
    copy.CopyFrom(found)
    for field, value in copy.ListFields():
        if field.name in TIMES:
            value.Clear()
            value.SetInParent()
        elif isinstance(value, RECORDS):
            value.CopyFrom(timeless(value))
    return copy


def without_marks(message: v1.Message) -> v1.Message:
    copy = v1.Message()
    copy.CopyFrom(message)
    for name in (*MARKS, "create_time"):
        copy.ClearField(name)  # type: ignore[arg-type]
    return copy


class Pair:
    """A session of the server and its model."""

    def __init__(self, stubs: Stubs, model: Session) -> None:
        self.stubs = stubs
        self.model = model

    @property
    def session_id(self) -> str:
        return self.model.session_id

    @property
    def log(self) -> Log:
        return self.model.log

    def call(self, name: str, request: Any) -> Any:
        """Make a call that changes the session, of both; the server's answer, or `Refused`."""
        request.session_id = self.session_id
        before = self.model.log.copy()
        try:
            expected = getattr(self.model, name)(request)
        except Refused as refusal:
            expected = refusal.reason
        answer = self.stubs.outcome(name, request)
        if isinstance(answer, Refused):
            assert answer.reason == expected, (name, request, answer, expected)
            self._check_refusal(name, request, answer, before)
            return answer
        assert not isinstance(expected, str), (name, request, expected, answer)
        if isinstance(answer, v1.RewindSessionResponse):
            self.model.name_rewind(answer.rewind.id)
            if expected.rewind.id < 0:
                expected.rewind.id = answer.rewind.id
        if isinstance(answer, v1.UpdateMessagesResponse):
            self._check_messages(answer.messages, list(expected.messages), bare=True)
        else:
            assert timeless(answer) == expected, (name, request)
        return answer

    def _check_refusal(self, name: str, request: Any, refusal: Refused, before: Log) -> None:
        metadata = refusal.args[1]
        if refusal.reason == "NEXT_SEQ_MISMATCH":
            assert int(metadata["next_seq"]) == before.next_seq
        if refusal.reason == "REWIND_NOT_REVERTIBLE":
            there = before.summary(int(metadata["compaction_id"]))
            reverted = before.without_rewind(int(metadata["rewind_id"]))
            standing = [*before.counting(), *reverted.counting()]
            assert there in standing, "only what counts, or would again, can stand in the way"
        if name == "CompactSession" and refusal.reason in (
            "COMPACTION_OVERLAP",
            "COMPACTION_SPLITS_TOOL_CALL",
        ):
            self._check_nearest(request, metadata, before)

    def _check_nearest(self, request: Any, metadata: dict[str, str], log: Log) -> None:
        """A range that a refusal names would do; it names none only if there is none."""
        if "nearest_from_seq" in metadata:
            low, high = int(metadata["nearest_from_seq"]), int(metadata["nearest_to_seq"])
            assert log.refusal(low, high) == "", (request, metadata)
            assert low <= request.to_seq
            assert request.from_seq <= high
        else:
            entries = [
                entry
                for entry in log.context()
                if request.from_seq <= entry.low and entry.high <= request.to_seq
            ]
            for place, first in enumerate(entries):
                for last in entries[place:]:
                    assert log.refusal(first.low, last.high) != "", (request, first, last)

    def _check_messages(
        self, found: Any, expected: list[v1.Message], *, bare: bool = False
    ) -> None:
        """Compare messages with all that an answer says of them; `bare` ones are without contents."""
        assert [m.seq for m in found] == [m.seq for m in expected]
        for got, want in zip(found, expected, strict=True):
            assert got.HasField("create_time")
            shown = want if bare else self.log.shown(want)
            compacted_by = self.log.compacted_by(got.seq)
            if compacted_by is not None:
                assert got.compacted_by_seq == compacted_by, got
            got.ClearField("create_time")
            got.ClearField("compacted_by_seq")
            assert got == shown

    def check(self, view: int, order: int, page_size: int, limit: int) -> None:
        """Compare everything that can be read cheaply, and one list in small pages."""
        self.check_counters()
        self.check_context(v1.GetContextRequest())
        self.check_context(
            v1.GetContextRequest(max_context_messages=limit, max_context_tokens=limit * 7 % 23)
        )
        self.check_list(v1.MessageView.MESSAGE_VIEW_ALL, ORDERS[0], 1000)
        self.check_list(VIEWS[view % 3], ORDERS[order % 2], page_size)
        self.check_records(page_size)

    def check_thoroughly(self, page_size: int) -> None:
        """Compare every view in both directions, and the context after each message (P7)."""
        for view in VIEWS:
            for order in ORDERS:
                self.check_list(view, order, page_size)
        for seq in range(self.log.next_seq + 1):
            self.check_context(v1.GetContextRequest(as_of_seq=seq))
            fewer = v1.GetContextRequest(as_of_seq=seq, max_context_tokens=seq * 7 % 13)
            if seq % 2:
                fewer = v1.GetContextRequest(as_of_seq=seq, max_context_messages=1 + seq % 5)
            self.check_context(fewer)

    def check_counters(self) -> None:
        answer = self.stubs.call(
            "GetSession", v1.GetSessionRequest(session_id=self.session_id)
        ).session
        expected = self.model.counters()
        for field in expected.DESCRIPTOR.fields:
            if field.name in COUNTERS:
                assert getattr(answer, field.name) == getattr(expected, field.name), field.name

    def check_context(self, request: v1.GetContextRequest) -> None:
        request.session_id = self.session_id
        try:
            totals, messages = self.model.totals(request)
        except Refused as refusal:
            self._check_refused_context(request, refusal.reason)
            return
        got_totals, got = self.stubs.context(request)
        assert got_totals == totals, request
        if request.as_of_seq:
            assert [without_marks(m) for m in got] == messages, request
        else:
            self._check_messages(got, messages)

    def _check_refused_context(self, request: v1.GetContextRequest, reason: str) -> None:
        with pytest.raises(Refused) as refusal:
            self.stubs.context(request)
        assert refusal.value.reason == reason, request

    def check_list(
        self, view: v1.MessageView.ValueType, order: v1.SortOrder.ValueType, page_size: int
    ) -> None:
        request = v1.ListMessagesRequest(
            session_id=self.session_id, view=view, order=order, page_size=page_size
        )
        expected = self.log.view(view)
        if order == v1.SortOrder.SORT_ORDER_DESCENDING:
            expected = expected[::-1]
        got = list(self.stubs.pages("ListMessages", request, "messages"))
        self._check_messages(got, expected)

    def check_records(self, page_size: int) -> None:
        """Open calls, compactions and rewinds."""
        calls = self.stubs.pages(
            "ListOpenToolCalls",
            v1.ListOpenToolCallsRequest(session_id=self.session_id, page_size=page_size),
            "open_tool_calls",
        )
        assert [(c.seq, c.tool_call) for c in calls] == self.log.open_calls()
        compactions = self.stubs.pages(
            "ListCompactions",
            v1.ListCompactionsRequest(session_id=self.session_id, page_size=page_size),
            "compactions",
        )
        expected = [self.log.compaction(c) for c in reversed(self.log.compactions)]
        assert [timeless(c) for c in compactions] == expected
        rewinds = self.stubs.pages(
            "ListRewinds",
            v1.ListRewindsRequest(session_id=self.session_id, page_size=page_size),
            "rewinds",
        )
        assert [timeless(r) for r in rewinds] == self.log.recorded_rewinds()


COUNTERS = frozenset(
    {
        "next_seq",
        "first_seq",
        "message_count",
        "tool_call_count",
        "context_message_count",
        "context_token_count",
        "open_tool_call_count",
        "state",
    }
)

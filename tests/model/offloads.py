"""Random histories of which the beginning is offloaded and restored: nothing that is read may change."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

import sessiond
from sessiond import v1
from tests.model.driver import ORDERS, VIEWS
from tests.model.log import Log, Refused, answers
from tests.model.machines import PICKS, History


def settled(log: Log, border: int) -> bool:
    """Whether every tool call before a border has its result before it (P8)."""
    seen = [m for seq, m in log.messages.items() if seq < border and not log.rewound(seq)]
    return all(
        any(call.id in answers(later) for later in seen[place:])
        for place, message in enumerate(seen)
        for call in sessiond.tool_calls_of(message)
    )


def nearest(log: Log, border: int, wanted: int) -> int:
    """The last place for the border up to the one that is wanted, from where it is on."""
    places = range(max(border, log.first_seq) + 1, wanted + 1)
    return max((place for place in places if settled(log, place)), default=border)


class Offloads(History):
    """Offloading and restoring, in between everything else (P6)."""

    def border(self) -> int:
        request = v1.GetSessionRequest(session_id=self.pair.session_id)
        found: int = self.stubs.call("GetSession", request).session.offloaded_before_seq
        assert found <= self.pair.log.next_seq
        assert settled(self.pair.log, found)
        return found

    @rule(pick=PICKS, everything=st.booleans(), keep=st.integers(0, 3))
    def offload(self, pick: int, everything: bool, keep: int) -> None:
        log, before = self.pair.log, self.border()
        request = v1.OffloadMessagesRequest(
            session_id=self.pair.session_id,
            keep_recent_messages=keep,
            author="me",
        )
        if everything:
            request.all = True
        else:
            request.before_seq = self.seq(pick)
        answer = self.stubs.call("OffloadMessages", request)
        wanted = min(request.before_seq or log.next_seq, log.next_seq - keep)
        expected = nearest(log, before, wanted)
        assert answer.offloaded_before_seq == expected == self.border()
        assert answer.message_count == max(0, expected - max(before, log.first_seq))
        assert not answer.more
        self.compare(pick)
        self.look(pick)

    @rule(pick=PICKS, everything=st.booleans())
    def restore(self, pick: int, everything: bool) -> None:
        before = self.border()
        request = v1.RestoreMessagesRequest(session_id=self.pair.session_id)
        if everything:
            request.all = True
        else:
            request.from_seq = self.seq(pick)
        answer = self.stubs.call("RestoreMessages", request)
        border = self.border()
        assert answer.offloaded_before_seq == border <= max(request.from_seq, 0) or border == before
        assert not (everything and border)
        restored = before - max(border, self.pair.log.first_seq) if before else 0
        assert answer.message_count == restored
        self.compare(pick)
        self.look(pick)

    @precondition(lambda self: self.pair.log.messages)
    @rule(pick=PICKS, around=PICKS)
    def look(self, pick: int, around: int = 7) -> None:
        """Single messages, pages around a seq and from a time on, by roles and kinds."""
        if not self.pair.log.messages:
            return
        log, seq = self.pair.log, self.seq(pick)
        for name, value in (("seq", seq), ("client_id", self.client_id(seq))):
            request = v1.GetMessageRequest(session_id=self.pair.session_id, **{name: value})  # type: ignore[arg-type]
            answer = self.stubs.outcome("GetMessage", request)
            if seq not in log.messages:
                assert isinstance(answer, Refused)
            else:
                self.pair._check_messages([answer.message], [log.messages[seq]])
        self.check_around(seq, 1 + around % 5)
        self.check_times(seq)
        self.check_filters(VIEWS[pick % 3], around)

    def client_id(self, seq: int) -> str:
        message = self.pair.log.messages.get(seq)
        return message.client_id if message is not None else "never"

    def check_around(self, seq: int, size: int) -> None:
        """Pages around a seq in both directions hold all that is there, once."""
        request = v1.ListMessagesRequest(
            session_id=self.pair.session_id,
            view=v1.MessageView.MESSAGE_VIEW_ALL,
            around_seq=seq,
            page_size=size,
        )
        first = self.stubs.call("ListMessages", request)
        seqs = [m.seq for m in first.messages]
        token = first.previous_page_token
        while token:
            request.page_token = token
            page = self.stubs.call("ListMessages", request)
            seqs = [m.seq for m in reversed(page.messages)] + seqs
            token = page.next_page_token
        token = first.next_page_token
        while token:
            request.page_token = token
            page = self.stubs.call("ListMessages", request)
            seqs += [m.seq for m in page.messages]
            token = page.next_page_token
        assert seqs == list(self.pair.log.messages)

    def check_times(self, seq: int) -> None:
        """A list from a message's time on begins with the first message of that time."""
        everything: list[Any] = list(
            self.stubs.pages(
                "ListMessages",
                v1.ListMessagesRequest(
                    session_id=self.pair.session_id, view=VIEWS[2], page_size=1000
                ),
                "messages",
            )
        )
        times = {m.seq: m.create_time.ToNanoseconds() for m in everything}
        if seq not in times:
            return
        for order in ORDERS:
            request = v1.ListMessagesRequest(
                session_id=self.pair.session_id, view=VIEWS[2], order=order, page_size=1
            )
            request.start_time.FromNanoseconds(times[seq])
            same = [s for s, time in times.items() if time == times[seq]]
            answer = self.stubs.call("ListMessages", request)
            assert answer.messages[0].seq == (same[0] if order == ORDERS[0] else same[-1])

    def check_filters(self, view: v1.MessageView.ValueType, pick: int) -> None:
        roles = (
            [v1.Role.ROLE_TOOL],
            [v1.Role.ROLE_USER, v1.Role.ROLE_SYSTEM],
            [v1.Role.ROLE_DEVELOPER],
        )[pick % 3]
        kinds = [v1.MessageKind.MESSAGE_KIND_REMINDER] if pick % 7 == 3 else []
        request = v1.ListMessagesRequest(
            session_id=self.pair.session_id,
            view=view,
            order=ORDERS[pick % 2],
            page_size=1 + pick % 4,
            roles=roles,
            kinds=kinds,
        )
        expected = [
            m.seq
            for m in self.pair.log.view(view)
            if m.role in roles and (not kinds or m.kind in kinds)
        ]
        found = [m.seq for m in self.stubs.pages("ListMessages", request, "messages")]
        assert found == (expected[::-1] if pick % 2 else expected)
